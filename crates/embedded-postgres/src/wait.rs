//! Waiting for what the operating system reports by no event: a file's content, another's processes.

use std::time::{Duration, Instant};

use crate::Error;

/// Between two looks. A start takes about 30 ms and a stop 15 ms, so this is small beside both.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until there is something or `timeout` has passed, and at least once.
pub(crate) fn until<T>(
    timeout: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if started.elapsed() >= timeout {
            return Ok(None);
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "this crate is synchronous; its documentation says so")]
fn pause() {
    std::thread::sleep(PAUSE);
}
