//! Leaves a backend alone that does not answer.

mod circuit;

use async_trait::async_trait;
use bytes::Bytes;
use circuit::{Circuit, Outcome};
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, Listed, NativeVersion, PieceSize, Published, Result, Stat,
        WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use futures_util::{StreamExt as _, future::BoxFuture};
use std::{ops::Range, sync::Arc, time::Duration};

/// When a backend is left alone, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Breaks {
    /// Calls in a row that have to end with `Timeout` or `Unavailable`; at least 1.
    pub failures: u32,
    /// The first pause. It doubles each time the call after it fails.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for Breaks {
    fn default() -> Self {
        Self { failures: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(10) }
    }
}

/// After so many calls in a row that ended with `Timeout` or `Unavailable`, fails calls at once with `Unavailable`, for a pause; then lets
/// one through, on whose outcome it depends whether all are let through or none for a longer pause. Any other answer, a refusal too,
/// shows that the backend is there.
///
/// `Unavailable` of a begin or a resume counts for nothing: that is also what is said while another writer has the upload. An abort is
/// always let through. The backend of another volume has a breaker of its own.
#[derive(Debug)]
pub struct Breaker {
    inner: Arc<dyn Driver>,
    circuit: Arc<Circuit>,
}

impl Breaker {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn Driver>, breaks: Breaks) -> Self {
        let circuit = Arc::new(Circuit::new(inner.provider(), breaks));
        Self { inner, circuit }
    }

    async fn pieces(&self, key: &Key, call: impl Future<Output = Result<ByteStream>>) -> Result<ByteStream> {
        let pieces = self.circuit.pass("read", Some(key), Outcome::of, call).await?;
        let circuit = Arc::clone(&self.circuit);
        // A stream that goes on says no more than its beginning; one that breaks does.
        Ok(Box::pin(pieces.inspect(move |piece| {
            if piece.is_err() {
                circuit.note(false, Outcome::of(piece));
            }
        })))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for Breaker {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        let call = self.inner.begin(upload, key, options);
        let inner = self.circuit.pass("begin", Some(key), Outcome::of_taking, call).await?;
        Ok(Box::new(WatchedWriter { inner, circuit: Arc::clone(&self.circuit), key: key.clone() }))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        let call = self.inner.store(upload, key, content);
        self.circuit.pass("store", Some(key), Outcome::of, call).await
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>> {
        let call = self.inner.resume(upload, key, size, options);
        let inner = self.circuit.pass("resume", Some(key), Outcome::of_taking, call).await?;
        Ok(Box::new(WatchedWriter { inner, circuit: Arc::clone(&self.circuit), key: key.clone() }))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let call = self.inner.read(key, range, size);
        self.pieces(key, call).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        self.circuit.pass("stat", Some(key), Outcome::of, self.inner.stat(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.circuit.pass("delete", Some(key), Outcome::of, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        self.circuit.pass("list", None, Outcome::of, self.inner.list(prefix, after, limit)).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        self.circuit.pass("put", Some(key), Outcome::of, self.inner.put(key, content)).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        self.circuit.pass("copy", Some(to), Outcome::of, self.inner.copy(upload, from, to)).await
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let call = self.inner.link(key, path, before);
        self.circuit.pass("link", Some(path), Outcome::of, call).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        self.circuit.pass("unlink", Some(path), Outcome::of, self.inner.unlink(path, keys)).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        self.pieces(key, self.inner.read_version(key, version, range, size)).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        let call = self.inner.stat_version(key, version);
        self.circuit.pass("stat", Some(key), Outcome::of, call).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        let call = self.inner.delete_version(key, version);
        self.circuit.pass("delete", Some(key), Outcome::of, call).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.circuit.pass("sweep", None, Outcome::of, self.inner.sweep(upload)).await
    }
}

struct WatchedWriter {
    inner: Box<dyn Writer>,
    circuit: Arc<Circuit>,
    key: Key,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Writer for WatchedWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let Self { inner, circuit, key } = self;
        circuit.pass("write", Some(key), Outcome::of, inner.write(batch)).await
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let (call, circuit, key) = (self.inner.checkpoint(), Arc::clone(&self.circuit), self.key.clone());
        Box::pin(async move { circuit.pass("checkpoint", Some(&key), Outcome::of, call).await })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        let Self { inner, circuit, key } = *self;
        circuit.pass("finish", Some(&key), Outcome::of, inner.finish()).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        let Self { inner, circuit, .. } = *self;
        circuit.pass("finish", Some(key), Outcome::of, inner.finish_at(key)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}
