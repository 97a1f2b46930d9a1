//! Counting again what the quotas have counted.

use std::collections::BTreeSet;

use coffer_domain::id::{UserId, VolumeId};
use coffer_domain::quota::{Drift, QuotaKey};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::row::{Place, place};
use super::{Change, change, lock};
use crate::cached::Cached;
use crate::error::{Step, unreadable};

// One statement, hence one snapshot. What a key does not have is the nil UUID or an empty text, so that keys can be
// compared; a user's and a project's tenant is part of the key, an organisation is its own. With parameters, only what is
// charged to one of these volumes, users, apps or organisations is counted, and what is said of others means nothing.
const DRIFT: &str = "
WITH uuid_nil (id) AS (SELECT '00000000-0000-0000-0000-000000000000'::uuid),
held AS (
    SELECT f.volume_id, f.user_id, f.app_id, f.organisation_id, f.project_id,
           coalesce(sum(v.size), 0)::bigint AS bytes, (f.purged_at IS NULL)::int AS files,
           0::bigint AS reserved_bytes, 0 AS reserved_files
    FROM storage_files f LEFT JOIN storage_file_versions v ON v.file_id = f.id
    WHERE $1 IS NULL OR f.volume_id = ANY ($1) OR f.user_id = ANY ($2) OR f.app_id = ANY ($3)
        OR f.organisation_id = ANY ($4)
    GROUP BY f.id
    UNION ALL
    SELECT volume_id, user_id, app_id, organisation_id, project_id, 0, 0, reserved_bytes, reserved_files
    FROM storage_uploads
    WHERE state IN ('OPEN', 'FINISHING') AND (reserved_bytes > 0 OR reserved_files > 0)
        AND ($1 IS NULL OR volume_id = ANY ($1) OR user_id = ANY ($2) OR app_id = ANY ($3)
            OR organisation_id = ANY ($4))
),
actual (kind, volume_id, user_id, organisation, name, bytes, files, reserved_bytes, reserved_files) AS (
    SELECT 'volume', volume_id, uuid_nil.id, '', '', sum(bytes), 0, sum(reserved_bytes), 0
    FROM held, uuid_nil GROUP BY 2, 3
    UNION ALL
    SELECT 'user_on_volume', volume_id, user_id, '', '', sum(bytes), 0, sum(reserved_bytes), 0
    FROM held WHERE user_id IS NOT NULL GROUP BY 2, 3
    UNION ALL
    SELECT 'app_on_volume', volume_id, uuid_nil.id, '', app_id, sum(bytes), 0, sum(reserved_bytes), 0
    FROM held, uuid_nil WHERE app_id IS NOT NULL GROUP BY 2, 3, 5
    UNION ALL
    SELECT 'user', uuid_nil.id, user_id, organisation_id, '', sum(bytes), sum(files), sum(reserved_bytes),
           sum(reserved_files)
    FROM held, uuid_nil WHERE user_id IS NOT NULL GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'organization', uuid_nil.id, uuid_nil.id, organisation_id, '', sum(bytes), sum(files),
           sum(reserved_bytes), sum(reserved_files)
    FROM held, uuid_nil WHERE organisation_id <> '' GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'project', uuid_nil.id, uuid_nil.id, organisation_id, project_id, sum(bytes), sum(files),
           sum(reserved_bytes), sum(reserved_files)
    FROM held, uuid_nil WHERE project_id IS NOT NULL GROUP BY 2, 3, 4, 5
),
counted (kind, volume_id, user_id, organisation, name, bytes, files, reserved_bytes, reserved_files) AS (
    SELECT 'volume', v.id, uuid_nil.id, '', '', quota_used, 0, quota_reserved, 0 FROM storage_volumes v, uuid_nil
    UNION ALL
    SELECT 'user_on_volume', volume_id, user_id, '', '', quota_used, 0, quota_reserved, 0 FROM user_quotas
    UNION ALL
    SELECT 'app_on_volume', volume_id, uuid_nil.id, '', app_id, quota_used, 0, quota_reserved, 0
    FROM app_quotas, uuid_nil
    UNION ALL
    SELECT entity_type, uuid_nil.id, coalesce(user_id, uuid_nil.id), organisation_id,
           CASE entity_type WHEN 'project' THEN entity_id ELSE '' END, used_storage_bytes, used_files,
           reserved_storage_bytes, reserved_files
    FROM storage_quotas, uuid_nil
)
SELECT * FROM (
    SELECT kind, volume_id, user_id, organisation, name,
           coalesce(counted.bytes, 0)::bigint AS counted_bytes, coalesce(actual.bytes, 0)::bigint AS actual_bytes,
           coalesce(counted.files, 0)::bigint AS counted_files, coalesce(actual.files, 0)::bigint AS actual_files,
           coalesce(counted.reserved_bytes, 0)::bigint AS counted_reserved_bytes,
           coalesce(actual.reserved_bytes, 0)::bigint AS actual_reserved_bytes,
           coalesce(counted.reserved_files, 0)::bigint AS counted_reserved_files,
           coalesce(actual.reserved_files, 0)::bigint AS actual_reserved_files
    FROM counted FULL JOIN actual USING (kind, volume_id, user_id, organisation, name)
) compared
WHERE (counted_bytes, counted_files, counted_reserved_bytes, counted_reserved_files)
    <> (actual_bytes, actual_files, actual_reserved_bytes, actual_reserved_files)";

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = SqlUuid)]
    volume_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    organisation: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    counted_bytes: i64,
    #[diesel(sql_type = BigInt)]
    actual_bytes: i64,
    #[diesel(sql_type = BigInt)]
    counted_files: i64,
    #[diesel(sql_type = BigInt)]
    actual_files: i64,
    #[diesel(sql_type = BigInt)]
    counted_reserved_bytes: i64,
    #[diesel(sql_type = BigInt)]
    actual_reserved_bytes: i64,
    #[diesel(sql_type = BigInt)]
    counted_reserved_files: i64,
    #[diesel(sql_type = BigInt)]
    actual_reserved_files: i64,
}

