//! How much may be in progress at once: in all, by one caller, and in which order callers get their turn.
//!
//! What is too much is refused before any work is done for it; what is admitted is never given up again. A request has a *place*
//! from its head to the last byte of its answer. First it is its source's; once its caller is established, it is the caller's.
//!
//! Requests that are one message take *turns* at being worked on. While there are enough, nobody waits. Else the next one is whoever
//! has the fewest, and of these who has waited longest, so that a caller with a thousand requests delays one with a single request by the
//! time one of them takes. The last quarter of the turns goes only to callers who have fewer than two, so that slow requests
//! of one caller cannot take them all. Streams take no turn: they go on for as long as they like.

mod state;

use coffer_domain::{Error, Result};
use state::State;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// How long a request waits for its turn before it is refused.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How much may be in progress at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests and streams in all. Probes of health are let in beyond.
    pub requests: usize,
    /// Requests and streams of one caller: an organisation's user, app, or user through an app; for those who are not known, of one source.
    pub requests_per_principal: usize,
    /// Of these, streams that upload.
    pub uploads_per_principal: usize,
    /// Requests of one message that are worked on.
    pub turns: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 4_096, requests_per_principal: 1_024, uploads_per_principal: 512, turns: 32 }
    }
}

/// What a request is, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message, worked on at once.
    Unary,
    /// The same, about the service's health.
    Probe,
    /// A stream of messages that is an upload.
    Upload,
    /// Another stream of messages.
    Stream,
}

/// All that is in progress. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

/// A request in progress: an extension of each request. It ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    kind: Kind,
    caller: Mutex<String>,
    has_turn: AtomicBool,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// A place for a request that has arrived from a source.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] if as much is in progress as may be, [`Error::LimitReached`] if it is this source's.
    pub(super) fn arrive(&self, source: Option<IpAddr>, kind: Kind) -> Result<Place> {
        let source = source_key(source);
        let mut state = self.0.state();
        if state.requests >= self.0.limits.requests && kind != Kind::Probe {
            return Err(refused(Error::Overloaded));
        }
        state.admit(&self.0.limits, &source, kind)?;
        state.requests += 1;
        drop(state);
        let held = Held {
            shared: self.0.clone(),
            kind,
            caller: Mutex::new(source),
            has_turn: AtomicBool::new(false),
        };
        Ok(Place(Arc::new(held)))
    }
}

impl Place {
    pub(super) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The request is this caller's from now on.
    ///
    /// # Errors
    ///
    /// [`Error::LimitReached`] if the caller has as much in progress as he may.
    pub(super) fn belong_to(&self, caller: String) -> Result<()> {
        self.0.belong_to(caller)
    }

    /// Waits until the request may be worked on.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] if its turn does not come soon.
    pub(super) async fn take_turn(&self) -> Result<()> {
        self.0.take_turn().await
    }

    /// The request was worked on; what follows is its answer.
    pub(super) fn answered(&self) {
        self.0.end_turn();
    }
}

impl Held {
    fn belong_to(&self, caller: String) -> Result<()> {
        let mut mine = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        // No source is written like that.
        let caller = format!("principal {caller}");
        if *mine == caller {
            return Ok(());
        }
        let mut state = self.shared.state();
        state.admit(&self.shared.limits, &caller, self.kind)?;
        state.leave(&mine, self.kind);
        *mine = caller;
        Ok(())
    }

    async fn take_turn(&self) -> Result<()> {
        if self.has_turn.load(Ordering::Acquire) {
            return Ok(());
        }
        let caller = self.caller();
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.state();
            state.wait(caller, sender);
            state.dispatch(self.shared.limits.turns);
        }
        let mut waiting = Waiting { held: self, receiver: Some(receiver) };
        let until = Instant::now() + LONGEST_WAIT;
        let receiver = waiting.receiver.as_mut().expect("it is taken only when this is dropped");
        match timeout_at(until, receiver).await {
            Ok(Ok(())) => {
                waiting.receiver = None;
                self.has_turn.store(true, Ordering::Release);
                Ok(())
            }
            _ => Err(refused(Error::Overloaded)),
        }
    }

    fn end_turn(&self) {
        if self.has_turn.swap(false, Ordering::AcqRel) {
            self.give_turn_back();
        }
    }

    fn give_turn_back(&self) {
        let caller = self.caller();
        let mut state = self.shared.state();
        state.turns -= 1;
        state.change(&caller, |holder| holder.turns -= 1);
        state.dispatch(self.shared.limits.turns);
    }

    fn caller(&self) -> String {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end_turn();
        let caller = self.caller();
        let mut state = self.shared.state();
        state.requests -= 1;
        state.leave(&caller, self.kind);
    }
}

/// Waits for a turn. One that comes when nobody waits any more goes to the next.
struct Waiting<'a> {
    held: &'a Held,
    receiver: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(mut receiver) = self.receiver.take() {
            receiver.close();
            if receiver.try_recv().is_ok() {
                self.held.give_turn_back();
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(error: Error) -> Error {
    metrics::counter!("coffer_requests_refused_total", "reason" => error.reason()).increment(1);
    error
}

/// The address, or the network that one IPv6 customer has.
fn source_key(source: Option<IpAddr>) -> String {
    match source.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("source {a:x}:{b:x}:{c:x}:{d:x}::")
        }
        Some(IpAddr::V4(address)) => format!("source {address}"),
        None => "source".to_owned(),
    }
}

#[cfg(test)]
mod tests;
