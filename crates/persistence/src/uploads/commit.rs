//! A finished upload becomes a file, or a version of one.
//!
//! Rows are locked in one order: the request, the intent, the user, the quotas, the file, its versions, its objects.
//!
//! What the upload holds is settled: it is given back to the payer of the intent, and what was stored is charged to that of
//! the file. These are nearly always the same; but the path, or the file, may have been somebody else's meanwhile.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use coffer_domain::error::{Conflict, Error, State};
use coffer_domain::file::{Changes, File, Payer, Status};
use coffer_domain::id::{FileId, ObjectId, UserId};
use coffer_domain::operation::Operation;
use coffer_domain::quota::{Charge, Hold, QuotaKey};
use coffer_domain::store::{Commit, NewFile, Target};
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde_json::Value;
use uuid::Uuid;

use super::end::abandon;
use super::row::{Holding, HoldingRow, holding};
use crate::cached::Cached;
use crate::error::{Failure, Step, too_large};
use crate::events::{self, Happened};
use crate::files::{self, FileUpdate, NewFileRow};
use crate::quotas::{self, Change, Locked};
use crate::schema::{storage_file_versions, storage_files, storage_objects};
use crate::{objects, operations, requests, users};

/// Whose quotas an upload holds, where that is not who pays for the file: found out by one attempt, for the next one, which
/// has to lock the rows of both.
pub(crate) type OtherPayer = OnceLock<Payer>;

/// Everything a finished upload changes.
pub(crate) async fn commit(c: &AsyncPgConnection, commit: &Commit, other: &OtherPayer) -> Step<File> {
    let request = commit.request.as_ref();
    if let Some(file) = requests::claim(c, request).await? {
        // The first one's file is the answer to both; the second one's bytes are nobody's.
        abandon(c, commit.held).await?;
        return Ok(file);
    }
    let (file, happened) = match &commit.target {
        Target::New(new) => (create(c, commit, new, other).await?, Happened::Created),
        Target::Version { file, if_revision, changes } => {
            (replace(c, commit, *file, *if_revision, changes).await?, Happened::VersionCreated)
        }
    };
    let operation = Operation {
        file_id: Some(file.id),
        volume_id: commit.operation.volume_id.or(Some(commit.volume)),
        ..commit.operation.clone()
    };
    try_join!(
        operations::insert(c, &operation),
        events::tell(c, happened, &file),
        requests::answer(c, request, &file),
    )?;
    Ok(file)
}

async fn create(c: &AsyncPgConnection, commit: &Commit, new: &NewFile, other: &OtherPayer) -> Step<File> {
    let payer = Payer {
        volume: commit.volume,
        user: new.owner.user,
        app: new.owner.app.clone(),
        organisation: new.organisation.clone(),
        project: new.project.clone(),
    };
    // Whom the intent holds quota of is not known before its row was read; to wait for that would be one round trip more for
    // everybody.
    let (held, (), quotas) = try_join!(
        take_intent(c, commit, new.id),
        users::ensure(c, commit.by.as_ref(), &new.organisation),
        quotas::lock(c, keys(&payer, other.get())),
    )?;
    if held.hold != Hold::default() && held.payer != payer && other.get() != Some(&held.payer) {
        other.get_or_init(|| held.payer);
        return Err(Failure::Again);
    }
    let size_bytes = commit.stored.size;
    let charge = Charge { add_bytes: size_bytes, add_files: 1, file_bytes: size_bytes, ..Charge::default() };
    let settled = settle(quotas, &held, &payer, charge)?;

    let description = &new.description;
    let by = commit.by.as_ref().map(|user| user.id.uuid());
    let row = NewFileRow {
        id: new.id.uuid(),
        volume_id: commit.volume.uuid(),
        organisation_id: &new.organisation,
        project_id: new.project.as_deref(),
        namespace: new.owner.namespace.as_str(),
        user_id: new.owner.user.map(UserId::uuid),
        app_id: new.owner.app.as_deref(),
        file_id: &new.file_id,
        filename: &description.filename,
        original_name: &description.filename,
        storage_path: new.path.as_str(),
        path_nfc: new.path.nfc(),
        mime_type: &description.mime_type,
        encoding: Some(description.encoding.as_str()).filter(|text| !text.is_empty()),
        size: size(commit)?,
        checksum: commit.stored.sha256.to_string(),
        provider: new.provider.as_str(),
        provider_path: commit.key.as_str(),
        data_classification: description.classification.as_str(),
        is_public: new.is_public,
        tags: Value::from(description.tags.clone()),
        custom_metadata: Value::Object(description.custom_metadata.clone()),
        version_number: 1,
        current_version_id: Some(commit.version.uuid()),
        created_by: by,
        updated_by: by,
        created_at: commit.at,
        updated_at: commit.at,
    };
    let version = Version { number: 1, filename: &description.filename, mime_type: &description.mime_type };
    let ((), (), (), (), (), file) = try_join!(
        end_intent(c, commit, &held),
        insert_object(c, commit),
        insert_file(c, &row),
        insert_version(c, commit, new.id, &version),
        quotas::change(c, settled),
        files::read(c, new.id),
    )?;
    Ok(file)
}

