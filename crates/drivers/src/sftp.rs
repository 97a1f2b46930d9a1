//! Objects on a server of SFTP.

mod client;
mod config;
mod error;
mod files;
mod listing;
mod login;
mod objects;
mod pool;
mod probe;
mod resume;
mod space;
mod stream;
mod turns;
mod way;
mod writer;

pub use coffer_domain::endpoint::{HostKey, SshLogin as Login};
pub use config::Config;

use crate::{
    error::error,
    remote::{Failure, Hold, reading, resized},
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        self, ByteStream, Capabilities, Driver, ErrorKind, Listed, PieceSize, Result, Stat, WriteOptions,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use objects::Content;
use space::Space;
use std::{ops::Range, sync::Arc};
use writer::{Task, Writer};

/// A place on a server.
///
/// One process at a time may write an upload: within a process a second writer is refused, between processes the caller sees to it.
#[derive(Debug)]
pub struct Sftp {
    space: Arc<Space>,
}

impl Sftp {
    /// Logs in, and finds out what the server can do.
    ///
    /// # Errors
    /// `Denied` if the server's key is not the pinned one, the log-in is refused or the settings cannot be right, `Unavailable` if the server or the
    /// volume's folder is away, `BadAnswer` if the server does not give back what it was given or names a folder that is none.
    pub async fn open(config: Config) -> Result<Self> {
        let space = run(Space::open(config)).await;
        Ok(Self { space: space.map_err(|failure| failure.at("open", None))? })
    }

    fn hold(&self, operation: &'static str, upload: UploadId, key: &Key) -> Result<Hold> {
        self.space.holds.take(upload).ok_or_else(|| {
            error(ErrorKind::Unavailable, operation, Some(key), "another writer has the upload")
        })
    }

    fn require_resume(&self, operation: &'static str, key: &Key) -> Result<()> {
        match self.space.can.resume {
            true => Ok(()),
            false => {
                let reason = "the server does not write into the middle of a file";
                Err(error(ErrorKind::Unsupported, operation, Some(key), reason))
            }
        }
    }
}

/// Does something to its end, also when nobody waits for it any more.
async fn run<T: Send + 'static>(
    work: impl Future<Output = std::result::Result<T, Failure>> + Send + 'static,
) -> std::result::Result<T, Failure> {
    let stopped = |_| Err(Failure::wrong(ErrorKind::Unavailable, "the service stops"));
    tokio::spawn(work).await.unwrap_or_else(stopped)
}

#[async_trait]
impl Driver for Sftp {
    fn provider(&self) -> Provider {
        Provider::Sftp
    }

    fn capabilities(&self) -> Capabilities {
        let can = self.space.can;
        Capabilities {
            atomic_publish: true,
            // The file, and with it its name on the file systems that servers have; see the README.
            durable_ack: can.sync,
            create_only: can.refuse,
            resume: can.resume,
            range_read: true,
            list: true,
            // There are extensions for both, which libssh2 does not speak.
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
        let mut hold = None;
        if options.is_resumable {
            self.require_resume("begin", key)?;
            hold = Some(self.hold("begin", upload, key)?);
        }
        let turn = self.space.turn(upload).await.map_err(|failure| failure.at("begin", Some(key)))?;
        let task = Task::new(Arc::clone(&self.space), self.space.staged(upload), turn);
        let space = Arc::clone(&self.space);
        Ok(Box::new(Writer::new(space, key.clone(), options, hold, task, 0)))
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        self.require_resume("resume", key)?;
        let hold = self.hold("resume", upload, key)?;
        let options = WriteOptions { is_resumable: true, ..options };
        let resumed = resume::resume(Arc::clone(&self.space), upload, key.clone(), size, options, hold);
        match run(resumed).await {
            Ok(writer) => Ok(Box::new(writer)),
            Err(failure) => Err(failure.at("resume", Some(key))),
        }
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let (space, path) = (Arc::clone(&self.space), self.space.path(key));
        let content = Content { space, path, size: size.clone() };
        let pieces = reading::read(content, range).await.map_err(|failure| failure.at("read", Some(key)))?;
        let key = key.clone();
        Ok(resized(pieces, size, move |failure| failure.at("read", Some(&key))))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let found = self.space.stat(&self.space.path(key)).await;
        found.map_err(|failure| failure.at("stat", Some(key)))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let removed = self.space.remove(&self.space.path(key)).await;
        removed.map_err(|failure| failure.at("delete", Some(key)))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        let found = listing::list(&self.space, prefix, after, limit).await;
        found.map_err(|failure| failure.at("list", None))
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let (space, path) = (Arc::clone(&self.space), self.space.path(key));
        let put = run(async move { space.put(&path, content).await }).await;
        put.map_err(|failure| failure.at("put", Some(key)))
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.space.sweep(upload).await.map_err(|failure| failure.at("sweep", None))
    }
}
