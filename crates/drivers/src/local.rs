//! Objects as files below a directory of the host.

mod client;
mod config;
mod content;
mod directories;
mod error;
mod jobs;
mod links;
mod listing;
mod names;
mod reader;
mod staged;
mod syncs;
mod writeback;
mod writer;

pub use config::{Config, Staging};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Root, describe};
use coffer_domain::{
    driver::{
        self, ByteStream, Capabilities, Driver, Listed, PieceSize, Published, Result, Stat, WriteOptions,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use error::Failure;
use jobs::Jobs;
use rustix::io::Errno;
use staged::Staged;
use std::{ops::Range, sync::Arc};
use writer::{Waiting, Writer};

/// A directory of the host. Has to be used within a tokio runtime.
///
/// Directories are made where a key needs them and never removed, so that no upload loses its directory to a delete. Under keys made by
/// [`Key::of_version`] that is one for each 65 seconds in which something was uploaded.
#[derive(Debug)]
pub struct Local {
    root: Arc<Root>,
    staging: Staging,
    jobs: Jobs,
}

impl Local {
    /// Opens the root directory, once. When its path later leads to another directory (a disk was mounted there, or it was moved),
    /// every call fails with `NotOnThisNode` and it has to be opened again.
    ///
    /// # Errors
    /// `NotOnThisNode` if the directory does not exist, `Denied` if it is a symlink, no directory, or not ours to enter,
    /// `Unsupported` if the kernel does not have openat2 (Linux before 5.6).
    pub async fn open(config: Config) -> Result<Self> {
        let staging = config.staging;
        let jobs = Jobs::default();
        let (root, has_proc) = jobs
            // Without /proc a file without a name cannot be given one.
            .run("open", None, move || {
                Ok((Root::open(&config)?, std::path::Path::new("/proc/self/fd").is_dir()))
            })
            .await?;
        let staging = if has_proc { staging } else { Staging::Named };
        Ok(Self { root: Arc::new(root), staging, jobs })
    }

    /// Runs a job on the root, if that is still where it was.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: Option<&Key>,
        job: impl FnOnce(&Arc<Root>) -> std::result::Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        self.jobs.run(operation, key, move || root.check().and_then(|()| job(&root))).await
    }
}

#[async_trait]
impl Driver for Local {
    fn provider(&self) -> Provider {
        Provider::Local
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            atomic_publish: true,
            durable_ack: true,
            create_only: true,
            resume: true,
            range_read: true,
            list: true,
            copy: true,
            link: true,
            rename: true,
            // A replaced file is gone.
            versions: false,
        }
    }

    async fn begin(
        &self,
        upload: UploadId,
        key: &Key,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let (staging, target) = (self.staging, self.root.location(key));
        let create = move |root: &Arc<Root>| {
            if options.is_resumable {
                Staged::create_resumable(root, upload, target, options.declared_size)
            } else {
                Staged::create(root, staging, upload, target, options.declared_size)
            }
        };
        let staged = self.run("begin", Some(key), create).await?;
        Ok(Box::new(Writer::new(self.jobs.clone(), key.clone(), staged)))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        let (staging, target) = (self.staging, self.root.location(key));
        let (_waiting, wanted) = Waiting::new();
        let store = move |root: &Arc<Root>| Staged::store(root, staging, upload, target, &content, &wanted);
        self.run("store", Some(key), store).await.map(Published::unversioned)
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn driver::Writer>> {
        let target = self.root.location(key);
        let resume =
            move |root: &Arc<Root>| Staged::resume(root, upload, target, size, options.declared_size);
        let staged = self.run("resume", Some(key), resume).await?;
        Ok(Box::new(Writer::new(self.jobs.clone(), key.clone(), staged)))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        reader::read(Arc::clone(&self.root), self.jobs.clone(), key.clone(), range, size).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let at = self.root.location(key);
        let look = move |root: &Arc<Root>| match root.look(&at) {
            Ok(stat) => Ok(describe(&stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        };
        self.run("stat", Some(key), look).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let at = self.root.location(key);
        self.run("delete", Some(key), move |root| names::remove(root, &at)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run("list", None, move |root| listing::list(root, &prefix, after.as_ref(), limit)).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let at = self.root.location(key);
        self.run("put", Some(key), move |root| names::put(root, &at, &content)).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        let (staging, source, target) = (self.staging, self.root.location(from), self.root.location(to));
        let (_waiting, wanted) = Waiting::new();
        let copy = move |root: &Arc<Root>| Staged::copy(root, staging, upload, &source, target, &wanted);
        self.run("copy", Some(to), copy).await.map(Published::unversioned)
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let (from, at) = (self.root.location(key), self.root.location(path));
        let before: Vec<_> = before.iter().map(|key| self.root.location(key)).collect();
        self.run("link", Some(path), move |root| links::link(root, &from, &at, &before)).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        let at = self.root.location(path);
        let of: Vec<_> = keys.iter().map(|key| self.root.location(key)).collect();
        self.run("unlink", Some(path), move |root| links::unlink(root, &at, &of)).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.run("sweep", None, move |root| names::sweep(root, upload)).await
    }
}
