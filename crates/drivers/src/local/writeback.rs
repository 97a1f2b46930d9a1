//! Writes bytes into a file, and starts to put them on the disk while more arrive.

use super::error::Failure;
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use rustix::{
    fd::{AsRawFd, OwnedFd},
    io::{Errno, Result, retry_on_intr},
};
use std::io::IoSlice;

/// How many bytes are written before the kernel is told to start putting them on the disk.
pub(super) const EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// The same for a file that is synced again and again: less is left to do when somebody waits for it.
pub(super) const EVERY_BYTES_BEFORE_CHECKPOINT: u64 = 2 * 1024 * 1024;

/// Most pieces the kernel takes in one call (IOV_MAX).
const MOST_PIECES: usize = 1024;

/// Writes the pieces one after the other from `offset` on. Answers where they end.
pub(super) fn write_all(
    file: &OwnedFd,
    pieces: &[Bytes],
    mut offset: u64,
) -> std::result::Result<u64, Failure> {
    let mut slices: Vec<_> =
        pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let now = &left[..left.len().min(MOST_PIECES)];
        let written = retry_on_intr(|| rustix::io::pwritev(file, now, offset))?;
        if written == 0 {
            return Err(Failure::new(ErrorKind::Other, "the file takes no more bytes"));
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(offset)
}

/// Starts the writeback of a part of the file and does not wait for it. This promises nothing: only fsync does. It takes no error
/// from that fsync either, since the kernel hands those out only where it is asked to wait.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
pub(super) fn start(file: &OwnedFd, from: u64, to: u64) -> Result<()> {
    let (Ok(offset), Ok(length)) = (i64::try_from(from), i64::try_from(to - from)) else { return Ok(()) };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call reads and writes no memory of ours.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        // Sandboxes without the call, file systems without the means: the final fsync then has more to do.
        Some(Errno::NOSYS | Errno::INVAL | Errno::SPIPE | Errno::OPNOTSUPP | Errno::INTR) | None => Ok(()),
        Some(errno) => Err(errno),
    }
}
