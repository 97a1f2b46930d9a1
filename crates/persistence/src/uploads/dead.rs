//! Uploads that nobody works on any more.

use std::collections::HashSet;

use coffer_domain::error::{Conflict, Error};
use coffer_domain::id::{OperationId, UploadId, VolumeId};
use coffer_domain::operation::{Operation, OperationKind};
use coffer_domain::path::Key;
use coffer_domain::store::DeadUpload;
use diesel::sql_types::{BigInt, Text};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use super::LIVE;
use super::row::{Holding, HoldingRow, holding};
use crate::cached::Cached;
use crate::error::{Step, unreadable};
use crate::schema::storage_uploads;
use crate::{operations, quotas};

#[derive(QueryableByName)]
struct Fenced {
    #[diesel(sql_type = Text)]
    becomes: String,
    #[diesel(embed)]
    holding: HoldingRow,
}

/// Fences what nobody works on any more; answers all ended uploads whose bytes were not swept, oldest first.
pub(crate) async fn dead(
    c: &AsyncPgConnection,
    operation: &Operation,
    limit: usize,
) -> Step<Vec<DeadUpload>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut ended = Vec::new();
    for Fenced { becomes, holding } in fence(c, limit).await? {
        let id = UploadId::from(holding.id);
        let holding = Holding::try_from(holding)?;
        let outcome = match becomes.as_str() {
            "EXPIRED" => Operation { kind: OperationKind::ExpireUpload, ..operation.clone() },
            "ABORTED" => Operation { kind: OperationKind::Upload, ..operation.clone() }
                .failed(&Error::Conflict(Conflict::Fenced)),
            // Takes bytes again.
            _ => continue,
        };
        let outcome = Operation {
            id: OperationId::new(),
            volume_id: Some(holding.payer.volume),
            organisation: holding.payer.organisation.clone(),
            ..outcome
        };
        ended.push((holding, outcome.with("upload", id.to_string())));
    }
    let ((), (), unswept) = try_join!(
        quotas::release(c, ended.iter().map(|(holding, _)| (&holding.payer, holding.hold))),
        operations::insert_once(c, ended.iter().map(|(_, outcome)| outcome)),
        unswept(c, limit),
    )?;
    Ok(unswept)
}

/// Those that ended and those that take bytes again, oldest first.
async fn fence(c: &AsyncPgConnection, limit: i64) -> Step<Vec<Fenced>> {
    // An expiry is the client's, a lease the node's: what a living node is finishing does not expire, and what can be
    // resumed outlives its node. One that somebody is changing at this moment is passed over.
    const FENCE: &str = concat!(
        "UPDATE storage_uploads u
         SET state = dead.becomes, epoch = u.epoch + 1, updated_at = now(),
             reserved_bytes = CASE dead.becomes WHEN 'OPEN' THEN u.reserved_bytes ELSE 0 END,
             reserved_files = CASE dead.becomes WHEN 'OPEN' THEN u.reserved_files ELSE 0 END
         FROM (
             SELECT ",
        holding!("u"),
        ", CASE WHEN u.state = 'OPEN' AND u.expire_time <= now() THEN 'EXPIRED'
                    WHEN u.request_id IS NULL THEN 'ABORTED' ELSE 'OPEN' END AS becomes
             FROM storage_uploads u JOIN nodes n ON n.id = u.node_id
             WHERE u.state IN ('OPEN', 'FINISHING')
                 AND (u.state = 'OPEN' AND u.expire_time <= now()
                     OR (n.lease_until < now() OR n.epoch > u.node_epoch)
                         AND (u.request_id IS NULL OR u.state = 'FINISHING'))
             ORDER BY u.id LIMIT $1 FOR NO KEY UPDATE OF u SKIP LOCKED
         ) dead
         WHERE u.id = dead.id
         RETURNING dead.becomes, ",
        holding!("dead")
    );
    let fence = diesel::sql_query(FENCE).bind::<BigInt, _>(limit);
    let mut fenced: Vec<Fenced> = Cached(fence).load(&mut &*c).await?;
    fenced.sort_by_key(|fenced| fenced.holding.id);
    Ok(fenced)
}

async fn unswept(c: &AsyncPgConnection, limit: i64) -> Step<Vec<DeadUpload>> {
    let dead: Vec<(Uuid, Uuid, String)> = storage_uploads::table
        .filter(
            storage_uploads::state.eq_any(["ABORTED", "EXPIRED"]).and(storage_uploads::swept_at.is_null()),
        )
        .select((storage_uploads::id, storage_uploads::volume_id, storage_uploads::key))
        .order(storage_uploads::id)
        .limit(limit)
        .load(&mut &*c)
        .await?;
    dead.into_iter()
        .map(|(id, volume, key)| {
            let key = Key::parse(key).map_err(unreadable)?;
            Ok(DeadUpload { id: UploadId::from(id), volume: VolumeId::from(volume), key })
        })
        .collect()
}

/// Of these, the uploads that have not ended.
pub(crate) async fn live(c: &AsyncPgConnection, ids: &[UploadId]) -> Step<HashSet<UploadId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let live: Vec<Uuid> = storage_uploads::table
        .filter(storage_uploads::id.eq_any(ids).and(storage_uploads::state.eq_any(LIVE)))
        .select(storage_uploads::id)
        .load(&mut &*c)
        .await?;
    Ok(live.into_iter().map(UploadId::from).collect())
}