async fn replace(
    c: &AsyncPgConnection,
    commit: &Commit,
    id: FileId,
    if_revision: Option<u64>,
    changes: &Changes,
) -> Step<File> {
    let (held, (), row) = try_join!(
        take_intent(c, commit, id),
        users::ensure(c, commit.by.as_ref(), &commit.operation.organisation),
        files::peek(c, id),
    )?;
    let payer = row.payer();
    // The last of these runs when the file is locked, so what it reads stays.
    let other = Some(&held.payer).filter(|_| held.hold != Hold::default());
    let (quotas, row, previous) =
        try_join!(quotas::lock(c, keys(&payer, other)), files::lock(c, id), current_version(c, id))?;
    if row.deleted_at.is_some() {
        return Err(files::not_found(id).into());
    }
    files::check_live(&row, if_revision)?;
    if row.status == Status::Archived.as_str() {
        return Err(Error::State(State::FileStatus(Status::Archived.as_str())).into());
    }
    if payer.volume != commit.volume {
        return Err(
            Error::internal("commit an upload", "its object is in another volume than its file").into()
        );
    }
    let given_up = previous.as_ref().filter(|_| !commit.keeps_versions);
    let charge = Charge {
        add_bytes: commit.stored.size,
        free_bytes: given_up.map_or(0, |previous| previous.size.unsigned_abs()),
        file_bytes: commit.stored.size,
        ..Charge::default()
    };
    let settled = settle(quotas, &held, &payer, charge)?;

    let number = row.version_number.saturating_add(1);
    // New content makes a corrupted file whole.
    let status = if changes.is_archived == Some(true) { Status::Archived } else { Status::Active };
    let update = FileUpdate {
        size: Some(size(commit)?),
        checksum: Some(commit.stored.sha256.to_string()),
        provider_path: Some(commit.key.as_str().to_owned()),
        version_number: Some(number),
        current_version_id: Some(Some(commit.version.uuid())),
        status: Some(status.as_str()),
        ..FileUpdate::of(&row, commit.by.as_ref().map(|user| user.id), commit.at).describe(changes)
    };
    let version = Version {
        number,
        filename: changes.filename.as_deref().unwrap_or(&row.filename),
        mime_type: changes.mime_type.as_deref().unwrap_or(&row.mime_type),
    };
    let objects_given_up: Vec<_> =
        given_up.iter().map(|previous| ObjectId::from(previous.object_id)).collect();
    let ((), (), (), (), (), (), (), file) = try_join!(
        end_intent(c, commit, &held),
        insert_object(c, commit),
        retire(c, previous.as_ref(), commit.keeps_versions),
        insert_version(c, commit, id, &version),
        files::write(c, id, &update),
        objects::give_up(c, &objects_given_up),
        quotas::change(c, settled),
        files::read(c, id),
    )?;
    Ok(file)
}

/// Takes the intent for this commit, if it is still held; answers what it holds.
///
/// One that holds nothing, as most, ends right here. The others do with what they hold, in [`end_intent`].
async fn take_intent(c: &AsyncPgConnection, commit: &Commit, file: FileId) -> Step<Holding> {
    const TAKE: &str = concat!(
        "UPDATE storage_uploads u
         SET state = CASE WHEN reserved_bytes = 0 AND reserved_files = 0 THEN 'COMMITTED' ELSE state END,
             file_id = $3, persisted_size = $4, updated_at = now()
         WHERE id = $1 AND epoch = $2 AND (state = 'FINISHING' OR state = 'OPEN' AND expire_time > now())
         RETURNING ",
        holding!("u")
    );
    let take = diesel::sql_query(TAKE)
        .bind::<SqlUuid, _>(commit.held.upload.uuid())
        .bind::<BigInt, _>(commit.held.epoch)
        .bind::<SqlUuid, _>(file.uuid())
        .bind::<BigInt, _>(size(commit)?);
    let taken: Option<HoldingRow> = Cached(take).get_result(&mut &*c).await.optional()?;
    Holding::try_from(taken.ok_or(Error::Conflict(Conflict::Fenced))?)
}

/// Ends an intent that held quota, which the counters lose in the same round trip.
async fn end_intent(c: &AsyncPgConnection, commit: &Commit, held: &Holding) -> Step<()> {
    const END: &str = "UPDATE storage_uploads SET state = 'COMMITTED', reserved_bytes = 0, reserved_files = 0
        WHERE id = $1";
    if held.hold != Hold::default() {
        let end = diesel::sql_query(END).bind::<SqlUuid, _>(commit.held.upload.uuid());
        Cached(end).execute(&mut &*c).await?;
    }
    Ok(())
}

