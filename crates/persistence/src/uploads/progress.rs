//! Uploads on their way: taken, grown, recorded, finished.

use std::collections::{BTreeMap, HashSet};

use coffer_domain::content::SavedState;
use coffer_domain::error::{Conflict, Error, Resource, State as Forbidden};
use coffer_domain::id::UploadId;
use coffer_domain::path::Key;
use coffer_domain::quota::{Charge, Hold};
use coffer_domain::request::in_flight;
use coffer_domain::store::NodeStart;
use coffer_domain::upload::{Checkpoint, DEFAULT_TTL_SECONDS, Held, State, Upload};
use diesel::sql_types::{Array, BigInt, Binary, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, SelectableHelper,
    dsl,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use super::LIVE;
use super::find::{self, ended};
use super::row::{Holding, HoldingRow, Row, holding};
use crate::cached::Cached;
use crate::error::{Step, too_large};
use crate::quotas::{self, Change, Locked};
use crate::schema::storage_uploads;

/// Takes an open upload for a start of a node.
pub(crate) async fn take(c: &AsyncPgConnection, id: UploadId, start: NodeStart) -> Step<Upload> {
    let open = storage_uploads::table
        .find(id.uuid())
        .filter(storage_uploads::state.eq("OPEN").and(storage_uploads::expire_time.gt(dsl::now)));
    let taken: Option<Row> = diesel::update(open)
        .set((
            storage_uploads::epoch.eq(storage_uploads::epoch + 1),
            storage_uploads::node_id.eq(start.node.uuid()),
            storage_uploads::node_epoch.eq(start.epoch),
        ))
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await
        .optional()?;
    if let Some(taken) = taken {
        return taken.into_upload();
    }
    match find::find(c, id).await? {
        None => Err(not_found(id).into()),
        Some(Upload { state: State::Finishing, .. }) => Err(in_flight().into()),
        // Opened again between the two statements: what a dead node was finishing.
        Some(Upload { state: State::Open, expires_at, .. }) if expires_at > coffer_domain::time::now() => {
            Err(in_flight().into())
        }
        Some(upload) => Err(Error::State(Forbidden::UploadEnded(ended(upload.state))).into()),
    }
}

/// Makes what an open upload holds `bytes` at least, and `wanted` or as much of that as is left everywhere. Answers what it
/// holds then.
pub(crate) async fn grow(
    c: &AsyncPgConnection,
    held: Held,
    bytes: u64,
    wanted: u64,
    file_bytes: u64,
) -> Step<u64> {
    const HOLDING: &str = concat!(
        "SELECT ",
        holding!("u"),
        " FROM storage_uploads u WHERE u.id = $1 AND u.epoch = $2 AND u.state = 'OPEN' FOR NO KEY UPDATE"
    );
    const GROW: &str = "UPDATE storage_uploads SET reserved_bytes = $2 WHERE id = $1";
    let holding =
        diesel::sql_query(HOLDING).bind::<SqlUuid, _>(held.upload.uuid()).bind::<BigInt, _>(held.epoch);
    let holding: Option<HoldingRow> = Cached(holding).get_result(&mut &*c).await.optional()?;
    let Holding { payer, hold } = Holding::try_from(holding.ok_or(Error::Conflict(Conflict::Fenced))?)?;
    let quotas = quotas::lock(c, payer.quotas()).await?;

    let least = bytes.saturating_sub(hold.bytes);
    quotas::check(&quotas, Charge { add_bytes: least, file_bytes, ..Charge::default() })?;
    let growth = wanted.saturating_sub(hold.bytes).min(room(&quotas)).max(least);
    let grown = hold.bytes.saturating_add(growth);
    if growth > 0 {
        let grow = diesel::sql_query(GROW)
            .bind::<SqlUuid, _>(held.upload.uuid())
            .bind::<BigInt, _>(i64::try_from(grown).map_err(too_large)?);
        let change = Change::held(Hold { bytes: growth, files: 0 })?;
        try_join!(quotas::change(c, quotas.into_iter().map(|quota| (quota.key, change))), async {
            Ok(Cached(grow).execute(&mut &*c).await?)
        },)?;
    }
    Ok(grown)
}

/// Bytes that are left in every one of these.
fn room(quotas: &[Locked]) -> u64 {
    let left = |quota: &Locked| {
        let usage = &quota.usage;
        let taken = usage.used_bytes.saturating_add(usage.reserved_bytes);
        usage.limit_bytes.map(|limit| limit.saturating_sub(taken))
    };
    quotas.iter().filter_map(left).min().unwrap_or(u64::MAX)
}

/// Records progress of any number of open uploads; answers those that were recorded.
pub(crate) async fn checkpoint(c: &AsyncPgConnection, checkpoints: &[Checkpoint]) -> Step<HashSet<UploadId>> {
    #[derive(QueryableByName)]
    struct Recorded {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    // One that comes late says less than what is there, and takes nothing back.
    const CHECKPOINT: &str = "UPDATE storage_uploads u
        SET persisted_size = greatest(u.persisted_size, p.persisted_size),
            hash_state = CASE WHEN p.persisted_size >= u.persisted_size THEN p.hash_state ELSE u.hash_state END,
            updated_at = now(), expire_time = now() + make_interval(secs => coalesce(v.upload_ttl_seconds, $5))
        FROM unnest($1, $2, $3, $4) AS p (id, epoch, persisted_size, hash_state), storage_volumes v
        WHERE u.id = p.id AND u.epoch = p.epoch AND u.state = 'OPEN' AND v.id = u.volume_id
        RETURNING u.id";
    // By id, as several rows are locked everywhere. Of two for the same, the one that says more.
    let mut newest = BTreeMap::<(Uuid, i64), (i64, &SavedState)>::new();
    for Checkpoint { held, persisted_size, state } in checkpoints {
        let size = i64::try_from(*persisted_size).map_err(too_large)?;
        let known = newest.entry((held.upload.uuid(), held.epoch)).or_insert((size, state));
        if known.0 < size {
            *known = (size, state);
        }
    }
    if newest.is_empty() {
        return Ok(HashSet::new());
    }
    let (ids, epochs): (Vec<Uuid>, Vec<i64>) = newest.keys().copied().unzip();
    let (sizes, states): (Vec<i64>, Vec<&[u8]>) =
        newest.values().map(|(size, state)| (*size, state.as_bytes())).unzip();
    let record = diesel::sql_query(CHECKPOINT)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<BigInt>, _>(epochs)
        .bind::<Array<BigInt>, _>(sizes)
        .bind::<Array<Binary>, _>(states)
        .bind::<BigInt, _>(default_ttl());
    let recorded: Vec<Recorded> = Cached(record).load(&mut &*c).await?;
    Ok(recorded.into_iter().map(|row| UploadId::from(row.id)).collect())
}

/// Records that all bytes are there, and under which key they will be if that was not known. Had twice, it is as had once.
pub(crate) async fn finish(c: &AsyncPgConnection, held: Held, key: Option<&Key>) -> Step<()> {
    if set_state(c, held, "FINISHING", key).await? {
        Ok(())
    } else {
        Err(Error::Conflict(Conflict::Fenced).into())
    }
}

/// Lets an upload that could not be finished take bytes again. `false`: it is not held any more.
pub(crate) async fn reopen(c: &AsyncPgConnection, held: Held) -> Step<bool> {
    set_state(c, held, "OPEN", None).await
}

async fn set_state(c: &AsyncPgConnection, held: Held, state: &'static str, key: Option<&Key>) -> Step<bool> {
    let held = storage_uploads::table
        .find(held.upload.uuid())
        .filter(storage_uploads::epoch.eq(held.epoch).and(storage_uploads::state.eq_any(LIVE)));
    let key = key.map(|key| storage_uploads::key.eq(key.as_str()));
    let changed = diesel::update(held)
        .set((storage_uploads::state.eq(state), storage_uploads::updated_at.eq(dsl::now), key))
        .execute(&mut &*c)
        .await?;
    Ok(changed == 1)
}

pub(super) fn not_found(id: UploadId) -> Error {
    Error::NotFound(Resource::Upload(id.to_string()))
}

fn default_ttl() -> i64 {
    const { assert!(DEFAULT_TTL_SECONDS <= i64::MAX as u64) };
    DEFAULT_TTL_SECONDS as i64
}
