//! A session: one connection, with at most one open file, on which one operation goes on at a time.
//!
//! libssh2 keeps an operation that has not ended in the session: whoever asked next would get the answer to it. So a session is marked while an
//! operation is under way, and one that was given up, by its caller or by the clock, is never used again.

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
use futures_util::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use std::{
    fmt, io,
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
/// How much longer than any other answer that to a sync may take.
const SYNC: Duration = Duration::from_secs(30);
/// How often in a row a write may have done nothing without saying that it has to wait.
const MOST_IDLE_WRITES: u32 = 100;

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

    /// Size of the open file.
    pub(super) async fn size(&mut self) -> Result<u64, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.open_file()?.file.stat()).await;
        let size = self.end(outcome)?.size;
        size.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a file without a size"))
    }

    /// Cuts the open file.
    pub(super) async fn cut(&mut self, size: u64) -> Result<(), Failure> {
        let limit = self.begin()?;
        let stat = FileStat { size: Some(size), ..nothing() };
        let outcome = timeout(limit, self.open_file()?.file.setstat(stat)).await;
        self.end(outcome)
    }

    /// Has the server sync the open file to its disk. Needs an extension of OpenSSH's.
    pub(super) async fn sync(&mut self) -> Result<(), Failure> {
        let limit = self.begin()? + SYNC;
        let outcome = timeout(limit, self.open_file()?.file.fsync()).await;
        self.end(outcome)
    }

    /// Fills the buffer from the open file; answers how many bytes there were, less only at its end.
    pub(super) async fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.seek(at).await?;
        let mut filled = 0;
        while filled < buffer.len() {
            self.begin()?;
            let limit = self.patience.piece;
            let open = self.open_file()?;
            let outcome = timeout(limit, open.file.read(&mut buffer[filled..])).await;
            let read = self.end_content(outcome)?;
            if read == 0 {
                break;
            }
            filled += read;
            self.open_file()?.position += read as u64;
        }
        Ok(filled)
    }

    /// Writes all bytes into the open file.
    pub(super) async fn write_at(&mut self, at: u64, mut content: &[u8]) -> Result<(), Failure> {
        self.seek(at).await?;
        let mut idle = 0;
        while !content.is_empty() {
            self.begin()?;
            let limit = self.patience.piece;
            let open = self.open_file()?;
            let outcome = timeout(limit, open.file.write(content)).await;
            let written = match self.end_content(outcome) {
                Ok(written) => written,
                Err(failure) => return Err(self.explain(failure, content.len()).await),
            };
            // The window closed within a packet: the next call waits for it.
            idle = if written == 0 { idle + 1 } else { 0 };
            if idle > MOST_IDLE_WRITES {
                self.is_busy = true;
                return Err(wire::Failure::Broken("writes do nothing".to_owned()).into());
            }
            content = &content[written..];
            self.open_file()?.position += written as u64;
        }
        Ok(())
    }

    /// "Failure" is what a server says whose disk is full, and of much else.
    async fn explain(&mut self, failure: Failure, wanted: usize) -> Failure {
        if failure.status() != Some(super::error::FAILED) {
            return failure;
        }
        let Ok(limit) = self.begin() else { return failure };
        let Ok(open) = self.open_file() else { return failure };
        let outcome = timeout(limit, open.file.statvfs()).await;
        let is_full = match self.end(outcome) {
            Ok(space) => space.f_bavail.saturating_mul(space.f_frsize) < wanted as u64,
            Err(_) => false,
        };
        match is_full {
            true => Failure::wrong(ErrorKind::Full, "the server's disk is full"),
            false => Failure::wrong(ErrorKind::Unavailable, "the server failed to write"),
        }
    }

    async fn seek(&mut self, at: u64) -> Result<(), Failure> {
        if self.open_file()?.position == at {
            return Ok(());
        }
        let limit = self.begin()?;
        // Nothing is asked: libssh2 notes where the next question is to begin.
        let outcome = timeout(limit, self.open_file()?.file.seek(io::SeekFrom::Start(at))).await;
        self.end_content(outcome)?;
        self.open_file()?.position = at;
        Ok(())
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

    fn end_content<T>(&mut self, outcome: Result<io::Result<T>, Elapsed>) -> Result<T, Failure> {
        let last = match &outcome {
            Ok(Err(_)) => self.inner().session.last_error(),
            _ => None,
        };
        self.note(outcome.map(|outcome| outcome.map_err(|error| Ended::of_content(&error, last))))
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
