//! Paths at which the current contents of files are found: what is there, and what is to be.

use std::collections::HashSet;

use coffer_domain::id::{ObjectId, VolumeId};
use coffer_domain::path::Key;
use coffer_domain::store::Link;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::{Step, unreadable};
use crate::reconcile::MAX_PROBLEM_CHARS;
use crate::schema::{storage_links, storage_objects};

/// A file's path that is new to it, or no longer its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed<'a> {
    pub(crate) volume: VolumeId,
    pub(crate) organisation: &'a str,
    pub(crate) nfc: &'a str,
}

/// What is found at these paths is to be set right, on volumes where anything is found at paths.
pub(crate) async fn due(c: &AsyncPgConnection, changed: &[Changed<'_>]) -> Step<()> {
    // Sorted, as several rows are locked everywhere. A path that another tenant has stays his.
    const DUE: &str = "INSERT INTO storage_links AS l (volume_id, path, organisation_id, due_at)
        SELECT DISTINCT ON (k.volume_id, k.path COLLATE \"C\") k.volume_id, k.path, k.organisation_id, now()
        FROM unnest($1, $2, $3) AS k (volume_id, path, organisation_id)
            JOIN storage_volumes v ON v.id = k.volume_id AND v.auto_path_strategy = 'none'
        ORDER BY k.volume_id, k.path COLLATE \"C\"
        ON CONFLICT (volume_id, path) DO UPDATE SET revision = l.revision + 1, due_at = now(), attempts = 0
            WHERE l.organisation_id = excluded.organisation_id";
    if changed.is_empty() {
        return Ok(());
    }
    let due = diesel::sql_query(DUE)
        .bind::<Array<SqlUuid>, _>(column(changed, |changed| changed.volume.uuid()))
        .bind::<Array<Text>, _>(column(changed, |changed| changed.nfc))
        .bind::<Array<Text>, _>(column(changed, |changed| changed.organisation));
    Cached(due).execute(&mut &*c).await?;
    Ok(())
}

/// The tenant who has a path.
pub(crate) async fn owner(c: &AsyncPgConnection, volume: VolumeId, nfc: &str) -> Step<Option<String>> {
    let owner = storage_links::table
        .find((volume.uuid(), nfc))
        .select(storage_links::organisation_id)
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(owner)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    organisation_id: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    object_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    next_object_id: Option<Uuid>,
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// What is to be done at a path that is due, recorded before it is done. What was begun before comes first.
pub(crate) async fn begin(c: &AsyncPgConnection, volume: VolumeId, nfc: &str) -> Step<Option<Link>> {
    const LOCK: &str = "SELECT organisation_id, object_id, next_object_id, revision FROM storage_links
        WHERE volume_id = $1 AND path = $2 AND due_at IS NOT NULL FOR NO KEY UPDATE";
    // After the lock: who changes the file makes the link due, and so comes before it or after us.
    const WANTED: &str = "SELECT v.object_id AS id
        FROM storage_files f JOIN storage_file_versions v ON v.id = f.current_version_id
        WHERE f.volume_id = $1 AND f.path_nfc = $2 AND f.organisation_id = $3 AND f.deleted_at IS NULL";
    const NEXT: &str = "UPDATE storage_links SET next_object_id = $3 WHERE volume_id = $1 AND path = $2";
    let lock = diesel::sql_query(LOCK).bind::<SqlUuid, _>(volume.uuid()).bind::<Text, _>(nfc);
    let Some(row): Option<Row> = Cached(lock).get_result(&mut &*c).await.optional()? else { return Ok(None) };
    let wanted = diesel::sql_query(WANTED)
        .bind::<SqlUuid, _>(volume.uuid())
        .bind::<Text, _>(nfc)
        .bind::<Text, _>(&row.organisation_id);
    let wanted: Option<Id> = Cached(wanted).get_result(&mut &*c).await.optional()?;
    let next = wanted.map(|wanted| row.next_object_id.unwrap_or(wanted.id));
    if let Some(next) = next.filter(|next| row.next_object_id != Some(*next)) {
        let record = diesel::sql_query(NEXT)
            .bind::<SqlUuid, _>(volume.uuid())
            .bind::<Text, _>(nfc)
            .bind::<SqlUuid, _>(next);
        Cached(record).execute(&mut &*c).await?;
    }
    let mut before = Vec::new();
    for object in [row.object_id, row.next_object_id].into_iter().flatten() {
        before.push(key(c, object).await?);
    }
    let next = match next {
        Some(object) => Some((ObjectId::from(object), key(c, object).await?)),
        None => None,
    };
    Ok(Some(Link { volume, nfc: nfc.to_owned(), revision: row.revision, next, before }))
}

async fn key(c: &AsyncPgConnection, object: Uuid) -> Step<Key> {
    let key: String =
        storage_objects::table.find(object).select(storage_objects::key).first(&mut &*c).await?;
    Key::parse(key).map_err(unreadable)
}

/// It is done. `false`: it was done by another meanwhile, or something else was.
pub(crate) async fn done(c: &AsyncPgConnection, link: &Link) -> Step<bool> {
    // Right only if it is what the file says, and nothing was changed since that was looked up.
    const LINKED: &str = "UPDATE storage_links l
        SET object_id = l.next_object_id, next_object_id = NULL, attempts = 0, last_error = NULL,
            due_at = CASE WHEN l.revision = $4 AND EXISTS (
                SELECT FROM storage_files f JOIN storage_file_versions v ON v.id = f.current_version_id
                WHERE f.volume_id = l.volume_id AND f.path_nfc = l.path AND f.organisation_id = l.organisation_id
                    AND f.deleted_at IS NULL AND v.object_id = $3
            ) THEN NULL ELSE now() END
        WHERE l.volume_id = $1 AND l.path = $2 AND l.next_object_id = $3";
    const GONE: &str = "DELETE FROM storage_links WHERE volume_id = $1 AND path = $2 AND revision = $3";
    let changed = match &link.next {
        Some((object, _)) => {
            let linked = diesel::sql_query(LINKED)
                .bind::<SqlUuid, _>(link.volume.uuid())
                .bind::<Text, _>(&link.nfc)
                .bind::<SqlUuid, _>(object.uuid())
                .bind::<BigInt, _>(link.revision);
            Cached(linked).execute(&mut &*c).await?
        }
        None => {
            let gone = diesel::sql_query(GONE)
                .bind::<SqlUuid, _>(link.volume.uuid())
                .bind::<Text, _>(&link.nfc)
                .bind::<BigInt, _>(link.revision);
            Cached(gone).execute(&mut &*c).await?
        }
    };
    Ok(changed == 1)
}

/// It could not be done: due again after 10 s, doubled at each attempt, at most after 1 h.
pub(crate) async fn failed(c: &AsyncPgConnection, link: &Link, problem: &str) -> Step<()> {
    let problem: String = problem.chars().filter(|c| *c != '\0').take(MAX_PROBLEM_CHARS).collect();
    diesel::sql_query(
        "UPDATE storage_links SET attempts = attempts + 1, last_error = $4,
             due_at = now() + least(interval '10 seconds' * power(2, least(attempts, 20)), interval '1 hour')
         WHERE volume_id = $1 AND path = $2 AND revision = $3",
    )
    .bind::<SqlUuid, _>(link.volume.uuid())
    .bind::<Text, _>(&link.nfc)
    .bind::<BigInt, _>(link.revision)
    .bind::<Text, _>(problem)
    .execute(&mut &*c)
    .await?;
    Ok(())
}

/// Paths that are due, those that wait longest first.
pub(crate) async fn list_due(c: &AsyncPgConnection, limit: usize) -> Step<Vec<(VolumeId, String)>> {
    let due: Vec<(Uuid, String)> = storage_links::table
        .filter(storage_links::due_at.le(dsl::now))
        .select((storage_links::volume_id, storage_links::path))
        .order(storage_links::due_at)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(&mut &*c)
        .await?;
    Ok(due.into_iter().map(|(volume, path)| (VolumeId::from(volume), path)).collect())
}

/// Of these paths of a volume, those at which something of ours is or will be found.
pub(crate) async fn known(
    c: &AsyncPgConnection,
    volume: VolumeId,
    paths: &[String],
) -> Step<HashSet<String>> {
    let known: Vec<String> = storage_links::table
        .filter(storage_links::volume_id.eq(volume.uuid()).and(storage_links::path.eq_any(paths)))
        .select(storage_links::path)
        .load(&mut &*c)
        .await?;
    Ok(known.into_iter().collect())
}

/// Whether nothing is or will be found at a path of the volume.
pub(crate) async fn is_without(c: &AsyncPgConnection, volume: VolumeId) -> Step<bool> {
    let links = storage_links::table.filter(storage_links::volume_id.eq(volume.uuid()));
    Ok(!diesel::select(dsl::exists(links)).get_result::<bool>(&mut &*c).await?)
}
