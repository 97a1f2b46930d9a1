//! What keeps bytes and rows equal after something was cut short.

use std::collections::HashSet;

use coffer_domain::file::Status;
use coffer_domain::id::{FileId, ObjectId, VolumeId};
use coffer_domain::path::Key;
use coffer_domain::store::{ObjectRow, Reclaim};
use coffer_domain::time::Timestamp;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods, QueryDsl, QueryableByName, dsl,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, unreadable};
use crate::events::{self, Event, Happened};
use crate::schema::{storage_links, storage_objects, storage_reclaims};

/// Most characters of a problem that are kept.
pub(crate) const MAX_PROBLEM_CHARS: usize = 1_000;

/// Bytes to remove that are due, oldest first.
pub(crate) async fn due_reclaims(c: &AsyncPgConnection, limit: usize) -> Step<Vec<Reclaim>> {
    let (links, next_links) = (storage_links::table, storage_links::table);
    let object = storage_reclaims::object_id.nullable();
    let due: Vec<(Uuid, Uuid, String)> = storage_reclaims::table
        .filter(storage_reclaims::due_at.le(dsl::now))
        // What is found at a path still tells that what is there is ours.
        .filter(dsl::not(dsl::exists(links.filter(storage_links::object_id.eq(object)))))
        .filter(dsl::not(dsl::exists(next_links.filter(storage_links::next_object_id.eq(object)))))
        .select((storage_reclaims::object_id, storage_reclaims::volume_id, storage_reclaims::key))
        .order((storage_reclaims::due_at, storage_reclaims::id))
        .limit(rows(limit))
        .load(&mut &*c)
        .await?;
    due.into_iter()
        .map(|(object, volume, key)| {
            Ok(Reclaim { object: ObjectId::from(object), volume: VolumeId::from(volume), key: parse(key)? })
        })
        .collect()
}

/// The bytes of these objects are gone: their rows go too.
pub(crate) async fn reclaimed(c: &AsyncPgConnection, objects: &[ObjectId]) -> Step<()> {
    let ids: Vec<Uuid> = objects.iter().map(|id| id.uuid()).collect();
    diesel::delete(storage_reclaims::table.filter(storage_reclaims::object_id.eq_any(&ids)))
        .execute(&mut &*c)
        .await?;
    diesel::delete(
        storage_objects::table
            .filter(storage_objects::id.eq_any(&ids).and(storage_objects::state.eq("deleting"))),
    )
    .execute(&mut &*c)
    .await?;
    Ok(())
}

/// Removing failed: due again after 10 s, doubled at each attempt, at most after 1 h.
pub(crate) async fn reclaim_failed(c: &AsyncPgConnection, object: ObjectId, problem: &str) -> Step<()> {
    let problem: String = problem.chars().filter(|c| *c != '\0').take(MAX_PROBLEM_CHARS).collect();
    diesel::sql_query(
        "UPDATE storage_reclaims SET attempts = attempts + 1, last_error = $2,
             due_at = now() + least(interval '10 seconds' * power(2, least(attempts, 20)), interval '1 hour')
         WHERE object_id = $1",
    )
    .bind::<SqlUuid, _>(object.uuid())
    .bind::<Text, _>(problem)
    .execute(&mut &*c)
    .await?;
    Ok(())
}

/// Of these keys, those that an object or an open upload names.
pub(crate) async fn known_keys(c: &AsyncPgConnection, volume: VolumeId, keys: &[Key]) -> Step<HashSet<Key>> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Text)]
        key: String,
    }
    const KNOWN: &str = "SELECT key FROM storage_objects WHERE volume_id = $1 AND key = ANY ($2)
        UNION
        SELECT key FROM storage_uploads WHERE volume_id = $1 AND key = ANY ($2) AND state IN ('OPEN', 'FINISHING')";
    let known = diesel::sql_query(KNOWN)
        .bind::<SqlUuid, _>(volume.uuid())
        .bind::<Array<Text>, _>(keys.iter().map(Key::as_str).collect::<Vec<_>>());
    let known: Vec<Known> = Cached(known).load(&mut &*c).await?;
    known.into_iter().map(|row| parse(row.key)).collect()
}