/// The quotas of one or two payers, in their order.
fn keys(payer: &Payer, other: Option<&Payer>) -> Vec<QuotaKey> {
    match other {
        Some(other) if other != payer => {
            let both: BTreeSet<_> = payer.quotas().into_iter().chain(other.quotas()).collect();
            both.into_iter().collect()
        }
        _ => payer.quotas(),
    }
}

/// What changes in every quota. What goes beyond the hold has to fit beside all that is used and reserved, of which the hold
/// is a part as long as it is not settled.
fn settle(
    quotas: Vec<Locked>,
    held: &Holding,
    payer: &Payer,
    charge: Charge,
) -> Step<Vec<(QuotaKey, Change)>> {
    let (charged, holding) = (payer.quotas(), held.payer.quotas());
    let (mut changes, mut exhausted) = (Vec::new(), Vec::new());
    for Locked { key, usage, .. } in quotas {
        let hold = if holding.contains(&key) { held.hold } else { Hold::default() };
        let mut change = Change::released(hold)?;
        if charged.contains(&key) {
            exhausted.extend(usage.exhausted(&key, charge.beyond(hold)));
            change = change + Change::charged(charge)?;
        }
        changes.push((key, change));
    }
    quotas::refuse(exhausted)?;
    Ok(changes)
}

struct Previous {
    id: Uuid,
    object_id: Uuid,
    size: i64,
}

async fn current_version(c: &AsyncPgConnection, file: FileId) -> Step<Option<Previous>> {
    let row: Option<(Uuid, Uuid, i64)> = storage_file_versions::table
        .filter(storage_file_versions::file_id.eq(file.uuid()))
        .filter(storage_file_versions::is_current)
        .select((storage_file_versions::id, storage_file_versions::object_id, storage_file_versions::size))
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(row.map(|(id, object_id, size)| Previous { id, object_id, size }))
}

/// Makes room for the new current version: the previous one stays as an earlier one, or goes.
async fn retire(c: &AsyncPgConnection, previous: Option<&Previous>, is_kept: bool) -> Step<()> {
    let Some(previous) = previous else { return Ok(()) };
    let row = storage_file_versions::table.find(previous.id);
    if is_kept {
        diesel::update(row).set(storage_file_versions::is_current.eq(false)).execute(&mut &*c).await?;
    } else {
        diesel::delete(row).execute(&mut &*c).await?;
    }
    Ok(())
}

async fn insert_object(c: &AsyncPgConnection, commit: &Commit) -> Step<()> {
    use storage_objects::dsl;
    let stored = &commit.stored;
    diesel::insert_into(dsl::storage_objects)
        .values((
            dsl::id.eq(commit.object.uuid()),
            dsl::volume_id.eq(commit.volume.uuid()),
            dsl::key.eq(commit.key.as_str()),
            dsl::size_bytes.eq(size(commit)?),
            dsl::sha256.eq(stored.sha256.0.as_slice()),
            dsl::crc32c.eq(i64::from(stored.crc32c)),
            dsl::stored_size_bytes.eq(i64::try_from(stored.stored_size).map_err(too_large)?),
            dsl::codec.eq(stored.codec.as_str()),
            dsl::refs.eq(1),
            dsl::created_at.eq(commit.at),
        ))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

async fn insert_file(c: &AsyncPgConnection, row: &NewFileRow<'_>) -> Step<()> {
    diesel::insert_into(storage_files::table).values(row).execute(&mut &*c).await?;
    Ok(())
}

/// What a version keeps of its file's description.
struct Version<'f> {
    number: i32,
    filename: &'f str,
    mime_type: &'f str,
}

async fn insert_version(
    c: &AsyncPgConnection,
    commit: &Commit,
    file: FileId,
    version: &Version<'_>,
) -> Step<()> {
    use storage_file_versions::dsl;
    diesel::insert_into(dsl::storage_file_versions)
        .values((
            dsl::id.eq(commit.version.uuid()),
            dsl::file_id.eq(file.uuid()),
            dsl::version_number.eq(version.number),
            dsl::object_id.eq(commit.object.uuid()),
            dsl::filename.eq(version.filename),
            dsl::size.eq(size(commit)?),
            dsl::checksum.eq(commit.stored.sha256.to_string()),
            dsl::mime_type.eq(version.mime_type),
            dsl::provider_path.eq(commit.key.as_str()),
            dsl::created_by.eq(commit.by.as_ref().map(|user| user.id.uuid())),
            dsl::created_at.eq(commit.at),
            dsl::change_description
                .eq(Some(commit.change_description.as_str()).filter(|text| !text.is_empty())),
            dsl::is_current.eq(true),
        ))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

fn size(commit: &Commit) -> Step<i64> {
    i64::try_from(commit.stored.size).map_err(too_large)
}
