//! An object being written.
//!
//! Bytes are gathered until they are worth a round trip, and handed to a task, which writes them where they belong. It ends what it has begun, also
//! when nobody waits for it any more: the next writer of the upload waits for that.

mod task;

use super::space::Space;
use crate::{
    error::error,
    remote::{Buffer, Failure, Hold, Room},
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, Published, Result, WriteOptions},
    path::Key,
};
use futures_util::future::{BoxFuture, ready};
use std::sync::Arc;
pub(super) use task::Task;
use task::{Done, Job, Jobs};
use tokio::sync::oneshot;

/// Most bytes that are written at a time.
const PIECE: u64 = 1024 * 1024;
/// What is written at a time if there is no memory, and of an object that is longer than was declared.
const LEAST_PIECE: u64 = 128 * 1024;

/// What becomes of a job.
type Answer = oneshot::Receiver<std::result::Result<(), Failure>>;

/// An object being written.
pub(super) struct Writer {
    key: Key,
    options: WriteOptions,
    hold: Option<Hold>,
    buffer: Buffer,
    room: Room,
    /// Where the buffer begins.
    start: u64,
    jobs: Jobs,
    space: Arc<Space>,
}

impl Writer {
    /// Writes from `start` on, what `task` does.
    pub(super) fn new(
        space: Arc<Space>,
        key: Key,
        options: WriteOptions,
        hold: Option<Hold>,
        task: Task,
        start: u64,
    ) -> Self {
        let room = Room::new(&space.budget, options.declared_size);
        let jobs = task.start();
        Self { key, options, hold, buffer: Buffer::default(), room, start, jobs, space }
    }

    /// Has the task do something; answers what comes of it.
    async fn ask(&self, job: impl FnOnce(Done) -> Job) -> std::result::Result<(), Failure> {
        answer(self.tell(job)).await
    }

    fn tell(&self, job: impl FnOnce(Done) -> Job) -> Answer {
        let (done, answer) = oneshot::channel();
        // Where the task is gone nobody answers, which tells it.
        let _ = self.jobs.send(job(done));
        answer
    }

    fn take(&mut self, bytes: u64) -> (u64, Vec<Bytes>) {
        let at = self.start;
        let pieces = self.buffer.take(bytes);
        self.start += bytes;
        (at, pieces)
    }

    async fn append(&mut self, piece: Bytes) -> std::result::Result<(), Failure> {
        self.buffer.push(piece);
        let most = self.room.bytes().clamp(LEAST_PIECE, PIECE);
        while self.buffer.len() >= most {
            let (at, pieces) = self.take(most);
            self.ask(|done| Job::Write { at, pieces, done }).await?;
        }
        Ok(())
    }

    async fn conclude(mut self: Box<Self>, key: &Key) -> Result<Published> {
        let target = self.space.path(key);
        let (at, pieces) = self.take(self.buffer.len());
        let size = self.start;
        let keeps_staged = self.options.is_resumable;
        let done = self.ask(|done| Job::Finish { at, pieces, size, target, keeps_staged, done }).await;
        match done {
            Ok(()) => Ok(Published::unversioned(size)),
            Err(failure) => Err(lost(failure).at("finish", Some(key))),
        }
    }
}

async fn answer(answer: Answer) -> std::result::Result<(), Failure> {
    let gone = |_| Err(Failure::wrong(ErrorKind::Unavailable, "the service stops"));
    answer.await.unwrap_or_else(gone)
}

#[async_trait]
impl driver::Writer for Writer {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let encoded = tokio::task::spawn_blocking(move || batch.encode()).await;
        let encoded =
            encoded.map_err(|stopped| error(ErrorKind::Unavailable, "write", Some(&self.key), stopped))?;
        for piece in encoded {
            self.append(piece).await.map_err(|failure| lost(failure).at("write", Some(&self.key)))?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let key = self.key.clone();
        if !self.options.is_resumable {
            let reason = "an object that is not resumable has no checkpoints";
            return Box::pin(ready(Err(error(ErrorKind::Unsupported, "checkpoint", Some(&key), reason))));
        }
        let (at, pieces) = self.take(self.buffer.len());
        let recorded = self.tell(|done| Job::Checkpoint { at, pieces, done });
        let hold = self.hold.clone();
        Box::pin(async move {
            let _held_until_it_ends = hold;
            answer(recorded).await.map_err(|failure| lost(failure).at("checkpoint", Some(&key)))
        })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        let key = self.key.clone();
        self.conclude(&key).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        self.conclude(key).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.ask(|done| Job::Abort { done }).await.map_err(|failure| failure.at("abort", Some(&self.key)))
    }
}

/// What is missing among what is staged is no object that is absent.
fn lost(failure: Failure) -> Failure {
    if failure.is_absent() {
        Failure::wrong(ErrorKind::BadAnswer, "what was staged is gone")
    } else {
        failure
    }
}
