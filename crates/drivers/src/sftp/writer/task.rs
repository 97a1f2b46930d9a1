//! What a writer has done on the server, one thing after the other.

use crate::{
    remote::{Failure, insist},
    sftp::{client::Mode, pool::Lease, space::Space, turns::Turn},
};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

/// How long a server may go on with what a connection brought before it was lost.
const LINGER: Duration = Duration::from_millis(250);

/// To whom the end of a job is told.
pub(super) type Done = oneshot::Sender<Result<(), Failure>>;
/// Where jobs are put. The task ends when this is dropped, after what was put before.
pub(super) type Jobs = mpsc::UnboundedSender<Job>;

/// Something to be done. At most one is under way that somebody waits for, beside checkpoints.
pub(super) enum Job {
    /// Write bytes where they belong.
    Write { at: u64, pieces: Vec<Bytes>, done: Done },
    /// The same, and make durable all that was written.
    Checkpoint { at: u64, pieces: Vec<Bytes>, done: Done },
    /// The same, and publish the object, of this size.
    Finish { at: u64, pieces: Vec<Bytes>, size: u64, target: String, keeps_staged: bool, done: Done },
    /// Remove what is staged.
    Abort { done: Done },
}

/// Writes a staged file.
pub(in crate::sftp) struct Task {
    space: Arc<Space>,
    path: String,
    /// Until everything has ended nobody else works on the upload.
    _turn: Turn,
    /// With the file open.
    session: Option<Lease>,
    /// Whether there is a file, whose bytes are ours.
    is_there: bool,
    /// Where the next byte belongs.
    end: u64,
    /// Whether something failed, after which nothing is published.
    is_spoilt: Arc<AtomicBool>,
    /// Whether the connection was lost in a write.
    is_lost: bool,
}

impl Task {
    /// For a file that is made, or made anew, when the first byte is written.
    pub(in crate::sftp) fn new(space: Arc<Space>, path: String, turn: Turn) -> Self {
        let is_spoilt = Arc::default();
        Self { space, path, _turn: turn, session: None, is_there: false, end: 0, is_spoilt, is_lost: false }
    }

    /// Goes on with a file of `size` bytes, which is open.
    pub(in crate::sftp) fn follow(mut self, session: Lease, size: u64) -> Self {
        (self.session, self.is_there, self.end) = (Some(session), true, size);
        self
    }

    pub(super) fn start(mut self) -> Jobs {
        let (jobs, mut put) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(job) = self.next(&mut put).await {
                self.work(job).await;
            }
            // Closed before the next writer has his turn.
            if let Some(session) = &mut self.session {
                let _ = session.close().await;
            }
            if self.is_lost {
                // What was sent may be written still, and the next writer may have other bytes for its place.
                sleep(LINGER).await;
            }
        });
        jobs
    }

    async fn next(&mut self, put: &mut mpsc::UnboundedReceiver<Job>) -> Option<Job> {
        loop {
            tokio::select! {
                biased;
                job = put.recv() => return job,
                // What was written is acknowledged, so the file may be closed and opened again.
                () = self.space.sessions.wants_back(), if self.session.is_some() => self.session = None,
            }
        }
    }

    async fn work(&mut self, job: Job) {
        match job {
            Job::Write { at, pieces, done } => {
                let written = self.write(at, &pieces).await;
                let _ = done.send(written);
            }
            Job::Checkpoint { at, pieces, done } => match self.write(at, &pieces).await {
                Ok(()) => self.checkpoint(done).await,
                Err(failure) => drop(done.send(Err(failure))),
            },
            Job::Finish { at, pieces, size, target, keeps_staged, done } => {
                let published = self.finish(at, &pieces, size, &target).await;
                if published.is_err() && !keeps_staged {
                    // What cannot be removed is swept.
                    let _ = self.discard().await;
                }
                let _ = done.send(published);
            }
            Job::Abort { done } => {
                let removed = self.discard().await;
                let _ = done.send(removed);
            }
        }
    }

    async fn write(&mut self, at: u64, pieces: &[Bytes]) -> Result<(), Failure> {
        if self.is_spoilt.load(Ordering::Acquire) || at != self.end {
            return Err(Failure::wrong(ErrorKind::Unavailable, "something before was not written"));
        }
        let content: Cow<'_, [u8]> = match pieces {
            [] => return Ok(()),
            [piece] => Cow::Borrowed(piece),
            pieces => Cow::Owned(pieces.concat()),
        };
        let written = async { self.file().await?.write_at(at, &content).await };
        let written = written.await;
        match &written {
            Ok(()) => self.end += content.len() as u64,
            Err(failure) => {
                self.is_spoilt.store(true, Ordering::Release);
                self.is_lost |= failure.kind().is_retryable();
                self.session = None;
            }
        }
        written
    }

    /// The open file.
    async fn file(&mut self) -> Result<&mut Lease, Failure> {
        if self.session.is_none() {
            let (space, path, is_there) = (&self.space, &self.path, self.is_there);
            let attempt = || async {
                let mut session = space.sessions.get().await?;
                match is_there {
                    true => session.open(path, Mode::Write).await?,
                    false => {
                        space.expect_way(&mut session, path).await?;
                        session.create(path).await?;
                    }
                }
                Ok(session)
            };
            self.session = Some(insist(attempt).await?);
            self.is_there = true;
        }
        Ok(self.session.as_mut().expect("it has just been opened"))
    }

    /// Syncs on another session, so that writes go on beside it.
    async fn checkpoint(&mut self, done: Done) {
        if !self.space.can.sync || !self.is_there {
            let made = self.file().await.map(|_| ());
            let _ = done.send(made);
            return;
        }
        let (space, path, is_spoilt) =
            (Arc::clone(&self.space), self.path.clone(), Arc::clone(&self.is_spoilt));
        tokio::spawn(async move {
            let synced = space.sync(&path).await;
            if synced.is_err() {
                is_spoilt.store(true, Ordering::Release);
            }
            let _ = done.send(synced);
        });
    }

    async fn finish(&mut self, at: u64, pieces: &[Bytes], size: u64, target: &str) -> Result<(), Failure> {
        self.write(at, pieces).await?;
        let (space, path) = (Arc::clone(&self.space), self.path.clone());
        let file = self.file().await?;
        if space.can.sync {
            file.sync().await?;
        } else {
            // Some servers say only now what became of it.
            file.close().await?;
        }
        let stored = match space.can.sync {
            true => file.size().await?,
            false => file.object(&path).await?.map_or(0, |stat| stat.size),
        };
        if stored != size {
            return Err(Failure::wrong(ErrorKind::Unavailable, "less was stored than was sent"));
        }
        let session = self.session.take();
        let mut session = space.rename(session, &path, target, size).await?;
        self.is_there = false;
        if space.can.sync {
            // Its name too: a sync of a file takes along how it came to its name.
            match session.has_file() {
                true => {
                    session.sync().await?;
                    session.close().await?;
                }
                false => {
                    drop(session);
                    space.sync(target).await?;
                    session = insist(|| space.sessions.get()).await?;
                }
            }
        }
        match session.object(target).await? {
            Some(stat) if stat.size == size => Ok(()),
            _ => Err(Failure::wrong(ErrorKind::BadAnswer, "what was published is not what was written")),
        }
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        self.session = None;
        match std::mem::replace(&mut self.is_there, false) {
            true => self.space.remove(&self.path).await,
            false => Ok(()),
        }
    }
}
