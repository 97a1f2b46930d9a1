//! An open file whose end may be the end of its bytes.

use super::client::size;
use rustix::fd::OwnedFd;
use std::ops::Deref;

/// Freeing more than this on the disk takes long enough to be done elsewhere.
const SLOW_TO_FREE_BYTES: u64 = 8 * 1024 * 1024;

/// The descriptor of an object. Closing the last one of a file without a name frees its blocks, which may take long; then
/// it is closed on a blocking thread.
#[derive(Debug)]
pub(super) struct Content(Option<OwnedFd>);

impl From<OwnedFd> for Content {
    fn from(file: OwnedFd) -> Self {
        Self(Some(file))
    }
}

impl Deref for Content {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        self.0.as_ref().expect("the descriptor is only taken by drop")
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        let is_slow = rustix::fs::fstat(&file).is_ok_and(|stat| {
            stat.st_nlink == 0 && size(&stat).is_some_and(|bytes| bytes > SLOW_TO_FREE_BYTES)
        });
        if let (true, Ok(runtime)) = (is_slow, tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}
