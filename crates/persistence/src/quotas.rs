//! Quotas: six dimensions in four tables, counted in the transaction of what they count.
//!
//! Rows are locked before any file's, in the order of [`QuotaKey`]; whoever took them in another order would sooner or
//! later wait for somebody who waits for him.

use std::collections::{BTreeMap, BTreeSet};

use coffer_domain::error::{Error, Resource};
use coffer_domain::file::Payer;
use coffer_domain::quota::{Charge, Exhausted, Hold, Quota, QuotaKey, Usage};
use diesel_async::AsyncPgConnection;

use crate::error::Step;

pub(crate) use change::Change;
pub(crate) use drift::{drift, recalculate};
pub(crate) use ledger::Ledger;
pub(crate) use list::list;
pub(crate) use set::set;

mod change;
mod drift;
mod find;
mod ledger;
mod list;
mod row;
mod set;

/// A quota whose row is locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) key: QuotaKey,
    pub(crate) usage: Usage,
}

/// Locks these quotas, and makes the rows that are not there. `NotFound` if one is on a volume that is not.
pub(crate) async fn lock(c: &AsyncPgConnection, keys: Vec<QuotaKey>) -> Step<Vec<Locked>> {
    let mut usages = lock_found(c, &keys.iter().cloned().collect()).await?;
    let locked = |key: QuotaKey| {
        let usage = usages.remove(&key).ok_or_else(|| no_volume(&key))?;
        Ok(Locked { key, usage })
    };
    keys.into_iter().map(locked).collect()
}

/// Locks these quotas, and makes the rows that are not there. Those on volumes that are not there are left out.
async fn lock_found(c: &AsyncPgConnection, keys: &BTreeSet<QuotaKey>) -> Step<BTreeMap<QuotaKey, Usage>> {
    let keys: Vec<QuotaKey> = keys.iter().cloned().collect();
    // Nearly always all are there, and one round trip has them all, locked one after the other.
    let mut rows = find::find(c, &keys, true).await?;
    if rows.iter().any(Option::is_none) {
        let is_missing = |(key, row): (&QuotaKey, &Option<row::Row>)| row.is_none().then(|| key.clone());
        let missing: Vec<QuotaKey> = keys.iter().zip(&rows).filter_map(is_missing).collect();
        find::create(c, &missing).await?;
        rows = find::find(c, &keys, true).await?;
    }
    Ok(keys.into_iter().zip(rows).filter_map(|(key, row)| Some((key, row?.usage()))).collect())
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

/// Changes counters, each quota's once. Rows that are not locked yet are locked in the order of their keys.
pub(crate) async fn change(
    c: &AsyncPgConnection,
    changes: impl IntoIterator<Item = (QuotaKey, Change)>,
) -> Step<()> {
    let mut changes: Vec<_> =
        changes.into_iter().filter(|(_, change)| *change != Change::default()).collect();
    changes.sort_by(|(one, _), (other, _)| one.cmp(other));
    change::write(c, &changes).await
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

/// These quotas; those without a row as never used.
pub(crate) async fn read(c: &AsyncPgConnection, keys: &[QuotaKey]) -> Step<Vec<Quota>> {
    let rows = find::find(c, keys, false).await?;
    let unused = |key: &QuotaKey| Quota { key: key.clone(), usage: Usage::default(), updated_at: None };
    let quota = |(key, row): (&QuotaKey, Option<row::Row>)| {
        row.map_or_else(|| unused(key), |row| row.quota(key.clone()))
    };
    Ok(keys.iter().zip(rows).map(quota).collect())
}
