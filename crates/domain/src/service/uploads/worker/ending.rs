//! How an upload, or a stream of one, ends: as a file, without one, or open for the next stream.

use super::{
    super::{
        plan::{Plan, version_of},
        recorder::Urgency,
    },
    Worker,
};
use crate::{
    Error, Result,
    caller::FileAccess,
    content::{Piece, Stored},
    driver::{self, Writer},
    error::{Conflict, Taken, Unavailable},
    file::{File, Sha256Sum},
    store::{Commit, Target},
    time::now,
    upload::{State, Upload},
    volume::{Strategy, Versioning},
};
use std::time::Duration;

/// How often a commit is tried anew because another upload took the path meanwhile.
const MAX_PATH_RACES: usize = 5;
/// Longest pause between attempts to learn what became of a commit whose answer was lost.
const MAX_SETTLE_PAUSE: Duration = Duration::from_secs(10);

impl Worker {
    /// Ends the stream without a file. What has arrived of a resumable upload is recorded first, unless the error is about its content.
    pub(super) async fn end(
        &mut self,
        mut writer: Box<dyn Writer>,
        pieces: Vec<Piece>,
        error: Error,
    ) -> Error {
        // Another content under the same request is not this upload's: it is refused, and the upload stays for its own.
        let is_over = error.refuses_content() && !matches!(error, Error::RequestIdReused);
        if !self.is_resumable() || is_over {
            return self.undo(error, Some(writer)).await;
        }
        let kept = async {
            if !pieces.is_empty() {
                self.write(&mut *writer, pieces).await?;
            }
            self.await_checkpoint().await?;
            if self.written > self.marked {
                self.mark(&mut *writer, Urgency::Now);
                self.await_checkpoint().await?;
            }
            Ok::<_, Error>(())
        };
        match kept.await {
            Ok(()) => self.coffer.failed(self.trail.operation(), error).await,
            Err(worse) if worse.refuses_content() => self.undo(worse, Some(writer)).await,
            Err(worse) => {
                tracing::info!(upload.id = %self.upload.id, problem = %worse, "the last bytes of a stream were not recorded");
                let told = if matches!(worse, Error::Conflict(_)) { worse } else { error };
                self.coffer.failed(self.trail.operation(), told).await
            }
        }
    }

    pub(super) async fn finish(
        &mut self,
        mut writer: Box<dyn Writer>,
        pieces: Vec<Piece>,
        sha256: Option<Sha256Sum>,
    ) -> Result<File> {
        // What these bytes need is settled by the commit.
        if !pieces.is_empty()
            && let Err(error) = writer.write(self.pipeline.batch(pieces)).await
        {
            return Err(self.end(writer, Vec::new(), error.into()).await);
        }
        let stored = self.pipeline.stored();
        self.written = stored.size;
        if let Err(error) = self.await_checkpoint().await {
            return Err(self.end(writer, Vec::new(), error).await);
        }
        if let Err(error) = stored.check(self.plan.spec.size, [self.plan.spec.sha256, sha256]) {
            return Err(self.undo(error, Some(writer)).await);
        }
        let key = self.plan.key(self.upload.version, Some(stored.sha256));
        let late_key = Some(&key).filter(|key| **key != self.upload.key);
        if self.is_resumable() || late_key.is_some() {
            if let Err(error) = self.coffer.store().finish_upload(self.held, late_key).await {
                let error = self.why_lost(error).await;
                return Err(self.end(writer, Vec::new(), error).await);
            }
            crash_point!("finishing");
        }
        let published = match late_key {
            Some(key) => writer.finish_at(key).await,
            None => writer.finish().await,
        };
        self.upload.key = key;
        self.conclude(stored, published).await
    }

    /// Commits what was published, or ends the upload as it must be.
    pub(in super::super) async fn conclude(
        &mut self,
        stored: Stored,
        published: driver::Result<driver::Published>,
    ) -> Result<File> {
        match published {
            Ok(published) if published.size == stored.stored_size => self.native_version = published.version,
            Ok(driver::Published { size, .. }) => {
                let problem = format!("{} bytes were written, the backend has {size}", stored.stored_size);
                let error = Error::internal("verify what the backend stored", problem);
                return Err(self.undo(error, None).await);
            }
            Err(error) => return Err(self.put_back(error.into()).await),
        }
        crash_point!("published");
        match self.commit(stored).await {
            Err(Error::Unavailable(Unavailable::Metadata)) => {
                // It may have been committed: nothing is deleted before that is known.
                self.unsettled = Some(stored);
                Err(Error::Unavailable(Unavailable::Metadata))
            }
            Err(error) => Err(self.put_back(error).await),
            // The same request was answered after this one looked: its answer is ours only if its content is.
            Ok(file) if file.content.sha256 != stored.sha256 => {
                Err(self.undo(Error::RequestIdReused, None).await)
            }
            Ok(file) => {
                crash_point!("committed");
                self.coffer.settle_link(&self.plan.volume, &file.path.nfc()).await;
                Ok(file)
            }
        }
    }

