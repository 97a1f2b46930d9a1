//! Starts writing to the disk while bytes still arrive.

use rustix::{
    fd::{AsRawFd, OwnedFd},
    io::{Errno, Result},
};

/// How many bytes are written before the kernel is told to start putting them on the disk.
pub(super) const EVERY_BYTES: u64 = 8 * 1024 * 1024;

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
