//! A session: one connection, with at most one open file, on which one operation goes on at a time.
//!
//! libssh2 keeps an operation that has not ended in the session: whoever asked next would get the answer to it. So a session is marked while an
//! operation is under way, and one that was given up, by its caller or by the clock, is never used again.

mod content;

use super::{
    error::{Ended, is_end},
    stream::Stream,
};
use crate::{
    remote::Failure,
    wire::{self, Patience},
};
use async_ssh2_lite::{
    AsyncFile, AsyncSession, AsyncSftp, Error,
    ssh2::{FileStat, OpenFlags, OpenType, RenameFlags},
};
use coffer_domain::driver::ErrorKind;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, error::Elapsed, timeout},
};

/// Who may do what with files and folders that are made.
const FILE_MODE: i32 = 0o640;
const FOLDER_MODE: i32 = 0o750;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To be read.
    Read,
    /// To be written where something is.
    Write,
    /// To be written from its beginning, without what is there.
    Create,
}

/// A session.
pub(super) struct Session {
    /// There until this is dropped.
    inner: Option<Inner>,
    socket: Arc<TcpStream>,
    patience: Patience,
    /// Whether an operation is under way, was given up, or ended in a way that nobody can go on from.
    is_busy: bool,
    used: Instant,
    /// Which state of the pool it was made or looked at in.
    pub(super) epoch: u64,
    /// How many bytes of a path are the volume's root, of which nothing is made.
    pub(super) root: usize,
}

/// In the order in which they have to go.
struct Inner {
    file: Option<Open>,
    sftp: Option<AsyncSftp<Stream>>,
    session: AsyncSession<Stream>,
}

struct Open {
    file: AsyncFile<Stream>,
    /// Where the next byte is read or written.
    position: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_busy", &self.is_busy).finish_non_exhaustive()
    }
}

impl Session {
    /// One that has not begun to speak, and is of no use until [`Session::ready`].
    pub(super) fn new(
        session: AsyncSession<Stream>,
        socket: Arc<TcpStream>,
        patience: Patience,
        epoch: u64,
    ) -> Self {
        let inner = Some(Inner { file: None, sftp: None, session });
        Self { inner, socket, patience, is_busy: true, used: Instant::now(), epoch, root: 0 }
    }

    /// To shake hands and log in.
    pub(super) fn ssh(&mut self) -> &mut AsyncSession<Stream> {
        &mut self.inner().session
    }

