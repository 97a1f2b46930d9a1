//! One method of the store, one transaction: begun, traced, retried, ended, and never left open.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use coffer_domain::id::OperationId;
use coffer_domain::operation::Operation;
use coffer_domain::request::Request;
use coffer_domain::{Error, Result};
use deadpool::managed::Object;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use futures_util::try_join;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::database::Connection;
use crate::error::{Failure, Step, Trouble, translate, unavailable};
use crate::sessions::Sessions;
use crate::store::PgStore;
use crate::{operations, requests};

/// How often a transaction is tried in all.
pub(crate) const MAX_ATTEMPTS: u32 = 5;

/// The first pause before another attempt; it doubles, and half of it is chance.
const FIRST_PAUSE: Duration = Duration::from_millis(8);

/// Pauses before asking whether a commit whose answer was lost is there.
const SETTLE_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_500)];

/// How a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Each statement for itself, durable when it is answered: for methods that only read, and for those that are one
    /// statement which may be had twice.
    Statement,
    /// Durable when its commit is answered.
    Durable,
    /// Its commit does not wait for the disk: a crash of the service loses nothing, a loss of power its last moments.
    Relaxed,
    /// All statements see the same moment; nothing is written. For what reads whole tables.
    Snapshot,
}

impl Begin {
    pub(crate) fn sql(self) -> Option<&'static str> {
        match self {
            Self::Statement => None,
            Self::Durable => Some("BEGIN"),
            Self::Relaxed => Some("BEGIN; SET LOCAL synchronous_commit TO off"),
            Self::Snapshot => {
                Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan TO on")
            }
        }
    }
}

/// The body of a transaction: may run several times. The second bound only says that its future is `Send`, which
/// `AsyncFn` has no words for.
pub(crate) trait Body<'c, T>:
    AsyncFn(&'c AsyncPgConnection) -> Step<T> + Fn(&'c AsyncPgConnection) -> <Self as Body<'c, T>>::Future
{
    /// What it returns.
    type Future: Future<Output = Step<T>> + Send;
}

impl<'c, T, F, R> Body<'c, T> for F
where
    F: AsyncFn(&'c AsyncPgConnection) -> Step<T> + Fn(&'c AsyncPgConnection) -> R,
    R: Future<Output = Step<T>> + Send,
{
    type Future = R;
}

/// How an attempt ended without an answer.
enum Stop<T> {
    /// The caller's fault; nothing was done.
    Refused(Error),
    /// The body wants to be run again; nothing was done.
    Again,
    /// The database failed before the end; nothing was done.
    Failed(diesel::result::Error),
    /// The database failed while committing. If the connection was lost, it may have committed this.
    Commit(T, diesel::result::Error),
}

impl PgStore {
    /// Runs `body` in a transaction named `method`.
    ///
    /// Contention and lost connections are retried while nothing can have been committed. If the answer to the commit
    /// is lost and `settles` names an operation the body records, the database is asked for it; else, or if it does not
    /// have it, the answer is `Unavailable`.
    pub(crate) async fn transaction<T, F>(
        &self,
        method: &'static str,
        begin: Begin,
        settles: Option<OperationId>,
        body: F,
    ) -> Result<T>
    where
        F: for<'c> AsyncFn(&'c AsyncPgConnection) -> Step<T> + for<'c> Body<'c, T> + Send + Sync,
        T: Send,
    {
        measured(method, self.attempts(method, begin, settles, body)).await
    }

    /// Runs `body` in a transaction that ends with the record of `operation` and, with a request, its answer. A request
    /// that was answered before gets that answer, and `body` does not run.
    pub(crate) async fn mutation<T, F>(
        &self,
        method: &'static str,
        operation: &Operation,
        request: Option<&Request>,
        body: F,
    ) -> Result<T>
    where
        F: for<'c> AsyncFn(&'c AsyncPgConnection) -> Step<T> + for<'c> Body<'c, T> + Send + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        self.transaction(method, Begin::Durable, Some(operation.id), async |c| {
            if let Some(answer) = requests::claim(c, request).await? {
                return Ok(answer);
            }
            let value = body(c).await?;
            try_join!(operations::insert(c, [operation]), requests::answer(c, request, &value))?;
            Ok(value)
        })
        .await
    }

    async fn attempts<T, F>(
        &self,
        method: &'static str,
        begin: Begin,
        settles: Option<OperationId>,
        body: F,
    ) -> Result<T>
    where
        F: for<'c> AsyncFn(&'c AsyncPgConnection) -> Step<T> + for<'c> Body<'c, T> + Send + Sync,
        T: Send,
    {
        let mut attempt = 1;
        loop {
            let mut lease = Lease::take(self.sessions()).await?;
            let error = match lease.attempt(begin, &body).await {
                Ok(value) => return Ok(value),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Again) if attempt == MAX_ATTEMPTS => return Err(Error::Overloaded),
                Err(Stop::Again) => {
                    attempt += 1;
                    continue;
                }
                Err(Stop::Commit(value, error)) if Trouble::of(&error) == Trouble::Disconnected => {
                    drop(lease);
                    let found = settled(self.sessions(), method, settles.as_slice()).await;
                    return if found.is_empty() { Err(unavailable()) } else { Ok(value) };
                }
                Err(Stop::Failed(error) | Stop::Commit(_, error)) => error,
            };
            drop(lease);
            let trouble = Trouble::of(&error);
            if attempt == MAX_ATTEMPTS || !matches!(trouble, Trouble::Contention | Trouble::Disconnected) {
                return Err(translate(method, error));
            }
            metrics::counter!("coffer_store_retries_total", "method" => method, "reason" => trouble.as_str())
                .increment(1);
            tracing::debug!(attempt, reason = trouble.as_str(), error = %error, "retrying a transaction");
            if trouble == Trouble::Disconnected {
                // Where one connection died, the idle ones did too: a restart of the server ends all.
                self.database().drop_idle();
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }
}

