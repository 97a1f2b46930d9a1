//! An object that is made of another, by the kernel: where the file system can, they share their blocks.

use super::{
    super::{
        client::{Location, Root},
        config::Staging,
        error::Failure,
        writeback,
    },
    Durability, Progress, Staged,
};
use bytes::Bytes;
use coffer_domain::{driver::ErrorKind, id::UploadId};
use rustix::{
    fd::OwnedFd,
    io::{Errno, retry_on_intr},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Bytes that are copied before it is looked whether somebody still waits.
const STEP_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that are copied at a time where the kernel cannot.
const PIECE_BYTES: usize = 1024 * 1024;

impl Staged {
    /// A copy of the object at `from`, published at `target`. Answers its size.
    pub(in super::super) fn copy(
        root: &Arc<Root>,
        staging: Staging,
        upload: UploadId,
        from: &Location,
        target: Location,
        wanted: &AtomicBool,
    ) -> Result<u64, Failure> {
        let (source, size) = root.open_object(from)?;
        match root.look(&target) {
            // Told before bytes are copied for nothing; publishing looks again.
            Ok(_) => return Err(Errno::EXIST.into()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (staged, directory) = Self::create_in(root, staging, upload, target)?;
        let progress = staged.fill(&source, size, wanted).inspect_err(|_| staged.discard())?;
        staged.finish_in(directory, &staged.target, progress, wanted, &mut Durability::default())
    }

    fn fill(&self, source: &OwnedFd, size: u64, wanted: &AtomicBool) -> Result<Progress, Failure> {
        let (mut progress, mut by_kernel) = (Progress::default(), true);
        while progress.written < size {
            if !wanted.load(Ordering::Relaxed) {
                return Err(Failure::new(ErrorKind::Other, "nobody waits for the copy any more"));
            }
            let at = progress.written;
            let copied = match by_kernel {
                true => match self.copy_range(source, at) {
                    // Another file system, or one that does not know how; some say so in words of their own.
                    Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                        by_kernel = false;
                        continue;
                    }
                    outcome => outcome?,
                },
                false => self.copy_piece(source, at)?,
            };
            if copied == 0 {
                return Err(Failure::new(ErrorKind::Other, "the object became shorter meanwhile"));
            }
            progress.written += copied;
            if progress.written - progress.started >= writeback::EVERY_BYTES {
                writeback::start(&self.file, progress.started, progress.written)?;
                progress.started = progress.written;
            }
        }
        Ok(progress)
    }

    fn copy_range(&self, source: &OwnedFd, at: u64) -> rustix::io::Result<u64> {
        let (mut from, mut to) = (at, at);
        let copy =
            || rustix::fs::copy_file_range(source, Some(&mut from), &*self.file, Some(&mut to), STEP_BYTES);
        retry_on_intr(copy).map(|bytes| bytes as u64)
    }

    fn copy_piece(&self, source: &OwnedFd, at: u64) -> Result<u64, Failure> {
        let mut piece = vec![0; PIECE_BYTES];
        let read = retry_on_intr(|| rustix::io::pread(source, &mut piece[..], at))?;
        piece.truncate(read);
        let end = writeback::write_all(&self.file, &[Bytes::from(piece)], at)?;
        Ok(end - at)
    }
}
