//! Quotas as rows of four tables, found by their keys.

use coffer_domain::quota::{Quota, QuotaKey, Usage};
use coffer_domain::time::Timestamp;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::Step;

/// What every quota has, whichever table it is in.
#[derive(Debug, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = Nullable<BigInt>)]
    limit_bytes: Option<i64>,
    #[diesel(sql_type = BigInt)]
    used_bytes: i64,
    #[diesel(sql_type = BigInt)]
    reserved_bytes: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    limit_files: Option<i64>,
    #[diesel(sql_type = BigInt)]
    used_files: i64,
    #[diesel(sql_type = BigInt)]
    reserved_files: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_file_bytes: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: Timestamp,
}

impl Row {
    pub(super) fn usage(&self) -> Usage {
        // Every one has a CHECK that it is not negative.
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Usage {
            limit_bytes: self.limit_bytes.map(number),
            used_bytes: number(self.used_bytes),
            reserved_bytes: number(self.reserved_bytes),
            limit_files: self.limit_files.map(number),
            used_files: number(self.used_files),
            reserved_files: number(self.reserved_files),
            max_file_bytes: self.max_file_bytes.map(number),
        }
    }

    pub(super) fn quota(&self, key: QuotaKey) -> Quota {
        Quota { key, usage: self.usage(), updated_at: Some(self.updated_at) }
    }
}

/// The columns of [`Row`] in the tables that count for a volume, and in the one that counts for an entity.
macro_rules! columns {
    (volume) => {
        "quota_limit AS limit_bytes, quota_used AS used_bytes, quota_reserved AS reserved_bytes,
         NULL::bigint AS limit_files, 0::bigint AS used_files, 0::bigint AS reserved_files,
         NULL::bigint AS max_file_bytes, updated_at"
    };
    (entity) => {
        "CASE WHEN is_active THEN max_storage_bytes END AS limit_bytes,
         used_storage_bytes AS used_bytes, reserved_storage_bytes AS reserved_bytes,
         CASE WHEN is_active THEN max_files END::bigint AS limit_files, used_files::bigint AS used_files,
         reserved_files::bigint AS reserved_files,
         CASE WHEN is_active THEN max_file_size_bytes END AS max_file_bytes, updated_at"
    };
}
pub(super) use columns;

macro_rules! select {
    (volume $end:literal) => {
        concat!("SELECT ", columns!(volume), " ", $end)
    };
    (entity $end:literal) => {
        concat!(
            "SELECT ",
            columns!(entity),
            " FROM storage_quotas WHERE entity_type = $1 AND organisation_id = $2 AND entity_id = $3",
            $end
        )
    };
}

// NO KEY: what refers to a volume may be inserted by others meanwhile.
pub(super) async fn find(c: &AsyncPgConnection, key: &QuotaKey, is_locked: bool) -> Step<Option<Row>> {
    let row = match place(key) {
        Place::Volume(volume) => {
            let statement = if is_locked {
                select!(volume "FROM storage_volumes WHERE id = $1 FOR NO KEY UPDATE")
            } else {
                select!(volume "FROM storage_volumes WHERE id = $1")
            };
            let query = diesel::sql_query(statement).bind::<SqlUuid, _>(volume);
            Cached(query).get_result(&mut &*c).await
        }
        Place::UserOnVolume(user, volume) => {
            let statement = if is_locked {
                select!(volume "FROM user_quotas WHERE user_id = $1 AND volume_id = $2 FOR NO KEY UPDATE")
            } else {
                select!(volume "FROM user_quotas WHERE user_id = $1 AND volume_id = $2")
            };
            let query = diesel::sql_query(statement).bind::<SqlUuid, _>(user).bind::<SqlUuid, _>(volume);
            Cached(query).get_result(&mut &*c).await
        }
        Place::AppOnVolume(app, volume) => {
            let statement = if is_locked {
                select!(volume "FROM app_quotas WHERE app_id = $1 AND volume_id = $2 FOR NO KEY UPDATE")
            } else {
                select!(volume "FROM app_quotas WHERE app_id = $1 AND volume_id = $2")
            };
            let query = diesel::sql_query(statement).bind::<Text, _>(app).bind::<SqlUuid, _>(volume);
            Cached(query).get_result(&mut &*c).await
        }
        Place::Entity { kind, organisation, id, .. } => {
            let statement = if is_locked { select!(entity " FOR NO KEY UPDATE") } else { select!(entity "") };
            let query = diesel::sql_query(statement)
                .bind::<Text, _>(kind)
                .bind::<Text, _>(organisation)
                .bind::<Text, _>(id);
            Cached(query).get_result(&mut &*c).await
        }
    };
    Ok(row.optional()?)
}

