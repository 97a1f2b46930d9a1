//! The port's writer: every step of a staged file is a job.

use super::{
    client::Location,
    jobs::Jobs,
    staged::{Durability, Progress, Staged},
};
use crate::error::error;
use async_trait::async_trait;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, Published},
    path::Key,
};
use futures_util::future::{BoxFuture, ready};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

/// An object being written.
pub(super) struct Writer {
    jobs: Jobs,
    key: Key,
    staged: Arc<Staged>,
    progress: Progress,
    /// One sync at a time: of two, the kernel tells only one that the disk has failed. Held by the job, also if nobody waits for it
    /// any more.
    durability: Arc<Mutex<Durability>>,
}

impl Writer {
    pub(super) fn new(jobs: Jobs, key: Key, (staged, progress): (Staged, Progress)) -> Self {
        Self { jobs, key, staged: Arc::new(staged), progress, durability: Arc::default() }
    }

    async fn publish(self, key: &Key, target: Option<Location>) -> driver::Result<Published> {
        let Self { jobs, staged, progress, durability, .. } = self;
        let (_waiting, wanted) = Waiting::new();
        let mut durability = durability.lock_owned().await;
        let job = move || staged.finish(progress, target.as_ref(), &wanted, &mut durability);
        jobs.run("finish", Some(key), job).await.map(Published::unversioned)
    }
}

#[async_trait]
impl driver::Writer for Writer {
    async fn write(&mut self, batch: Batch) -> driver::Result<()> {
        let (staged, progress) = (Arc::clone(&self.staged), self.progress);
        let job = move || staged.append(&batch.encode(), progress);
        self.progress = self.jobs.run("write", Some(&self.key), job).await?;
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, driver::Result<()>> {
        let (jobs, key, staged) = (self.jobs.clone(), self.key.clone(), Arc::clone(&self.staged));
        if !staged.is_resumable() {
            let reason = "an object that is not resumable has no checkpoints";
            return Box::pin(ready(Err(error(ErrorKind::Unsupported, "checkpoint", Some(&key), reason))));
        }
        let durability = Arc::clone(&self.durability);
        let (of_task, waiting_for) = (key.clone(), key);
        // A task, so that it goes on, and gives back what it holds, whether or not anybody polls the future.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut durability = durability.lock_owned().await;
            jobs.run("checkpoint", Some(&of_task), move || staged.checkpoint(&mut durability)).await
        }));
        Box::pin(async move {
            task.await.unwrap_or_else(|stopped| {
                Err(error(ErrorKind::Unavailable, "checkpoint", Some(&waiting_for), stopped))
            })
        })
    }

    async fn finish(self: Box<Self>) -> driver::Result<Published> {
        let key = self.key.clone();
        self.publish(&key, None).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> driver::Result<Published> {
        let target = self.staged.location(key);
        self.publish(key, Some(target)).await
    }

    async fn abort(self: Box<Self>) -> driver::Result<()> {
        let Self { jobs, key, staged, .. } = *self;
        jobs.run("abort", Some(&key), move || staged.remove()).await
    }
}

/// Lowers its flag when dropped: whoever stops waiting will take the object for not written; then it should not appear.
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// With the flag.
    pub(super) fn new() -> (Self, Arc<AtomicBool>) {
        let wanted = Arc::new(AtomicBool::new(true));
        (Self(Arc::clone(&wanted)), wanted)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
