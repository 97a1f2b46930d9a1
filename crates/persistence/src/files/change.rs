//! What happens to a file that is there: described, moved to the trash and back, purged.

use coffer_domain::caller::User;
use coffer_domain::error::{Error, State};
use coffer_domain::file::{Changes, File, Status};
use coffer_domain::id::{FileId, ObjectId, UserId};
use coffer_domain::path::StoragePath;
use coffer_domain::quota::Charge;
use coffer_domain::time::now;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde_json::json;
use uuid::Uuid;

use super::{FileRow, FileUpdate, check_live, lock, peek, read, write};
use crate::error::{Step, unreadable};
use crate::events::{self, Event, Happened};
use crate::links::{self, Changed};
use crate::quotas::{self, Change};
use crate::schema::{storage_file_versions, storage_files};
use crate::{objects, users};

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
        let ((), row) =
            try_join!(users::ensure(c, self.user.map(|user| (user, self.organisation))), lock(c, id))?;
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
    changed(c, &row, &update, Happened::Updated).await
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
    changed(c, &row, &update, Happened::Deleted).await
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
    changed(c, &row, &update, Happened::Undeleted).await
}

async fn changed(
    c: &AsyncPgConnection,
    row: &FileRow,
    update: &FileUpdate,
    happened: Happened,
) -> Step<File> {
    let id = FileId::from(row.id);
    let ((), file) = try_join!(write(c, id, update), read(c, id))?;
    let nfc = file.path.nfc();
    let (volume, organisation) = (file.volume, file.organisation.as_str());
    let mut paths = Vec::new();
    if update.path_nfc.is_some() || update.deleted_at.is_some() {
        paths.push(Changed { volume, organisation, nfc: &nfc });
        paths.extend((row.path_nfc != nfc).then_some(Changed { volume, organisation, nfc: &row.path_nfc }));
    }
    try_join!(events::tell(c, [(happened, &file)]), links::due(c, &paths))?;
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
    let event = Event {
        happened: Happened::Purged,
        file: id,
        organisation: row.organisation().to_owned(),
        data: json!({"volume_id": payer.volume, "bytes": freed}),
    };
    try_join!(
        objects::give_up(c, &named),
        bury(c, &row),
        quotas::change(c, quotas.into_iter().map(|quota| (quota.key, freeing))),
        events::insert(c, std::slice::from_ref(&event)),
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

fn check_deleted(row: &FileRow) -> Step<()> {
    if row.deleted_at.is_some() {
        return Ok(());
    }
    let status: Status = row.status.parse().map_err(unreadable)?;
    Err(Error::State(State::FileStatus(status.as_str())).into())
}
