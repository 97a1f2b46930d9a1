//! Files: found, described, moved to the trash and back, purged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use coffer_domain::error::{Conflict, Error, Resource, State};
use coffer_domain::file::{Content, File, Payer, Status};
use coffer_domain::id::FileId;
use coffer_domain::store::Lookup;
use coffer_domain::volume::VolumeRef;
use diesel::dsl::{AsSelect, auto_type};
use diesel::pg::Pg;
use diesel::sql_types::{Array, Integer, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    QueryDsl, QueryableByName, SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::Step;
use crate::schema::{storage_file_versions, storage_files, storage_objects, storage_volumes};

pub(crate) use change::{By, delete, purge, undelete, update};
pub(crate) use list::list;
pub(crate) use row::{FileRow, FileUpdate, with_content};
pub(crate) use write::{NewVersion, insert, insert_versions, replace, retire};

mod change;
mod list;
mod row;
mod write;

/// Files with their current content; tombstones have none.
#[auto_type(no_type_alias)]
fn current() -> _ {
    let columns: (AsSelect<FileRow, Pg>, AsSelect<row::VersionRow, Pg>, AsSelect<row::ObjectRow, Pg>) =
        (FileRow::as_select(), row::VersionRow::as_select(), row::ObjectRow::as_select());
    storage_files::table
        .inner_join(
            storage_file_versions::table
                .on(storage_file_versions::id.nullable().eq(storage_files::current_version_id)),
        )
        .inner_join(storage_objects::table.on(storage_objects::id.eq(storage_file_versions::object_id)))
        .select(columns)
}

/// A file by one of its names.
pub(crate) async fn find(c: &AsyncPgConnection, lookup: &Lookup) -> Step<Option<File>> {
    let c = &mut &*c;
    let rows: Option<row::Rows> = match lookup {
        Lookup::Id(id) => current().filter(storage_files::id.eq(id.uuid())).first(c).await,
        Lookup::Name { organisation, name } => {
            current()
                .filter(storage_files::organisation_id.eq(organisation).and(storage_files::file_id.eq(name)))
                .first(c)
                .await
        }
        Lookup::Path { organisation, volume, nfc } => {
            let at_path = current()
                .filter(storage_files::organisation_id.eq(organisation))
                .filter(storage_files::path_nfc.eq(nfc))
                .filter(storage_files::deleted_at.is_null());
            match volume {
                VolumeRef::Id(id) => at_path.filter(storage_files::volume_id.eq(id.uuid())).first(c).await,
                VolumeRef::Name(name) => {
                    let named = storage_volumes::table
                        .filter(storage_volumes::name.eq(name).and(storage_volumes::deleted_at.is_null()))
                        .select(storage_volumes::id);
                    at_path.filter(storage_files::volume_id.eq_any(named)).first(c).await
                }
            }
        }
    }
    .optional()?;
    rows.map(row::file).transpose()
}

/// A file that this transaction knows to be there.
pub(crate) async fn read(c: &AsyncPgConnection, id: FileId) -> Step<File> {
    let rows = current().filter(storage_files::id.eq(id.uuid())).first(&mut &*c).await?;
    row::file(rows)
}

/// A content of a file.
pub(crate) async fn content(c: &AsyncPgConnection, file: FileId, number: u32) -> Step<Option<Content>> {
    // No number that a column cannot hold was ever given.
    let Ok(number) = i32::try_from(number) else { return Ok(None) };
    let rows = storage_file_versions::table
        .inner_join(storage_objects::table)
        .filter(
            storage_file_versions::file_id
                .eq(file.uuid())
                .and(storage_file_versions::version_number.eq(number)),
        )
        .select((row::VersionRow::as_select(), row::ObjectRow::as_select()))
        .first(&mut &*c)
        .await
        .optional()?;
    rows.map(row::content).transpose()
}

/// A file's row as it is; what it tells about its payer never changes.
pub(crate) async fn peek(c: &AsyncPgConnection, id: FileId) -> Step<FileRow> {
    let row: Option<FileRow> = storage_files::table
        .find(id.uuid())
        .filter(storage_files::purged_at.is_null())
        .select(FileRow::as_select())
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(row.ok_or_else(|| not_found(id))?)
}

/// A file's row, locked until the transaction ends.
pub(crate) async fn lock(c: &AsyncPgConnection, id: FileId) -> Step<FileRow> {
    let row: Option<FileRow> = storage_files::table
        .find(id.uuid())
        .select(FileRow::as_select())
        .for_no_key_update()
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(row.filter(|row| row.purged_at.is_none()).ok_or_else(|| not_found(id))?)
}

/// Who pays for these files; that never changes. Purged ones are left out.
pub(crate) async fn payers(
    c: &AsyncPgConnection,
    ids: impl IntoIterator<Item = FileId>,
) -> Step<HashMap<FileId, Payer>> {
    let ids: Vec<Uuid> = ids.into_iter().map(FileId::uuid).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<FileRow> = storage_files::table
        .filter(storage_files::id.eq_any(ids).and(storage_files::purged_at.is_null()))
        .select(FileRow::as_select())
        .load(&mut &*c)
        .await?;
    Ok(rows.into_iter().map(|row| (FileId::from(row.id), row.payer())).collect())
}

/// Files' rows, locked by id until the transaction ends. Purged ones are left out.
pub(crate) async fn lock_all(
    c: &AsyncPgConnection,
    ids: &BTreeSet<FileId>,
) -> Step<HashMap<FileId, FileRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<FileRow> = storage_files::table
        .filter(storage_files::id.eq_any(ids))
        .order(storage_files::id)
        .select(FileRow::as_select())
        .for_no_key_update()
        .load(&mut &*c)
        .await?;
    let live = rows.into_iter().filter(|row| row.purged_at.is_none());
    Ok(live.map(|row| (FileId::from(row.id), row)).collect())
}

