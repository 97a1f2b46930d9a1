//! An intent, recorded before the first byte.

use coffer_domain::error::{Error, Resource};
use coffer_domain::operation::Operation;
use coffer_domain::quota::{Charge, Hold};
use coffer_domain::store::Intent;
use coffer_domain::time::Timestamp;
use coffer_domain::upload::{State, Upload};
use diesel::sql_types::{BigInt, Binary, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, too_large};
use crate::operations;
use crate::quotas::{self, Change};

/// Records an intent with what it holds.
pub(crate) async fn open(
    c: &AsyncPgConnection,
    intent: &Intent,
    operation: Option<&Operation>,
) -> Step<Upload> {
    let created_at = if intent.hold == Hold::default() {
        // Nothing is counted yet, so nothing has to be locked.
        let (created_at, exhausted, ()) = try_join!(
            insert(c, intent),
            quotas::in_the_way(c, &intent.payer, expected(intent)),
            record(c, operation),
        )?;
        quotas::refuse(exhausted)?;
        created_at
    } else {
        let Hold { bytes, files } = intent.hold;
        let charge =
            Charge { add_bytes: bytes, add_files: files, file_bytes: intent.file_bytes, ..Charge::default() };
        let (created_at, quotas) = try_join!(insert(c, intent), quotas::lock(c, intent.payer.quotas()))?;
        quotas::check(&quotas, charge)?;
        let held = Change::held(intent.hold)?;
        try_join!(
            quotas::change(c, quotas.into_iter().map(|quota| (quota.key, held))),
            record(c, operation),
        )?;
        created_at
    };
    Ok(Upload {
        id: intent.id,
        state: State::Open,
        epoch: 1,
        volume: intent.volume,
        key: intent.key.clone(),
        version: intent.version,
        file: intent.file,
        payer: intent.payer.clone(),
        scope: intent.scope.clone(),
        request: intent.request.clone(),
        spec: intent.spec.clone(),
        declared_size: intent.declared_size,
        persisted_size: 0,
        state_at_persisted: None,
        held: intent.hold,
        created_at,
        updated_at: created_at,
        expires_at: intent.expires_at,
    })
}

/// What an upload that holds nothing will need, as far as that is known.
fn expected(intent: &Intent) -> Charge {
    Charge {
        add_bytes: intent.file_bytes,
        free_bytes: intent.replaced_bytes,
        add_files: u64::from(intent.file.is_none()),
        file_bytes: intent.file_bytes,
        ..Charge::default()
    }
}

async fn record(c: &AsyncPgConnection, operation: Option<&Operation>) -> Step<()> {
    match operation {
        Some(operation) => operations::insert(c, operation).await,
        None => Ok(()),
    }
}

/// The row. The volume is held against being deleted meanwhile.
async fn insert(c: &AsyncPgConnection, intent: &Intent) -> Step<Timestamp> {
    #[derive(QueryableByName)]
    struct Inserted {
        #[diesel(sql_type = Timestamptz)]
        created_at: Timestamp,
    }
    const INSERT: &str = "INSERT INTO storage_uploads (id, kind, volume_id, key, file_id, version_id, user_id, app_id,
            organisation_id, project_id, principal, request_id, fingerprint, spec, declared_size, node_id, node_epoch,
            expire_time, reserved_bytes, reserved_files)
        SELECT $2, 'upload', v.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
        FROM (SELECT id FROM storage_volumes WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE) v
        RETURNING created_at";
    let declared = intent.declared_size.map(i64::try_from).transpose().map_err(too_large)?;
    let insert = diesel::sql_query(INSERT)
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
        .bind::<Timestamptz, _>(intent.expires_at)
        .bind::<BigInt, _>(i64::try_from(intent.hold.bytes).map_err(too_large)?)
        .bind::<Integer, _>(i32::try_from(intent.hold.files).map_err(too_large)?);
    let inserted: Option<Inserted> = Cached(insert).get_result(&mut &*c).await.optional()?;
    let inserted = inserted.ok_or_else(|| Error::NotFound(Resource::Volume(intent.volume.to_string())))?;
    Ok(inserted.created_at)
}