/// Live objects of a volume by key.
pub(crate) async fn objects(
    c: &AsyncPgConnection,
    volume: VolumeId,
    after: Option<&Key>,
    limit: usize,
) -> Step<Vec<ObjectRow>> {
    use storage_objects::dsl;
    let found: Vec<(Uuid, String, i64, Timestamp)> = dsl::storage_objects
        .filter(dsl::volume_id.eq(volume.uuid()).and(dsl::state.eq("live")))
        // The empty text is before every key.
        .filter(dsl::key.gt(after.map_or("", Key::as_str)))
        .select((dsl::id, dsl::key, dsl::stored_size_bytes, dsl::created_at))
        .order(dsl::key)
        .limit(rows(limit))
        .load(&mut &*c)
        .await?;
    found
        .into_iter()
        .map(|(id, key, size, created_at)| {
            let stored_size = u64::try_from(size).map_err(unreadable)?;
            Ok(ObjectRow { id: ObjectId::from(id), key: parse(key)?, stored_size, created_at })
        })
        .collect()
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Files in the trash whose volume's retention has passed, oldest first.
pub(crate) async fn expired_trash(c: &AsyncPgConnection, limit: usize) -> Step<Vec<FileId>> {
    const EXPIRED: &str = "SELECT f.id FROM storage_files f JOIN storage_volumes v ON v.id = f.volume_id
        WHERE f.deleted_at IS NOT NULL AND f.purged_at IS NULL
            AND extract(epoch FROM now() - f.deleted_at) >= v.trash_retention_seconds
        ORDER BY f.deleted_at, f.id LIMIT $1";
    let expired: Vec<Id> =
        Cached(diesel::sql_query(EXPIRED).bind::<BigInt, _>(rows(limit))).load(&mut &*c).await?;
    Ok(expired.into_iter().map(|row| FileId::from(row.id)).collect())
}

/// Marks files whose current content is in `object`; answers how many were not marked before.
pub(crate) async fn mark_corrupted(c: &AsyncPgConnection, object: ObjectId) -> Step<u64> {
    #[derive(QueryableByName)]
    struct Marked {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Text)]
        organisation_id: String,
        #[diesel(sql_type = SqlUuid)]
        volume_id: Uuid,
    }
    // Locked by id, as by everybody who needs several. Those in the trash are not read anyway.
    const MARK: &str = "UPDATE storage_files f SET status = $2, revision = revision + 1, updated_at = now()
        FROM (
            SELECT f.id FROM storage_file_versions v JOIN storage_files f ON f.id = v.file_id
            WHERE v.object_id = $1 AND v.is_current AND f.status IN ('active', 'archived')
            ORDER BY f.id FOR NO KEY UPDATE OF f
        ) found
        WHERE f.id = found.id
        RETURNING f.id, f.organisation_id, f.volume_id";
    let mark =
        diesel::sql_query(MARK).bind::<SqlUuid, _>(object.uuid()).bind::<Text, _>(Status::Corrupted.as_str());
    let marked: Vec<Marked> = Cached(mark).load(&mut &*c).await?;
    // Who uploads the content again is to have it.
    diesel::update(storage_objects::table.find(object.uuid()).filter(storage_objects::is_shareable))
        .set(storage_objects::is_shareable.eq(false))
        .execute(&mut &*c)
        .await?;
    let told: Vec<_> = marked
        .into_iter()
        .map(|row| {
            let data = json!({"volume_id": row.volume_id, "object_id": object});
            let (happened, file) = (Happened::Corrupted, FileId::from(row.id));
            Event { happened, file, organisation: row.organisation_id, data }
        })
        .collect();
    events::insert(c, &told).await?;
    Ok(told.len() as u64)
}

fn parse(key: String) -> Step<Key> {
    Key::parse(key).map_err(unreadable)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
