//! Files: found, described, moved to the trash and back, purged.

use coffer_domain::caller::User;
use coffer_domain::error::{Conflict, Error, Resource, State};
use coffer_domain::file::{Changes, Content, File, Status};
use coffer_domain::id::{FileId, ObjectId, UserId};
use coffer_domain::path::StoragePath;
use coffer_domain::quota::Charge;
use coffer_domain::store::Lookup;
use coffer_domain::time::now;
use coffer_domain::volume::VolumeRef;
use diesel::dsl::{AsSelect, auto_type};
use diesel::pg::Pg;
use diesel::sql_types::Uuid as SqlUuid;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    QueryDsl, SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde_json::json;
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, unreadable};
use crate::events::{self, Happened};
use crate::quotas::{self, Change};
use crate::schema::{storage_file_versions, storage_files, storage_objects, storage_volumes};
use crate::{objects, users};

pub(crate) use list::list;
pub(crate) use row::{FileRow, FileUpdate, NewFileRow};

mod list;
mod row;

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

/// Who changes a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By<'u> {
    /// The user; none for apps and the service.
    pub(crate) user: Option<&'u User>,
    /// The caller's tenant.
    pub(crate) organisation: &'u str,
}

impl By<'_> {
    fn id(self) -> Option<UserId> {
        self.user.map(|user| user.id)
    }

    // The user's row before the file's, as commits have it.
    async fn lock(self, c: &AsyncPgConnection, id: FileId) -> Step<FileRow> {
        let ((), row) = try_join!(users::ensure(c, self.user, self.organisation), lock(c, id))?;
        Ok(row)
    }
}

/// Changes the description of a live file.
pub(crate) async fn update(
    c: &AsyncPgConnection,
    id: FileId,
    if_revision: Option<u64>,
    changes: &Changes,
    by: By<'_>,
) -> Step<File> {
    let row = by.lock(c, id).await?;
    check_live(&row, if_revision)?;
    let status = archived(row.status.parse().map_err(unreadable)?, changes)?;
    let update = FileUpdate { status, ..FileUpdate::of(&row, by.id(), now()).describe(changes) };
    changed(c, id, &update, Happened::Updated).await
}

/// The status after archiving or taking back, if that was asked for.
fn archived(status: Status, changes: &Changes) -> Step<Option<&'static str>> {
    match (status, changes.is_archived) {
        (_, None) => Ok(None),
        (Status::Active | Status::Archived, Some(true)) => Ok(Some(Status::Archived.as_str())),
        (Status::Active | Status::Archived, Some(false)) => Ok(Some(Status::Active.as_str())),
        (Status::Corrupted, Some(false)) => Ok(None),
        (Status::Corrupted | Status::Deleted, Some(_)) => {
            Err(Error::State(State::FileStatus(status.as_str())).into())
        }
    }
}

/// Moves a live file to the trash.
pub(crate) async fn delete(
    c: &AsyncPgConnection,
    id: FileId,
    if_revision: Option<u64>,
    by: By<'_>,
) -> Step<File> {
    let row = by.lock(c, id).await?;
    check_live(&row, if_revision)?;
    let at = now();
    let update = FileUpdate {
        status: Some(Status::Deleted.as_str()),
        deleted_at: Some(Some(at)),
        deleted_by: Some(by.id().map(Uuid::from)),
        ..FileUpdate::of(&row, by.id(), at)
    };
    changed(c, id, &update, Happened::Deleted).await
}

/// Takes a file out of the trash.
pub(crate) async fn undelete(
    c: &AsyncPgConnection,
    id: FileId,
    path: Option<&StoragePath>,
    by: By<'_>,
) -> Step<File> {
    let row = by.lock(c, id).await?;
    check_deleted(&row)?;
    let mut update = FileUpdate {
        status: Some(Status::Active.as_str()),
        deleted_at: Some(None),
        deleted_by: Some(None),
        ..FileUpdate::of(&row, by.id(), now())
    };
    if let Some(path) = path {
        update = update.at_path(path);
    }
    changed(c, id, &update, Happened::Undeleted).await
}

