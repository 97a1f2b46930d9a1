//! Stored objects: what versions name, and what is reclaimed when none does any more.

use std::collections::BTreeMap;

use coffer_domain::id::ObjectId;
use diesel::sql_types::{Array, Integer, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::Step;

/// Takes back one reference to an object for each time it is named here. Those without any are to be deleted.
pub(crate) async fn give_up(c: &AsyncPgConnection, named: &[ObjectId]) -> Step<()> {
    const GIVE_UP: &str = "WITH given_up (id, refs, reclaim) AS (SELECT * FROM unnest($1, $2, $3)),
        freed AS (
            UPDATE storage_objects o
            SET refs = o.refs - g.refs, state = CASE WHEN o.refs = g.refs THEN 'deleting' ELSE o.state END
            FROM given_up g
            WHERE o.id = g.id
            RETURNING g.reclaim, o.id, o.volume_id, o.key, o.state
        )
        INSERT INTO storage_reclaims (id, object_id, volume_id, key, due_at)
        SELECT reclaim, id, volume_id, key, now() FROM freed WHERE state = 'deleting'";
    let mut refs = BTreeMap::<Uuid, i32>::new();
    for object in named {
        *refs.entry(object.uuid()).or_default() += 1;
    }
    if refs.is_empty() {
        return Ok(());
    }
    let reclaims: Vec<_> = refs.keys().map(|_| Uuid::now_v7()).collect();
    let give_up = diesel::sql_query(GIVE_UP)
        .bind::<Array<SqlUuid>, _>(refs.keys().copied().collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(refs.values().copied().collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(reclaims);
    Cached(give_up).execute(&mut &*c).await?;
    Ok(())
}
