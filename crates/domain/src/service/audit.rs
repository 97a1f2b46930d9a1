//! The audit trail: reading it, and recording refused credentials in aggregate.

use super::{Coffer, Trail};
use crate::{
    Error, Result,
    caller::Caller,
    error::Unauthenticated,
    operation::{Filter, Operation, OperationKind},
    page::{Page, PageRequest},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Most sources counted apart between two recordings; more are counted together.
const MAX_SOURCES: usize = 10_000;

/// A record as written, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Decoded from the record.
    pub operation: Operation,
    /// The canonical bytes.
    pub record: Vec<u8>,
}

impl Coffer {
    /// Operations of the caller's organisation, newest first. For auditors; itself recorded.
    pub async fn list_operations(
        &self,
        caller: &Caller,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded>> {
        let (filter, page, caller) = (filter.clone(), page.clone(), caller.clone());
        self.audited(caller.operation(OperationKind::ReadOperations), move |me, trail| async move {
            let organisation = caller.must_audit()?.organisation.clone();
            let found = me.store().operations(&organisation, &filter, &page).await?;
            let items = found
                .items
                .into_iter()
                .map(|record| {
                    let operation = Operation::from_record(&record)
                        .map_err(|e| Error::internal("read an audit record", e))?;
                    Ok(Recorded { operation, record })
                })
                .collect::<Result<Vec<_>>>()?;
            me.seen(&trail, items.len()).await?;
            Ok(Page { items, next: found.next })
        })
        .await
    }

    /// Writes what was counted of refused credentials since the last time.
    pub async fn tend(&self) -> Result<()> {
        let counted = self.0.refusals.take();
        if counted.is_empty() {
            return Ok(());
        }
        let operations: Vec<_> = counted
            .iter()
            .map(|((source, why), count)| {
                let caller = Caller { client_ip: *source, ..Caller::service() };
                let operation = caller
                    .operation(OperationKind::Authenticate)
                    .failed(&Error::Unauthenticated(*why))
                    .with("count", *count);
                Operation { node_id: Some(self.0.start.node), ..operation }
            })
            .collect();
        let outcome = self.store().record(&operations).await;
        if outcome.is_err() {
            self.0.refusals.put_back(counted);
        }
        outcome
    }

    /// Records a look at something that changed nothing.
    pub(super) async fn seen(&self, trail: &Trail, items: usize) -> Result<()> {
        self.store().record(&[trail.operation().with("items", items)]).await
    }
}

type Counts = HashMap<(Option<IpAddr>, Unauthenticated), u64>;

/// Refused credentials since the last recording.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Counts>);

impl Refusals {
    pub(super) fn count(&self, source: Option<IpAddr>, why: Unauthenticated) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = counts.len() >= MAX_SOURCES && !counts.contains_key(&(source, why));
        *counts.entry((source.filter(|_| !is_full), why)).or_default() += 1;
    }

    fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, counted: Counts) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, count) in counted {
            *counts.entry(key).or_default() += count;
        }
    }
}
