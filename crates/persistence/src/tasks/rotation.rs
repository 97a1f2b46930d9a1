//! Sealing all secrets under another key, a page at a time.
//!
//! A page and how far the task is are one transaction: a killed task goes on where it was, and no secret is lost or counted twice. Secrets that
//! come while it runs are sealed under the current key, or found by another pass.

use coffer_domain::error::Error;
use coffer_domain::id::TaskId;
use coffer_domain::operation::{Operation, OperationStatus};
use coffer_domain::secret::KeyId;
use coffer_domain::store::NodeStart;
use coffer_domain::task::{Task, TaskError, TaskState, Work};
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{end, held, hold};
use crate::error::{Failure, Step, unreadable};
use crate::operations;
use crate::schema::tasks;
use crate::secrets::{Column, KeyRing};

/// How far a pass over all columns is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct Position {
    /// Which of [`Column::ALL`].
    column: usize,
    /// The last row that was looked at.
    after: Option<Uuid>,
    /// Secrets that this pass could not open.
    failed: i64,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    sealed: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many secrets are sealed under other keys.
pub(crate) async fn unrotated(c: &AsyncPgConnection, key: &KeyId) -> Step<i64> {
    let mut total = 0_i64;
    for column in Column::ALL {
        let sql =
            format!("SELECT count(*) AS count FROM {} WHERE {} <> $1", column.table(), column.key_sql());
        let count: Count = diesel::sql_query(sql).bind::<Text, _>(key.as_str()).get_result(&mut &*c).await?;
        total = total.saturating_add(count.count);
    }
    Ok(total)
}

/// Seals the next page anew, or ends the task when nothing is left.
pub(crate) async fn rotate(
    c: &AsyncPgConnection,
    keys: &KeyRing,
    id: TaskId,
    start: NodeStart,
    limit: usize,
    operation: &Operation,
) -> Step<Task> {
    let (task, position) = hold(c, id, start).await?;
    let Work::RotateKeys { key_id } = &task.work;
    let position: Position = serde_json::from_value(position).map_err(unreadable)?;
    if task.is_cancel_requested {
        end(c, id, TaskState::Cancelled, None).await?;
        return ended(c, id, operation).await;
    }
    keys.must_have(key_id)?;
    if let Some(column) = Column::ALL.get(position.column) {
        let page = page(c, *column, key_id, position.after, limit).await?;
        let next = match page.last().filter(|_| page.len() == limit) {
            Some(last) => Position { after: Some(last.id), ..position },
            None => Position { column: position.column + 1, after: None, ..position },
        };
        let (done, failed) = seal_anew(c, keys, key_id, *column, &page).await?;
        note(c, id, Position { failed: position.failed + failed, ..next }, done, failed).await?;
        return held(c, id).await;
    }
    // What another process has sealed under another key meanwhile needs one more pass.
    let left = unrotated(c, key_id).await?;
    if left > position.failed {
        note(c, id, Position::default(), 0, -position.failed).await?;
        return held(c, id).await;
    }
    if left == 0 {
        end(c, id, TaskState::Succeeded, None).await?;
    } else {
        let message =
            format!("{left} secrets cannot be opened, and stay under the keys they were sealed under");
        let error = TaskError { reason: "SECRET_UNREADABLE".to_owned(), message };
        end(c, id, TaskState::Failed, Some(&error)).await?;
    }
    ended(c, id, operation).await
}

async fn ended(c: &AsyncPgConnection, id: TaskId, operation: &Operation) -> Step<Task> {
    let task = held(c, id).await?;
    let mut operation = operation
        .clone()
        .with("state", task.state.as_str())
        .with("items_done", task.items_done)
        .with("items_failed", task.items_failed);
    if let Some(error) = &task.error {
        operation.status = OperationStatus::Failed;
        operation.error_code = Some(error.reason.clone());
        operation.error_message = Some(error.message.clone());
    }
    operations::insert(c, [&operation]).await?;
    Ok(task)
}

/// The next secrets of a column that are sealed under another key, locked.
async fn page(
    c: &AsyncPgConnection,
    column: Column,
    key: &KeyId,
    after: Option<Uuid>,
    limit: usize,
) -> Step<Vec<Stored>> {
    let sql = format!(
        "SELECT id, {name}::text AS sealed FROM {table} WHERE id > $1 AND {key} <> $2 ORDER BY id LIMIT $3 FOR UPDATE",
        name = column.name(),
        table = column.table(),
        key = column.key_sql(),
    );
    let rows = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(after.unwrap_or_default())
        .bind::<Text, _>(key.as_str())
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(&mut &*c)
        .await?;
    Ok(rows)
}

/// Answers how many were sealed anew and how many cannot be opened.
async fn seal_anew(
    c: &AsyncPgConnection,
    keys: &KeyRing,
    key: &KeyId,
    column: Column,
    page: &[Stored],
) -> Step<(i64, i64)> {
    let (mut ids, mut sealed) = (Vec::new(), Vec::new());
    for Stored { id, sealed: stored } in page {
        let outcome = column.read(stored).and_then(|old| keys.seal_anew(key, column, *id, &old));
        match outcome {
            Ok(new) => {
                ids.push(*id);
                sealed.push(column.write(&new));
            }
            Err(error @ Error::SecretUnreadable { .. }) => {
                tracing::warn!(credential.id = %id, %error, "a secret could not be sealed anew");
            }
            Err(error) => return Err(Failure::Refused(error)),
        }
    }
    let sql = format!(
        "UPDATE {table} AS t SET {name} = n.sealed::{sql_type}
         FROM unnest($1, $2) AS n (id, sealed) WHERE t.id = n.id",
        table = column.table(),
        name = column.name(),
        sql_type = column.sql_type(),
    );
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (done, failed) = (count(ids.len()), count(page.len() - ids.len()));
    diesel::sql_query(sql)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Text>, _>(sealed)
        .execute(&mut &*c)
        .await?;
    Ok((done, failed))
}

async fn note(c: &AsyncPgConnection, id: TaskId, position: Position, done: i64, failed: i64) -> Step<()> {
    diesel::update(tasks::table.find(id.uuid()))
        .set((
            tasks::position.eq(serde_json::to_value(position).map_err(unreadable)?),
            tasks::items_done.eq(tasks::items_done + done),
            tasks::items_failed.eq(tasks::items_failed + failed),
            tasks::updated_at.eq(dsl::now),
        ))
        .execute(&mut &*c)
        .await?;
    Ok(())
}
