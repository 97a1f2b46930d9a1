//! Tries again what may be done twice.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        ByteStream, Capabilities, Driver, ErrorKind, Listed, NativeVersion, PieceSize, Published, Result,
        Stat, WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use std::{ops::Range, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often and after which pauses.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all; 1 never tries again.
    pub tries: u32,
    /// Longest pause after the first try. It doubles after each further one.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 4, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(2) }
    }
}

impl Retry {
    /// A pause of random length, so that callers who failed together do not come back together.
    fn pause(&self, failures: u32) -> Duration {
        let longest =
            self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest_pause);
        let random = uuid::Uuid::new_v4().as_u128() as u32;
        longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Tries stat and delete (of a version too), list, put, link, unlink and sweep again when the failure's kind allows it, and resume on `Unavailable`, while the first try
/// is not longer ago than the longest pause: the writer before may be about to let go, and somebody waits to send bytes. Nothing
/// else: bytes that were read or written can only be asked for again by whoever has them.
#[derive(Debug)]
pub struct Retried {
    inner: Arc<dyn Driver>,
    retry: Retry,
}

impl Retried {
    /// Repeats calls of `inner`.
    pub fn new(inner: Arc<dyn Driver>, retry: Retry) -> Self {
        Self { inner, retry }
    }

    async fn repeat<T, F: Future<Output = Result<T>>>(&self, attempt: impl FnMut() -> F) -> Result<T> {
        self.repeat_if(ErrorKind::is_retryable, attempt).await
    }

    async fn repeat_if<T, F: Future<Output = Result<T>>>(
        &self,
        is_worth_it: impl Fn(ErrorKind) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            let failure = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failures += 1;
            if failures >= self.retry.tries || !is_worth_it(failure.kind) {
                return Err(failure);
            }
            let pause = self.retry.pause(failures);
            tracing::info!(
                driver = self.inner.provider().as_str(),
                operation = failure.operation,
                error.kind = ?failure.kind,
                failures,
                pause_ms = pause.as_millis() as u64,
                "a driver's call failed and is tried again"
            );
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for Retried {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn begin(&self, upload: UploadId, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>> {
        self.inner.begin(upload, key, options).await
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
        let began = Instant::now();
        let is_worth_it = |kind| kind == ErrorKind::Unavailable && began.elapsed() < self.retry.longest_pause;
        self.repeat_if(is_worth_it, || self.inner.resume(upload, key, size, options)).await
    }

    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream> {
        self.inner.read(key, range, size).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>> {
        self.repeat(|| self.inner.stat(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.repeat(|| self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>> {
        self.repeat(|| self.inner.list(prefix, after, limit)).await
    }

    async fn put(&self, key: &Key, content: Bytes) -> Result<()> {
        self.repeat(|| self.inner.put(key, content.clone())).await
    }

    async fn copy(&self, upload: UploadId, from: &Key, to: &Key) -> Result<Published> {
        self.inner.copy(upload, from, to).await
    }

    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        self.repeat(|| self.inner.link(key, path, before)).await
    }

    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        self.repeat(|| self.inner.unlink(path, keys)).await
    }

    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        self.inner.read_version(key, version, range, size).await
    }

    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        self.repeat(|| self.inner.stat_version(key, version)).await
    }

    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        self.repeat(|| self.inner.delete_version(key, version)).await
    }

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.repeat(|| self.inner.sweep(upload)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_grow_and_have_an_end() {
        let retry = Retry {
            tries: 9,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(1),
        };
        for (failures, longest) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            let pauses: Vec<_> = (0..200).map(|_| retry.pause(failures)).collect();
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(longest)), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(longest / 2)), "{failures}");
            assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(longest / 2)), "{failures}");
        }
    }
}
