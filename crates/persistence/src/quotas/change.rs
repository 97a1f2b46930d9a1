//! Counters of quotas, changed: one statement per table, however many they are.

use std::ops::Add;

use coffer_domain::quota::{Charge, Drift, Hold, QuotaKey, Usage};
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;

use super::row::Places;
use crate::cached::Cached;
use crate::error::{Step, too_large};

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
    pub(super) fn repairing(drift: &Drift) -> Self {
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

    /// Makes these changes to what is known of a quota.
    pub(super) fn apply(self, usage: &mut Usage) {
        for (number, change) in [
            (&mut usage.used_bytes, self.used_bytes),
            (&mut usage.used_files, self.used_files),
            (&mut usage.reserved_bytes, self.reserved_bytes),
            (&mut usage.reserved_files, self.reserved_files),
        ] {
            *number = number.saturating_add_signed(change);
        }
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

/// The statement that changes counters by keys. It locks the rows in the order of the keys, then finds them by their ids,
/// so that no plan reads more of the table than that.
macro_rules! change {
    ($keys:literal, $table:literal, $is_it:literal, $set:literal) => {
        concat!(
            "WITH d AS MATERIALIZED (
                SELECT row.id, k.used_bytes, k.used_files, k.reserved_bytes, k.reserved_files FROM ",
            $keys,
            "   CROSS JOIN LATERAL (SELECT id FROM ",
            $table,
            " WHERE ",
            $is_it,
            " FOR NO KEY UPDATE) AS row
            )
            UPDATE ",
            $table,
            " q SET ",
            $set,
            " FROM d WHERE q.id = d.id AND q.id = ANY (ARRAY (SELECT id FROM d))"
        )
    };
}

/// Changes counters, in the order of the keys. Never below 0, so that giving back always works: a counter that was wrong is
/// told by `drift`.
pub(super) async fn write(c: &AsyncPgConnection, changes: &[(QuotaKey, Change)]) -> Step<()> {
    const VOLUMES: &str = change!(
        "unnest($1, $2, $3, $4, $5) AS k (used_bytes, used_files, reserved_bytes, reserved_files, volume_id)",
        "storage_volumes",
        "id = k.volume_id",
        "quota_used = greatest(q.quota_used + d.used_bytes, 0), quota_reserved = greatest(q.quota_reserved + d.reserved_bytes, 0)"
    );
    const USERS: &str = change!(
        "unnest($1, $2, $3, $4, $5, $6) AS k (used_bytes, used_files, reserved_bytes, reserved_files, user_id, volume_id)",
        "user_quotas",
        "user_id = k.user_id AND volume_id = k.volume_id",
        "quota_used = greatest(q.quota_used + d.used_bytes, 0), quota_reserved = greatest(q.quota_reserved + d.reserved_bytes, 0), updated_at = now()"
    );
    const APPS: &str = change!(
        "unnest($1, $2, $3, $4, $5, $6) AS k (used_bytes, used_files, reserved_bytes, reserved_files, app_id, volume_id)",
        "app_quotas",
        "app_id = k.app_id AND volume_id = k.volume_id",
        "quota_used = greatest(q.quota_used + d.used_bytes, 0), quota_reserved = greatest(q.quota_reserved + d.reserved_bytes, 0), updated_at = now()"
    );
    const ENTITIES: &str = change!(
        "unnest($1, $2, $3, $4, $5, $6, $7) AS k (used_bytes, used_files, reserved_bytes, reserved_files, kind, organisation, id)",
        "storage_quotas", "entity_type = k.kind AND organisation_id = k.organisation AND entity_id = k.id",
        "used_storage_bytes = greatest(q.used_storage_bytes + d.used_bytes, 0), used_files = greatest(q.used_files + d.used_files, 0),
         reserved_storage_bytes = greatest(q.reserved_storage_bytes + d.reserved_bytes, 0),
         reserved_files = greatest(q.reserved_files + d.reserved_files, 0), updated_at = now()"
    );
    let Places { volumes, users, apps, entities } = Places::of(changes.iter().map(|(key, _)| key));
    let counted = |statement: &'static str, n: &[i32]| {
        let of = |number: fn(&Change) -> i64| -> Vec<i64> {
            n.iter()
                .filter_map(|n| changes.get(usize::try_from(*n).ok()?))
                .map(|(_, change)| number(change))
                .collect()
        };
        diesel::sql_query(statement)
            .bind::<Array<BigInt>, _>(of(|change| change.used_bytes))
            .bind::<Array<BigInt>, _>(of(|change| change.used_files))
            .bind::<Array<BigInt>, _>(of(|change| change.reserved_bytes))
            .bind::<Array<BigInt>, _>(of(|change| change.reserved_files))
    };
    let of_volumes = async {
        if volumes.n.is_empty() {
            return Ok(0);
        }
        let update = counted(VOLUMES, &volumes.n).bind::<Array<SqlUuid>, _>(&volumes.volume);
        Cached(update).execute(&mut &*c).await
    };
    let of_users = async {
        if users.n.is_empty() {
            return Ok(0);
        }
        let update = counted(USERS, &users.n)
            .bind::<Array<SqlUuid>, _>(&users.user)
            .bind::<Array<SqlUuid>, _>(&users.volume);
        Cached(update).execute(&mut &*c).await
    };
    let of_apps = async {
        if apps.n.is_empty() {
            return Ok(0);
        }
        let update =
            counted(APPS, &apps.n).bind::<Array<Text>, _>(&apps.app).bind::<Array<SqlUuid>, _>(&apps.volume);
        Cached(update).execute(&mut &*c).await
    };
    let of_entities = async {
        if entities.n.is_empty() {
            return Ok(0);
        }
        let update = counted(ENTITIES, &entities.n)
            .bind::<Array<Text>, _>(&entities.kind)
            .bind::<Array<Text>, _>(&entities.organisation)
            .bind::<Array<Text>, _>(&entities.id);
        Cached(update).execute(&mut &*c).await
    };
    try_join!(of_volumes, of_users, of_apps, of_entities)?;
    Ok(())
}
