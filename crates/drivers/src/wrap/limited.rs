//! Deadlines, and how much is asked of a backend at a time.

use crate::error::error;
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, ErrorKind, Listed, NativeVersion, PieceSize, Published,
        Result, Stat, WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use std::{ops::Range, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// Deadlines of one driver's calls, and how many may be under way.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls under way at a time, writes of a batch included. A reader or writer that waits for its peer is not under way.
    pub concurrency: usize,
    /// For a call to be let in, then again for the call itself: begin, resume, read up to the first piece, stat, delete, list, put, sweep, abort;
    /// those of one version too.
    pub operation: Duration,
    /// For each further piece of a read.
    pub piece: Duration,
    /// For a batch to be encoded and written.
    pub write: Duration,
    /// For an object, stored at once, copied or not, or what is written of it, to become durable, which can mean that gigabytes are put on a slow disk.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 256,
            operation: Duration::from_secs(30),
            piece: Duration::from_secs(30),
            write: Duration::from_secs(60),
            finish: Duration::from_secs(600),
        }
    }
}

/// Ends calls that take too long with `Timeout`, and holds back those over the number allowed; one that is held back too long
/// ends with `Unavailable`.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Driver>,
    gate: Gate,
}

impl Limited {
    /// Limits `inner`.
    pub fn new(inner: Arc<dyn Driver>, limits: Limits) -> Self {
        Self { inner, gate: Gate { permits: Arc::new(Semaphore::new(limits.concurrency)), limits } }
    }

    /// A read that begins in time, and each piece of which comes in time.
    async fn pieces(&self, key: &Key, call: impl Future<Output = Result<ByteStream>>) -> Result<ByteStream> {
        let pieces = self.gate.pass("read", Some(key), self.gate.limits.operation, call).await?;
        let (deadline, key) = (self.gate.limits.piece, key.clone());
        // What is left is given up at an error, so that nobody takes up a stream that was late.
        Ok(Box::pin(stream::unfold(Some((pieces, key)), move |left| async move {
            let (mut pieces, key) = left?;
            match timeout(deadline, pieces.next()).await {
                Ok(Some(Ok(piece))) => Some((Ok(piece), Some((pieces, key)))),
                Ok(Some(Err(failure))) => Some((Err(failure), None)),
                Ok(None) => None,
                Err(late) => Some((Err(error(ErrorKind::Timeout, "read", Some(&key), late)), None)),
            }
        })))
    }
}

#[derive(Debug, Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl Gate {
    /// Runs a call with a permit and a deadline.
    async fn pass<T>(
        &self,
        operation: &'static str,
        key: Option<&Key>,
        deadline: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _permit = match timeout(self.limits.operation, self.permits.acquire()).await {
            Ok(permit) => permit.expect("the semaphore is never closed"),
            Err(late) => return Err(error(ErrorKind::Unavailable, operation, key, late)),
        };
        match timeout(deadline, call).await {
            Ok(result) => result,
            Err(late) => Err(error(ErrorKind::Timeout, operation, key, late)),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for Limited {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        let call = self.inner.begin(upload, key, options);
        let inner = self.gate.pass("begin", Some(key), self.gate.limits.operation, call).await?;
        Ok(Box::new(LimitedWriter { inner, gate: self.gate.clone(), key: key.clone() }))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        let call = self.inner.store(upload, key, content);
        self.gate.pass("store", Some(key), self.gate.limits.finish, call).await
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>> {
        let call = self.inner.resume(upload, key, size, options);
        let inner = self.gate.pass("resume", Some(key), self.gate.limits.operation, call).await?;
        Ok(Box::new(LimitedWriter { inner, gate: self.gate.clone(), key: key.clone() }))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let call = self.inner.read(key, range, size);
        self.pieces(key, call).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        self.gate.pass("stat", Some(key), self.gate.limits.operation, self.inner.stat(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.gate.pass("delete", Some(key), self.gate.limits.operation, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        self.gate.pass("list", None, self.gate.limits.operation, self.inner.list(prefix, after, limit)).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        self.gate.pass("put", Some(key), self.gate.limits.operation, self.inner.put(key, content)).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        self.gate.pass("copy", Some(to), self.gate.limits.finish, self.inner.copy(upload, from, to)).await
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let call = self.inner.link(key, path, before);
        self.gate.pass("link", Some(path), self.gate.limits.operation, call).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        let call = self.inner.unlink(path, keys);
        self.gate.pass("unlink", Some(path), self.gate.limits.operation, call).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        let call = self.inner.read_version(key, version, range, size);
        self.pieces(key, call).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        let call = self.inner.stat_version(key, version);
        self.gate.pass("stat", Some(key), self.gate.limits.operation, call).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        let call = self.inner.delete_version(key, version);
        self.gate.pass("delete", Some(key), self.gate.limits.operation, call).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.gate.pass("sweep", None, self.gate.limits.operation, self.inner.sweep(upload)).await
    }
}

struct LimitedWriter {
    inner: Box<dyn Writer>,
    gate: Gate,
    key: Key,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Writer for LimitedWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let Self { inner, gate, key } = self;
        gate.pass("write", Some(key), gate.limits.write, inner.write(batch)).await
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let (call, gate, key) = (self.inner.checkpoint(), self.gate.clone(), self.key.clone());
        Box::pin(async move { gate.pass("checkpoint", Some(&key), gate.limits.finish, call).await })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        let Self { inner, gate, key } = *self;
        gate.pass("finish", Some(&key), gate.limits.finish, inner.finish()).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        let Self { inner, gate, .. } = *self;
        gate.pass("finish", Some(key), gate.limits.finish, inner.finish_at(key)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { inner, gate, key } = *self;
        gate.pass("abort", Some(&key), gate.limits.operation, inner.abort()).await
    }
}
