//! Key sets that issuers publish under a URL.
//!
//! One task per issuer fetches: at its start, every so often, and when a token names a key that is not known; never twice within
//! [`FLOOR`], whatever tokens say. Each set that is good takes the place of the one before at once; while none can be had, the last one
//! counts until it is too old.

use super::{Error, fetch::Source, jwks::Keys};
use coffer_domain::egress::Policy;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

/// Pause after a fetch before the next one may begin.
pub(super) const FLOOR: Duration = Duration::from_secs(10);

/// Where an issuer publishes its keys, and how long they are believed.
#[derive(Debug, Clone)]
pub struct KeysUrl {
    /// `https://…`, or `http://…` on this machine.
    pub url: String,
    /// Pause between fetches; at least 10 s.
    pub refresh: Duration,
    /// How long a set is believed after it was fetched, if no newer one can be had.
    pub max_age: Duration,
    /// PEM file of certificates to trust beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// What may be connected to.
    pub policy: Policy,
}

/// The keys of an issuer, kept fresh until this is dropped.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    max_age: Duration,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The last good set, and when it was fetched.
    last: Option<(Arc<Keys>, Instant)>,
    phase: Phase,
    /// Whether the last fetch failed.
    is_failing: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// A fetch is under way, or about to be.
    #[default]
    Fetching,
    /// The last fetch was so recently that nothing begins another.
    Resting,
    /// Who wants a fetch gets one.
    Idle,
}

/// What asking for a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is there now.
    Found,
    /// The set is fresh, and it is not there.
    Absent,
    /// No set could be had.
    Unavailable,
}

impl RemoteKeys {
    /// Begins to fetch. Needs a runtime.
    pub(super) fn start(keys: KeysUrl) -> Result<Self, Error> {
        let KeysUrl { url, refresh, max_age, root_certificates, policy } = keys;
        let source = Source::new(&url, root_certificates.as_deref(), policy)?;
        let (publish, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let keeper = Keeper { url, source, refresh, publish, wanted: Arc::clone(&wanted) };
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.keep()));
        Ok(Self { state, wanted, max_age, _keeper: keeper })
    }

    /// The set that counts at the moment; `None` if there is none, or only one that is too old.
    pub(super) fn current(&self) -> Option<Arc<Keys>> {
        self.state.borrow().current(self.max_age)
    }

    /// Has the set fetched anew for the sake of a key that it has not, if it was not just now, and waits for that.
    pub(super) async fn ask_for(&self, id: Option<&str>) -> Asked {
        let mut state = self.state.clone();
        loop {
            {
                let now = state.borrow_and_update();
                let keys = now.current(self.max_age);
                match (&keys, now.phase) {
                    (Some(keys), _) if keys.find(id).is_some() => return Asked::Found,
                    // A set with ids does not verify tokens that name none, however new it is.
                    (Some(_), _) if id.is_none() => return Asked::Absent,
                    (Some(_), Phase::Resting) if !now.is_failing => return Asked::Absent,
                    (_, Phase::Resting) => return Asked::Unavailable,
                    (_, Phase::Idle) => self.wanted.notify_one(),
                    (_, Phase::Fetching) => {}
                }
            }
            if state.changed().await.is_err() {
                return Asked::Unavailable;
            }
        }
    }
}

impl State {
    fn current(&self, max_age: Duration) -> Option<Arc<Keys>> {
        let (keys, since) = self.last.as_ref()?;
        (since.elapsed() < max_age).then(|| Arc::clone(keys))
    }
}

/// The task that fetches.
struct Keeper {
    url: String,
    source: Source,
    refresh: Duration,
    publish: watch::Sender<State>,
    wanted: Arc<Notify>,
}

impl Keeper {
    async fn keep(self) {
        loop {
            self.publish.send_modify(|state| state.phase = Phase::Fetching);
            let fetched = match self.source.get().await {
                Ok(body) => Keys::from_jwks(&body).map_err(|error| error.to_string()),
                Err(problem) => Err(problem.to_string()),
            };
            let is_failing = fetched.is_err();
            self.tell(&fetched);
            self.publish.send_modify(|state| {
                if let Ok(keys) = fetched {
                    state.last = Some((Arc::new(keys), Instant::now()));
                }
                state.is_failing = is_failing;
                state.phase = Phase::Resting;
            });
            sleep(FLOOR).await;
            if is_failing {
                continue;
            }
            self.publish.send_modify(|state| state.phase = Phase::Idle);
            tokio::select! {
                () = sleep(self.refresh.saturating_sub(FLOOR)) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Once for as long as it lasts.
    fn tell(&self, fetched: &Result<Keys, String>) {
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        metrics::counter!("coffer_key_fetches_total", "outcome" => outcome).increment(1);
        let (was_failing, has_keys) = {
            let state = self.publish.borrow();
            (state.is_failing, state.last.is_some())
        };
        let url = self.url.as_str();
        match fetched {
            Ok(_) if !has_keys || was_failing => tracing::info!(url, "the issuer's keys are here"),
            Err(problem) if !was_failing && has_keys => {
                tracing::warn!(
                    url,
                    problem,
                    "the issuer's keys cannot be fetched; the last ones count until they are too old"
                );
            }
            Err(problem) if !was_failing => {
                tracing::error!(
                    url,
                    problem,
                    "the issuer's keys cannot be fetched, and no token of it can be verified"
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
