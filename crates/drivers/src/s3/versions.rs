//! Versions: what a bucket keeps of objects that were replaced or removed.

use super::client::{Client, Shape};
use crate::remote::{Failure, insist};
use coffer_domain::driver::{ErrorKind, NativeVersion};
use rusoto_s3::{DeleteObjectRequest, GetBucketVersioningRequest, ListObjectVersionsRequest, S3 as _};
use std::sync::Arc;

/// Most pages of versions of one object, a thousand each.
const MOST_PAGES: usize = 100;

impl Client {
    /// The same client, which knows whether its bucket keeps versions. A server that does not tell us keeps none that we could name.
    pub(super) async fn look_at_versioning(self) -> Result<Arc<Self>, Failure> {
        let client = Arc::new(self);
        let request = GetBucketVersioningRequest {
            bucket: client.bucket.clone(),
            ..GetBucketVersioningRequest::default()
        };
        let ask = || {
            client.call(Shape::root("VersioningConfiguration"), |s3| {
                let request = request.clone();
                async move { s3.get_bucket_versioning(request).await }
            })
        };
        let keeps_versions = match insist(ask).await {
            // One that was suspended makes no more.
            Ok(found) => found.status.as_deref() == Some("Enabled"),
            Err(failure) if does_not_tell(&failure) => {
                tracing::info!(
                    bucket = client.bucket,
                    problem = %failure,
                    "it is not known whether a bucket keeps versions, and taken for one that does not"
                );
                false
            }
            Err(failure) => return Err(failure),
        };
        let mut client = Arc::into_inner(client).expect("the request is over");
        client.keeps_versions = keeps_versions;
        Ok(Arc::new(client))
    }

    /// The version that an answer names; none where the bucket keeps none.
    pub(super) fn version(&self, id: Option<String>) -> Result<Option<NativeVersion>, Failure> {
        match id.filter(|_| self.keeps_versions) {
            None => Ok(None),
            Some(id) => id
                .parse()
                .map(Some)
                .map_err(|_| Failure::wrong(ErrorKind::BadAnswer, "a version without a name")),
        }
    }

    /// Removes one version of an object. An absent one is a success.
    pub(super) async fn remove_version(
        self: &Arc<Self>,
        name: &str,
        version: &NativeVersion,
    ) -> Result<(), Failure> {
        let request = DeleteObjectRequest {
            bucket: self.bucket.clone(),
            key: name.to_owned(),
            version_id: Some(version.to_string()),
            ..DeleteObjectRequest::default()
        };
        let ask = || {
            self.call(Shape::default(), |s3| {
                let request = request.clone();
                async move { s3.delete_object(request).await }
            })
        };
        match insist(ask).await {
            Err(failure) if failure.is_absent() || is_no_version(&failure) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Removes an object whose name no folder has, with every version of it and every mark that it was removed.
    pub(super) async fn erase(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        if !self.keeps_versions {
            return self.remove(name).await;
        }
        for version in self.versions(name).await? {
            self.remove_version(name, &version).await?;
        }
        Ok(())
    }

    /// Everything a bucket keeps under a name, the newest first.
    async fn versions(self: &Arc<Self>, name: &str) -> Result<Vec<NativeVersion>, Failure> {
        let mut found = Vec::new();
        let mut request = ListObjectVersionsRequest {
            bucket: self.bucket.clone(),
            prefix: Some(name.to_owned()),
            ..ListObjectVersionsRequest::default()
        };
        for _ in 0..MOST_PAGES {
            let ask = || {
                self.call(Shape::root("ListVersionsResult"), |s3| {
                    let request = request.clone();
                    async move { s3.list_object_versions(request).await }
                })
            };
            let page = insist(ask).await?;
            let versions = page.versions.unwrap_or_default().into_iter().map(|one| (one.key, one.version_id));
            let marks =
                page.delete_markers.unwrap_or_default().into_iter().map(|one| (one.key, one.version_id));
            let (ours, others): (Vec<_>, Vec<_>) =
                versions.chain(marks).partition(|(key, _)| key.as_deref() == Some(name));
            for (_, id) in ours {
                found.extend(self.version(id)?);
            }
            // The name itself comes before all that it begins.
            if page.is_truncated != Some(true) || !others.is_empty() {
                return Ok(found);
            }
            (request.key_marker, request.version_id_marker) =
                (page.next_key_marker, page.next_version_id_marker);
        }
        Err(Failure::wrong(ErrorKind::BadAnswer, "more versions than there may be"))
    }
}

/// Whether an id was refused that none of the server's versions can have. An answer to HEAD has no code.
pub(super) fn is_no_version(failure: &Failure) -> bool {
    failure.status() == Some(400) && matches!(failure.code(), "" | "InvalidArgument")
}

/// Whether a server has not heard of versions, or we may not ask. Whether the credentials are any good shows in what is asked next.
fn does_not_tell(failure: &Failure) -> bool {
    matches!(failure.status(), Some(400 | 403 | 404 | 405 | 501))
        && matches!(
            failure.kind(),
            ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Other
        )
}
