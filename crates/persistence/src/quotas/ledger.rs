//! Quotas of many at once: what is left after those who came before.

use std::collections::{BTreeMap, BTreeSet};

use coffer_domain::error::Error;
use coffer_domain::quota::{Charge, Exhausted, QuotaKey, Usage};
use diesel_async::AsyncPgConnection;

use super::{Change, change, find, lock_found, no_volume};
use crate::error::Step;

/// What is known of quotas in one transaction, and what it changes.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    usages: BTreeMap<QuotaKey, Usage>,
    changes: BTreeMap<QuotaKey, Change>,
}

impl Ledger {
    /// Locks quotas until the transaction ends, and makes the rows that are not there.
    pub(crate) async fn lock(c: &AsyncPgConnection, keys: &BTreeSet<QuotaKey>) -> Step<Self> {
        Ok(Self { usages: lock_found(c, keys).await?, ..Self::default() })
    }

    /// Quotas as they are now, of which nothing is to be changed.
    pub(crate) async fn peek(c: &AsyncPgConnection, keys: &BTreeSet<QuotaKey>) -> Step<Self> {
        let keys: Vec<QuotaKey> = keys.iter().cloned().collect();
        let rows = find::find(c, &keys, false).await?;
        let usage = |(key, row): (QuotaKey, Option<super::row::Row>)| {
            (key, row.map(|row| row.usage()).unwrap_or_default())
        };
        Ok(Self { usages: keys.into_iter().zip(rows).map(usage).collect(), ..Self::default() })
    }

    /// Whether it has all of these.
    pub(crate) fn has(&self, keys: &[QuotaKey]) -> bool {
        keys.iter().all(|key| self.usages.contains_key(key))
    }

    /// What is in the way of a charge beside all that was noted before. `NotFound` if the quota's volume is not there.
    pub(crate) fn exhausted(&self, key: &QuotaKey, charge: Charge) -> Result<Vec<Exhausted>, Error> {
        let usage = self.usages.get(key).ok_or_else(|| no_volume(key))?;
        Ok(usage.exhausted(key, charge))
    }

    /// Notes a change, for whoever comes next and for [`write`](Self::write).
    pub(crate) fn note(&mut self, key: QuotaKey, change: Change) {
        if let Some(usage) = self.usages.get_mut(&key) {
            change.apply(usage);
        }
        let sum = self.changes.entry(key).or_default();
        *sum = *sum + change;
    }

    /// Changes the counters by all that was noted, in one round trip.
    pub(crate) async fn write(&self, c: &AsyncPgConnection) -> Step<()> {
        change(c, self.changes.iter().map(|(key, change)| (key.clone(), *change))).await
    }
}
