//! Uploads that end without a file, and their bytes.

use coffer_domain::error::{Error, State as Forbidden};
use coffer_domain::id::UploadId;
use coffer_domain::operation::Operation;
use coffer_domain::request::in_flight;
use coffer_domain::upload::{Held, State, Upload};
use diesel::sql_types::{BigInt, Nullable, Uuid as SqlUuid};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;

use super::find::{self, ended};
use super::progress::not_found;
use super::row::{Holding, HoldingRow, holding};
use crate::cached::Cached;
use crate::error::Step;
use crate::schema::storage_uploads;
use crate::{operations, quotas};

/// Ends a held intent without a file. `false`: it was not held any more.
///
/// The record of the failure is written also if somebody else ended the upload first; not if it was committed, because
/// then it did not fail.
pub(crate) async fn abort(c: &AsyncPgConnection, held: Held, operation: &Operation) -> Step<bool> {
    match fence(c, held.upload, Some(held.epoch)).await? {
        Some(holding) => {
            try_join!(
                quotas::release(c, [(&holding.payer, holding.hold)]),
                operations::insert_once(c, [operation]),
            )?;
            Ok(true)
        }
        None => {
            if !is_committed(c, held.upload).await? {
                operations::insert_once(c, [operation]).await?;
            }
            Ok(false)
        }
    }
}

/// Ends an open upload, whoever holds it.
pub(crate) async fn cancel(c: &AsyncPgConnection, id: UploadId) -> Step<Upload> {
    if let Some(holding) = fence(c, id, None).await? {
        let ((), upload) =
            try_join!(quotas::release(c, [(&holding.payer, holding.hold)]), find::find(c, id))?;
        return Ok(upload.ok_or_else(|| not_found(id))?);
    }
    let upload = find::find(c, id).await?.ok_or_else(|| not_found(id))?;
    match upload.state {
        State::Aborted | State::Expired => Ok(upload),
        State::Committed => Err(Error::State(Forbidden::UploadEnded(ended(upload.state))).into()),
        State::Open | State::Finishing => Err(in_flight().into()),
    }
}

/// Ends an upload and clears its row of what it holds, which is answered. With an epoch, it has to be that, and it may be
/// finishing; without, it has to be open.
async fn fence(c: &AsyncPgConnection, id: UploadId, epoch: Option<i64>) -> Step<Option<Holding>> {
    const FENCE: &str = concat!(
        "UPDATE storage_uploads u
         SET state = 'ABORTED', epoch = u.epoch + 1, reserved_bytes = 0, reserved_files = 0, updated_at = now()
         FROM (
             SELECT ",
        holding!("u"),
        "    FROM storage_uploads u
             WHERE u.id = $1 AND (u.state = 'OPEN' AND $2 IS NULL OR u.state IN ('OPEN', 'FINISHING') AND u.epoch = $2)
             FOR NO KEY UPDATE
         ) held
         WHERE u.id = held.id
         RETURNING ",
        holding!("held")
    );
    let fence = diesel::sql_query(FENCE).bind::<SqlUuid, _>(id.uuid()).bind::<Nullable<BigInt>, _>(epoch);
    let held: Option<HoldingRow> = Cached(fence).get_result(&mut &*c).await.optional()?;
    held.map(Holding::try_from).transpose()
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
