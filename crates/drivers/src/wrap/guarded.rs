//! Refuses what may not reach a driver.

use crate::error::error;
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, Error, ErrorKind, Listed, NativeVersion, PieceSize,
        Published, Result, Stat, WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use futures_util::future::{BoxFuture, ready};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Most objects of one listing.
pub const MOST_LISTED: usize = 10_000;
/// Most bytes of an object that is put at once.
pub const MOST_PUT_BYTES: usize = 64 * 1024;

const NO_LINK: &str = "this backend cannot give an object a second name";
const NO_RESUME: &str = "this backend cannot go on with what another writer began";
const NO_VERSIONS: &str = "this backend keeps no versions";

/// Refuses, with `Unsupported`, calls that need a capability the driver lacks and arguments outside their limits; and keeps a
/// writer whose write or checkpoint failed, was given up or is still under way, from being finished. What such a writer has staged is
/// removed, or if it is resumable, kept.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Driver>,
}

impl Guarded {
    /// Guards `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner }
    }

    fn check_range(&self, key: &Key, range: &Range<u64>) -> Result<()> {
        if range.start > range.end {
            return Err(unsupported("read", Some(key), "the range ends before it begins"));
        }
        if range.start > 0 && !self.inner.capabilities().range_read {
            return Err(unsupported("read", Some(key), "this backend reads only from the beginning"));
        }
        Ok(())
    }

    fn require_versions(&self, operation: &'static str, key: &Key) -> Result<()> {
        match self.inner.capabilities().versions {
            true => Ok(()),
            false => Err(unsupported(operation, Some(key), NO_VERSIONS)),
        }
    }
}

fn unsupported(operation: &'static str, key: Option<&Key>, reason: &'static str) -> Error {
    error(ErrorKind::Unsupported, operation, key, reason)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for Guarded {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        if options.is_resumable && !self.inner.capabilities().resume {
            return Err(unsupported("begin", Some(key), NO_RESUME));
        }
        let inner = self.inner.begin(upload, key, options).await?;
        Ok(Box::new(GuardedWriter::new(inner, key, options.is_resumable, self.capabilities())))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        self.inner.store(upload, key, content).await
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>> {
        if !self.inner.capabilities().resume {
            return Err(unsupported("resume", Some(key), NO_RESUME));
        }
        let inner = self.inner.resume(upload, key, size, options).await?;
        Ok(Box::new(GuardedWriter::new(inner, key, true, self.capabilities())))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        self.check_range(key, &range)?;
        self.inner.read(key, range, size).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        self.inner.stat(key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        if !self.inner.capabilities().list {
            return Err(unsupported("list", None, "this backend cannot list"));
        }
        if !(1..=MOST_LISTED).contains(&limit) {
            return Err(unsupported("list", None, "1 to 10,000 objects can be listed at a time"));
        }
        self.inner.list(prefix, after, limit).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        if content.len() > MOST_PUT_BYTES {
            return Err(unsupported("put", Some(key), "at most 64 KiB can be put at once"));
        }
        self.inner.put(key, content).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        if !self.inner.capabilities().copy {
            return Err(unsupported("copy", Some(to), "this backend cannot copy objects"));
        }
        self.inner.copy(upload, from, to).await
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        if !self.inner.capabilities().link {
            return Err(unsupported("link", Some(path), NO_LINK));
        }
        self.inner.link(key, path, before).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        if !self.inner.capabilities().link {
            return Err(unsupported("unlink", Some(path), NO_LINK));
        }
        self.inner.unlink(path, keys).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        self.require_versions("read", key)?;
        self.check_range(key, &range)?;
        self.inner.read_version(key, version, range, size).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        self.require_versions("stat", key)?;
        self.inner.stat_version(key, version).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        self.require_versions("delete", key)?;
        self.inner.delete_version(key, version).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.inner.sweep(upload).await
    }
}

struct GuardedWriter {
    inner: Box<dyn Writer>,
    key: Key,
    is_resumable: bool,
    can_rename: bool,
    /// A write failed, was given up or is under way: what the backend has is not known.
    is_broken: bool,
    checkpoints: Arc<Checkpoints>,
}

/// What became of a writer's checkpoints.
#[derive(Debug, Default)]
struct Checkpoints {
    under_way: AtomicUsize,
    /// One failed or was given up.
    is_broken: AtomicBool,
}

impl GuardedWriter {
    fn new(inner: Box<dyn Writer>, key: &Key, is_resumable: bool, can: Capabilities) -> Self {
        let (key, can_rename) = (key.clone(), can.rename);
        Self { inner, key, is_resumable, can_rename, is_broken: false, checkpoints: Arc::default() }
    }

    /// Refuses if what the backend has is not known.
    fn check(&self, operation: &'static str) -> Result<()> {
        if self.is_broken {
            return Err(self.refusal(operation, "an earlier write of this object failed"));
        }
        if self.checkpoints.is_broken.load(Ordering::Acquire) {
            return Err(self.refusal(operation, "an earlier checkpoint of this object failed"));
        }
        Ok(())
    }

    /// Refuses while a checkpoint is under way. To be asked before [`Self::check`], which tells how it ended.
    fn check_checkpoints(&self, operation: &'static str) -> Result<()> {
        match self.checkpoints.under_way.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(self.refusal(operation, "a checkpoint of this object is under way")),
        }
    }

    /// The writer, if what the backend has is known.
    async fn finishable(self) -> Result<Box<dyn Writer>> {
        if let Err(refusal) = self.check_checkpoints("finish").and_then(|()| self.check("finish")) {
            if !self.is_resumable {
                // The refusal is the answer, whether or not the staged bytes can be removed now; sweep removes them later.
                let _ = self.inner.abort().await;
            }
            return Err(refusal);
        }
        Ok(self.inner)
    }

    fn refusal(&self, operation: &'static str, reason: &'static str) -> Error {
        error(ErrorKind::Other, operation, Some(&self.key), reason)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Writer for GuardedWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.check("write")?;
        self.is_broken = true;
        self.inner.write(batch).await?;
        self.is_broken = false;
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        if !self.is_resumable {
            let refusal =
                unsupported("checkpoint", Some(&self.key), "only a resumable object has checkpoints");
            return Box::pin(ready(Err(refusal)));
        }
        if let Err(refusal) = self.check("checkpoint") {
            return Box::pin(ready(Err(refusal)));
        }
        let checkpoint = Checkpoint::begin(&self.checkpoints);
        let call = self.inner.checkpoint();
        Box::pin(async move {
            call.await?;
            checkpoint.succeeded();
            Ok(())
        })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        self.finishable().await?.finish().await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        if !self.can_rename {
            return Err(unsupported("finish", Some(key), "this backend cannot choose a key at the end"));
        }
        self.finishable().await?.finish_at(key).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

/// A checkpoint under way, until dropped; then it has failed or was given up, unless it succeeded.
struct Checkpoint {
    of: Arc<Checkpoints>,
    has_succeeded: bool,
}

impl Checkpoint {
    fn begin(of: &Arc<Checkpoints>) -> Self {
        of.under_way.fetch_add(1, Ordering::AcqRel);
        Self { of: Arc::clone(of), has_succeeded: false }
    }

    fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if !self.has_succeeded {
            self.of.is_broken.store(true, Ordering::Release);
        }
        self.of.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
