//! Records progress: whatever many uploads have to record goes into one statement.
//!
//! Progress that nobody waits for is written together once per interval. Progress somebody waits for (his stream has ended, or he may
//! not run further ahead of what is recorded) is written at once, with all that waits; while one statement runs, the next gathers.

use crate::{Error, Result, store::Store, upload::Checkpoint};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Pause between statements that nobody waits for.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// Most checkpoints in one statement.
const MAX_BATCH: usize = 1_000;

/// Whether somebody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// With the next statement.
    InTime,
    /// Now.
    Now,
}

struct Job {
    checkpoint: Checkpoint,
    urgency: Urgency,
    done: oneshot::Sender<Result<bool>>,
}

/// Where progress is handed in. Cheap to clone.
#[derive(Clone)]
pub(in crate::service) struct Recorder(mpsc::UnboundedSender<Job>);

impl Recorder {
    /// A recorder whose task ends with its last handle.
    pub(in crate::service) fn start(store: Arc<dyn Store>) -> Self {
        // Not bounded by itself: each upload has one checkpoint under way.
        let (jobs, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(store, inbox));
        Self(jobs)
    }

    /// Records progress whose bytes are durable. `false`: the upload is not held any more.
    pub(super) async fn record(&self, checkpoint: Checkpoint, urgency: Urgency) -> Result<bool> {
        let lost = || Error::internal("record progress", "the recorder is gone");
        let (done, outcome) = oneshot::channel();
        self.0.send(Job { checkpoint, urgency, done }).map_err(|_| lost())?;
        outcome.await.unwrap_or_else(|_| Err(lost()))
    }
}

async fn run(store: Arc<dyn Store>, mut inbox: mpsc::UnboundedReceiver<Job>) {
    let mut written = Instant::now() - INTERVAL;
    while let Some(job) = inbox.recv().await {
        let mut jobs = vec![job];
        let due = written + INTERVAL;
        while jobs.len() < MAX_BATCH {
            if let Ok(job) = inbox.try_recv() {
                jobs.push(job);
                continue;
            }
            if jobs.iter().any(|job| job.urgency == Urgency::Now) {
                break;
            }
            match tokio::time::timeout_at(due, inbox.recv()).await {
                Ok(Some(job)) => jobs.push(job),
                Ok(None) | Err(_) => break,
            }
        }
        written = Instant::now();
        write(&*store, jobs).await;
    }
}

async fn write(store: &dyn Store, jobs: Vec<Job>) {
    let checkpoints: Vec<_> = jobs.iter().map(|job| job.checkpoint.clone()).collect();
    let outcome = store.checkpoint_uploads(&checkpoints).await;
    for Job { checkpoint, done, .. } in jobs {
        // Whoever has left meanwhile needs no answer.
        let _ = done.send(match &outcome {
            Ok(recorded) => Ok(recorded.contains(&checkpoint.held.upload)),
            Err(error) => Err(again(error)),
        });
    }
}

/// One failure for many.
fn again(error: &Error) -> Error {
    match error {
        Error::Unavailable(what) => Error::Unavailable(*what),
        other => Error::internal("record progress", other.to_string()),
    }
}
