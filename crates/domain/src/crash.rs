//! Places where a test may let the process die.

/// A step of the commit protocol ends here. With the feature `crash-points` the process kills itself at the n-th passage of the point that
/// the environment names, `CRASH_AT=name:n`; without, this is nothing.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::here($name);
    };
}

/// Dies if it is time.
#[cfg(feature = "crash-points")]
pub(crate) fn here(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static AT: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let at = AT.get_or_init(|| {
        let text = std::env::var("CRASH_AT").ok()?;
        let (name, passages) = text.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(passages.parse().ok()?)))
    });
    if let Some((_, left)) = at.as_ref().filter(|(at, _)| at == name)
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
