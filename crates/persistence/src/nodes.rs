//! Servers and their leases.

use std::time::Duration;

use coffer_domain::id::NodeId;
use coffer_domain::store::NodeStart;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::Step;

#[derive(QueryableByName)]
struct Epoch {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

/// Registers a start: the epoch grows by one.
pub(crate) async fn start(
    c: &AsyncPgConnection,
    node: NodeId,
    version: &str,
    lease: Duration,
) -> Step<NodeStart> {
    // A node that starts is not retired any more, whatever somebody believed.
    let row: Epoch = diesel::sql_query(
        "INSERT INTO nodes AS n (id, epoch, version, started_at, lease_until)
         VALUES ($1, 1, $2, now(), now() + make_interval(secs => $3))
         ON CONFLICT (id) DO UPDATE SET epoch = n.epoch + 1, version = excluded.version,
             started_at = excluded.started_at, lease_until = excluded.lease_until, retired_at = NULL
         RETURNING epoch",
    )
    .bind::<SqlUuid, _>(node.uuid())
    .bind::<Text, _>(version)
    .bind::<Double, _>(lease.as_secs_f64())
    .get_result(&mut &*c)
    .await?;
    Ok(NodeStart { node, epoch: row.epoch })
}

/// Prolongs the lease of a start. `false`: a later one has taken over.
pub(crate) async fn renew(c: &AsyncPgConnection, start: NodeStart, lease: Duration) -> Step<bool> {
    let renewed = diesel::sql_query(
        "UPDATE nodes SET lease_until = now() + make_interval(secs => $3) WHERE id = $1 AND epoch = $2",
    )
    .bind::<SqlUuid, _>(start.node.uuid())
    .bind::<BigInt, _>(start.epoch)
    .bind::<Double, _>(lease.as_secs_f64())
    .execute(&mut &*c)
    .await?;
    Ok(renewed == 1)
}
