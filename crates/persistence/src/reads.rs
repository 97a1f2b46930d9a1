//! Reads and what else only leaves a record: any number of them in one transaction.

use std::collections::BTreeMap;

use coffer_domain::id::{FileId, OperationId};
use coffer_domain::operation::Operation;
use diesel_async::AsyncPgConnection;
use futures_util::try_join;

use crate::error::Step;
use crate::pipeline::{Decided, Work};
use crate::{files, operations};

/// The work of `begin_read` and `record`.
pub(crate) struct Reads;

/// What is to be recorded.
#[derive(Debug, Clone)]
pub(crate) enum Read {
    /// A read that begins, and counts as an access.
    Begin(FileId, Box<Operation>),
    /// What changed nothing; had twice, it is as had once.
    Record(Vec<Operation>),
}

/// What a batch writes.
pub(crate) struct Writes {
    /// Accesses by file.
    counts: BTreeMap<FileId, i32>,
    /// Places of the accepted ones.
    accepted: Vec<usize>,
}

impl Work for Reads {
    type Item = Read;
    type Answer = ();
    type Claim = ();
    type Writes = Writes;

    const NAME: &'static str = "record";

    fn claims(_: &Read) -> Vec<()> {
        Vec::new()
    }

    fn settles(read: &Read) -> Option<OperationId> {
        match read {
            Read::Begin(_, operation) => Some(operation.id),
            Read::Record(operations) => operations.last().map(|operation| operation.id),
        }
    }

    fn is_durable(_: &Read) -> bool {
        true
    }

    async fn decide(c: &AsyncPgConnection, reads: &[&Read], _is_again: bool) -> Step<Decided<Self>> {
        let mut counts = BTreeMap::<FileId, i32>::new();
        for read in reads {
            if let Read::Begin(file, _) = read {
                *counts.entry(*file).or_default() += 1;
            }
        }
        let found = files::lock_read(c, &counts).await?;
        counts.retain(|file, _| found.contains(file));
        let outcome = |read: &&Read| match read {
            Read::Begin(file, _) if !found.contains(file) => Err(files::not_found(*file)),
            Read::Begin(..) | Read::Record(_) => Ok(()),
        };
        let outcomes: Vec<_> = reads.iter().map(outcome).collect();
        let accepted =
            outcomes.iter().enumerate().filter_map(|(n, outcome)| outcome.is_ok().then_some(n)).collect();
        Ok((outcomes, Writes { counts, accepted }))
    }

    async fn write(c: &AsyncPgConnection, reads: &[&Read], writes: &Writes) -> Step<()> {
        let (mut begun, mut recorded) = (Vec::new(), Vec::new());
        for read in writes.accepted.iter().filter_map(|n| reads.get(*n)) {
            match read {
                Read::Begin(_, operation) => begun.push(&**operation),
                Read::Record(operations) => recorded.extend(operations),
            }
        }
        try_join!(
            files::count_reads(c, &writes.counts),
            operations::insert(c, begun),
            operations::insert_once(c, recorded),
        )?;
        Ok(())
    }
}
