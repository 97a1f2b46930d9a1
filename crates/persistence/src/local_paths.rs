//! Directories of the host that volumes may stand on.

use coffer_domain::error::{Error, Resource, State};
use coffer_domain::id::LocalPathId;
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::time::Timestamp;
use coffer_domain::volume::LocalPath;
use diesel::dsl::{exists, select, sql};
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::{Insertable, Queryable, Selectable};
use diesel::sql_types::{Nullable, Text};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::Step;
use crate::schema::{local_paths, storage_volumes};

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = local_paths, check_for_backend(Pg))]
struct Row {
    id: Uuid,
    path: String,
    description: String,
    created_at: Timestamp,
}

impl From<Row> for LocalPath {
    fn from(Row { id, path, description, created_at }: Row) -> Self {
        Self { id: LocalPathId::from(id), path, description, created_at }
    }
}

/// Approves a directory.
pub(crate) async fn create(c: &AsyncPgConnection, path: &LocalPath) -> Step<LocalPath> {
    let LocalPath { id, path, description, created_at } = path.clone();
    let row: Row = diesel::insert_into(local_paths::table)
        .values(Row { id: id.uuid(), path, description, created_at })
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await?;
    Ok(row.into())
}

/// An approved directory.
pub(crate) async fn find(c: &AsyncPgConnection, id: LocalPathId) -> Step<Option<LocalPath>> {
    let row: Option<Row> =
        local_paths::table.find(id.uuid()).select(Row::as_select()).first(&mut &*c).await.optional()?;
    Ok(row.map(LocalPath::from))
}

/// Approved directories by path.
pub(crate) async fn list(c: &AsyncPgConnection, page: &PageRequest) -> Step<Page<LocalPath>> {
    let mut query = local_paths::table
        .select(Row::as_select())
        .order(local_paths::path)
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    if let Some(after) = &page.after {
        query = query.filter(local_paths::path.gt(&after.value));
    }
    let rows: Vec<Row> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    let items: Vec<LocalPath> = rows.into_iter().take(page.size as usize).map(LocalPath::from).collect();
    let next =
        items.last().filter(|_| is_more).map(|path| Cursor { value: path.path.clone(), id: path.id.uuid() });
    Ok(Page { items, next })
}

/// Changes a description.
pub(crate) async fn update(c: &AsyncPgConnection, id: LocalPathId, description: &str) -> Step<LocalPath> {
    let row: Option<Row> = diesel::update(local_paths::table.find(id.uuid()))
        .set(local_paths::description.eq(description))
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await
        .optional()?;
    Ok(row.map(LocalPath::from).ok_or_else(|| not_found(id))?)
}

/// Withdraws an approval that no volume stands on.
pub(crate) async fn delete(c: &AsyncPgConnection, id: LocalPathId) -> Step<()> {
    hold(c, id).await?;
    let standing = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null().and(of_volume().eq(id.to_string())));
    if select(exists(standing)).get_result(&mut &*c).await? {
        return Err(Error::State(State::InUse("a volume stands on this path")).into());
    }
    diesel::delete(local_paths::table.find(id.uuid())).execute(&mut &*c).await?;
    Ok(())
}

/// Holds an approved directory until the transaction ends: nobody withdraws it or puts a volume on it meanwhile.
pub(crate) async fn hold(c: &AsyncPgConnection, id: LocalPathId) -> Step<()> {
    let found: Option<Uuid> = local_paths::table
        .find(id.uuid())
        .select(local_paths::id)
        .for_update()
        .first(&mut &*c)
        .await
        .optional()?;
    found.ok_or_else(|| not_found(id))?;
    Ok(())
}

/// The directory that a volume stands on, as text; null for other backends.
pub(crate) fn of_volume() -> SqlLiteral<Nullable<Text>> {
    sql("storage_volumes.config ->> 'local_path_id'")
}

fn not_found(id: LocalPathId) -> Error {
    Error::NotFound(Resource::LocalPath(id.to_string()))
}
