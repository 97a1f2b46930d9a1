//! How slowly a client may send: not at all for a while, and not for ever at a trickle.
//!
//! Only the time in which we wait for the client counts. While a disk or the database is slow, nobody waits for the client, and its
//! messages lie in HTTP/2's window.

use coffer_domain::Error;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// What a client must keep to while it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long it may send nothing.
    pub stall_timeout: Duration,
    /// Bytes per second that it must send on average of the stall timeout; 0: any.
    pub min_rate: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { stall_timeout: Duration::from_secs(30), min_rate: 16 * 1024 }
    }
}

/// A stream's bytes as they arrive, and how long was waited for them: an extension of each request that is a stream.
///
/// The client has a stall timeout's worth of patience. Waiting uses it up; each byte gives back the time it may take.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pace: Pace,
    arrived: Arc<AtomicU64>,
    /// Of what arrived, what has given patience back.
    counted: u64,
    patience: Duration,
    /// How long nothing has arrived.
    silence: Duration,
}

impl Progress {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            arrived: Arc::default(),
            counted: 0,
            patience: pace.stall_timeout,
            silence: Duration::ZERO,
        }
    }

    /// Where the bytes that arrive are to be counted.
    pub(super) fn arrived(&self) -> Arc<AtomicU64> {
        self.arrived.clone()
    }

    /// Waits for something of the client's. Dropping the future loses nothing, and what was waited counts.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`] if the client has sent nothing for the stall timeout, or less than it must.
    pub(crate) async fn wait<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Error> {
        let mut something = std::pin::pin!(something);
        loop {
            let left = self.left();
            if left.is_zero() {
                return Err(Error::Stalled { seconds: self.pace.stall_timeout.as_secs() });
            }
            let waiting = Waiting { progress: self, since: Instant::now() };
            let outcome = timeout(left, something.as_mut()).await;
            drop(waiting);
            if let Ok(outcome) = outcome {
                self.silence = Duration::ZERO;
                return Ok(outcome);
            }
        }
    }

    /// How long may be waited if nothing arrives.
    fn left(&self) -> Duration {
        let Pace { stall_timeout, min_rate } = self.pace;
        let left = stall_timeout.saturating_sub(self.silence);
        if min_rate == 0 { left } else { left.min(self.patience) }
    }

    fn waited(&mut self, time: Duration) {
        let arrived = self.arrived.load(Ordering::Relaxed);
        let bytes = arrived - self.counted;
        self.counted = arrived;
        self.silence = if bytes == 0 { self.silence + time } else { Duration::ZERO };
        let Pace { stall_timeout, min_rate } = self.pace;
        if let Some(milliseconds) = bytes.saturating_mul(1_000).checked_div(min_rate) {
            let patience = self.patience.saturating_add(Duration::from_millis(milliseconds));
            self.patience = patience.saturating_sub(time).min(stall_timeout);
        }
    }
}

struct Waiting<'a> {
    progress: &'a mut Progress,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let time = self.since.elapsed();
        self.progress.waited(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const PACE: Pace = Pace { stall_timeout: Duration::from_secs(30), min_rate: 1_000 };

    /// Bytes that arrive each second, for so long.
    async fn trickle(arrived: Arc<AtomicU64>, bytes: u64, seconds: u64) {
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            arrived.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How long a client that sends so many bytes each second without end is waited for, at most an hour.
    async fn waited_for(pace: Pace, bytes: u64) -> Option<u64> {
        let mut progress = Progress::new(pace);
        let since = Instant::now();
        let sending = trickle(progress.arrived(), bytes, 3_600);
        match progress.wait(sending).await {
            Ok(()) => None,
            Err(error) => {
                assert!(matches!(error, Error::Stalled { seconds: 30 }));
                Some(since.elapsed().as_secs())
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream_and_so_does_a_trickle() {
        assert_eq!(waited_for(PACE, 0).await, Some(30));
        assert_eq!(waited_for(PACE, 1).await, Some(30));
        assert_eq!(waited_for(PACE, 500).await.map(|seconds| seconds / 10), Some(5), "59 s or 60 s");
        assert_eq!(waited_for(PACE, 1_001).await, None);
        assert_eq!(waited_for(Pace { min_rate: 0, ..PACE }, 1).await, None);
        assert_eq!(waited_for(Pace { min_rate: 0, ..PACE }, 0).await, Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut progress = Progress::new(PACE);
        for _ in 0..20 {
            progress.wait(sleep(Duration::from_secs(1))).await.unwrap();
            sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(progress.patience, Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_interrupted_counts() {
        let mut progress = Progress::new(PACE);
        for _ in 0..300 {
            let _ = timeout(Duration::from_millis(100), progress.wait(pending::<()>())).await;
        }
        assert!(progress.wait(pending::<()>()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_beginning_does_not_pay_for_a_slow_end() {
        let mut progress = Progress::new(PACE);
        progress.arrived().fetch_add(1_000_000_000, Ordering::Relaxed);
        progress.wait(sleep(Duration::from_secs(1))).await.unwrap();
        let since = Instant::now();
        assert!(progress.wait(pending::<()>()).await.is_err());
        assert_eq!(since.elapsed().as_secs(), 30);
    }
}
