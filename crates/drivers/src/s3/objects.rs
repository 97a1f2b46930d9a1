//! Single objects: put, look, remove.

use super::{
    client::{Client, Shape},
    integrity::{Integrity, Parcel, Sum},
    versions::is_no_version,
};
use crate::remote::{Failure, insist, moment};
use bytes::Bytes;
use coffer_domain::{
    driver::{ErrorKind, NativeVersion},
    id::UploadId,
    time::Timestamp,
};
use futures_util::stream;
use rusoto_core::ByteStream;
use rusoto_s3::{DeleteObjectRequest, HeadBucketRequest, HeadObjectRequest, PutObjectRequest, S3 as _};
use std::{collections::HashMap, sync::Arc};

/// The metadata of an object that says which upload it is of.
const UPLOAD: &str = "coffer-upload";

/// What is known of an object.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) changed_at: Timestamp,
    /// Which version it is, where the bucket keeps them.
    pub(super) version: Option<NativeVersion>,
    /// The upload it is of, if it says so.
    upload: Option<String>,
}

impl Head {
    /// Whether the object can be that of an upload: keys are never used twice, so one that does not say is.
    pub(super) fn may_be_of(&self, upload: UploadId) -> bool {
        self.upload.as_ref().is_none_or(|said| *said == upload.to_string())
    }

    /// Whether the object says that it is that of an upload.
    pub(super) fn is_of(&self, upload: UploadId) -> bool {
        self.upload.as_ref().is_some_and(|said| *said == upload.to_string())
    }
}

/// The metadata of an object of this upload.
pub(super) fn metadata(upload: UploadId) -> HashMap<String, String> {
    HashMap::from([(UPLOAD.to_owned(), upload.to_string())])
}

/// A size that the backend tells.
pub(super) fn size(number: Option<i64>) -> Result<u64, Failure> {
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "an object without a size"))
}

/// A body for rusoto, of known length.
pub(super) fn body(parcel: &Parcel) -> Result<ByteStream, Failure> {
    let size = usize::try_from(parcel.size)
        .map_err(|_| Failure::wrong(ErrorKind::Unsupported, "too large for this machine"))?;
    Ok(ByteStream::new_with_size(stream::iter(parcel.pieces.clone().into_iter().map(Ok)), size))
}

impl Client {
    /// What is known of an object; `None` if there is none, or no bucket.
    pub(super) async fn head(self: &Arc<Self>, name: &str) -> Result<Option<Head>, Failure> {
        self.head_version(name, None).await
    }

    /// The same of one version; of the current one if none is named.
    pub(super) async fn head_version(
        self: &Arc<Self>,
        name: &str,
        version: Option<&NativeVersion>,
    ) -> Result<Option<Head>, Failure> {
        let request = HeadObjectRequest {
            bucket: self.bucket.clone(),
            key: name.to_owned(),
            version_id: version.map(NativeVersion::to_string),
            ..HeadObjectRequest::default()
        };
        let ask = || {
            self.call(Shape::default(), |s3| {
                let request = request.clone();
                async move { s3.head_object(request).await }
            })
        };
        match insist(ask).await {
            Ok(found) => Ok(Some(Head {
                size: size(found.content_length)?,
                changed_at: moment(found.last_modified.as_deref())?,
                version: self.version(found.version_id)?,
                upload: found.metadata.and_then(|mut metadata| metadata.remove(UPLOAD)),
            })),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) if version.is_some() && is_no_version(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Fails if the bucket is not there: an answer to HEAD does not tell that from an object that is not.
    pub(super) async fn expect_bucket(self: &Arc<Self>) -> Result<(), Failure> {
        let request = HeadBucketRequest { bucket: self.bucket.clone(), ..HeadBucketRequest::default() };
        match self.call(Shape::default(), |s3| async move { s3.head_bucket(request).await }).await {
            Err(failure) if failure.is_absent() => {
                Err(Failure::wrong(ErrorKind::Unavailable, "the bucket is not there"))
            }
            outcome => outcome,
        }
    }

    /// Puts an object, in place of what is there; answers its version, where the bucket keeps them.
    pub(super) async fn put(
        self: &Arc<Self>,
        name: &str,
        parcel: &Parcel,
        upload: Option<UploadId>,
    ) -> Result<Option<NativeVersion>, Failure> {
        insist(|| self.put_once(name, parcel, upload)).await
    }

    async fn put_once(
        self: &Arc<Self>,
        name: &str,
        parcel: &Parcel,
        upload: Option<UploadId>,
    ) -> Result<Option<NativeVersion>, Failure> {
        let request = PutObjectRequest {
            bucket: self.bucket.clone(),
            key: name.to_owned(),
            body: Some(body(parcel)?),
            metadata: upload.map(metadata),
            ..PutObjectRequest::default()
        };
        let shape = Shape { headers: vec![parcel.sum.header()], ..Shape::default() };
        let put = self.call(shape, |s3| async move { s3.put_object(request).await }).await?;
        self.version(put.version_id)
    }

    /// Removes an object if it is there: asked to remove a folder, some servers remove all that is in it.
    pub(super) async fn remove_object(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        match self.head(name).await? {
            Some(_) => self.remove(name).await,
            None => self.expect_bucket().await,
        }
    }

    /// Removes an object whose name no folder has. An absent one is a success.
    pub(super) async fn remove(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        let request = DeleteObjectRequest {
            bucket: self.bucket.clone(),
            key: name.to_owned(),
            ..DeleteObjectRequest::default()
        };
        let ask = || {
            self.call(Shape::default(), |s3| {
                let request = request.clone();
                async move { s3.delete_object(request).await }
            })
        };
        match insist(ask).await {
            Err(failure) if failure.is_absent() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// Which sum the endpoint looks at: found out with one that is wrong.
    pub(super) async fn probe(self: &Arc<Self>) -> Result<Integrity, Failure> {
        let name = self.below(&format!(".coffer/check/{}", uuid::Uuid::new_v4()));
        let content = Bytes::from_static(b"bytes that do not have the sum that is told");
        let wrong = Parcel {
            size: content.len() as u64,
            pieces: vec![content],
            sum: Sum::Crc32c("AAAAAA==".to_owned()),
        };
        match self.insist_on_probe(&name, &wrong).await {
            Ok(()) => {
                self.erase(&name).await?;
                Ok(Integrity::Md5)
            }
            Err(Failure::Refused { code, .. })
                if matches!(code.as_str(), "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch") =>
            {
                Ok(Integrity::Crc32c)
            }
            Err(Failure::Refused { status: 400 | 501, .. }) => Ok(Integrity::Md5),
            Err(failure) => Err(failure),
        }
    }

    /// A refusal of the sum looks like bytes that were damaged: it is not tried again.
    async fn insist_on_probe(self: &Arc<Self>, name: &str, wrong: &Parcel) -> Result<(), Failure> {
        let attempt = || async {
            match self.put_once(name, wrong, None).await {
                Err(refused @ Failure::Refused { status: 400, .. }) => Ok(Err(refused)),
                outcome => outcome.map(|_version| Ok(())),
            }
        };
        insist(attempt).await?
    }
}
