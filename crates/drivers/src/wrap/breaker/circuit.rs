//! When calls are let through.

use super::Breaks;
use crate::error::error;
use coffer_domain::{
    driver::{Error, ErrorKind, Result},
    path::Key,
    time::{Timestamp, now},
    volume::Provider,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Why a call failed without having been made.
#[derive(Debug, thiserror::Error)]
#[error("the backend has not answered since {since}; it is asked again at {until}")]
struct LeftAlone {
    since: Timestamp,
    until: Timestamp,
}

/// What is known of a backend.
#[derive(Debug)]
pub(super) struct Circuit {
    breaks: Breaks,
    provider: Provider,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls are let through. So many in a row have failed.
    Closed { failures: u32 },
    /// None is, until the pause is over; then one is.
    Open(Open),
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Timestamp,
    pause: Duration,
    /// The end of the pause.
    until: Instant,
    /// Whether the one call is under way.
    is_probed: bool,
}

/// What is made of a call's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    /// It says nothing of the backend.
    Unknown,
}

impl Outcome {
    pub(super) fn of<T>(result: &Result<T>) -> Self {
        match result {
            Err(failure) if failure.kind.is_retryable() => Self::Failed,
            _ => Self::Answered,
        }
    }

    /// Of a call that fails with `Unavailable` while another writer has the upload.
    pub(super) fn of_taking<T>(result: &Result<T>) -> Self {
        match result {
            Err(failure) if failure.kind == ErrorKind::Unavailable => Self::Unknown,
            result => Self::of(result),
        }
    }
}

impl Circuit {
    pub(super) fn new(provider: Provider, breaks: Breaks) -> Self {
        Self { breaks, provider, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or says why not.
    fn enter(self: &Arc<Self>, operation: &'static str, key: Option<&Key>) -> Result<Call> {
        let mut state = self.state();
        let is_probe = match &mut *state {
            State::Closed { .. } => false,
            State::Open(open) if open.until <= Instant::now() && !open.is_probed => {
                open.is_probed = true;
                true
            }
            State::Open(open) => return Err(open.refusal(operation, key)),
        };
        Ok(Call { circuit: Arc::clone(self), is_probe, outcome: Outcome::Unknown })
    }

    /// Makes a call, if it is let through.
    pub(super) async fn pass<T>(
        self: &Arc<Self>,
        operation: &'static str,
        key: Option<&Key>,
        meaning: impl Fn(&Result<T>) -> Outcome,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut entered = self.enter(operation, key)?;
        let result = call.await;
        entered.outcome = meaning(&result);
        result
    }

    /// Takes note of how a call ended.
    pub(super) fn note(&self, is_probe: bool, outcome: Outcome) {
        let mut state = self.state();
        match (&mut *state, outcome) {
            (State::Closed { failures }, Outcome::Answered) => *failures = 0,
            (State::Closed { failures }, Outcome::Failed) => {
                *failures += 1;
                if *failures >= self.breaks.failures {
                    let pause = self.breaks.first_pause.min(self.breaks.longest_pause);
                    *state = State::Open(Open::new(now(), pause));
                    self.warn(pause);
                }
            }
            (State::Open(Open { since, .. }), Outcome::Answered) => {
                let since = *since;
                *state = State::Closed { failures: 0 };
                tracing::info!(
                    driver = self.provider.as_str(),
                    since = %since,
                    "a backend answers again"
                );
            }
            (State::Open(open), Outcome::Failed) if is_probe => {
                let pause = open.pause.saturating_mul(2).min(self.breaks.longest_pause);
                *open = Open::new(open.since, pause);
                self.warn(pause);
            }
            // The next call may be the one.
            (State::Open(open), Outcome::Unknown) if is_probe => open.is_probed = false,
            (State::Closed { .. } | State::Open(_), Outcome::Unknown | Outcome::Failed) => {}
        }
    }

    fn warn(&self, pause: Duration) {
        tracing::warn!(
            driver = self.provider.as_str(),
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "a backend does not answer and is left alone"
        );
    }
}

impl Open {
    fn new(since: Timestamp, pause: Duration) -> Self {
        Self { since, pause, until: Instant::now() + pause, is_probed: false }
    }

    fn refusal(&self, operation: &'static str, key: Option<&Key>) -> Error {
        let left = self.until.saturating_duration_since(Instant::now());
        error(ErrorKind::Unavailable, operation, key, LeftAlone { since: self.since, until: now() + left })
    }
}

/// A call that was let through, until dropped.
#[derive(Debug)]
struct Call {
    circuit: Arc<Circuit>,
    is_probe: bool,
    outcome: Outcome,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.circuit.note(self.is_probe, self.outcome);
    }
}
