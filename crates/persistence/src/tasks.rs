//! Long work.

mod rotation;

pub(crate) use rotation::{rotate, unrotated};

use coffer_domain::error::{Conflict, Error};
use coffer_domain::id::TaskId;
use coffer_domain::operation::Operation;
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::store::NodeStart;
use coffer_domain::task::{Filter, NewTask, Task, TaskError, TaskState, Work};
use coffer_domain::time::Timestamp;
use diesel::pg::Pg;
use diesel::prelude::{Queryable, Selectable};
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, SelectableHelper,
    dsl,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::operations;
use crate::schema::tasks;

/// Most characters of what is kept of an error.
const MAX_MESSAGE_CHARS: usize = 250;

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = tasks, check_for_backend(Pg))]
struct Row {
    id: Uuid,
    work: Value,
    state: String,
    items_done: i64,
    items_failed: i64,
    items_total: i64,
    error_reason: Option<String>,
    error_message: Option<String>,
    is_cancel_requested: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl Row {
    fn into_task(self) -> Step<Task> {
        let number = |n: i64| u64::try_from(n).map_err(unreadable);
        Ok(Task {
            id: TaskId::from(self.id),
            work: serde_json::from_value(self.work).map_err(unreadable)?,
            state: self.state.parse().map_err(unreadable)?,
            items_done: number(self.items_done)?,
            items_failed: number(self.items_failed)?,
            items_total: number(self.items_total)?,
            error: self
                .error_reason
                .map(|reason| TaskError { reason, message: self.error_message.unwrap_or_default() }),
            is_cancel_requested: self.is_cancel_requested,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ended_at: self.ended_at,
        })
    }
}

/// Adds a task that a start of a node works on.
pub(crate) async fn create(c: &AsyncPgConnection, task: &NewTask, start: NodeStart) -> Step<Task> {
    let total = match &task.work {
        Work::RotateKeys { key_id } => unrotated(c, key_id).await?,
    };
    let row: Row = diesel::insert_into(tasks::table)
        .values((
            tasks::id.eq(task.id.uuid()),
            tasks::kind.eq(task.work.kind().as_str()),
            tasks::work.eq(serde_json::to_value(&task.work).map_err(unreadable)?),
            tasks::items_total.eq(total),
            tasks::node_id.eq(start.node.uuid()),
            tasks::node_epoch.eq(start.epoch),
        ))
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await?;
    row.into_task()
}

/// A task.
pub(crate) async fn find(c: &AsyncPgConnection, id: TaskId) -> Step<Option<Task>> {
    let row: Option<Row> =
        tasks::table.find(id.uuid()).select(Row::as_select()).first(&mut &*c).await.optional()?;
    row.map(Row::into_task).transpose()
}

/// Tasks, newest first.
pub(crate) async fn list(c: &AsyncPgConnection, filter: &Filter, page: &PageRequest) -> Step<Page<Task>> {
    let mut query = tasks::table
        .select(Row::as_select())
        .order(tasks::id.desc())
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    let Filter { state, kind } = filter;
    if let Some(state) = state {
        query = query.filter(tasks::state.eq(state.as_str()));
    }
    if let Some(kind) = kind {
        query = query.filter(tasks::kind.eq(kind.as_str()));
    }
    if let Some(after) = &page.after {
        query = query.filter(tasks::id.lt(after.id));
    }
    let rows: Vec<Row> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    let rows = rows.into_iter().take(page.size as usize);
    let items = rows.map(Row::into_task).collect::<Step<Vec<_>>>()?;
    let next =
        items.last().filter(|_| is_more).map(|task| Cursor { value: String::new(), id: task.id.uuid() });
    Ok(Page { items, next })
}

/// Asks a task to end before its end.
pub(crate) async fn cancel(c: &AsyncPgConnection, id: TaskId) -> Step<Task> {
    diesel::update(tasks::table.find(id.uuid()))
        .filter(tasks::state.eq(TaskState::Running.as_str()).and(tasks::is_cancel_requested.eq(false)))
        .set((tasks::is_cancel_requested.eq(true), tasks::updated_at.eq(dsl::now)))
        .execute(&mut &*c)
        .await?;
    Ok(find(c, id).await?.ok_or_else(|| Error::NotFound(Task::resource(id)))?)
}

/// Takes running tasks whose node's start has ended, as its lease or a later start says.
pub(crate) async fn take(c: &AsyncPgConnection, start: NodeStart) -> Step<Vec<Task>> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    // Whoever works on one holds its row for a page at a time.
    const TAKE: &str = "UPDATE tasks SET node_id = $1, node_epoch = $2, updated_at = now()
        WHERE id IN (
            SELECT t.id FROM tasks t WHERE t.state = 'RUNNING' AND NOT EXISTS (
                SELECT FROM nodes n
                WHERE n.id = t.node_id AND n.epoch = t.node_epoch AND n.lease_until > now()
            )
            ORDER BY t.id FOR UPDATE SKIP LOCKED
        ) RETURNING id";
    let taken: Vec<Taken> = diesel::sql_query(TAKE)
        .bind::<SqlUuid, _>(start.node.uuid())
        .bind::<BigInt, _>(start.epoch)
        .load(&mut &*c)
        .await?;
    let rows: Vec<Row> = tasks::table
        .filter(tasks::id.eq_any(taken.into_iter().map(|Taken { id }| id).collect::<Vec<_>>()))
        .select(Row::as_select())
        .load(&mut &*c)
        .await?;
    rows.into_iter().map(Row::into_task).collect()
}

/// Ends a task that cannot go on.
pub(crate) async fn fail(
    c: &AsyncPgConnection,
    id: TaskId,
    start: NodeStart,
    error: &TaskError,
    operation: &Operation,
) -> Step<Task> {
    hold(c, id, start).await?;
    end(c, id, TaskState::Failed, Some(error)).await?;
    operations::insert(c, [operation]).await?;
    held(c, id).await
}

/// Locks a running task that the start holds; answers how far it is.
async fn hold(c: &AsyncPgConnection, id: TaskId, start: NodeStart) -> Step<(Task, Value)> {
    let found: Option<(Row, Value)> = tasks::table
        .find(id.uuid())
        .filter(
            tasks::state
                .eq(TaskState::Running.as_str())
                .and(tasks::node_id.eq(start.node.uuid()))
                .and(tasks::node_epoch.eq(start.epoch)),
        )
        .select((Row::as_select(), tasks::position))
        .for_update()
        .first(&mut &*c)
        .await
        .optional()?;
    let (row, position) = found.ok_or(Error::Conflict(Conflict::Fenced))?;
    Ok((row.into_task()?, position))
}

async fn end(c: &AsyncPgConnection, id: TaskId, state: TaskState, error: Option<&TaskError>) -> Step<()> {
    let cut = |text: &String| text.chars().take(MAX_MESSAGE_CHARS).collect::<String>();
    diesel::update(tasks::table.find(id.uuid()))
        .set((
            tasks::state.eq(state.as_str()),
            tasks::error_reason.eq(error.map(|error| &error.reason)),
            tasks::error_message.eq(error.map(|error| cut(&error.message))),
            tasks::updated_at.eq(dsl::now),
            tasks::ended_at.eq(dsl::now),
        ))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

async fn held(c: &AsyncPgConnection, id: TaskId) -> Step<Task> {
    Ok(find(c, id).await?.ok_or_else(|| Error::NotFound(Task::resource(id)))?)
}
