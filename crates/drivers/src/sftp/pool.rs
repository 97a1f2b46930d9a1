//! Sessions that are kept: no more than a number of them, for some time, and never one that is spoilt.

use super::{client::Session, config::Config, login::Door};
use crate::remote::Failure;
use coffer_domain::driver::ErrorKind;
use deadpool::{
    Runtime,
    managed::{
        self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
    },
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// How long a session is kept that nobody uses.
const KEEP: Duration = Duration::from_secs(30);
/// After how long one is looked at before it is used.
const LOOK: Duration = Duration::from_secs(5);
/// How long such a look may take.
const LOOKING: Duration = Duration::from_secs(2);
/// How long a stream that waits for its peer keeps its session if nobody else wants it.
const IDLE: Duration = Duration::from_secs(2);
/// Servers refuse those who come while too many others log in.
const LOG_INS: usize = 4;

/// The sessions of a volume.
pub(super) struct Sessions {
    pool: managed::Pool<Manager>,
    /// A permit for each who waits for a session: a stream takes one and gives back its own.
    wanted: Arc<Semaphore>,
    patience: Duration,
    _closes: AbortOnDropHandle<()>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

pub(super) struct Manager {
    door: Door,
    log_ins: Semaphore,
    /// Counts sessions that broke: those that were there before are looked at, since they may have broken with it.
    epoch: AtomicU64,
    /// See [`Session::root`].
    root: AtomicUsize,
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = Failure;

    async fn create(&self) -> Result<Session, Failure> {
        let _permit = self.log_ins.acquire().await;
        let mut session = self.door.enter(self.epoch.load(Ordering::Relaxed)).await?;
        session.root = self.root.load(Ordering::Relaxed);
        Ok(session)
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Failure> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        if session.is_busy() || session.has_file() || session.idle() > KEEP {
            return Err(RecycleError::message("it is spoilt, or too old"));
        }
        if session.epoch != epoch || session.idle() > LOOK {
            match timeout(LOOKING, session.stat(".")).await {
                // A refusal is an answer too.
                Ok(_) if !session.is_busy() => session.epoch = epoch,
                _ => return Err(RecycleError::message("it does not answer")),
            }
        }
        Ok(())
    }
}

impl Sessions {
    pub(super) fn new(config: Config) -> Self {
        let (most, patience) = (config.sessions.max(1), config.wire.patience.answer);
        let (log_ins, epoch) = (Semaphore::new(LOG_INS), AtomicU64::new(0));
        let manager = Manager { door: Door::new(config), log_ins, epoch, root: AtomicUsize::new(0) };
        // The last that was used first, so that what is too many grows old.
        let pool = managed::Pool::builder(manager).max_size(most).queue_mode(QueueMode::Lifo);
        let pool = pool.runtime(Runtime::Tokio1).build();
        let pool: managed::Pool<Manager> =
            pool.expect("only limits of time need a runtime, and there is one");
        let weak = pool.weak();
        let closes = tokio::spawn(async move {
            loop {
                sleep(KEEP / 3).await;
                let Some(pool) = weak.upgrade() else { return };
                drop(pool.retain(|session, _| session.idle() < KEEP));
            }
        });
        let (wanted, _closes) = (Arc::new(Semaphore::new(0)), AbortOnDropHandle::new(closes));
        Self { pool, wanted, patience, _closes }
    }

    /// Says where the volume is: to the first session, and to all that come.
    pub(super) fn set_root(&self, session: &mut Session, root: &str) {
        session.root = root.len();
        self.pool.manager().root.store(root.len(), Ordering::Relaxed);
    }

    /// A session: one that is kept, a new one, or the next that is given back.
    pub(super) async fn get(&self) -> Result<Lease, Failure> {
        match self.pool.timeout_get(&wait(Duration::ZERO)).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => {}
            outcome => return lease(outcome),
        }
        // A stream that idles gives back its own.
        self.wanted.add_permits(1);
        let outcome = self.pool.timeout_get(&wait(self.patience)).await;
        // Unless one was given back without being asked.
        if let Ok(permit) = self.wanted.try_acquire() {
            permit.forget();
        }
        lease(outcome)
    }

    /// Ends when a stream that waits for its peer should give back its session.
    pub(super) async fn wants_back(&self) {
        tokio::select! {
            Ok(permit) = self.wanted.acquire() => permit.forget(),
            () = sleep(IDLE) => {}
        }
    }
}

fn wait(limit: Duration) -> Timeouts {
    Timeouts { wait: Some(limit), create: None, recycle: None }
}

fn lease(outcome: Result<Object<Manager>, PoolError<Failure>>) -> Result<Lease, Failure> {
    match outcome {
        Ok(object) => Ok(Lease(Some(object))),
        Err(PoolError::Backend(failure)) => Err(failure),
        Err(_) => Err(Failure::wrong(ErrorKind::Unavailable, "all sessions are in use")),
    }
}

/// A session that somebody uses. It is given back when this is dropped, if it is still of use.
pub(super) struct Lease(Option<Object<Manager>>);

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is there until the lease is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.as_mut().expect("it is there until the lease is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut object) = self.0.take() else { return };
        if !object.is_busy() && !object.has_file() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !object.is_busy() => drop(runtime.spawn(async move {
                // It fails only with the session.
                let _ = object.close().await;
                give_back(object);
            })),
            _ => give_back(object),
        }
    }
}

fn give_back(object: Object<Manager>) {
    if object.is_busy() || object.has_file() {
        if let Some(pool) = Object::pool(&object) {
            pool.manager().epoch.fetch_add(1, Ordering::Relaxed);
        }
        drop(Object::take(object));
    }
}
