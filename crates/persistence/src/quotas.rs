//! Quotas: six dimensions in four tables, counted in the transaction of what they count.
//!
//! Rows are locked before any file's, in the order of [`QuotaKey`]; whoever took them in another order would sooner or
//! later wait for somebody who waits for him.

use std::collections::BTreeMap;
use std::ops::Add;

use coffer_domain::error::{Error, Resource};
use coffer_domain::file::Payer;
use coffer_domain::quota::{Charge, Drift, Exhausted, Hold, Quota, QuotaKey, Usage};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::{Step, too_large};
use row::{Place, Row, columns, create, find, place};

pub(crate) use drift::{drift, recalculate};
pub(crate) use list::list;
pub(crate) use set::set;

mod drift;
mod list;
mod row;
mod set;

/// A quota whose row is locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) key: QuotaKey,
    pub(crate) usage: Usage,
}

/// Locks these quotas, which have to be in their order, and makes the rows that are not there.
pub(crate) async fn lock(c: &AsyncPgConnection, keys: Vec<QuotaKey>) -> Step<Vec<Locked>> {
    debug_assert!(keys.is_sorted(), "rows are locked in one order");
    // Nearly always all are there, and one round trip has them all, locked one after the other.
    let mut rows = try_join_all(keys.iter().map(|key| find(c, key, true))).await?;
    for (key, row) in keys.iter().zip(&mut rows).filter(|(_, row)| row.is_none()) {
        create(c, key).await?;
        *row = find(c, key, true).await?;
    }
    keys.into_iter()
        .zip(rows)
        .map(|(key, row)| {
            let row = row.ok_or_else(|| no_volume(&key))?;
            Ok(Locked { key, usage: row.usage() })
        })
        .collect()
}

/// The refusal of a quota on a volume that is not there: no other row is missing after it was made.
fn no_volume(key: &QuotaKey) -> Error {
    let volume = match key {
        QuotaKey::Volume(volume) | QuotaKey::UserOnVolume(_, volume) | QuotaKey::AppOnVolume(_, volume) => {
            volume.to_string()
        }
        QuotaKey::User { .. } | QuotaKey::Organisation(_) | QuotaKey::Project { .. } => String::new(),
    };
    Error::NotFound(Resource::Volume(volume))
}

/// Refuses a charge that does not fit into every one of them.
pub(crate) fn check(quotas: &[Locked], charge: Charge) -> Step<()> {
    refuse(quotas.iter().flat_map(|quota| quota.usage.exhausted(&quota.key, charge)).collect())
}

/// Refuses if anything is exhausted.
pub(crate) fn refuse(exhausted: Vec<Exhausted>) -> Step<()> {
    if exhausted.is_empty() { Ok(()) } else { Err(Error::QuotaExceeded(exhausted).into()) }
}

/// By how much the counters of a quota change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    used_bytes: i64,
    used_files: i64,
    reserved_bytes: i64,
    reserved_files: i64,
}

impl Change {
    /// What a charge adds to what is used.
    pub(crate) fn charged(charge: Charge) -> Step<Self> {
        let difference = |add: u64, free: u64| {
            Ok::<_, std::num::TryFromIntError>(i64::try_from(add)? - i64::try_from(free)?)
        };
        Ok(Self {
            used_bytes: difference(charge.add_bytes, charge.free_bytes).map_err(too_large)?,
            used_files: difference(charge.add_files, charge.free_files).map_err(too_large)?,
            ..Self::default()
        })
    }

    /// What makes counters right that were counted wrong.
    fn repairing(drift: &Drift) -> Self {
        Self {
            used_bytes: drift.actual_bytes - drift.counted_bytes,
            used_files: drift.actual_files - drift.counted_files,
            reserved_bytes: drift.actual_reserved_bytes - drift.counted_reserved_bytes,
            reserved_files: drift.actual_reserved_files - drift.counted_reserved_files,
        }
    }

    /// What is held from now on.
    pub(crate) fn held(hold: Hold) -> Step<Self> {
        Ok(Self {
            reserved_bytes: hold.bytes.try_into().map_err(too_large)?,
            reserved_files: hold.files.try_into().map_err(too_large)?,
            ..Self::default()
        })
    }

