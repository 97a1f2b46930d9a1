//! When what failed is tried again, and how long to wait before.

use crate::{Error, v1::ErrorReason};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use uuid::Uuid;

/// Longest pause after the first failure; after each further one it is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a call without content is made in all, and how long after its first failure at most.
const CALL_ATTEMPTS: u32 = 4;
const CALL_BUDGET: Duration = Duration::from_secs(10);

/// Counts the failures of one piece of work.
#[derive(Debug)]
pub(crate) struct Retry {
    /// Time after the first failure in which there must be progress; zero: nothing is tried again.
    budget: Duration,
    max_failures: u32,
    failures: u32,
    /// The first failure since the last progress.
    since: Option<Instant>,
}

impl Retry {
    /// For a transfer, which may fail any number of times as long as it gets on.
    pub(crate) fn transfer(budget: Duration) -> Self {
        Self { budget, max_failures: u32::MAX, failures: 0, since: None }
    }

    /// For a call that is short and safe to repeat.
    pub(crate) fn call(budget: Duration) -> Self {
        Self { max_failures: CALL_ATTEMPTS - 1, ..Self::transfer(budget.min(CALL_BUDGET)) }
    }

    /// Something was gained: the next failure counts as the first.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// Counts a failure, and waits for as long as it should be waited before the next attempt.
    ///
    /// # Errors
    /// Hands the error back if there should be none.
    pub(crate) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        let Some(pause) = self.pause(&error, fraction()) else { return Err(error) };
        tracing::info!(%error, failures = self.failures, "trying again in {} ms", pause.as_millis());
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The pause after this failure, `None` to give up. `fraction` of 0 to 1 spreads those who failed together: half of the
    /// pause is fixed, or what the service asks for, the rest is chance.
    fn pause(&mut self, error: &Error, fraction: f64) -> Option<Duration> {
        if !is_passing(error) {
            return None;
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let half = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE) / 2;
        let asked = match error {
            Error::Refused(refusal) => refusal.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let pause = half.max(asked) + half.mul_f64(fraction);
        self.failures = self.failures.saturating_add(1);
        let is_over = self.failures > self.max_failures || now - since + pause > self.budget;
        (!is_over).then_some(pause)
    }
}

/// The same again may succeed. Whether it is safe is not asked here: everything this crate repeats carries a `request_id`, an
/// upload's id, or only reads.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Lost(_) | Error::Connect { .. } | Error::TimedOut { .. } => true,
        Error::Refused(refusal) => match refusal.reason {
            Some(
                ErrorReason::RequestInFlight
                | ErrorReason::StreamStalled
                | ErrorReason::Overloaded
                | ErrorReason::LimitReached,
            ) => true,
            _ => refusal.code == Code::Unavailable,
        },
        _ => false,
    }
}

/// 0 to 1 by chance.
fn fraction() -> f64 {
    // The last four bytes of a version 4 UUID are random; the crate needs no other chance.
    let [.., a, b, c, d] = Uuid::new_v4().into_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    const BUDGET: Duration = Duration::from_secs(120);

    fn lost() -> Error {
        Error::Lost(String::new())
    }

    fn refused(code: Code, reason: &str, after: Option<Duration>) -> Error {
        let mut details = ErrorDetails::with_error_info(reason, coffer_proto::ERROR_DOMAIN, []);
        if let Some(after) = after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(code, "no", details).into()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let (mut least, mut most) =
            (Retry::transfer(Duration::from_secs(3600)), Retry::transfer(Duration::from_secs(3600)));
        let mut longest = FIRST_PAUSE;
        for _ in 0..100 {
            assert_eq!(least.pause(&lost(), 0.0), Some(longest / 2));
            assert_eq!(most.pause(&lost(), 1.0), Some(longest));
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(longest, LONGEST_PAUSE);
        most.progressed();
        assert_eq!(most.pause(&lost(), 1.0), Some(FIRST_PAUSE));
    }

    #[test]
    fn chance_stays_in_its_bounds_and_varies() {
        let drawn: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(drawn.iter().any(|fraction| *fraction < 0.2));
        assert!(drawn.iter().any(|fraction| *fraction > 0.8));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_service_asks_for_is_waited() {
        let asked = Duration::from_secs(3);
        let busy = refused(Code::Unavailable, "METADATA_UNAVAILABLE", Some(asked));
        let mut retry = Retry::transfer(BUDGET);
        assert_eq!(retry.pause(&busy, 0.0), Some(asked));
        assert_eq!(retry.pause(&busy, 1.0), Some(asked + FIRST_PAUSE));
        let before = Instant::now();
        retry.wait_after(busy).await.unwrap();
        assert!(before.elapsed() >= asked);
        let in_an_hour = refused(Code::Unavailable, "SHUTTING_DOWN", Some(Duration::from_secs(3600)));
        assert_eq!(retry.pause(&in_an_hour, 0.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_progress_it_ends() {
        let mut retry = Retry::transfer(BUDGET);
        // What it took until the first failure does not count.
        tokio::time::advance(BUDGET * 2).await;
        let first = Instant::now();
        let mut attempts = 0;
        while retry.wait_after(lost()).await.is_ok() {
            attempts += 1;
        }
        assert!((10..100).contains(&attempts), "{attempts}");
        assert!(first.elapsed() <= BUDGET && first.elapsed() >= BUDGET - LONGEST_PAUSE);
        retry.progressed();
        assert!(retry.wait_after(lost()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_tried_a_few_times() {
        let mut retry = Retry::call(BUDGET);
        for _ in 1..CALL_ATTEMPTS {
            retry.wait_after(lost()).await.unwrap();
        }
        assert!(matches!(retry.wait_after(lost()).await, Err(Error::Lost(_))));
        let later = refused(Code::Unavailable, "", Some(CALL_BUDGET + Duration::from_secs(1)));
        assert!(Retry::call(BUDGET).wait_after(later).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_tried_again_without_a_budget() {
        for mut retry in [Retry::transfer(Duration::ZERO), Retry::call(Duration::ZERO)] {
            assert_eq!(retry.pause(&lost(), 0.0), None);
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let timed_out = Error::TimedOut { what: "", after: BUDGET };
        let passing = [
            lost(),
            timed_out,
            refused(Code::Unavailable, "", None),
            refused(Code::Unavailable, "SHUTTING_DOWN", None),
            refused(Code::Aborted, "REQUEST_IN_FLIGHT", None),
            refused(Code::DeadlineExceeded, "STREAM_STALLED", None),
            refused(Code::ResourceExhausted, "OVERLOADED", None),
        ];
        for error in passing {
            assert!(is_passing(&error), "{error:?}");
        }
        let lasting = [
            refused(Code::Aborted, "UPLOAD_TAKEN_OVER", None),
            refused(Code::Aborted, "UPLOAD_FENCED", None),
            refused(Code::Aborted, "ETAG_MISMATCH", None),
            refused(Code::ResourceExhausted, "QUOTA_EXCEEDED", None),
            refused(Code::FailedPrecondition, "UPLOAD_ENDED", None),
            refused(Code::Unauthenticated, "TOKEN_EXPIRED", None),
            refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
            refused(Code::Internal, "INTERNAL", None),
            Error::Protocol(String::new()),
            Error::SourceChanged { declared_bytes: 1, grew: true },
        ];
        for error in lasting {
            assert!(!is_passing(&error), "{error:?}");
        }
    }
}
