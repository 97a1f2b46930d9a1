//! Counting again what the quotas have counted.

use coffer_domain::id::{UserId, VolumeId};
use coffer_domain::quota::{Drift, QuotaKey};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::{Step, unreadable};

// One statement, hence one snapshot. What a key does not have is the nil UUID or an empty text, so that keys can be
// compared; a user's and a project's tenant is part of the key, an organisation is its own.
const DRIFT: &str = "
WITH uuid_nil (id) AS (SELECT '00000000-0000-0000-0000-000000000000'::uuid),
held AS (
    SELECT f.volume_id, f.user_id, f.app_id, f.organisation_id, f.project_id,
           coalesce(v.bytes, 0)::bigint AS bytes, (f.purged_at IS NULL)::int AS files
    FROM storage_files f
    LEFT JOIN (SELECT file_id, sum(size) AS bytes FROM storage_file_versions GROUP BY file_id) v ON v.file_id = f.id
),
actual (kind, volume_id, user_id, organisation, name, bytes, files) AS (
    SELECT 'volume', volume_id, uuid_nil.id, '', '', sum(bytes), 0 FROM held, uuid_nil GROUP BY 2, 3
    UNION ALL
    SELECT 'user_on_volume', volume_id, user_id, '', '', sum(bytes), 0
    FROM held WHERE user_id IS NOT NULL GROUP BY 2, 3
    UNION ALL
    SELECT 'app_on_volume', volume_id, uuid_nil.id, '', app_id, sum(bytes), 0
    FROM held, uuid_nil WHERE app_id IS NOT NULL GROUP BY 2, 3, 5
    UNION ALL
    SELECT 'user', uuid_nil.id, user_id, organisation_id, '', sum(bytes), sum(files)
    FROM held, uuid_nil WHERE user_id IS NOT NULL GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'organization', uuid_nil.id, uuid_nil.id, organisation_id, '', sum(bytes), sum(files)
    FROM held, uuid_nil WHERE organisation_id <> '' GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'project', uuid_nil.id, uuid_nil.id, organisation_id, project_id, sum(bytes), sum(files)
    FROM held, uuid_nil WHERE project_id IS NOT NULL GROUP BY 2, 3, 4, 5
),
counted (kind, volume_id, user_id, organisation, name, bytes, files) AS (
    SELECT 'volume', v.id, uuid_nil.id, '', '', quota_used, 0 FROM storage_volumes v, uuid_nil
    UNION ALL
    SELECT 'user_on_volume', volume_id, user_id, '', '', quota_used, 0 FROM user_quotas
    UNION ALL
    SELECT 'app_on_volume', volume_id, uuid_nil.id, '', app_id, quota_used, 0 FROM app_quotas, uuid_nil
    UNION ALL
    SELECT entity_type, uuid_nil.id, coalesce(user_id, uuid_nil.id), organisation_id,
           CASE entity_type WHEN 'project' THEN entity_id ELSE '' END, used_storage_bytes, used_files
    FROM storage_quotas, uuid_nil
)
SELECT kind, volume_id, user_id, organisation, name,
       coalesce(counted.bytes, 0)::bigint AS counted_bytes, coalesce(actual.bytes, 0)::bigint AS actual_bytes,
       coalesce(counted.files, 0)::bigint AS counted_files, coalesce(actual.files, 0)::bigint AS actual_files
FROM counted FULL JOIN actual USING (kind, volume_id, user_id, organisation, name)
WHERE coalesce(counted.bytes, 0) <> coalesce(actual.bytes, 0) OR coalesce(counted.files, 0) <> coalesce(actual.files, 0)
ORDER BY kind, volume_id, user_id, organisation, name";

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
}

/// Every quota whose counter differs from what versions and files add up to.
pub(crate) async fn drift(c: &AsyncPgConnection) -> Step<Vec<Drift>> {
    let rows: Vec<Row> = diesel::sql_query(DRIFT).load(&mut &*c).await?;
    rows.into_iter().map(Row::into_drift).collect()
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
        })
    }
}