    /// What is not held any more.
    pub(crate) fn released(hold: Hold) -> Step<Self> {
        let held = Self::held(hold)?;
        Ok(Self { reserved_bytes: -held.reserved_bytes, reserved_files: -held.reserved_files, ..held })
    }
}

impl Add for Change {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            used_bytes: self.used_bytes.saturating_add(other.used_bytes),
            used_files: self.used_files.saturating_add(other.used_files),
            reserved_bytes: self.reserved_bytes.saturating_add(other.reserved_bytes),
            reserved_files: self.reserved_files.saturating_add(other.reserved_files),
        }
    }
}

/// Changes counters. The keys are in their order, so that rows which are not locked yet are locked in it.
pub(crate) async fn change(
    c: &AsyncPgConnection,
    changes: impl IntoIterator<Item = (QuotaKey, Change)>,
) -> Step<()> {
    let changes = changes.into_iter().filter(|(_, change)| *change != Change::default());
    try_join_all(changes.map(|(key, change)| add(c, key, change))).await?;
    Ok(())
}

/// Gives back what ended uploads held, each quota's row once.
pub(crate) async fn release<'p>(
    c: &AsyncPgConnection,
    held: impl IntoIterator<Item = (&'p Payer, Hold)>,
) -> Step<()> {
    let mut sums = BTreeMap::<QuotaKey, Change>::new();
    for (payer, hold) in held {
        if hold == Hold::default() {
            continue;
        }
        let released = Change::released(hold)?;
        for key in payer.quotas() {
            let sum = sums.entry(key).or_default();
            *sum = *sum + released;
        }
    }
    change(c, sums).await
}

// Never below 0, so that giving back always works: a counter that was wrong is told by `drift`.
async fn add(c: &AsyncPgConnection, key: QuotaKey, change: Change) -> Step<()> {
    const VOLUME: &str = "UPDATE storage_volumes
        SET quota_used = greatest(quota_used + $2, 0), quota_reserved = greatest(quota_reserved + $3, 0)
        WHERE id = $1";
    const USER_ON_VOLUME: &str = "UPDATE user_quotas
        SET quota_used = greatest(quota_used + $3, 0), quota_reserved = greatest(quota_reserved + $4, 0),
            updated_at = now()
        WHERE user_id = $1 AND volume_id = $2";
    const APP_ON_VOLUME: &str = "UPDATE app_quotas
        SET quota_used = greatest(quota_used + $3, 0), quota_reserved = greatest(quota_reserved + $4, 0),
            updated_at = now()
        WHERE app_id = $1 AND volume_id = $2";
    const ENTITY: &str = "UPDATE storage_quotas
        SET used_storage_bytes = greatest(used_storage_bytes + $4, 0), used_files = greatest(used_files + $5, 0),
            reserved_storage_bytes = greatest(reserved_storage_bytes + $6, 0),
            reserved_files = greatest(reserved_files + $7, 0), updated_at = now()
        WHERE entity_type = $1 AND organisation_id = $2 AND entity_id = $3";
    let Change { used_bytes, used_files, reserved_bytes, reserved_files } = change;
    match place(&key) {
        Place::Volume(volume) => {
            let update = diesel::sql_query(VOLUME)
                .bind::<SqlUuid, _>(volume)
                .bind::<BigInt, _>(used_bytes)
                .bind::<BigInt, _>(reserved_bytes);
            Cached(update).execute(&mut &*c).await?
        }
        Place::UserOnVolume(user, volume) => {
            let update = diesel::sql_query(USER_ON_VOLUME)
                .bind::<SqlUuid, _>(user)
                .bind::<SqlUuid, _>(volume)
                .bind::<BigInt, _>(used_bytes)
                .bind::<BigInt, _>(reserved_bytes);
            Cached(update).execute(&mut &*c).await?
        }
        Place::AppOnVolume(app, volume) => {
            let update = diesel::sql_query(APP_ON_VOLUME)
                .bind::<Text, _>(app)
                .bind::<SqlUuid, _>(volume)
                .bind::<BigInt, _>(used_bytes)
                .bind::<BigInt, _>(reserved_bytes);
            Cached(update).execute(&mut &*c).await?
        }
        Place::Entity { kind, organisation, id, .. } => {
            let update = diesel::sql_query(ENTITY)
                .bind::<Text, _>(kind)
                .bind::<Text, _>(organisation)
                .bind::<Text, _>(id)
                .bind::<BigInt, _>(used_bytes)
                .bind::<BigInt, _>(used_files)
                .bind::<BigInt, _>(reserved_bytes)
                .bind::<BigInt, _>(reserved_files);
            Cached(update).execute(&mut &*c).await?
        }
    };
    Ok(())
}