async fn changed(c: &AsyncPgConnection, id: FileId, update: &FileUpdate, happened: Happened) -> Step<File> {
    let ((), file) = try_join!(write(c, id, update), read(c, id))?;
    events::tell(c, happened, &file).await?;
    Ok(file)
}

/// Leaves a tombstone of a file in the trash; answers the bytes that were given back.
pub(crate) async fn purge(c: &AsyncPgConnection, id: FileId) -> Step<u64> {
    let payer = peek(c, id).await?.payer();
    let (quotas, row) = try_join!(quotas::lock(c, payer.quotas()), lock(c, id))?;
    check_deleted(&row)?;
    let given_up: Vec<(Uuid, i64)> =
        diesel::delete(storage_file_versions::table.filter(storage_file_versions::file_id.eq(row.id)))
            .returning((storage_file_versions::object_id, storage_file_versions::size))
            .get_results(&mut &*c)
            .await?;
    let freed = given_up.iter().map(|(_, size)| size.unsigned_abs()).sum();
    let named: Vec<_> = given_up.iter().map(|(object, _)| ObjectId::from(*object)).collect();
    let freeing = Change::charged(Charge { free_bytes: freed, free_files: 1, ..Charge::default() })?;
    let event = [(id, row.organisation().to_owned(), json!({"volume_id": payer.volume, "bytes": freed}))];
    try_join!(
        objects::give_up(c, &named),
        bury(c, &row),
        quotas::change(c, quotas.into_iter().map(|quota| (quota.key, freeing))),
        events::insert(c, Happened::Purged, &event),
    )?;
    Ok(freed)
}

/// Empties everything that could tell what the file was; its name becomes free.
async fn bury(c: &AsyncPgConnection, row: &FileRow) -> Step<()> {
    use storage_files::dsl;
    let at = now();
    diesel::update(dsl::storage_files.find(row.id))
        .set((
            (dsl::filename.eq(""), dsl::original_name.eq(""), dsl::storage_path.eq(""), dsl::path_nfc.eq("")),
            (dsl::provider_path.eq(""), dsl::provider_metadata.eq(json!({}))),
            (dsl::tags.eq(json!([])), dsl::custom_metadata.eq(json!({}))),
            (dsl::mime_type.eq(coffer_domain::name::DEFAULT_MIME), dsl::encoding.eq(None::<String>)),
            (dsl::file_id.eq(FileId::from(row.id).default_name()), dsl::current_version_id.eq(None::<Uuid>)),
            (dsl::is_public.eq(false), dsl::revision.eq(row.revision.saturating_add(1))),
            (dsl::updated_at.eq(at), dsl::purged_at.eq(at)),
        ))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

/// Counts a read of a live file.
pub(crate) async fn count_read(c: &AsyncPgConnection, file: FileId) -> Step<()> {
    // No indexed column, not the revision: who only reads changes nothing that anybody compares.
    const COUNT: &str = "UPDATE storage_files
        SET last_accessed_at = now(), access_count = least(access_count::bigint + 1, 2147483647)::integer
        WHERE id = $1 AND deleted_at IS NULL";
    match Cached(diesel::sql_query(COUNT).bind::<SqlUuid, _>(file.uuid())).execute(&mut &*c).await? {
        0 => Err(not_found(file).into()),
        _ => Ok(()),
    }
}

fn check_deleted(row: &FileRow) -> Step<()> {
    if row.deleted_at.is_some() {
        return Ok(());
    }
    let status: Status = row.status.parse().map_err(unreadable)?;
    Err(Error::State(State::FileStatus(status.as_str())).into())
}

pub(crate) fn not_found(id: FileId) -> Error {
    Error::NotFound(Resource::File(id.to_string()))
}
