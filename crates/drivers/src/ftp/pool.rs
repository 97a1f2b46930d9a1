//! Sessions that are kept: a bounded number, each looked at before it is used again after a while, none for long.

use super::{connect::Account, session::Session};
use crate::remote::Failure;
use coffer_domain::driver::ErrorKind;
use deadpool::managed::{self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

/// How long a session that nobody uses is kept.
const KEEP: Duration = Duration::from_secs(60);
/// How long it is believed to be well without being asked.
const FRESH: Duration = Duration::from_secs(5);

/// The sessions of a volume.
pub(super) struct Pool {
    sessions: managed::Pool<Account>,
    _keeper: AbortOnDropHandle<()>,
}

impl Pool {
    pub(super) fn new(account: Account, sessions: usize) -> Self {
        let wait = account.patience.answer;
        let sessions = managed::Pool::builder(account)
            .max_size(sessions.max(1))
            .wait_timeout(Some(wait))
            // What is not needed any more comes of age.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a runtime is named");
        let weak = sessions.weak();
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEEP / 4).await;
                let Some(sessions) = weak.upgrade() else { return };
                sessions.retain(|session, _| session.idle() < KEEP);
            }
        });
        Self { sessions, _keeper: AbortOnDropHandle::new(keeper) }
    }

    /// A session for one's own use.
    pub(super) async fn lease(&self) -> Result<Lease, Failure> {
        let reason = match self.sessions.get().await {
            Ok(session) => return Ok(Lease(Some(session))),
            Err(PoolError::Backend(failure)) => return Err(failure),
            Err(PoolError::Timeout(_)) => "all sessions are in use",
            Err(PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                "the volume is closed"
            }
        };
        Err(Failure::wrong(ErrorKind::Unavailable, reason))
    }

    /// Whether somebody waits for a session.
    pub(super) fn is_wanted(&self) -> bool {
        let status = self.sessions.status();
        status.size >= status.max_size && status.waiting > 0
    }
}

impl Manager for Account {
    type Type = Session;
    type Error = Failure;

    async fn create(&self) -> Result<Session, Failure> {
        self.session().await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Failure> {
        if session.is_spoiled() || session.idle() > KEEP {
            return Err(RecycleError::message("of no use any more"));
        }
        if session.idle() > FRESH {
            session.noop().await?;
        }
        Ok(())
    }
}

/// A session in use. It goes back when dropped, unless something is left unanswered: then it is closed.
pub(super) struct Lease(Option<Object<Account>>);

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.0.take()
            && session.is_spoiled()
        {
            drop(Object::take(session));
        }
    }
}
