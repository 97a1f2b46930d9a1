//! A span for every call.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, Listed, NativeVersion, PieceSize, Published, Result, Stat,
        WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use futures_util::{Stream, future::BoxFuture};
use std::{
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tracing::{Instrument as _, Span, debug_span, field::Empty, info_span};

/// Puts every call into a span of its own: `driver.begin`, `driver.read`, … with the fields `driver` (the kind of backend), `key`,
/// `bytes` where some moved, and `error.kind` where it failed. That of a read lasts until its stream ends.
///
/// The spans of `driver.write` and `driver.checkpoint` are at level debug, since an upload has thousands; `driver.finish` tells the
/// bytes of all. A checkpoint belongs to the span in which it was asked for, whichever task waits for it.
#[derive(Debug)]
pub struct Traced {
    inner: Arc<dyn Driver>,
}

impl Traced {
    /// Traces `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner }
    }
}

/// A span of the given macro with the fields that all have; those of `$more` come after.
macro_rules! call {
    ($span:ident, $name:literal, $provider:expr, $($more:tt)*) => {
        $span!(
            $name,
            otel.kind = "client",
            otel.status_code = Empty,
            driver = $provider.as_str(),
            error.kind = Empty,
            $($more)*
        )
    };
}

/// Runs a call in its span and notes how it failed.
async fn within<T>(span: &Span, call: impl Future<Output = Result<T>>) -> Result<T> {
    let result = call.instrument(span.clone()).await;
    note(span, &result);
    result
}

fn note<T>(span: &Span, result: &Result<T>) {
    if let Err(failure) = result {
        span.record("error.kind", tracing::field::debug(failure.kind));
        span.record("otel.status_code", "ERROR");
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for Traced {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        let provider = self.provider();
        let span = call!(info_span, "driver.begin", provider, %key, upload.id = %upload);
        let inner = within(&span, self.inner.begin(upload, key, options)).await?;
        Ok(Box::new(TracedWriter { inner, provider, key: key.clone(), bytes: 0 }))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        let bytes: u64 = content.iter().map(|piece| piece.len() as u64).sum();
        let span =
            call!(info_span, "driver.store", self.provider(), %key, upload.id = %upload, bytes = bytes);
        within(&span, self.inner.store(upload, key, content)).await
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>> {
        let provider = self.provider();
        let span = call!(info_span, "driver.resume", provider, %key, upload.id = %upload, offset = size);
        let inner = within(&span, self.inner.resume(upload, key, size, options)).await?;
        Ok(Box::new(TracedWriter { inner, provider, key: key.clone(), bytes: 0 }))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let span =
            call!(info_span, "driver.read", self.provider(), %key, offset = range.start, bytes = Empty);
        let pieces = within(&span, self.inner.read(key, range, size)).await?;
        Ok(Box::pin(TracedStream { pieces, span, bytes: 0 }))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        let span = call!(info_span, "driver.stat", self.provider(), %key);
        within(&span, self.inner.stat(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let span = call!(info_span, "driver.delete", self.provider(), %key);
        within(&span, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        let span = call!(info_span, "driver.list", self.provider(), prefix, limit, objects = Empty);
        let found = within(&span, self.inner.list(prefix, after, limit)).await?;
        span.record("objects", found.len());
        Ok(found)
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        let span = call!(info_span, "driver.put", self.provider(), %key, bytes = content.len());
        within(&span, self.inner.put(key, content)).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        let provider = self.provider();
        let span =
            call!(info_span, "driver.copy", provider, key = %to, %from, upload.id = %upload, bytes = Empty);
        let copied = within(&span, self.inner.copy(upload, from, to)).await?;
        span.record("bytes", copied.size);
        Ok(copied)
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let span = call!(info_span, "driver.link", self.provider(), %key, %path);
        within(&span, self.inner.link(key, path, before)).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        let span = call!(info_span, "driver.unlink", self.provider(), %path);
        within(&span, self.inner.unlink(path, keys)).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        let (provider, offset) = (self.provider(), range.start);
        let span = call!(info_span, "driver.read", provider, %key, %version, offset, bytes = Empty);
        let pieces = within(&span, self.inner.read_version(key, version, range, size)).await?;
        Ok(Box::pin(TracedStream { pieces, span, bytes: 0 }))
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        let span = call!(info_span, "driver.stat", self.provider(), %key, %version);
        within(&span, self.inner.stat_version(key, version)).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        let span = call!(info_span, "driver.delete", self.provider(), %key, %version);
        within(&span, self.inner.delete_version(key, version)).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        let span = call!(info_span, "driver.sweep", self.provider(), upload.id = %upload);
        within(&span, self.inner.sweep(upload)).await
    }
}

struct TracedWriter {
    inner: Box<dyn Writer>,
    provider: Provider,
    key: Key,
    bytes: u64,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Writer for TracedWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let span = call!(debug_span, "driver.write", self.provider, key = %self.key, bytes = Empty);
        let bytes = Arc::new(AtomicU64::new(0));
        let (within_span, counter) = (span.clone(), Arc::clone(&bytes));
        // Encoded on the driver's thread, where the span would not be known.
        let counted = Batch::new(move || {
            let pieces = within_span.in_scope(|| batch.encode());
            counter.store(pieces.iter().map(|piece| piece.len() as u64).sum(), Ordering::Relaxed);
            pieces
        });
        within(&span, self.inner.write(counted)).await?;
        let bytes = bytes.load(Ordering::Relaxed);
        span.record("bytes", bytes);
        self.bytes += bytes;
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let span = call!(debug_span, "driver.checkpoint", self.provider, key = %self.key);
        let call = span.in_scope(|| self.inner.checkpoint());
        Box::pin(async move { within(&span, call).await })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        let span = call!(info_span, "driver.finish", self.provider, key = %self.key, bytes = self.bytes);
        within(&span, self.inner.finish()).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        let span = call!(info_span, "driver.finish", self.provider, %key, bytes = self.bytes);
        within(&span, self.inner.finish_at(key)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let span = call!(info_span, "driver.abort", self.provider, key = %self.key, bytes = self.bytes);
        within(&span, self.inner.abort()).await
    }
}

/// Pieces that are asked for within the span of their read.
struct TracedStream {
    pieces: ByteStream,
    span: Span,
    bytes: u64,
}

impl Stream for TracedStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { pieces, span, bytes } = &mut *self;
        let polled = span.in_scope(|| pieces.as_mut().poll_next(context));
        if let Poll::Ready(Some(result)) = &polled {
            note(span, result);
            *bytes += result.as_ref().map_or(0, |piece| piece.len() as u64);
        }
        polled
    }
}

impl Drop for TracedStream {
    fn drop(&mut self) {
        self.span.record("bytes", self.bytes);
    }
}
