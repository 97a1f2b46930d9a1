//! Content of objects.

use super::{
    client::{Client, Shape},
    versions::is_no_version,
};
use crate::{
    remote::{
        Failure,
        reading::{Fetched, Source, end_of_answer, range_header},
    },
    wire,
};
use coffer_domain::driver::{ErrorKind, NativeVersion};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rusoto_s3::{GetObjectRequest, S3 as _};
use std::{ops::Range, sync::Arc};

/// An object's content.
pub(super) struct Content {
    pub(super) client: Arc<Client>,
    pub(super) name: String,
    /// Which version; the current one if none is named.
    pub(super) version: Option<NativeVersion>,
}

impl Source for Content {
    async fn fetch(&self, range: Range<u64>, etag: Option<String>) -> Result<Fetched, Failure> {
        let request = GetObjectRequest {
            bucket: self.client.bucket.clone(),
            key: self.name.clone(),
            range: range_header(&range),
            if_match: etag,
            version_id: self.version.as_ref().map(NativeVersion::to_string),
            ..GetObjectRequest::default()
        };
        let shape = Shape { is_stream: true, ..Shape::default() };
        let found = match self.client.call(shape, |s3| async move { s3.get_object(request).await }).await {
            Err(failure) if self.version.is_some() && is_no_version(&failure) => {
                return Err(Failure::wrong(ErrorKind::NotFound, "there is no such version"));
            }
            outcome => outcome?,
        };
        let length = super::objects::size(found.content_length)?;
        let end = end_of_answer(&range, length, found.content_range.as_deref())?;
        let body = match found.body {
            Some(body) => body.map_err(|error| wire::Failure::Broken(error.to_string()).into()).boxed(),
            None => stream::empty().boxed(),
        };
        Ok(Fetched { etag: found.e_tag, end, body })
    }

    async fn exists(&self) -> Result<bool, Failure> {
        Ok(self.client.head_version(&self.name, self.version.as_ref()).await?.is_some())
    }
}