/// Whose files and uploads are counted; `None`: everybody's.
#[derive(Default)]
struct Counted {
    volumes: Option<Vec<Uuid>>,
    users: Option<Vec<Uuid>>,
    apps: Option<Vec<String>>,
    organisations: Option<Vec<String>>,
}

impl Counted {
    /// All that is charged to any of these, and as little else as one dimension of each can tell apart.
    fn of(keys: &BTreeSet<QuotaKey>) -> Self {
        let (mut volumes, mut users, mut apps, mut organisations) = (vec![], vec![], vec![], vec![]);
        for key in keys {
            match key {
                QuotaKey::Volume(volume) => volumes.push(volume.uuid()),
                QuotaKey::UserOnVolume(user, _) | QuotaKey::User { user, .. } => users.push(user.uuid()),
                QuotaKey::AppOnVolume(app, _) => apps.push(app.clone()),
                QuotaKey::Organisation(organisation) | QuotaKey::Project { organisation, .. } => {
                    organisations.push(organisation.clone());
                }
            }
        }
        Self {
            volumes: Some(volumes),
            users: Some(users),
            apps: Some(apps),
            organisations: Some(organisations),
        }
    }
}

/// Every quota whose counters differ from what versions, files and unfinished uploads add up to, in the order of their keys.
pub(crate) async fn drift(c: &AsyncPgConnection) -> Step<Vec<Drift>> {
    count(c, &Counted::default()).await
}

/// Counts these quotas again and sets right those that differ, in the order of their keys.
///
/// Whatever changes what is counted locks these rows, too, before it is committed. So the statement, which begins when all
/// are locked, sees all of it or nothing.
pub(crate) async fn recalculate(c: &AsyncPgConnection, keys: &[QuotaKey]) -> Step<Vec<Drift>> {
    let keys: BTreeSet<QuotaKey> = keys.iter().cloned().collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    lock(c, keys.iter().cloned().collect()).await?;
    // It reads whole tables, which the sessions of the pool otherwise avoid.
    (&mut &*c).batch_execute("SET LOCAL enable_seqscan TO on").await?;
    let mut drifts = count(c, &Counted::of(&keys)).await?;
    (&mut &*c).batch_execute("SET LOCAL enable_seqscan TO off").await?;
    drifts.retain(|drift| keys.contains(&drift.key));
    change(c, drifts.iter().map(|drift| (drift.key.clone(), Change::repairing(drift)))).await?;
    try_join_all(drifts.iter().map(|drift| say_when(c, &drift.key))).await?;
    Ok(drifts)
}

/// Says when a quota of an entity was last set right; the others have no column for it.
async fn say_when(c: &AsyncPgConnection, key: &QuotaKey) -> Step<()> {
    const ENTITY: &str = "UPDATE storage_quotas SET last_calculated_at = now()
        WHERE entity_type = $1 AND organisation_id = $2 AND entity_id = $3";
    if let Place::Entity { kind, organisation, id, .. } = place(key) {
        let update =
            diesel::sql_query(ENTITY).bind::<Text, _>(kind).bind::<Text, _>(organisation).bind::<Text, _>(id);
        Cached(update).execute(&mut &*c).await?;
    }
    Ok(())
}

async fn count(c: &AsyncPgConnection, counted: &Counted) -> Step<Vec<Drift>> {
    // Not kept: whose files are counted decides how they are best found.
    let rows: Vec<Row> = diesel::sql_query(DRIFT)
        .bind::<Nullable<Array<SqlUuid>>, _>(&counted.volumes)
        .bind::<Nullable<Array<SqlUuid>>, _>(&counted.users)
        .bind::<Nullable<Array<Text>>, _>(&counted.apps)
        .bind::<Nullable<Array<Text>>, _>(&counted.organisations)
        .load(&mut &*c)
        .await?;
    let mut drifts = rows.into_iter().map(Row::into_drift).collect::<Step<Vec<_>>>()?;
    drifts.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(drifts)
}

impl Row {
    fn into_drift(self) -> Step<Drift> {
        let (volume, user) = (VolumeId::from(self.volume_id), UserId::from(self.user_id));
        let organisation = self.organisation;
        let key = match self.kind.as_str() {
            "volume" => QuotaKey::Volume(volume),
            "user_on_volume" => QuotaKey::UserOnVolume(user, volume),
            "app_on_volume" => QuotaKey::AppOnVolume(self.name, volume),
            "user" => QuotaKey::User { organisation, user },
            "organization" => QuotaKey::Organisation(organisation),
            "project" => QuotaKey::Project { organisation, project: self.name },
            other => return Err(unreadable(format!("quota of kind {other:?}"))),
        };
        Ok(Drift {
            key,
            counted_bytes: self.counted_bytes,
            actual_bytes: self.actual_bytes,
            counted_files: self.counted_files,
            actual_files: self.actual_files,
            counted_reserved_bytes: self.counted_reserved_bytes,
            actual_reserved_bytes: self.actual_reserved_bytes,
            counted_reserved_files: self.counted_reserved_files,
            actual_reserved_files: self.actual_reserved_files,
        })
    }
}
