//! Refuses what may not reach a driver.

use crate::error::error;
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{
        Batch, ByteStream, Capabilities, Driver, Error, ErrorKind, Listed, Result, Stat, WriteOptions, Writer,
    },
    id::UploadId,
    path::Key,
    volume::Provider,
};
use std::{ops::Range, sync::Arc};

/// Most objects of one listing.
pub const MOST_LISTED: usize = 10_000;
/// Most bytes of an object that is put at once.
pub const MOST_PUT_BYTES: usize = 64 * 1024;

/// Refuses, with `Unsupported`, calls that need a capability the driver lacks and arguments outside their limits; and keeps a
/// writer whose write failed, or was given up, from being finished.
#[derive(Debug)]
pub struct Guarded {
    inner: Arc<dyn Driver>,
}

impl Guarded {
    /// Guards `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner }
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
        let inner = self.inner.begin(upload, key, options).await?;
        Ok(Box::new(GuardedWriter { inner, key: key.clone(), is_broken: false }))
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream> {
        if range.start > range.end {
            return Err(unsupported("read", Some(key), "the range ends before it begins"));
        }
        if range.start > 0 && !self.inner.capabilities().range_read {
            return Err(unsupported("read", Some(key), "this backend reads only from the beginning"));
        }
        self.inner.read(key, range).await
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

    async fn sweep(&self, upload: UploadId) -> Result<()> {
        self.inner.sweep(upload).await
    }
}

struct GuardedWriter {
    inner: Box<dyn Writer>,
    key: Key,
    /// A write failed, was given up or is under way: what the backend has is not known.
    is_broken: bool,
}

impl GuardedWriter {
    fn broken(&self, operation: &'static str) -> Error {
        error(ErrorKind::Other, operation, Some(&self.key), "an earlier write of this object failed")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Writer for GuardedWriter {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        if self.is_broken {
            return Err(self.broken("write"));
        }
        self.is_broken = true;
        self.inner.write(batch).await?;
        self.is_broken = false;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<u64> {
        if !self.is_broken {
            return self.inner.finish().await;
        }
        let refusal = self.broken("finish");
        // The refusal is the answer, whether or not the staged bytes can be removed now; sweep removes them later.
        let _ = self.inner.abort().await;
        Err(refusal)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}
