//! The task that does an upload's work and ends it, whatever becomes of the caller.

use super::plan::{Plan, version_of};
use crate::{
    Error, Result,
    caller::FileAccess,
    content::{Codec, Pipeline, Stored},
    driver::{Driver, WriteOptions, Writer},
    error::{Taken, Unavailable},
    file::{File, Sha256Sum},
    service::{Coffer, Trail},
    store::{Commit, Target},
    time::now,
    volume::Versioning,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

/// How often a commit is tried anew because another upload took the path meanwhile.
const MAX_PATH_RACES: usize = 5;
/// Longest pause between attempts to learn what became of a commit whose answer was lost.
const MAX_SETTLE_PAUSE: Duration = Duration::from_secs(10);

/// What the caller's end asks of the worker.
pub(super) enum Step {
    /// The next bytes, with their CRC-32C each.
    Write(Vec<(Bytes, u32)>),
    /// All bytes were sent; the SHA-256 they must have, if it was not declared before.
    Finish(Option<Sha256Sum>),
    /// The upload is refused.
    Refuse(Error),
}

struct Worker {
    coffer: Coffer,
    trail: Trail,
    plan: Plan,
    driver: Arc<dyn Driver>,
    pipeline: Pipeline,
}

impl Coffer {
    /// Records the intent, then starts the task.
    pub(super) async fn start_worker(
        &self,
        plan: Plan,
        trail: Trail,
        inbox: mpsc::Receiver<Step>,
        report: oneshot::Sender<Result<File>>,
    ) -> Result<()> {
        let driver = self.driver(&plan.volume).await?;
        let worker =
            Worker { coffer: self.clone(), trail, plan, driver, pipeline: Pipeline::new(Codec::Identity) };
        // From here on the task owns the intent, so that a caller who leaves cannot leave it behind.
        let (opened, is_open) = oneshot::channel();
        self.0.tasks.spawn(
            async move {
                let outcome = worker.coffer.store().open_upload(&worker.plan.intent).await;
                let is_opened = outcome.is_ok();
                let is_awaited = opened.send(outcome).is_ok();
                if is_opened {
                    let outcome = if is_awaited {
                        worker.run(inbox).await
                    } else {
                        Err(worker.undo(Error::ClientLeft, None).await)
                    };
                    let _ = report.send(outcome);
                }
            }
            .in_current_span(),
        );
        is_open.await.map_err(|e| Error::internal("begin an upload", e))?
    }
}

impl Worker {
    async fn run(self, mut inbox: mpsc::Receiver<Step>) -> Result<File> {
        let intent = &self.plan.intent;
        let options = WriteOptions { declared_size: intent.declared_size };
        let mut writer = match self.driver.begin(intent.id, &intent.key, options).await {
            Ok(writer) => writer,
            Err(error) => return Err(self.undo(error.into(), None).await),
        };
        loop {
            match inbox.recv().await {
                Some(Step::Write(pieces)) => {
                    if let Err(error) = writer.write(self.pipeline.batch(pieces)).await {
                        return Err(self.undo(error.into(), Some(writer)).await);
                    }
                }
                Some(Step::Finish(sha256)) => return self.finish(writer, sha256).await,
                Some(Step::Refuse(error)) => return Err(self.undo(error, Some(writer)).await),
                None => return Err(self.undo(Error::ClientLeft, Some(writer)).await),
            }
        }
    }

    async fn finish(self, writer: Box<dyn Writer>, sha256: Option<Sha256Sum>) -> Result<File> {
        let stored = self.pipeline.stored();
        if let Err(error) = self.check(&stored, sha256) {
            return Err(self.undo(error, Some(writer)).await);
        }
        match writer.finish().await {
            Ok(size) if size == stored.stored_size => {}
            Ok(size) => {
                let problem = format!("{} bytes were written, the backend has {size}", stored.stored_size);
                return Err(self
                    .undo(Error::internal("verify what the backend stored", problem), None)
                    .await);
            }
            Err(error) => return Err(self.undo(error.into(), None).await),
        }
        match self.commit(stored).await {
            Err(Error::Unavailable(Unavailable::Metadata)) => {
                // It may have been committed: nothing is deleted before that is known.
                let coffer = self.coffer.clone();
                coffer.0.tasks.spawn(self.settle().in_current_span());
                Err(Error::Unavailable(Unavailable::Metadata))
            }
            Err(error) => Err(self.undo(error, None).await),
            // The same request was answered after this one looked: its answer is ours only if its content is.
            Ok(file) if file.content.sha256 != stored.sha256 => {
                Err(self.undo(Error::RequestIdReused, None).await)
            }
            Ok(file) => Ok(file),
        }
    }

    fn check(&self, stored: &Stored, sha256: Option<Sha256Sum>) -> Result<()> {
        if let Some(declared) = self.plan.spec.size.filter(|declared| *declared != stored.size) {
            return Err(Error::SizeMismatch { declared, received: stored.size });
        }
        for expected in [self.plan.spec.sha256, sha256].into_iter().flatten() {
            if expected != stored.sha256 {
                return Err(Error::ChecksumMismatch {
                    algorithm: "SHA-256",
                    expected: expected.to_string(),
                    actual: stored.sha256.to_string(),
                });
            }
        }
        Ok(())
    }

    /// One transaction. A path that another upload took meanwhile makes this one a version of that file, if it is the caller's.
    async fn commit(&self, stored: Stored) -> Result<File> {
        let Plan { caller, volume, intent, object, spec, .. } = &self.plan;
        let mut commit = Commit {
            upload: intent.id,
            start: intent.start,
            target: self.plan.target.clone(),
            version: intent.version,
            object: *object,
            volume: volume.id,
            key: intent.key.clone(),
            stored,
            keeps_versions: volume.settings.versioning == Versioning::Source,
            change_description: spec.change_description.clone(),
            by: caller.principal.as_ref().and_then(|p| p.user.clone()),
            operation: self.trail.operation(),
            request: spec.request.clone(),
            at: now(),
        };
        for _ in 0..MAX_PATH_RACES {
            commit.operation = self.trail.operation();
            let outcome = self.coffer.store().commit_upload(&commit).await;
            let path = match (&outcome, &commit.target) {
                (Err(Error::AlreadyExists(Taken::Path)), Target::New(file))
                    if self.plan.may_become_version =>
                {
                    file.path.clone()
                }
                _ => return outcome,
            };
            match self.coffer.live_at(caller, volume, &path).await? {
                Some(file) if caller.access(&file) == FileAccess::Own => {
                    self.trail.on(&file);
                    commit.target = version_of(&file, spec)?;
                }
                Some(_) => return outcome,
                None => {}
            }
        }
        Err(Error::AlreadyExists(Taken::Path))
    }

    /// Ends the upload without a file: first the intent, so that nothing can be committed any more, then the bytes. What cannot be
    /// done now is the reconciler's.
    async fn undo(&self, error: Error, writer: Option<Box<dyn Writer>>) -> Error {
        let operation = self.trail.operation().failed(&error);
        let is_ours = match self.coffer.store().abort_upload(self.plan.intent.id, &operation).await {
            Ok(is_ours) => is_ours,
            Err(problem) => {
                tracing::warn!(upload.id = %self.plan.intent.id, problem = %problem, "an upload could not be aborted and is left to the reconciler");
                return error;
            }
        };
        if let Some(writer) = writer
            && let Err(problem) = writer.abort().await
        {
            tracing::warn!(upload.id = %self.plan.intent.id, problem = %problem, "staged bytes could not be removed and are left to the reconciler");
            return error;
        }
        if is_ours {
            self.sweep().await;
        }
        error
    }

    async fn sweep(&self) {
        let intent = &self.plan.intent;
        let outcome = match self.driver.sweep(intent.id).await {
            Ok(()) => self.driver.delete(&intent.key).await,
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(()) => self.coffer.store().upload_swept(intent.id).await,
            Err(error) => Err(error.into()),
        };
        if let Err(problem) = outcome {
            tracing::warn!(upload.id = %intent.id, problem = %problem, "an upload could not be swept and is left to the reconciler");
        }
    }

    /// Learns what became of a commit whose answer was lost: an intent that can still be aborted was not committed. Ends with the node
    /// otherwise, whose next start fences the intent.
    async fn settle(self) {
        let operation = self.trail.operation().failed(&Error::Unavailable(Unavailable::Metadata));
        let mut pause = Duration::from_millis(200);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.coffer.0.closing.cancelled() => return,
            }
            match self.coffer.store().abort_upload(self.plan.intent.id, &operation).await {
                Ok(true) => return self.sweep().await,
                Ok(false) => return,
                Err(_) => pause = (pause * 2).min(MAX_SETTLE_PAUSE),
            }
        }
    }
}
