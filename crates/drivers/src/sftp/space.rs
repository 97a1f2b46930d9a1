//! A volume's place on a server, and what the server turned out to do.

use super::{
    client::{Mode, Session},
    config::Config,
    files::Found,
    pool::{Lease, Sessions},
    probe::{Can, find_root, try_out},
    turns::{Turn, Turns},
    way::{Folders, Way},
};
use crate::remote::{Failure, Holds, insist};
use bytes::Bytes;
use coffer_domain::{
    budget::Budget,
    driver::{ErrorKind, Stat},
    id::UploadId,
    path::{Key, STAGING},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A place, and what all writers to it share.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) sessions: Sessions,
    /// What paths begin with: a folder's full name, and a slash.
    root: String,
    prefix: String,
    pub(super) can: Can,
    /// Of the process.
    pub(super) budget: Budget,
    /// Uploads that have a writer.
    pub(super) holds: Holds,
    turns: Turns,
    folders: Folders,
    patience: Duration,
}

impl Space {
    /// Logs in and finds out what the server does, with files that are written, read, renamed and removed.
    pub(super) async fn open(config: Config) -> Result<Arc<Self>, Failure> {
        let Config { path, prefix, budget, .. } = config.clone();
        let patience = config.wire.patience.answer;
        if path.chars().any(char::is_control) {
            return Err(Failure::wrong(ErrorKind::Denied, "the folder's name cannot be right"));
        }
        let sessions = Sessions::new(config);
        let mut session = insist(|| sessions.get()).await?;
        let root = find_root(&mut session, &path).await?;
        sessions.set_root(&mut session, &root);
        let (holds, turns) = (Holds::default(), Turns::default());
        let (can, folders) = (Can::default(), Folders::default());
        let mut space = Self { sessions, root, prefix, can, budget, holds, turns, folders, patience };
        space.expect_folder(&mut session).await?;
        let names = [0, 1].map(|_| space.below(&format!(".coffer/check/{}", uuid::Uuid::new_v4())));
        space.expect_way(&mut session, &names[0]).await?;
        let tried = try_out(&mut session, &names).await;
        for name in &names {
            // The first failure is told.
            let removed = session.remove(name).await;
            if tried.is_ok() {
                removed?;
            }
        }
        space.can = tried?;
        drop(session);
        Ok(Arc::new(space))
    }

    /// Where a key is.
    pub(super) fn path(&self, key: &Key) -> String {
        self.below(key.as_str())
    }

    /// A path in the volume; that of a folder ends with a slash.
    pub(super) fn below(&self, text: &str) -> String {
        format!("{}{}{text}", self.root, self.prefix)
    }

    /// Where an upload is until it is published.
    pub(super) fn staged(&self, upload: UploadId) -> String {
        self.below(&format!("{STAGING}{upload}"))
    }

    /// Waits until nothing goes on any more that an earlier writer of the upload began.
    pub(super) async fn turn(&self, upload: UploadId) -> Result<Turn, Failure> {
        let taken = timeout(self.patience, self.turns.take(upload)).await;
        taken.map_err(|_elapsed| {
            Failure::wrong(ErrorKind::Unavailable, "an earlier writer of the upload has not ended")
        })
    }

    /// Fails if the volume's folder is not there, which looks as if nothing was.
    pub(super) async fn expect_folder(&self, session: &mut Session) -> Result<(), Failure> {
        // What the configuration names may be a symlink: that is its owner's choice.
        let folder = match self.root.trim_end_matches('/') {
            "" => "/",
            folder => folder,
        };
        match session.stat(folder).await.map(Found::from) {
            Ok(Found::Folder) => Ok(()),
            Err(failure) if !failure.is_absent() => Err(failure),
            _ => Err(Failure::wrong(ErrorKind::Unavailable, "the volume's folder is not there")),
        }
    }

