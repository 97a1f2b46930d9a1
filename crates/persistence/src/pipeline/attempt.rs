//! One transaction for a batch: two round trips, and how it can end.

use std::time::Duration;

use coffer_domain::Result;
use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::try_join;
use tokio::time::timeout;

use super::Work;
use crate::cached::Cached;
use crate::error::{Failure, Trouble};
use crate::transaction::Begin;

/// How long the halves of a batch that has waited too long for a lock wait for one.
const SHORT_WAIT: &str = "SET LOCAL lock_timeout TO '250ms'";

/// How an attempt ended without answers.
pub(super) enum Stop<A> {
    /// Nothing was done.
    Failed(Failure),
    /// The connection is of no use any more; nothing was done.
    Gone,
    /// The server does not answer; nothing was done.
    Hung,
    /// It may have been committed.
    Lost(Vec<Result<A>>),
}

/// One attempt at a batch, on a connection that is idle. Afterwards it is so again, or of no use.
pub(super) async fn attempt<W: Work>(
    c: &AsyncPgConnection,
    items: &[&W::Item],
    is_again: bool,
    is_brief: bool,
    patience: Option<Duration>,
) -> Result<Vec<Result<W::Answer>>, Stop<W::Answer>> {
    let is_durable = items.iter().any(|item| W::is_durable(item));
    let decided = within(patience, async {
        let begin = async { Ok::<_, Failure>(begin(c, is_durable, is_brief).await?) };
        Ok(try_join!(begin, W::decide(c, items, is_again))?.1)
    });
    let (outcomes, writes) = match decided.await {
        Some(Ok(decided)) => decided,
        Some(Err(failure)) => return Err(undo(c, patience, failure).await),
        None => return Err(Stop::Hung),
    };
    if outcomes.iter().all(Result::is_err) {
        return match within(patience, rollback(c)).await {
            Some(Ok(())) => Ok(outcomes),
            _ => Err(Stop::Gone),
        };
    }
    let written = within(patience, async {
        // Prepared as all others: it stands behind them in the same line.
        let commit = async { Ok::<_, Failure>(Cached(diesel::sql_query("COMMIT")).execute(&mut &*c).await?) };
        try_join!(W::write(c, items, &writes), commit)
    });
    match written.await {
        Some(Ok(_)) => Ok(outcomes),
        // Where it was lost, the commit may have been under way already.
        Some(Err(Failure::Database(error))) if Trouble::of(&error) == Trouble::Disconnected => {
            Err(Stop::Lost(outcomes))
        }
        Some(Err(failure)) => Err(undo(c, patience, failure).await),
        None => Err(Stop::Lost(outcomes)),
    }
}

async fn begin(c: &AsyncPgConnection, is_durable: bool, is_brief: bool) -> QueryResult<()> {
    let begin = if is_durable { Begin::Durable } else { Begin::Relaxed };
    let mut sql = begin.sql().unwrap_or_default().to_owned();
    if is_brief {
        sql = format!("{sql}; {SHORT_WAIT}");
    }
    (&mut &*c).batch_execute(&sql).await
}

async fn rollback(c: &AsyncPgConnection) -> QueryResult<()> {
    (&mut &*c).batch_execute("ROLLBACK").await
}

/// Ends a transaction that failed before its commit.
async fn undo<A>(c: &AsyncPgConnection, patience: Option<Duration>, failure: Failure) -> Stop<A> {
    match failure {
        Failure::Database(error) if Trouble::of(&error) == Trouble::Disconnected => Stop::Gone,
        failure => match within(patience, rollback(c)).await {
            Some(Ok(())) => Stop::Failed(failure),
            _ => Stop::Gone,
        },
    }
}

/// `None`: it took too long.
async fn within<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
}