    /// One transaction. A path that another upload took meanwhile makes this one a version of that file, if it is the caller's.
    async fn commit(&self, stored: Stored) -> Result<File> {
        let Plan { caller, volume, object, spec, .. } = &self.plan;
        let mut commit = Commit {
            held: self.held,
            target: self.plan.target.clone(),
            version: self.upload.version,
            object: *object,
            volume: volume.id,
            key: self.upload.key.clone(),
            stored,
            native_version: self.native_version.clone(),
            is_shareable: volume.settings.strategy == Strategy::Hash,
            is_linked: volume.settings.strategy == Strategy::None,
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

    /// After a finish that failed: a resumable upload takes bytes again, unless the failure is about its content.
    async fn put_back(&mut self, error: Error) -> Error {
        if !self.is_resumable() || error.refuses_content() {
            return self.undo(error, None).await;
        }
        // Where this fails as well, the upload opens again when this node's lease has ended.
        if let Err(problem) = self.coffer.store().reopen_upload(self.held).await {
            tracing::warn!(upload.id = %self.upload.id, problem = %problem, "an upload that could not be finished was not opened again");
        }
        self.coffer.failed(self.trail.operation(), error).await
    }

    /// Ends the upload without a file: first the intent, so that nothing can be committed any more, then the bytes. What cannot be
    /// done now is the reconciler's.
    pub(super) async fn undo(&mut self, error: Error, writer: Option<Box<dyn Writer>>) -> Error {
        if let Some(checkpoint) = self.checkpoint.take() {
            // What it records is gone in a moment, but it works on the writer's bytes.
            let _ = checkpoint.await;
        }
        let operation = self.trail.operation().failed(&error);
        let is_ours = match self.coffer.store().abort_upload(self.held, &operation).await {
            Ok(is_ours) => is_ours,
            Err(problem) => {
                tracing::warn!(upload.id = %self.upload.id, problem = %problem, "an upload could not be aborted and is left to the reconciler");
                return error;
            }
        };
        crash_point!("aborted");
        if !(is_ours || self.has_ended().await) {
            // Somebody else goes on with it, and with what is staged.
            return error;
        }
        if let Some(writer) = writer
            && let Err(problem) = writer.abort().await
        {
            tracing::warn!(upload.id = %self.upload.id, problem = %problem, "staged bytes could not be removed and are left to the reconciler");
            return error;
        }
        self.sweep().await;
        error
    }

    /// Somebody else has ended the upload without a file, and may have removed its bytes before the last of them were published.
    async fn has_ended(&self) -> bool {
        let found = self.coffer.store().upload(self.upload.id).await;
        matches!(found, Ok(Some(Upload { state: State::Aborted | State::Expired, .. })))
    }

    async fn sweep(&self) {
        let (id, key) = (self.upload.id, &self.upload.key);
        let outcome = match self.driver.sweep(id).await {
            Ok(()) => self.driver.delete(key).await,
            Err(error) => Err(error),
        };
        crash_point!("swept");
        let outcome = match outcome {
            Ok(()) => self.coffer.store().upload_swept(id).await,
            Err(error) => Err(error.into()),
        };
        if let Err(problem) = outcome {
            tracing::warn!(upload.id = %id, problem = %problem, "an upload could not be swept and is left to the reconciler");
        }
    }

    /// Learns what became of a commit whose answer was lost. A resumable upload is committed again, which has an effect only if it was not:
    /// its caller asks again. Any other is aborted, which is possible only if it was not committed: its caller was told that it failed.
    /// Ends with the node otherwise; its next start, or another node, goes on.
    pub(super) async fn settle(&mut self, stored: Stored) {
        let operation = self.trail.operation().failed(&Error::Unavailable(Unavailable::Metadata));
        let mut pause = Duration::from_millis(200);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.coffer.0.closing.cancelled() => return,
            }
            let outcome = if self.is_resumable() {
                self.commit(stored).await.map(drop)
            } else {
                match self.coffer.store().abort_upload(self.held, &operation).await {
                    Ok(true) => return self.sweep().await,
                    outcome => outcome.map(drop),
                }
            };
            match outcome {
                Err(Error::Unavailable(Unavailable::Metadata)) => pause = (pause * 2).min(MAX_SETTLE_PAUSE),
                Ok(()) | Err(Error::Conflict(Conflict::Fenced)) => return,
                Err(error) => {
                    self.put_back(error).await;
                    return;
                }
            }
        }
    }
}
