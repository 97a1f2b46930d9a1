//! Limits, set by operators and admins.

use coffer_domain::error::Error;
use coffer_domain::quota::{Limits, Quota, QuotaKey};
use diesel::OptionalExtension;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::no_volume;
use super::row::{Place, Row, columns, place};
use crate::cached::Cached;
use crate::error::{Step, too_large};

/// Sets the limits of a quota; its volume, if it has one, is held against being deleted meanwhile.
pub(crate) async fn set(c: &AsyncPgConnection, key: &QuotaKey, limits: &Limits) -> Step<Quota> {
    // Its limit is one of a volume's settings, and whoever changes those next has to have seen it.
    const VOLUME: &str = concat!(
        "UPDATE storage_volumes
         SET quota_limit = $2, updated_at = greatest(now(), updated_at + interval '1 microsecond')
         WHERE id = $1 AND deleted_at IS NULL RETURNING ",
        columns!(volume)
    );
    const USER_ON_VOLUME: &str = concat!(
        "INSERT INTO user_quotas (id, user_id, volume_id, quota_limit)
         SELECT $1, $2, v.id, $4
         FROM (SELECT id FROM storage_volumes WHERE id = $3 AND deleted_at IS NULL FOR KEY SHARE) v
         ON CONFLICT (user_id, volume_id) DO UPDATE SET quota_limit = excluded.quota_limit, updated_at = now()
         RETURNING ",
        columns!(volume)
    );
    const APP_ON_VOLUME: &str = concat!(
        "INSERT INTO app_quotas (id, app_id, volume_id, quota_limit)
         SELECT $1, $2, v.id, $4
         FROM (SELECT id FROM storage_volumes WHERE id = $3 AND deleted_at IS NULL FOR KEY SHARE) v
         ON CONFLICT (app_id, volume_id) DO UPDATE SET quota_limit = excluded.quota_limit, updated_at = now()
         RETURNING ",
        columns!(volume)
    );
    const ENTITY: &str = concat!(
        "INSERT INTO storage_quotas (id, entity_type, organisation_id, entity_id, user_id, max_storage_bytes, max_files,
             max_file_size_bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (entity_type, organisation_id, entity_id) DO UPDATE
         SET max_storage_bytes = excluded.max_storage_bytes, max_files = excluded.max_files,
             max_file_size_bytes = excluded.max_file_size_bytes, is_active = true, updated_at = now()
         RETURNING ",
        columns!(entity)
    );
    let number = |n: Option<u64>| n.map(i64::try_from).transpose().map_err(too_large);
    let bytes = number(limits.bytes)?;
    let id = Uuid::now_v7();
    let row: Option<Row> = match place(key) {
        Place::Volume(volume) => {
            let update =
                diesel::sql_query(VOLUME).bind::<SqlUuid, _>(volume).bind::<Nullable<BigInt>, _>(bytes);
            Cached(update).get_result(&mut &*c).await
        }
        Place::UserOnVolume(user, volume) => {
            let upsert = diesel::sql_query(USER_ON_VOLUME)
                .bind::<SqlUuid, _>(id)
                .bind::<SqlUuid, _>(user)
                .bind::<SqlUuid, _>(volume)
                .bind::<Nullable<BigInt>, _>(bytes);
            Cached(upsert).get_result(&mut &*c).await
        }
        Place::AppOnVolume(app, volume) => {
            let upsert = diesel::sql_query(APP_ON_VOLUME)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(app)
                .bind::<SqlUuid, _>(volume)
                .bind::<Nullable<BigInt>, _>(bytes);
            Cached(upsert).get_result(&mut &*c).await
        }
        Place::Entity { kind, organisation, id: entity, user } => {
            let upsert = diesel::sql_query(ENTITY)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(kind)
                .bind::<Text, _>(organisation)
                .bind::<Text, _>(entity)
                .bind::<Nullable<SqlUuid>, _>(user)
                .bind::<Nullable<BigInt>, _>(bytes)
                .bind::<Nullable<Integer>, _>(files(limits.files)?)
                .bind::<Nullable<BigInt>, _>(number(limits.max_file_bytes)?);
            Cached(upsert).get_result(&mut &*c).await
        }
    }
    .optional()?;
    let row = row.ok_or_else(|| no_volume(key))?;
    Ok(row.quota(key.clone()))
}

/// Files are counted in 32 bits.
fn files(limit: Option<u64>) -> Step<Option<i32>> {
    let too_many = |_| Error::invalid("limit_files", "must be at most 2,147,483,647");
    Ok(limit.map(i32::try_from).transpose().map_err(too_many)?)
}
