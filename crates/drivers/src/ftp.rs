//! Objects on a server of FTP, with TLS or without.

mod client;
mod config;
mod connect;
mod download;
mod ends;
mod error;
mod folders;
mod lines;
mod listing;
mod objects;
mod pool;
mod resume;
mod session;
mod space;
mod sums;
mod upload;
mod writer;

pub use coffer_domain::endpoint::FtpSecurity as Security;
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
        self, ByteStream, Capabilities, Driver, ErrorKind, Listed, PieceSize, Result, Stat, WriteOptions,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use space::Space;
use std::{ops::Range, sync::Arc};
use writer::Writer;

/// A place on a server.
///
/// One process at a time may write an upload: within a process a second writer is refused, between processes the caller sees to it.
#[derive(Debug)]
pub struct Ftp {
    space: Arc<Space>,
}

impl Ftp {
    /// Logs in, and finds out what the server can do.
    ///
    /// # Errors
    /// `Denied` if the settings cannot be right or the log-in is refused, `Unavailable` if the server is away or the folder missing, `BadAnswer`
    /// if it does not give back what it was given.
    pub async fn open(config: Config) -> Result<Self> {
        let opened = async {
            let client = Client::open(&config).await?;
            Space::open(client, config.budget.clone()).await
        };
        let space = Box::pin(opened).await.map_err(|failure: Failure| failure.at("open", None))?;
        Ok(Self { space })
    }

    /// What a writer of an upload needs to be the only one.
    async fn hold(&self, operation: &'static str, upload: UploadId, key: &Key) -> Result<Hold> {
        if !self.resumes() {
            let reason = "the server does not go on with files, or does not tell what it has";
            return Err(error(ErrorKind::Unsupported, operation, Some(key), reason));
        }
        let hold = self.space.holds.take(upload).ok_or_else(|| {
            error(ErrorKind::Unavailable, operation, Some(key), "another writer has the upload")
        })?;
        self.space.ends.wait(upload).await.map_err(|failure| failure.at(operation, Some(key)))?;
        Ok(hold)
    }

    fn resumes(&self) -> bool {
        self.space.appends && self.space.lists && self.space.reads_ranges
    }
}

#[async_trait]
impl Driver for Ftp {
    fn provider(&self) -> Provider {
        Provider::Ftp
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_publish: true,
            // Nothing in FTP says that bytes are on a disk.
            durable_ack: false,
            // Servers rename over what is there.
            create_only: false,
            resume: self.resumes(),
            range_read: self.space.reads_ranges,
            list: self.space.lists,
            // No command makes a copy.
            copy: false,
            link: false,
            rename: true,
            versions: false,
        }
    }

    async fn begin(
        &self,
        upload: UploadId,
        key: &Key,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let (mut hold, mut staged) = (None, self.space.single(upload));
        if options.is_resumable {
            hold = Some(self.hold("begin", upload, key).await?);
            // Bytes of an earlier begin would be taken for those of this one.
            let swept = self.space.sweep(upload).await;
            swept.map_err(|failure| failure.at("begin", Some(key)))?;
            staged = resume::first(&self.space, upload);
        }
        Ok(Box::new(Writer::new(Arc::clone(&self.space), upload, key.clone(), options, hold, staged)))
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let hold = self.hold("resume", upload, key).await?;
        let options = WriteOptions { is_resumable: true, ..options };
        let resumed = resume::resume(Arc::clone(&self.space), upload, key, size, options, hold);
        match Box::pin(resumed).await {
            Ok(writer) => Ok(Box::new(writer)),
            Err(failure) => Err(failure.at("resume", Some(key))),
        }
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let content = self.space.content(&self.space.client.name(key));
        let reading = async {
            match reading::read(content, range).await {
                Err(failure) if failure.is_absent() => {
                    self.space.client.expect_root().await?;
                    Err(failure)
                }
                outcome => outcome,
            }
        };
        let pieces = reading.await.map_err(|failure| failure.at("read", Some(key)))?;
        let key = key.clone();
        Ok(resized(pieces, size, move |failure| failure.at("read", Some(&key))))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let client = &self.space.client;
        let look = async {
            let found = client.stat(&client.name(key)).await?;
            if found.is_none() {
                client.expect_root().await?;
            }
            Ok(found)
        };
        look.await.map_err(|failure: Failure| failure.at("stat", Some(key)))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        // It looks first: some servers remove a folder with all that is in it.
        if self.stat(key).await.map_err(|failure| driver::Error { operation: "delete", ..failure })?.is_none()
        {
            return Ok(());
        }
        let removed = self.space.client.remove(&self.space.client.name(key)).await;
        removed.map_err(|failure| failure.at("delete", Some(key)))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        if !self.space.lists {
            let reason = "what the server tells of folders cannot be understood";
            return Err(error(ErrorKind::Unsupported, "list", None, reason));
        }
        let found = listing::list(&self.space.client, prefix, after, limit).await;
        found.map_err(|failure| failure.at("list", None))
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let put = self.space.client.put(&self.space.client.name(key), &[content]).await;
        put.map_err(|failure| failure.at("put", Some(key)))
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.space.sweep(upload).await.map_err(|failure| failure.at("sweep", None))
    }
}