/// Refuses a file in the trash, or one that changed since `revision`.
pub(crate) fn check_live(row: &FileRow, revision: Option<u64>) -> Step<()> {
    if row.deleted_at.is_some() {
        return Err(Error::State(State::FileStatus(Status::Deleted.as_str())).into());
    }
    if revision.is_some_and(|revision| i64::try_from(revision) != Ok(row.revision)) {
        return Err(Error::Conflict(Conflict::Etag).into());
    }
    Ok(())
}

/// Changes a file's row, which this transaction has locked.
pub(crate) async fn write(c: &AsyncPgConnection, id: FileId, update: &FileUpdate) -> Step<()> {
    diesel::update(storage_files::table.find(id.uuid())).set(update).execute(&mut &*c).await?;
    Ok(())
}

/// Locks live files that are read, by id; answers those that are there.
pub(crate) async fn lock_read(c: &AsyncPgConnection, files: &BTreeMap<FileId, i32>) -> Step<HashSet<FileId>> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    const LOCK: &str = "SELECT f.id FROM unnest($1) AS k (id) CROSS JOIN LATERAL (
            SELECT id FROM storage_files WHERE id = k.id AND deleted_at IS NULL FOR NO KEY UPDATE
        ) AS f";
    let ids: Vec<Uuid> = files.keys().map(|id| id.uuid()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let lock = diesel::sql_query(LOCK).bind::<Array<SqlUuid>, _>(ids);
    let found: Vec<Found> = Cached(lock).load(&mut &*c).await?;
    Ok(found.into_iter().map(|row| FileId::from(row.id)).collect())
}

/// Counts reads of files, which this transaction has locked.
pub(crate) async fn count_reads(c: &AsyncPgConnection, reads: &BTreeMap<FileId, i32>) -> Step<()> {
    // No indexed column, not the revision: who only reads changes nothing that anybody compares.
    const COUNT: &str = "UPDATE storage_files f
        SET last_accessed_at = now(), access_count = least(f.access_count::bigint + k.reads, 2147483647)::integer
        FROM unnest($1, $2) AS k (id, reads) WHERE f.id = k.id AND f.id = ANY ($1)";
    if reads.is_empty() {
        return Ok(());
    }
    let (ids, numbers): (Vec<Uuid>, Vec<i32>) = reads.iter().map(|(id, reads)| (id.uuid(), *reads)).unzip();
    let count = diesel::sql_query(COUNT).bind::<Array<SqlUuid>, _>(ids).bind::<Array<Integer>, _>(numbers);
    Cached(count).execute(&mut &*c).await?;
    Ok(())
}

pub(crate) fn not_found(id: FileId) -> Error {
    Error::NotFound(Resource::File(id.to_string()))
}