    /// Size and age of an object.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>, Failure> {
        let attempt = || async {
            let mut session = self.sessions.get().await?;
            let found = match self.way(&mut session, path).await? {
                Way::Clear => session.object(path).await?,
                Way::Nowhere | Way::Elsewhere => None,
            };
            if found.is_none() {
                self.expect_folder(&mut session).await?;
            }
            Ok(found)
        };
        insist(attempt).await
    }

    /// Where the folders of a path in the volume lead.
    pub(super) async fn way(&self, session: &mut Session, path: &str) -> Result<Way, Failure> {
        self.folders.way(session, self.root.len(), path).await
    }

    /// Fails if something that is written at a path would be written elsewhere.
    pub(super) async fn expect_way(&self, session: &mut Session, path: &str) -> Result<(), Failure> {
        self.folders.expect(session, self.root.len(), path).await
    }

    /// Removes an object.
    pub(super) async fn remove(&self, path: &str) -> Result<(), Failure> {
        let attempt = || async {
            let mut session = self.sessions.get().await?;
            match self.way(&mut session, path).await? {
                Way::Clear => session.remove(path).await,
                Way::Nowhere | Way::Elsewhere => Ok(()),
            }
        };
        insist(attempt).await
    }

    /// Removes what an upload has staged, once nobody writes it any more.
    pub(super) async fn sweep(&self, upload: UploadId) -> Result<(), Failure> {
        let _turn = self.turn(upload).await?;
        self.remove(&self.staged(upload)).await
    }

    /// Has the server sync a file. Only once: a second sync may succeed where the first has told of a failure.
    pub(super) async fn sync(&self, path: &str) -> Result<(), Failure> {
        let attempt = || async {
            let mut session = self.sessions.get().await?;
            session.open(path, Mode::Write).await?;
            Ok(session)
        };
        let mut session = insist(attempt).await?;
        session.sync().await?;
        session.close().await
    }

    /// Gives an object another name, at which there must be nothing. `size` is its size: a move whose answer was lost is known by it.
    pub(super) async fn rename(
        &self,
        mut session: Option<Lease>,
        from: &str,
        to: &str,
        size: u64,
    ) -> Result<Lease, Failure> {
        let mut is_again = false;
        loop {
            let mut lease = match session.take() {
                Some(lease) => lease,
                None => insist(|| self.sessions.get()).await?,
            };
            let outcome = async {
                self.expect_way(&mut lease, to).await?;
                if is_again && lease.is_moved(from, to, size).await? {
                    return Ok(());
                }
                if !self.can.refuse && lease.look(to).await?.is_some() {
                    return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
                }
                match lease.move_to(from, to).await {
                    // The try before may have been done only now.
                    Err(failure)
                        if is_again
                            && failure.kind() == ErrorKind::AlreadyExists
                            && lease.is_moved(from, to, size).await? =>
                    {
                        Ok(())
                    }
                    outcome => outcome,
                }
            };
            match outcome.await {
                Ok(()) => return Ok(lease),
                Err(failure) if failure.kind().is_retryable() && !is_again => is_again = true,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Writes a small object, in place of what is there.
    pub(super) async fn put(&self, path: &str, content: Bytes) -> Result<(), Failure> {
        let staged = || self.below(&format!("{STAGING}{}", uuid::Uuid::new_v4()));
        let (new, old) = (staged(), staged());
        let mut session = insist(|| self.sessions.get()).await?;
        let put = async {
            self.expect_way(&mut session, &new).await?;
            self.expect_way(&mut session, path).await?;
            session.write_whole(&new, &content, self.can.sync).await?;
            if !self.can.refuse {
                // Such a server replaces; and if it does not, nothing is lost.
                return match session.rename(&new, path).await {
                    Err(_) if !session.is_busy() => session.move_to(&new, path).await,
                    outcome => outcome,
                };
            }
            match session.move_to(&new, path).await {
                Err(failure) if failure.kind() == ErrorKind::AlreadyExists => {
                    if session.object(path).await?.is_none() {
                        return Err(failure);
                    }
                }
                outcome => return outcome,
            }
            // The old one stays at hand until the new one has its name.
            session.move_to(path, &old).await?;
            if let Err(failure) = session.move_to(&new, path).await {
                let _ = session.move_to(&old, path).await;
                return Err(failure);
            }
            session.remove(&old).await
        };
        let outcome = put.await;
        if outcome.is_err() && !session.is_busy() {
            let _ = session.remove(&new).await;
        }
        drop(session);
        outcome?;
        if self.can.sync {
            // Its new name too.
            self.sync(path).await?;
        }
        Ok(())
    }
}
