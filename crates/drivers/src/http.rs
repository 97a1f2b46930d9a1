//! Objects on a server of HTTP, with WebDAV or without.

mod client;
mod config;
mod copy;
mod dav;
mod error;
mod listing;
mod objects;
mod resume;
mod secret;
mod space;
mod writer;

pub use config::Config;

use crate::{
    error::error,
    remote::{Failure, Hold, reading, resized},
};
use async_trait::async_trait;
use bytes::Bytes;
use client::Client;
use coffer_domain::{
    driver::{
        self, ByteStream, Capabilities, Driver, ErrorKind, Listed, PieceSize, Published, Result, Stat,
        WriteOptions,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use objects::Content;
use space::{Protocol, Space};
use std::{ops::Range, sync::Arc};
use writer::Writer;

/// A place on a server.
///
/// One process at a time may write an upload: within a process a second writer is refused, between processes the caller sees to it.
#[derive(Debug)]
pub struct Http {
    space: Arc<Space>,
}

impl Http {
    /// Connects, and finds out what the server can do.
    ///
    /// # Errors
    /// `Denied` if the settings cannot be right or the secret is refused, `Unavailable` if the server is away, `BadAnswer` if it does not
    /// give back what it was given or sends us elsewhere.
    pub async fn open(config: Config) -> Result<Self> {
        let (part_bytes, budget) = (config.part_bytes.max(1), config.budget.clone());
        let by_query = config.use_query_params;
        // It reads the certificates of the system.
        let client = tokio::task::spawn_blocking(move || Client::new(&config))
            .await
            .map_err(|stopped| error(ErrorKind::Unavailable, "open", None, stopped))?
            .map_err(|failure| failure.at("open", None))?;
        let space = Space::open(client, part_bytes, budget, by_query).await;
        Ok(Self { space: space.map_err(|failure| failure.at("open", None))? })
    }

    fn hold(&self, operation: &'static str, upload: UploadId, key: &Key) -> Result<Hold> {
        self.space.holds.take(upload).ok_or_else(|| {
            error(ErrorKind::Unavailable, operation, Some(key), "another writer has the upload")
        })
    }

    fn require_dav(&self, operation: &'static str, key: Option<&Key>) -> Result<()> {
        match self.space.protocol {
            Protocol::Dav => Ok(()),
            Protocol::Plain => Err(error(ErrorKind::Unsupported, operation, key, "this needs WebDAV")),
        }
    }
}

#[async_trait]
impl Driver for Http {
    fn provider(&self) -> Provider {
        Provider::Http
    }

    fn capabilities(&self) -> Capabilities {
        let is_dav = self.space.protocol == Protocol::Dav;
        Capabilities {
            atomic_publish: is_dav,
            // Nothing in HTTP says that bytes are on a disk.
            durable_ack: false,
            // Servers look before they move, and another may move meanwhile.
            create_only: false,
            resume: is_dav && self.space.reads_ranges,
            range_read: self.space.reads_ranges,
            list: is_dav,
            copy: is_dav,
            // A copy is another object, which costs its bytes and does not tell whose it is.
            link: false,
            rename: is_dav,
            // DeltaV, which nobody serves.
            versions: false,
        }
    }

    async fn begin(
        &self,
        upload: UploadId,
        key: &Key,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let mut hold = None;
        if options.is_resumable {
            self.require_dav("begin", Some(key))?;
            hold = Some(self.hold("begin", upload, key)?);
            // Bytes of an earlier begin would be taken for those of this one.
            let swept = self.space.sweep(upload).await;
            swept.map_err(|failure| failure.at("begin", Some(key)))?;
        }
        Ok(Box::new(Writer::new(Arc::clone(&self.space), upload, key.clone(), options, hold)))
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        self.require_dav("resume", Some(key))?;
        let hold = self.hold("resume", upload, key)?;
        let options = WriteOptions { is_resumable: true, ..options };
        let resumed = resume::resume(Arc::clone(&self.space), upload, key, size, options, hold);
        match Box::pin(resumed).await {
            Ok(writer) => Ok(Box::new(writer)),
            Err(failure) => Err(failure.at("resume", Some(key))),
        }
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let content = Content { space: Arc::clone(&self.space), name: self.space.client.name(key) };
        let pieces = reading::read(content, range).await.map_err(|failure| failure.at("read", Some(key)))?;
        let key = key.clone();
        Ok(resized(pieces, size, move |failure| failure.at("read", Some(&key))))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let look = async {
            let found = self.space.stat(&self.space.client.name(key)).await?;
            if found.is_none() && self.space.protocol == Protocol::Dav {
                self.space.client.expect_folder().await?;
            }
            Ok(found)
        };
        look.await.map_err(|failure: Failure| failure.at("stat", Some(key)))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let removed = self.space.remove(&self.space.client.name(key)).await;
        removed.map_err(|failure| failure.at("delete", Some(key)))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        self.require_dav("list", None)?;
        let found = listing::list(&self.space.client, prefix, after, limit).await;
        found.map_err(|failure| failure.at("list", None))
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let put = self.space.put(&self.space.client.name(key), vec![content]).await;
        put.map_err(|failure| failure.at("put", Some(key)))
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        self.require_dav("copy", Some(to))?;
        let client = &self.space.client;
        let copied = self.space.copy(upload, &client.name(from), &client.name(to)).await;
        copied.map(Published::unversioned).map_err(|failure| failure.at("copy", Some(to)))
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.space.sweep(upload).await.map_err(|failure| failure.at("sweep", None))
    }
}
