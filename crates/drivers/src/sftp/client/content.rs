//! The open file of a session: what is read from it and written into it.

use super::{Session, nothing};
use crate::{
    remote::Failure,
    sftp::error::{Ended, FAILED},
    wire,
};
use async_ssh2_lite::ssh2::FileStat;
use coffer_domain::driver::ErrorKind;
use futures_util::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use std::{io, time::Duration};
use tokio::time::{error::Elapsed, timeout};

/// How much longer than any other answer that to a sync may take.
const SYNC: Duration = Duration::from_secs(30);
/// How often in a row a write may have done nothing without saying that it has to wait.
const MOST_IDLE_WRITES: u32 = 100;

impl Session {
    /// Size of the open file.
    pub(in crate::sftp) async fn size(&mut self) -> Result<u64, Failure> {
        let limit = self.begin()?;
        let outcome = timeout(limit, self.open_file()?.file.stat()).await;
        let size = self.end(outcome)?.size;
        size.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a file without a size"))
    }

    /// Cuts the open file.
    pub(in crate::sftp) async fn cut(&mut self, size: u64) -> Result<(), Failure> {
        let limit = self.begin()?;
        let stat = FileStat { size: Some(size), ..nothing() };
        let outcome = timeout(limit, self.open_file()?.file.setstat(stat)).await;
        self.end(outcome)
    }

    /// Has the server sync the open file to its disk. Needs an extension of OpenSSH's.
    pub(in crate::sftp) async fn sync(&mut self) -> Result<(), Failure> {
        let limit = self.begin()? + SYNC;
        let outcome = timeout(limit, self.open_file()?.file.fsync()).await;
        self.end(outcome)
    }

    /// Fills the buffer from the open file; answers how many bytes there were, less only at its end.
    pub(in crate::sftp) async fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Failure> {
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
    pub(in crate::sftp) async fn write_at(&mut self, at: u64, mut content: &[u8]) -> Result<(), Failure> {
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
        if failure.status() != Some(FAILED) {
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

    fn end_content<T>(&mut self, outcome: Result<io::Result<T>, Elapsed>) -> Result<T, Failure> {
        let last = match &outcome {
            Ok(Err(_)) => self.inner().session.last_error(),
            _ => None,
        };
        self.note(outcome.map(|outcome| outcome.map_err(|error| Ended::of_content(&error, last))))
    }
}