/// These quotas; those without a row as never used.
pub(crate) async fn read(c: &AsyncPgConnection, keys: &[QuotaKey]) -> Step<Vec<Quota>> {
    let rows = try_join_all(keys.iter().map(|key| find(c, key, false))).await?;
    let unused = |key: &QuotaKey| Quota { key: key.clone(), usage: Usage::default(), updated_at: None };
    let quota =
        |(key, row): (&QuotaKey, Option<Row>)| row.map_or_else(|| unused(key), |row| row.quota(key.clone()));
    Ok(keys.iter().zip(rows).map(quota).collect())
}

/// What is in the way of a charge as of now, without a lock: to refuse early what will hardly fit later.
pub(crate) async fn in_the_way(c: &AsyncPgConnection, payer: &Payer, charge: Charge) -> Step<Vec<Exhausted>> {
    #[derive(QueryableByName)]
    struct Limited {
        #[diesel(sql_type = Integer)]
        kind: i32,
        #[diesel(embed)]
        row: Row,
    }
    // One statement for all of them, and only those that limit anything, because uploads that hold nothing are the many
    // small ones.
    const LIMITED: &str = concat!(
        "SELECT 0 AS kind, ",
        columns!(volume),
        " FROM storage_volumes WHERE id = $1 AND quota_limit IS NOT NULL
        UNION ALL SELECT 1, ",
        columns!(volume),
        " FROM user_quotas WHERE user_id = $2 AND volume_id = $1 AND quota_limit IS NOT NULL
        UNION ALL SELECT 2, ",
        columns!(volume),
        " FROM app_quotas WHERE app_id = $3 AND volume_id = $1 AND quota_limit IS NOT NULL
        UNION ALL SELECT 3, ",
        columns!(entity),
        " FROM storage_quotas
        WHERE entity_type = 'user' AND organisation_id = $4 AND entity_id = $2::text
            AND is_active AND coalesce(max_storage_bytes, max_files, max_file_size_bytes) IS NOT NULL
        UNION ALL SELECT 4, ",
        columns!(entity),
        " FROM storage_quotas
        WHERE entity_type = 'organization' AND organisation_id = $4 AND entity_id = $4
            AND is_active AND coalesce(max_storage_bytes, max_files, max_file_size_bytes) IS NOT NULL
        UNION ALL SELECT 5, ",
        columns!(entity),
        " FROM storage_quotas
        WHERE entity_type = 'project' AND organisation_id = $4 AND entity_id = $5
            AND is_active AND coalesce(max_storage_bytes, max_files, max_file_size_bytes) IS NOT NULL",
    );
    let limited = diesel::sql_query(LIMITED)
        .bind::<SqlUuid, _>(payer.volume.uuid())
        .bind::<Nullable<SqlUuid>, _>(payer.user.map(Uuid::from))
        .bind::<Nullable<Text>, _>(payer.app.as_deref())
        .bind::<Text, _>(&payer.organisation)
        .bind::<Nullable<Text>, _>(payer.project.as_deref());
    let limited: Vec<Limited> = Cached(limited).load(&mut &*c).await?;
    let of = |key: &QuotaKey| {
        let kind = match key {
            QuotaKey::Volume(_) => 0,
            QuotaKey::UserOnVolume(..) => 1,
            QuotaKey::AppOnVolume(..) => 2,
            QuotaKey::User { .. } => 3,
            QuotaKey::Organisation(_) => 4,
            QuotaKey::Project { .. } => 5,
        };
        limited.iter().find(|limited| limited.kind == kind)
    };
    let keys = payer.quotas();
    Ok(keys
        .iter()
        .filter_map(|key| of(key).map(|limited| limited.row.usage().exhausted(key, charge)))
        .flatten()
        .collect())
}