    /// Begins to speak SFTP.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let limit = self.patience.answer;
        let begun = timeout(limit, self.inner().session.sftp()).await;
        let sftp = self.end(begun)?;
        self.inner().sftp = Some(sftp);
        Ok(())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    pub(super) fn has_file(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.file.is_some())
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// What is at a path; symlinks are not followed.
    pub(super) async fn lstat(&mut self, path: &str) -> Result<FileStat, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().lstat(Path::new(path))).await;
        self.end(outcome)
    }

    /// What is at a path, be it by a symlink.
    pub(super) async fn stat(&mut self, path: &str) -> Result<FileStat, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().stat(Path::new(path))).await;
        self.end(outcome)
    }

    /// Where a path leads, as the server says.
    pub(super) async fn real_path(&mut self, path: &str) -> Result<PathBuf, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().realpath(Path::new(path))).await;
        self.end(outcome)
    }

    pub(super) async fn make_folder(&mut self, path: &str) -> Result<(), Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().mkdir(Path::new(path), FOLDER_MODE)).await;
        self.end(outcome)
    }

    /// Gives a file another name. What becomes of one that has it already is the server's choice.
    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let limit = self.begin()?;
        let flags = Some(RenameFlags::ATOMIC | RenameFlags::NATIVE);
        let outcome = timeout(limit, self.sftp().rename(Path::new(from), Path::new(to), flags)).await;
        self.end(outcome)
    }

    pub(super) async fn unlink(&mut self, path: &str) -> Result<(), Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().unlink(Path::new(path))).await;
        self.end(outcome)
    }

    /// Sets the time of the last change, in seconds.
    pub(super) async fn touch(&mut self, path: &str, seconds: u64) -> Result<(), Failure> {
        let limit = self.begin()?;
        let stat = FileStat { atime: Some(seconds), mtime: Some(seconds), ..nothing() };
        let outcome = timeout(limit, self.sftp().setstat(Path::new(path), stat)).await;
        self.end(outcome)
    }

    /// What is in a folder, at most `most` entries; `None` if there are more. Names are as the server gives them.
    pub(super) async fn read_folder(
        &mut self,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<(PathBuf, FileStat)>>, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.sftp().opendir(Path::new(path))).await;
        let folder = self.end(outcome)?;
        self.inner().file = Some(Open { file: folder, position: 0 });
        let mut found = Vec::new();
        loop {
            let limit = self.begin()?;
            let outcome = timeout(limit, self.open_file()?.file.readdir()).await;
            if let Ok(Err(error)) = &outcome
                && is_end(error)
            {
                self.is_busy = false;
                self.close().await?;
                return Ok(Some(found));
            }
            found.push(self.end(outcome)?);
            if found.len() > most {
                self.close().await?;
                return Ok(None);
            }
        }
    }

    /// Opens a file; one that is open is closed first.
    pub(super) async fn open(&mut self, path: &str, mode: Mode) -> Result<(), Failure> {
        self.close().await?;
        let flags = match mode {
            Mode::Read => OpenFlags::READ,
            Mode::Write => OpenFlags::WRITE,
            Mode::Create => OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE,
        };
        let limit = self.begin()?;
        let opened = self.sftp().open_mode(Path::new(path), flags, FILE_MODE, OpenType::File);
        let outcome = timeout(limit, opened).await;
        let file = self.end(outcome)?;
        self.inner().file = Some(Open { file, position: 0 });
        Ok(())
    }

    /// Closes the open file, if there is one.
    pub(super) async fn close(&mut self) -> Result<(), Failure> {
        if !self.has_file() {
            return Ok(());
        }
        let limit = self.begin()?;
        let outcome = timeout(limit, self.open_file()?.file.close()).await;
        let closed = self.end(outcome);
        if !self.is_busy {
            self.inner().file = None;
        }
        closed
    }

    fn inner(&mut self) -> &mut Inner {
        self.inner.as_mut().expect("it is there until the session is dropped")
    }

    fn sftp(&mut self) -> &mut AsyncSftp<Stream> {
        self.inner().sftp.as_mut().expect("a session that is not ready is busy")
    }

    fn open_file(&mut self) -> Result<&mut Open, Failure> {
        let open = self.inner().file.as_mut();
        open.ok_or_else(|| Failure::wrong(ErrorKind::Other, "no file is open"))
    }

    /// Marks the session before an operation; answers how long that may take.
    fn begin(&mut self) -> Result<Duration, Failure> {
        if self.is_busy {
            return Err(wire::Failure::Broken("an operation of this session was given up".to_owned()).into());
        }
        self.is_busy = true;
        Ok(self.patience.answer)
    }

    /// Clears the mark, unless the operation has spoilt the session.
    fn end<T>(&mut self, outcome: Result<Result<T, Error>, Elapsed>) -> Result<T, Failure> {
        self.note(outcome.map(|outcome| outcome.map_err(Ended::of)))
    }

    fn note<T>(&mut self, outcome: Result<Result<T, Ended>, Elapsed>) -> Result<T, Failure> {
        self.used = Instant::now();
        match outcome {
            Ok(Ok(value)) => {
                self.is_busy = false;
                Ok(value)
            }
            Ok(Err(Ended { failure, is_spoilt })) => {
                self.is_busy = is_spoilt;
                Err(failure)
            }
            Err(_elapsed) => Err(wire::Failure::Silent("an answer").into()),
        }
    }
}

/// Attributes of which none is set.
fn nothing() -> FileStat {
    FileStat { size: None, uid: None, gid: None, perm: None, atime: None, mtime: None }
}

impl Drop for Session {
    /// To close what is open libssh2 would wait for the server on this thread. So it is told that the connection is gone, and on another.
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // It fails only if that is so already.
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(inner))),
            Err(_) => drop(inner),
        }
    }
}
