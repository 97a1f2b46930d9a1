//! Uploads: begun, ended, swept.

use coffer_domain::error::{Error, Resource};
use coffer_domain::id::UploadId;
use coffer_domain::operation::Operation;
use coffer_domain::store::Intent;
use diesel::sql_types::{BigInt, Binary, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, too_large};
use crate::operations;
use crate::schema::storage_uploads;

pub(crate) use commit::commit;

mod commit;

/// States in which an upload can still become a file.
const LIVE: [&str; 2] = ["OPEN", "FINISHING"];

/// Records an intent. The volume is held against being deleted meanwhile.
pub(crate) async fn open(c: &AsyncPgConnection, intent: &Intent) -> Step<()> {
    const OPEN: &str = "INSERT INTO storage_uploads (id, kind, volume_id, key, file_id, version_id, user_id, app_id,
            organisation_id, project_id, principal, request_id, fingerprint, spec, declared_size, node_id, node_epoch,
            expire_time)
        SELECT $2, 'upload', v.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
        FROM (SELECT id FROM storage_volumes WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE) v";
    let declared = intent.declared_size.map(i64::try_from).transpose().map_err(too_large)?;
    let open = diesel::sql_query(OPEN)
        .bind::<SqlUuid, _>(intent.volume.uuid())
        .bind::<SqlUuid, _>(intent.id.uuid())
        .bind::<Text, _>(intent.key.as_str())
        .bind::<Nullable<SqlUuid>, _>(intent.file.map(Uuid::from))
        .bind::<SqlUuid, _>(intent.version.uuid())
        .bind::<Nullable<SqlUuid>, _>(intent.payer.user.map(Uuid::from))
        .bind::<Nullable<Text>, _>(intent.payer.app.as_deref())
        .bind::<Text, _>(&intent.payer.organisation)
        .bind::<Nullable<Text>, _>(intent.payer.project.as_deref())
        .bind::<Text, _>(&intent.scope)
        .bind::<Nullable<SqlUuid>, _>(intent.request.as_ref().map(|request| request.id.uuid()))
        .bind::<Nullable<Binary>, _>(intent.request.as_ref().map(|request| request.fingerprint.as_slice()))
        .bind::<Jsonb, _>(&intent.spec)
        .bind::<Nullable<BigInt>, _>(declared)
        .bind::<SqlUuid, _>(intent.start.node.uuid())
        .bind::<BigInt, _>(intent.start.epoch)
        .bind::<Timestamptz, _>(intent.expires_at);
    match Cached(open).execute(&mut &*c).await? {
        0 => Err(Error::NotFound(Resource::Volume(intent.volume.to_string())).into()),
        _ => Ok(()),
    }
}

/// Ends an open intent without a file. `false`: it was not open.
///
/// The record of the failure is written also if somebody else ended the upload first; not if it was committed, because
/// then it did not fail.
pub(crate) async fn abort(c: &AsyncPgConnection, upload: UploadId, operation: &Operation) -> Step<bool> {
    let is_aborted = abandon(c, upload).await?;
    if is_aborted || !is_committed(c, upload).await? {
        operations::insert_once(c, operation).await?;
    }
    Ok(is_aborted)
}

/// Fences an open intent, so that nobody can commit it and its bytes are swept. `false`: it was not open.
async fn abandon(c: &AsyncPgConnection, upload: UploadId) -> Step<bool> {
    let ended = diesel::update(
        storage_uploads::table.find(upload.uuid()).filter(storage_uploads::state.eq_any(LIVE)),
    )
    .set((
        storage_uploads::state.eq("ABORTED"),
        storage_uploads::epoch.eq(storage_uploads::epoch + 1),
        storage_uploads::updated_at.eq(dsl::now),
    ))
    .execute(&mut &*c)
    .await?;
    Ok(ended == 1)
}

async fn is_committed(c: &AsyncPgConnection, upload: UploadId) -> Step<bool> {
    let state: Option<String> = storage_uploads::table
        .find(upload.uuid())
        .select(storage_uploads::state)
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(state.is_some_and(|state| state == "COMMITTED"))
}

/// The bytes of an ended upload are gone.
pub(crate) async fn swept(c: &AsyncPgConnection, upload: UploadId) -> Step<()> {
    diesel::update(storage_uploads::table.find(upload.uuid()).filter(
        storage_uploads::state.eq_any(["ABORTED", "EXPIRED"]).and(storage_uploads::swept_at.is_null()),
    ))
    .set(storage_uploads::swept_at.eq(dsl::now))
    .execute(&mut &*c)
    .await?;
    Ok(())
}
