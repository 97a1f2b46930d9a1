//! What time makes due.

use coffer_domain::Result;
use coffer_domain::upload::ENDED_TTL_HOURS;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::cached::Cached;
use crate::error::Step;
use crate::store::PgStore;
use crate::transaction::Begin;

/// Most rows that are deleted in one transaction.
const BATCH: usize = 1_000;

/// Partitions are made for this month and as many ahead.
const MONTHS_AHEAD: i32 = 3;

const EXPIRED_ANSWERS: &str = "DELETE FROM request_results WHERE (principal, request_id) IN (
    SELECT principal, request_id FROM request_results WHERE expires_at <= now() LIMIT 1000)";

// By the id, whose clock is that of the event, so that the primary key finds them.
const OLD_EVENTS: &str = "DELETE FROM outbox_events WHERE id IN (
    SELECT id FROM outbox_events WHERE id < uuid_v7_floor(now() - interval '7 days') ORDER BY id LIMIT 1000)";

// By the id, whose clock is that of the start. An undone one stays until its bytes are gone: its row is all that is known of
// them.
const ENDED_UPLOADS: &str = "DELETE FROM storage_uploads WHERE id IN (
    SELECT id FROM storage_uploads
    WHERE id < uuid_v7_floor(now() - interval '24 hours') AND updated_at < now() - interval '24 hours'
        AND (state = 'COMMITTED' OR (state IN ('ABORTED', 'EXPIRED') AND swept_at IS NOT NULL))
    ORDER BY id LIMIT 1000)";
const _: () = assert!(ENDED_TTL_HOURS == 24, "as the statement says");

impl PgStore {
    /// Makes partitions, drops what is past its keeping; in many short transactions.
    pub(crate) async fn tidy_all(&self) -> Result<()> {
        self.transaction("tidy", Begin::Durable, None, async |c| ensure_partitions(c).await).await?;
        for statement in [EXPIRED_ANSWERS, OLD_EVENTS, ENDED_UPLOADS] {
            while self.transaction("tidy", Begin::Durable, None, async |c| delete(c, statement).await).await?
                == BATCH
            {}
        }
        Ok(())
    }
}

async fn ensure_partitions(c: &AsyncPgConnection) -> Step<()> {
    diesel::sql_query("SELECT ensure_operation_partitions($1)")
        .bind::<diesel::sql_types::Integer, _>(MONTHS_AHEAD)
        .execute(&mut &*c)
        .await?;
    Ok(())
}

async fn delete(c: &AsyncPgConnection, statement: &'static str) -> Step<usize> {
    Ok(Cached(diesel::sql_query(statement)).execute(&mut &*c).await?)
}
