//! Runs what blocks on threads that may block.

use super::error::Failure;
use crate::error::error;
use coffer_domain::{
    driver::{ErrorKind, Result},
    path::Key,
};
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

/// Most jobs of one volume at a time. The permit stays with the job, not with who waits for it: a disk that no longer answers holds
/// this many of the runtime's blocking threads and leaves the rest (of 512) to other volumes.
const MOST: usize = 64;

/// The jobs of a volume.
#[derive(Debug, Clone)]
pub(super) struct Jobs(Arc<Semaphore>);

impl Default for Jobs {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Jobs {
    /// Runs `job` and waits for it. Once begun it runs to its end, also if this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: Option<&Key>,
        job: impl FnOnce() -> std::result::Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await.expect("the semaphore is never closed");
        let result = spawn(permit, job).await;
        settle(result, operation, key)
    }

    /// Begins `job` if there is room for one more. Dropping the handle stops a job that has not begun.
    pub(super) fn try_begin<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> std::result::Result<T, Failure> + Send + 'static,
    ) -> Option<AbortOnDropHandle<std::result::Result<T, Failure>>> {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        Some(spawn(permit, job))
    }
}

fn spawn<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    job: impl FnOnce() -> T + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::task::spawn_blocking(move || {
        let _permit = permit;
        job()
    }))
}

/// The port's result of a job.
pub(super) fn settle<T>(
    result: std::result::Result<std::result::Result<T, Failure>, JoinError>,
    operation: &'static str,
    key: Option<&Key>,
) -> Result<T> {
    match result {
        Ok(result) => result.map_err(|failure| failure.at(operation, key)),
        // The runtime is shutting down.
        Err(stopped) if stopped.is_cancelled() => Err(error(ErrorKind::Unavailable, operation, key, stopped)),
        // What the caller put into a batch has panicked.
        Err(panicked) => Err(error(ErrorKind::Other, operation, key, panicked)),
    }
}
