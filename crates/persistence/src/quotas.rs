//! Quotas: six dimensions in four tables, counted in the transaction of what they count.
//!
//! Rows are locked before any file's, in the order of [`Payer::quotas`]; whoever took them in another order would sooner
//! or later wait for somebody who waits for him.

use coffer_domain::file::Payer;
use coffer_domain::quota::{Charge, Exhausted, Quota, QuotaKey, Usage};
use coffer_domain::time::Timestamp;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{ExpressionMethods, OptionalExtension, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, too_large};
use crate::schema::{app_quotas, storage_quotas, user_quotas};

pub(crate) use drift::drift;

mod drift;

/// A quota's row, locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Locked {
    key: QuotaKey,
    id: Uuid,
    usage: Usage,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
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
    fn usage(&self) -> Usage {
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
}

/// Locks every row a payer is charged on, and makes those that are not there.
pub(crate) async fn lock(c: &AsyncPgConnection, payer: &Payer) -> Step<Vec<Locked>> {
    let keys = payer.quotas();
    // Nearly always all are there, and one round trip has them all, locked one after the other.
    let mut rows = try_join_all(keys.iter().map(|key| find(c, key, true))).await?;
    for (key, row) in keys.iter().zip(&mut rows).filter(|(_, row)| row.is_none()) {
        create(c, key).await?;
        *row = find(c, key, true).await?;
    }
    keys.into_iter()
        .zip(rows)
        .map(|(key, row)| {
            // Only a volume's row is not made on first use.
            let row = row.ok_or(diesel::result::Error::NotFound)?;
            Ok(Locked { key, id: row.id, usage: row.usage() })
        })
        .collect()
}

/// Everything that is in the way of a charge.
pub(crate) fn exhausted(quotas: &[Locked], charge: Charge) -> Vec<Exhausted> {
    quotas.iter().flat_map(|quota| quota.usage.exhausted(&quota.key, charge)).collect()
}

/// Counts a charge on all of them.
pub(crate) async fn count(c: &AsyncPgConnection, quotas: &[Locked], charge: Charge) -> Step<()> {
    let difference =
        |add: u64, free: u64| Ok::<_, std::num::TryFromIntError>(i64::try_from(add)? - i64::try_from(free)?);
    let bytes = difference(charge.add_bytes, charge.free_bytes).map_err(too_large)?;
    let files = difference(charge.add_files, charge.free_files).map_err(too_large)?;
    try_join_all(quotas.iter().map(|quota| add(c, quota, bytes, files))).await?;
    Ok(())
}

async fn add(c: &AsyncPgConnection, quota: &Locked, bytes: i64, files: i64) -> Step<()> {
    let on_volume = match place(&quota.key) {
        Place::Volume(_) => "UPDATE storage_volumes SET quota_used = quota_used + $2 WHERE id = $1",
        Place::UserOnVolume(..) => {
            "UPDATE user_quotas SET quota_used = quota_used + $2, updated_at = now() WHERE id = $1"
        }
        Place::AppOnVolume(..) => {
            "UPDATE app_quotas SET quota_used = quota_used + $2, updated_at = now() WHERE id = $1"
        }
        Place::Entity { .. } => {
            let update = diesel::sql_query(
                "UPDATE storage_quotas SET used_storage_bytes = used_storage_bytes + $2, used_files = used_files + $3,
                 updated_at = now() WHERE id = $1",
            );
            let update =
                update.bind::<SqlUuid, _>(quota.id).bind::<BigInt, _>(bytes).bind::<BigInt, _>(files);
            Cached(update).execute(&mut &*c).await?;
            return Ok(());
        }
    };
    let update = diesel::sql_query(on_volume).bind::<SqlUuid, _>(quota.id).bind::<BigInt, _>(bytes);
    Cached(update).execute(&mut &*c).await?;
    Ok(())
}

/// These quotas; those without a row as never used.
pub(crate) async fn read(c: &AsyncPgConnection, keys: &[QuotaKey]) -> Step<Vec<Quota>> {
    let rows = try_join_all(keys.iter().map(|key| find(c, key, false))).await?;
    let quota = |(key, row): (&QuotaKey, Option<Row>)| Quota {
        key: key.clone(),
        usage: row.as_ref().map(Row::usage).unwrap_or_default(),
        updated_at: row.map(|row| row.updated_at),
    };
    Ok(keys.iter().zip(rows).map(quota).collect())
}

macro_rules! select {
    (volume $end:literal) => {
        concat!(
            "SELECT id, quota_limit AS limit_bytes, quota_used AS used_bytes, quota_reserved AS reserved_bytes,
             NULL::bigint AS limit_files, 0::bigint AS used_files, 0::bigint AS reserved_files,
             NULL::bigint AS max_file_bytes, updated_at ",
            $end
        )
    };
    (entity $end:literal) => {
        concat!(
            "SELECT id, CASE WHEN is_active THEN max_storage_bytes END AS limit_bytes,
             used_storage_bytes AS used_bytes, reserved_storage_bytes AS reserved_bytes,
             CASE WHEN is_active THEN max_files END::bigint AS limit_files, used_files::bigint AS used_files,
             reserved_files::bigint AS reserved_files,
             CASE WHEN is_active THEN max_file_size_bytes END AS max_file_bytes, updated_at
             FROM storage_quotas WHERE entity_type = $1 AND organisation_id = $2 AND entity_id = $3",
            $end
        )
    };
}

// NO KEY: what refers to a volume may be inserted by others meanwhile.
async fn find(c: &AsyncPgConnection, key: &QuotaKey, is_locked: bool) -> Step<Option<Row>> {
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

async fn create(c: &AsyncPgConnection, key: &QuotaKey) -> Step<()> {
    let id = Uuid::now_v7();
    match place(key) {
        // Made with the volume.
        Place::Volume(_) => {}
        Place::UserOnVolume(user, volume) => {
            diesel::insert_into(user_quotas::table)
                .values((
                    user_quotas::id.eq(id),
                    user_quotas::user_id.eq(user),
                    user_quotas::volume_id.eq(volume),
                ))
                .on_conflict_do_nothing()
                .execute(&mut &*c)
                .await?;
        }
        Place::AppOnVolume(app, volume) => {
            diesel::insert_into(app_quotas::table)
                .values((app_quotas::id.eq(id), app_quotas::app_id.eq(app), app_quotas::volume_id.eq(volume)))
                .on_conflict_do_nothing()
                .execute(&mut &*c)
                .await?;
        }
        Place::Entity { kind, organisation, id: entity, user } => {
            diesel::insert_into(storage_quotas::table)
                .values((
                    storage_quotas::id.eq(id),
                    storage_quotas::entity_type.eq(kind),
                    storage_quotas::organisation_id.eq(organisation),
                    storage_quotas::entity_id.eq(entity),
                    storage_quotas::user_id.eq(user),
                ))
                .on_conflict_do_nothing()
                .execute(&mut &*c)
                .await?;
        }
    }
    Ok(())
}

/// Where a quota's row is.
enum Place<'k> {
    /// `storage_volumes`.
    Volume(Uuid),
    /// `user_quotas`.
    UserOnVolume(Uuid, Uuid),
    /// `app_quotas`.
    AppOnVolume(&'k str, Uuid),
    /// `storage_quotas`.
    Entity { kind: &'static str, organisation: &'k str, id: String, user: Option<Uuid> },
}

fn place(key: &QuotaKey) -> Place<'_> {
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
