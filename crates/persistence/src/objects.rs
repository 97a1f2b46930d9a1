//! Stored objects: what versions name, and what is reclaimed when none does any more.

use std::collections::BTreeMap;

use coffer_domain::id::ObjectId;
use coffer_domain::store::Commit;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::{Step, too_large};

/// Makes the objects of finished uploads, each with one version that names it.
pub(crate) async fn insert(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<()> {
    insert_as(c, commits, true).await
}

/// Makes the objects of finished uploads whose versions name others: they are to be deleted.
pub(crate) async fn discard(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<()> {
    const RECLAIM: &str = "INSERT INTO storage_reclaims (id, object_id, volume_id, key, due_at)
        SELECT r.*, now() FROM unnest($1, $2, $3, $4) AS r";
    if commits.is_empty() {
        return Ok(());
    }
    let reclaim = diesel::sql_query(RECLAIM)
        .bind::<Array<SqlUuid>, _>(column(commits, |_| Uuid::now_v7()))
        .bind::<Array<SqlUuid>, _>(column(commits, |commit| commit.object.uuid()))
        .bind::<Array<SqlUuid>, _>(column(commits, |commit| commit.volume.uuid()))
        .bind::<Array<Text>, _>(column(commits, |commit| commit.key.as_str()));
    try_join!(insert_as(c, commits, false), async { Ok(Cached(reclaim).execute(&mut &*c).await?) })?;
    Ok(())
}

/// Adds a reference to an object for each time it is named here.
pub(crate) async fn share(c: &AsyncPgConnection, named: &[ObjectId]) -> Step<()> {
    const SHARE: &str = "UPDATE storage_objects o SET refs = o.refs + s.refs
        FROM unnest($1, $2) AS s (id, refs) WHERE o.id = s.id AND o.id = ANY ($1)";
    let refs = counted(named);
    if refs.is_empty() {
        return Ok(());
    }
    let share = diesel::sql_query(SHARE)
        .bind::<Array<SqlUuid>, _>(refs.keys().copied().collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(refs.values().copied().collect::<Vec<_>>());
    Cached(share).execute(&mut &*c).await?;
    Ok(())
}

fn counted(named: &[ObjectId]) -> BTreeMap<Uuid, i32> {
    let mut refs = BTreeMap::new();
    for object in named {
        *refs.entry(object.uuid()).or_default() += 1;
    }
    refs
}

async fn insert_as(c: &AsyncPgConnection, commits: &[&Commit], is_named: bool) -> Step<()> {
    const INSERT: &str = "INSERT INTO storage_objects (id, volume_id, key, size_bytes, sha256, crc32c, stored_size_bytes,
            codec, refs, state, is_shareable, created_at)
        SELECT o.id, o.volume_id, o.key, o.size_bytes, o.sha256, o.crc32c, o.stored_size_bytes, o.codec, $10, $11,
            o.is_shareable, o.created_at
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $12)
            AS o (id, volume_id, key, size_bytes, sha256, crc32c, stored_size_bytes, codec, created_at, is_shareable)";
    if commits.is_empty() {
        return Ok(());
    }
    let (refs, state) = if is_named { (1, "live") } else { (0, "deleting") };
    let sizes = |of: fn(&Commit) -> u64| -> Step<Vec<i64>> {
        commits.iter().map(|commit| i64::try_from(of(commit)).map_err(too_large)).collect()
    };
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(commits, |commit| commit.object.uuid()))
        .bind::<Array<SqlUuid>, _>(column(commits, |commit| commit.volume.uuid()))
        .bind::<Array<Text>, _>(column(commits, |commit| commit.key.as_str()))
        .bind::<Array<BigInt>, _>(sizes(|commit| commit.stored.size)?)
        .bind::<Array<Binary>, _>(column(commits, |commit| commit.stored.sha256.0.as_slice()))
        .bind::<Array<BigInt>, _>(column(commits, |commit| i64::from(commit.stored.crc32c)))
        .bind::<Array<BigInt>, _>(sizes(|commit| commit.stored.stored_size)?)
        .bind::<Array<Text>, _>(column(commits, |commit| commit.stored.codec.as_str()))
        .bind::<Array<Timestamptz>, _>(column(commits, |commit| commit.at))
        .bind::<Integer, _>(refs)
        .bind::<Text, _>(state)
        .bind::<Array<Bool>, _>(column(commits, |commit| is_named && commit.is_shareable));
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

/// Takes back one reference to an object for each time it is named here. Those without any are to be deleted.
pub(crate) async fn give_up(c: &AsyncPgConnection, named: &[ObjectId]) -> Step<()> {
    const GIVE_UP: &str = "WITH given_up (id, refs, reclaim) AS (SELECT * FROM unnest($1, $2, $3)),
        freed AS (
            UPDATE storage_objects o
            SET refs = o.refs - g.refs, state = CASE WHEN o.refs = g.refs THEN 'deleting' ELSE o.state END,
                is_shareable = o.is_shareable AND o.refs <> g.refs
            FROM given_up g
            WHERE o.id = g.id
            RETURNING g.reclaim, o.id, o.volume_id, o.key, o.state
        )
        INSERT INTO storage_reclaims (id, object_id, volume_id, key, due_at)
        SELECT reclaim, id, volume_id, key, now() FROM freed WHERE state = 'deleting'";
    let refs = counted(named);
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
