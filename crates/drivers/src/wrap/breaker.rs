//! Leaves a backend alone that does not answer.

use crate::error::error;
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, Error, ErrorKind, Listed, PieceSize, Result, Stat,
        WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    time::{Timestamp, now},
    volume::Provider,
};
use futures_util::{StreamExt as _, future::BoxFuture};
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

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
        Self { failures: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(30) }
    }
}

/// After so many calls in a row that ended with `Timeout` or `Unavailable`, fails calls at once with `Unavailable`, for a pause; then lets
/// one through, on whose outcome it depends whether all are let through or none for a longer pause. Any other answer, a refusal too,
/// shows that the backend is there.
///
/// `Unavailable` of a begin or a resume counts for nothing: that is also what is said while another writer has the upload. An abort is
/// always let through, and neither the end of a stream nor of a writer that is dropped is waited for. The backend of another volume has a
/// breaker of its own.
#[derive(Debug)]
pub struct Breaker {
    inner: Arc<dyn Driver>,
    circuit: Arc<Circuit>,
}

impl Breaker {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn Driver>, breaks: Breaks) -> Self {
        let provider = inner.provider();
        let circuit = Circuit { breaks, provider, state: Mutex::new(State::Closed { failures: 0 }) };
        Self { inner, circuit: Arc::new(circuit) }
    }
}

/// Why a call failed without having been made.
#[derive(Debug, thiserror::Error)]
#[error("the backend has not answered since {since}; it is asked again at {until}")]
struct LeftAlone {
    since: Timestamp,
    until: Timestamp,
}

#[derive(Debug)]
struct Circuit {
    breaks: Breaks,
    provider: Provider,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls are let through. So many in a row have failed.
    Closed { failures: u32 },
    /// None is, until the pause is over; then one is.
    Open(Open),
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Timestamp,
    pause: Duration,
    /// The end of the pause.
    until: Instant,
    /// Whether the one call is under way.
    is_probed: bool,
}

/// What is made of a call's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
    /// It says nothing of the backend.
    Unknown,
}

impl Outcome {
    fn of<T>(result: &Result<T>) -> Self {
        match result {
            Err(failure) if failure.kind.is_retryable() => Self::Failed,
            _ => Self::Answered,
        }
    }

    /// Of a call that fails with `Unavailable` while another writer has the upload.
    fn of_taking<T>(result: &Result<T>) -> Self {
        match result {
            Err(failure) if failure.kind == ErrorKind::Unavailable => Self::Unknown,
            result => Self::of(result),
        }
    }
}

impl Circuit {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or says why not.
    fn enter(self: &Arc<Self>, operation: &'static str, key: Option<&Key>) -> Result<Call> {
        let mut state = self.state();
        let is_probe = match &mut *state {
            State::Closed { .. } => false,
            State::Open(open) if open.until <= Instant::now() && !open.is_probed => {
                open.is_probed = true;
                true
            }
            State::Open(open) => return Err(open.refusal(operation, key)),
        };
        Ok(Call { circuit: Arc::clone(self), is_probe, outcome: Outcome::Unknown })
    }

    async fn pass<T>(
        self: &Arc<Self>,
        operation: &'static str,
        key: Option<&Key>,
        meaning: impl Fn(&Result<T>) -> Outcome,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut entered = self.enter(operation, key)?;
        let result = call.await;
        entered.outcome = meaning(&result);
        result
    }

    /// Takes note of how a call ended.
    fn note(&self, is_probe: bool, outcome: Outcome) {
        let mut state = self.state();
        match (&mut *state, outcome) {
            (State::Closed { failures }, Outcome::Answered) => *failures = 0,
            (State::Closed { failures }, Outcome::Failed) => {
                *failures += 1;
                if *failures >= self.breaks.failures {
                    let pause = self.breaks.first_pause.min(self.breaks.longest_pause);
                    *state = State::Open(Open::new(now(), pause));
                    self.warn(pause);
                }
            }
            (State::Open(Open { since, .. }), Outcome::Answered) => {
                let since = *since;
                *state = State::Closed { failures: 0 };
                tracing::info!(
                    driver = self.provider.as_str(),
                    since = %since,
                    "a backend answers again"
                );
            }
            (State::Open(open), Outcome::Failed) if is_probe => {
                let pause = open.pause.saturating_mul(2).min(self.breaks.longest_pause);
                *open = Open::new(open.since, pause);
                self.warn(pause);
            }
            // The next call may be the one.
            (State::Open(open), Outcome::Unknown) if is_probe => open.is_probed = false,
            (State::Closed { .. } | State::Open(_), Outcome::Unknown | Outcome::Failed) => {}
        }
    }

    fn warn(&self, pause: Duration) {
        tracing::warn!(
            driver = self.provider.as_str(),
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "a backend does not answer and is left alone"
        );
    }
}

impl Open {
    fn new(since: Timestamp, pause: Duration) -> Self {
        Self { since, pause, until: Instant::now() + pause, is_probed: false }
    }

    fn refusal(&self, operation: &'static str, key: Option<&Key>) -> Error {
        let left = self.until.saturating_duration_since(Instant::now());
        error(ErrorKind::Unavailable, operation, key, LeftAlone { since: self.since, until: now() + left })
    }
}

/// A call that was let through, until dropped.
#[derive(Debug)]
struct Call {
    circuit: Arc<Circuit>,
    is_probe: bool,
    outcome: Outcome,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.circuit.note(self.is_probe, self.outcome);
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

    async fn store(&self, upload: UploadId, key: &Key, content: Vec<Bytes>) -> Result<u64> {
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
        let pieces = self.circuit.pass("read", Some(key), Outcome::of, call).await?;
        let circuit = Arc::clone(&self.circuit);
        // A stream that goes on says no more than its beginning; one that breaks does.
        Ok(Box::pin(pieces.inspect(move |piece| {
            if piece.is_err() {
                circuit.note(false, Outcome::of(piece));
            }
        })))
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

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let call = self.inner.link(key, path, before);
        self.circuit.pass("link", Some(path), Outcome::of, call).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        self.circuit.pass("unlink", Some(path), Outcome::of, self.inner.unlink(path, keys)).await
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

    async fn finish(self: Box<Self>) -> Result<u64> {
        let Self { inner, circuit, key } = *self;
        circuit.pass("finish", Some(&key), Outcome::of, inner.finish()).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<u64> {
        let Self { inner, circuit, .. } = *self;
        circuit.pass("finish", Some(key), Outcome::of, inner.finish_at(key)).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}
