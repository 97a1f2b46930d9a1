//! A driver that fails, hangs or can less, on demand.

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
use futures_util::{StreamExt as _, future::BoxFuture};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex},
};
use tokio::sync::Semaphore;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Fails(ErrorKind),
    Hangs,
}

/// Forwards to a real driver, except where a fault is planned.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn Driver>,
    pub(super) capabilities: Mutex<Capabilities>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    planned: Mutex<VecDeque<Fault>>,
    calls: Mutex<Vec<&'static str>>,
    under_way: Mutex<(usize, usize)>,
    gate: Semaphore,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Driver>) -> Self {
        let state = State {
            planned: Mutex::default(),
            calls: Mutex::default(),
            under_way: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        };
        Self { capabilities: Mutex::new(inner.capabilities()), inner, state: Arc::new(state) }
    }

    /// The next calls fail or hang like this; those after them do not.
    pub(super) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.planned.lock().unwrap().extend(faults);
    }

    /// Calls since the last time this was asked.
    pub(super) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.calls.lock().unwrap())
    }

    /// Keeps calls under way until [`Faulty::let_go`].
    pub(super) fn hold(&self) {
        self.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(super) fn let_go(&self) {
        self.state.gate.add_permits(1000);
    }

    /// Most calls that were under way at a time.
    pub(super) fn peak(&self) -> usize {
        self.state.under_way.lock().unwrap().1
    }
}

impl State {
    async fn call<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.calls.lock().unwrap().push(operation);
        let planned = self.planned.lock().unwrap().pop_front();
        match planned {
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Fails(kind)) => Err(Error { kind, operation, key: None, source: None }),
            None => {
                let _counted = Counted::new(self);
                let _permit = self.gate.acquire().await.unwrap();
                call.await
            }
        }
    }
}

struct Counted<'a>(&'a State);

impl<'a> Counted<'a> {
    fn new(state: &'a State) -> Self {
        let mut under_way = state.under_way.lock().unwrap();
        under_way.0 += 1;
        under_way.1 = under_way.1.max(under_way.0);
        Self(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap().0 -= 1;
    }
}

#[async_trait]
impl Driver for Faulty {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.lock().unwrap()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        let inner = self.state.call("begin", self.inner.begin(upload, key, options)).await?;
        Ok(Box::new(FaultyWriter { inner, state: Arc::clone(&self.state) }))
    }

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        self.state.call("store", self.inner.store(upload, key, content)).await
    }

    async fn resume(
        &self,
        upload: UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>> {
        let inner = self.state.call("resume", self.inner.resume(upload, key, size, options)).await?;
        Ok(Box::new(FaultyWriter { inner, state: Arc::clone(&self.state) }))
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        let pieces = self.state.call("read", self.inner.read(key, range, size)).await?;
        let state = Arc::clone(&self.state);
        let piece = move |piece: Result<Bytes>| {
            let state = Arc::clone(&state);
            async move { state.call("piece", async { piece }).await }
        };
        Ok(Box::pin(pieces.then(piece)))
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        self.state.call("stat", self.inner.stat(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.state.call("delete", self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        self.state.call("list", self.inner.list(prefix, after, limit)).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        self.state.call("put", self.inner.put(key, content)).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        self.state.call("copy", self.inner.copy(upload, from, to)).await
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        self.state.call("link", self.inner.link(key, path, before)).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        self.state.call("unlink", self.inner.unlink(path, keys)).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        self.state.call("read_version", self.inner.read_version(key, version, range, size)).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        self.state.call("stat_version", self.inner.stat_version(key, version)).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        self.state.call("delete_version", self.inner.delete_version(key, version)).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.state.call("sweep", self.inner.sweep(upload)).await
    }
}

struct FaultyWriter {
    inner: Box<dyn Writer>,
    state: Arc<State>,
}

#[async_trait]
impl Writer for FaultyWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.state.call("write", self.inner.write(batch)).await
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let (call, state) = (self.inner.checkpoint(), Arc::clone(&self.state));
        Box::pin(async move { state.call("checkpoint", call).await })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        self.state.call("finish", self.inner.finish()).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        self.state.call("finish", self.inner.finish_at(key)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.state.call("abort", self.inner.abort()).await
    }
}