/// Makes the row of a quota that has none yet. A volume's is made with the volume, and without a volume there is none.
pub(super) async fn create(c: &AsyncPgConnection, key: &QuotaKey) -> Step<()> {
    const USER_ON_VOLUME: &str = "INSERT INTO user_quotas (id, user_id, volume_id)
        SELECT $1, $2, id FROM storage_volumes WHERE id = $3 ON CONFLICT DO NOTHING";
    const APP_ON_VOLUME: &str = "INSERT INTO app_quotas (id, app_id, volume_id)
        SELECT $1, $2, id FROM storage_volumes WHERE id = $3 ON CONFLICT DO NOTHING";
    const ENTITY: &str = "INSERT INTO storage_quotas (id, entity_type, organisation_id, entity_id, user_id)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let id = Uuid::now_v7();
    match place(key) {
        Place::Volume(_) => {}
        Place::UserOnVolume(user, volume) => {
            let insert = diesel::sql_query(USER_ON_VOLUME)
                .bind::<SqlUuid, _>(id)
                .bind::<SqlUuid, _>(user)
                .bind::<SqlUuid, _>(volume);
            Cached(insert).execute(&mut &*c).await?;
        }
        Place::AppOnVolume(app, volume) => {
            let insert = diesel::sql_query(APP_ON_VOLUME)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(app)
                .bind::<SqlUuid, _>(volume);
            Cached(insert).execute(&mut &*c).await?;
        }
        Place::Entity { kind, organisation, id: entity, user } => {
            let insert = diesel::sql_query(ENTITY)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(kind)
                .bind::<Text, _>(organisation)
                .bind::<Text, _>(entity)
                .bind::<Nullable<SqlUuid>, _>(user);
            Cached(insert).execute(&mut &*c).await?;
        }
    }
    Ok(())
}

/// Where a quota's row is.
pub(super) enum Place<'k> {
    /// `storage_volumes`.
    Volume(Uuid),
    /// `user_quotas`.
    UserOnVolume(Uuid, Uuid),
    /// `app_quotas`.
    AppOnVolume(&'k str, Uuid),
    /// `storage_quotas`.
    Entity { kind: &'static str, organisation: &'k str, id: String, user: Option<Uuid> },
}

pub(super) fn place(key: &QuotaKey) -> Place<'_> {
    match key {
        QuotaKey::Volume(volume) => Place::Volume(volume.uuid()),
        QuotaKey::UserOnVolume(user, volume) => Place::UserOnVolume(user.uuid(), volume.uuid()),
        QuotaKey::AppOnVolume(app, volume) => Place::AppOnVolume(app, volume.uuid()),
        QuotaKey::User { organisation, user } => {
            Place::Entity { kind: "user", organisation, id: user.to_string(), user: Some(user.uuid()) }
        }
        QuotaKey::Organisation(organisation) => {
            Place::Entity { kind: "organization", organisation, id: organisation.clone(), user: None }
        }
        QuotaKey::Project { organisation, project } => {
            Place::Entity { kind: "project", organisation, id: project.clone(), user: None }
        }
    }
}
