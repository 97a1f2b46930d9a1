//! Objects in a bucket behind S3's protocol.

mod bucket;
mod client;
mod config;
mod copy;
mod error;
mod integrity;
mod listing;
mod multipart;
mod objects;
mod part;
mod reader;
mod staged;
mod versions;
mod writer;

pub use config::{Config, LEAST_PART_BYTES};

use crate::{
    error::error,
    remote::{Failure, Hold, reading, resized},
};
use async_trait::async_trait;
use bucket::Bucket;
use bytes::Bytes;
use client::Client;
use coffer_domain::{
    driver::{
        self, ByteStream, Capabilities, Driver, ErrorKind, Listed, NativeVersion, PieceSize, Published,
        Result, Stat, WriteOptions,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use reader::Content;
use std::{ops::Range, sync::Arc};
use writer::Writer;

/// A bucket.
///
/// One process at a time may write an upload: within a process a second writer is refused, between processes the caller sees to it. A part
/// that an abandoned writer sends late is found out when the object is put together, by the sums of the parts.
#[derive(Debug)]
pub struct S3 {
    bucket: Arc<Bucket>,
}

impl S3 {
    /// Connects, and finds out whether the bucket keeps versions and which checksum the endpoint looks at.
    ///
    /// # Errors
    /// `Denied` if the settings cannot be right or the credentials are refused, `Unavailable` if the endpoint or the bucket is away,
    /// `BadAnswer` if what answers there is no S3.
    pub async fn open(config: Config) -> Result<Self> {
        if config.part_bytes < LEAST_PART_BYTES {
            return Err(error(ErrorKind::Denied, "open", None, "parts have at least 5 MiB"));
        }
        let of_client = config.clone();
        // It reads the certificates of the system.
        let client = tokio::task::spawn_blocking(move || Client::new(&of_client))
            .await
            .map_err(|stopped| error(ErrorKind::Unavailable, "open", None, stopped))?
            .map_err(|failure| failure.at("open", None))?;
        let client = client.look_at_versioning().await.map_err(|failure| failure.at("open", None))?;
        let integrity = client.probe().await.map_err(|failure| failure.at("open", None))?;
        Ok(Self { bucket: Arc::new(Bucket::new(client, integrity, &config)) })
    }

    fn hold(&self, operation: &'static str, upload: UploadId, key: &Key) -> Result<Hold> {
        self.bucket.holds.take(upload).ok_or_else(|| {
            error(ErrorKind::Unavailable, operation, Some(key), "another writer has the upload")
        })
    }

    fn require_versions(&self, operation: &'static str, key: &Key) -> Result<()> {
        match self.bucket.client.keeps_versions {
            true => Ok(()),
            false => Err(error(ErrorKind::Unsupported, operation, Some(key), "the bucket keeps no versions")),
        }
    }

    /// The content of an object, or of one version of it.
    async fn content(
        &self,
        key: &Key,
        version: Option<&NativeVersion>,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        let client = Arc::clone(&self.bucket.client);
        let content = Content { name: client.name(key), version: version.cloned(), client };
        let pieces = reading::read(content, range).await.map_err(|failure| failure.at("read", Some(key)))?;
        let key = key.clone();
        Ok(resized(pieces, size, move |failure| failure.at("read", Some(&key))))
    }
}

#[async_trait]
impl Driver for S3 {
    fn provider(&self) -> Provider {
        Provider::S3
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_publish: true,
            durable_ack: true,
            // `If-None-Match` is ignored by servers that answer as if it was not.
            create_only: false,
            resume: true,
            range_read: true,
            list: true,
            copy: true,
            // A copy is another object, which costs its bytes and does not tell whose it is.
            link: false,
            // A multipart upload has its key from its beginning.
            rename: false,
            versions: self.bucket.client.keeps_versions,
        }
    }

    async fn begin(
        &self,
        upload: UploadId,
        key: &Key,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let hold = match options.is_resumable {
            true => Some(self.hold("begin", upload, key)?),
            false => None,
        };
        if hold.is_some() {
            // Bytes of an earlier begin would be taken for those of this one.
            let swept = staged::sweep(&self.bucket.client, upload).await;
            swept.map_err(|failure| failure.at("begin", Some(key)))?;
        }
        Ok(Box::new(Writer::new(Arc::clone(&self.bucket), upload, key.clone(), options, hold)))
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let hold = self.hold("resume", upload, key)?;
        let options = WriteOptions { is_resumable: true, ..options };
        let resumed = staged::resume(Arc::clone(&self.bucket), upload, key, size, options, hold);
        match Box::pin(resumed).await {
            Ok(writer) => Ok(Box::new(writer)),
            Err(failure) => Err(failure.at("resume", Some(key))),
        }
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        self.content(key, None, range, size).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let client = &self.bucket.client;
        let look = async {
            let head = client.head(&client.name(key)).await?;
            if head.is_none() {
                client.expect_bucket().await?;
            }
            Ok(head.map(|head| Stat { size: head.size, changed_at: head.changed_at }))
        };
        look.await.map_err(|failure: Failure| failure.at("stat", Some(key)))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let client = &self.bucket.client;
        client.remove_object(&client.name(key)).await.map_err(|failure| failure.at("delete", Some(key)))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        let found = listing::list(&self.bucket.client, prefix, after, limit).await;
        found.map_err(|failure| failure.at("list", None))
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let Bucket { client, integrity, .. } = &*self.bucket;
        let parcel = integrity.parcel(vec![content]).await;
        let put = client.put(&client.name(key), &parcel, None).await;
        put.map(drop).map_err(|failure| failure.at("put", Some(key)))
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        self.require_versions("read", key)?;
        self.content(key, Some(version), range, size).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        self.require_versions("stat", key)?;
        let client = &self.bucket.client;
        let head = client.head_version(&client.name(key), Some(version)).await;
        let head = head.map_err(|failure| failure.at("stat", Some(key)))?;
        Ok(head.map(|head| Stat { size: head.size, changed_at: head.changed_at }))
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        self.require_versions("delete", key)?;
        let client = &self.bucket.client;
        let removed = client.remove_version(&client.name(key), version).await;
        removed.map_err(|failure| failure.at("delete", Some(key)))
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        let client = &self.bucket.client;
        let copy = async {
            let (source, target) = (client.name(from), client.name(to));
            let Some(head) = client.head(&source).await? else {
                client.expect_bucket().await?;
                return Err(Failure::wrong(ErrorKind::NotFound, "there is no object"));
            };
            // Nothing on S3 keeps a key from being replaced, so this is a look before and no promise.
            if client.head(&target).await?.is_some_and(|head| !head.is_of(upload)) {
                return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
            }
            copy::copy(&self.bucket, upload, &source, head.size, to).await
        };
        copy.await.map_err(|failure: Failure| failure.at("copy", Some(to)))
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        let swept = staged::sweep(&self.bucket.client, upload).await;
        swept.map_err(|failure| failure.at("sweep", None))
    }
}