/// Runs one method of the store in its span, and measures it.
pub(crate) async fn measured<T>(
    method: &'static str,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    let span = tracing::info_span!(
        "store",
        otel.name = format!("store.{method}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        db.system = "postgresql",
        db.operation.name = method,
    );
    let started = Instant::now();
    let outcome = work.instrument(span.clone()).await;
    let reason = outcome.as_ref().map_or_else(Error::reason, |_| "OK");
    if matches!(outcome, Err(Error::Internal { .. } | Error::Unavailable(_))) {
        span.record("otel.status_code", "ERROR");
    }
    metrics::histogram!("coffer_store_seconds", "method" => method, "outcome" => reason)
        .record(started.elapsed().as_secs_f64());
    outcome
}

/// Of the operations of a commit whose answer was lost, those that the database has.
pub(crate) async fn settled(
    sessions: &Sessions,
    method: &'static str,
    operations: &[OperationId],
) -> HashSet<OperationId> {
    metrics::counter!("coffer_store_lost_commits_total", "method" => method).increment(1);
    if operations.is_empty() {
        return HashSet::new();
    }
    for pause in SETTLE_PAUSES {
        tokio::time::sleep(pause).await;
        sessions.database().drop_idle();
        // What is not there may still be on its way: the session that commits it does not know that we have left.
        // It commits all or nothing.
        if let Ok(found) = recorded(sessions, operations).await
            && !found.is_empty()
        {
            tracing::info!(method, operations = found.len(), "a commit whose answer was lost is there");
            return found;
        }
    }
    tracing::warn!(
        method,
        operations = operations.len(),
        "the answer to a commit was lost, and it is not there"
    );
    HashSet::new()
}

async fn recorded(sessions: &Sessions, operations: &[OperationId]) -> Result<HashSet<OperationId>, Failure> {
    let mut lease = Lease::take(sessions).await?;
    let found = operations::recorded(lease.connection()?, operations).await;
    lease.is_clean = found.is_ok();
    found
}

/// A pause before the attempt after `attempt`: without chance in it, two in each other's way would meet again.
pub(crate) fn pause(attempt: u32) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << attempt.min(6));
    let chance = uuid::Uuid::new_v4().as_u64_pair().1 % 1_000;
    most / 2 + (most / 2).mul_f64(f64::from(u32::try_from(chance).unwrap_or_default()) / 1_000.0)
}

/// A pooled connection that goes back only if it is known to be idle.
///
/// A future may be dropped at any await. The pool would look at the connection when it is next taken; until then its
/// transaction would stay open, and its locks be held. So such a connection is closed instead, which ends them.
struct Lease {
    connection: Option<Connection>,
    is_clean: bool,
}

impl Lease {
    async fn take(sessions: &Sessions) -> Result<Self> {
        Ok(Self { connection: Some(sessions.pooled().await?), is_clean: false })
    }

    fn connection(&mut self) -> Result<&mut AsyncPgConnection> {
        // Taken out by `drop` alone.
        self.connection.as_deref_mut().ok_or_else(unavailable)
    }

    async fn attempt<T, F>(&mut self, begin: Begin, body: &F) -> Result<T, Stop<T>>
    where
        F: for<'c> AsyncFn(&'c AsyncPgConnection) -> Step<T> + for<'c> Body<'c, T>,
    {
        let connection = self.connection().map_err(Stop::Refused)?;
        let Some(sql) = begin.sql() else {
            let outcome = body(connection).await;
            self.is_clean =
                !matches!(&outcome, Err(Failure::Database(e)) if Trouble::of(e) == Trouble::Disconnected);
            return outcome.map_err(stop);
        };
        AnsiTransactionManager::begin_transaction_sql(connection, sql).await.map_err(Stop::Failed)?;
        match body(connection).await {
            Ok(value) => match AnsiTransactionManager::commit_transaction(connection).await {
                Ok(()) => {
                    self.is_clean = true;
                    Ok(value)
                }
                Err(error) => Err(Stop::Commit(value, error)),
            },
            Err(failure) => {
                self.is_clean = AnsiTransactionManager::rollback_transaction(connection).await.is_ok();
                Err(stop(failure))
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_clean
        {
            drop(Object::take(connection));
        }
    }
}

fn stop<T>(failure: Failure) -> Stop<T> {
    match failure {
        Failure::Refused(error) => Stop::Refused(error),
        Failure::Database(error) => Stop::Failed(error),
        Failure::Again => Stop::Again,
    }
}
