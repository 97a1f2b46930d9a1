//! Objects in a bucket behind S3's protocol.

mod bucket;
mod client;
mod config;
mod error;
mod integrity;
mod listing;
mod multipart;
mod objects;
mod reader;
mod staged;
mod writer;

pub use config::{Config, Credentials, LEAST_PART_BYTES};

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
        self, ByteStream, Capabilities, Driver, ErrorKind, Listed, PieceSize, Result, Stat, WriteOptions,
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
    /// Connects, and finds out which checksum the endpoint looks at.
    ///
    /// # Errors
    /// `Denied` if the settings cannot be right or the credentials are refused, `Unavailable` if the endpoint or the bucket is away,
    /// `BadAnswer` if what answers there is no S3.
    pub async fn open(config: Config) -> Result<Self> {
        if config.part_bytes < LEAST_PART_BYTES {
            return Err(error(ErrorKind::Denied, "open", None, "parts have at least 5 MiB"));
        }
        let (part_bytes, in_flight_bytes) = (config.part_bytes, config.in_flight_bytes);
        // It reads the certificates of the system.
        let client = tokio::task::spawn_blocking(move || Client::new(&config))
            .await
            .map_err(|stopped| error(ErrorKind::Unavailable, "open", None, stopped))?
            .map_err(|failure| failure.at("open", None))?;
        let client = Arc::new(client);
        let integrity = client.probe().await.map_err(|failure| failure.at("open", None))?;
        Ok(Self { bucket: Arc::new(Bucket::new(client, integrity, part_bytes, in_flight_bytes)) })
    }

    fn hold(&self, operation: &'static str, upload: UploadId, key: &Key) -> Result<Hold> {
        self.bucket.holds.take(upload).ok_or_else(|| {
            error(ErrorKind::Unavailable, operation, Some(key), "another writer has the upload")
        })
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
            // A copy is another object, which costs its bytes and does not tell whose it is.
            copy: false,
            // A multipart upload has its key from its beginning.
            rename: false,
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
        let client = Arc::clone(&self.bucket.client);
        let content = Content { name: client.name(key), client };
        let pieces = reading::read(content, range).await.map_err(|failure| failure.at("read", Some(key)))?;
        let key = key.clone();
        Ok(resized(pieces, size, move |failure| failure.at("read", Some(&key))))
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
        client.put(&client.name(key), &parcel, None).await.map_err(|failure| failure.at("put", Some(key)))
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        let swept = staged::sweep(&self.bucket.client, upload).await;
        swept.map_err(|failure| failure.at("sweep", None))
    }
}
