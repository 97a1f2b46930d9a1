//! The task that does one batch after the other.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use coffer_domain::id::OperationId;
use coffer_domain::{Error, Result};
use diesel_async::AsyncPgConnection;
use tokio::sync::{mpsc, oneshot};

use super::Work;
use super::attempt::{Stop, attempt};
use crate::error::{Failure, Trouble, is_race, translate, unavailable};
use crate::sessions::Sessions;
use crate::transaction::{MAX_ATTEMPTS, pause, settled};

/// Most items of one transaction.
const MAX_BATCH: usize = 256;

/// How often a batch that has waited too long for a lock is halved: enough to find the one item that waits.
const MAX_TIMEOUTS: u32 = MAX_BATCH.ilog2() + 1;

/// How much longer than a statement may run a batch waits for its answer.
const MARGIN: Duration = Duration::from_secs(5);

/// An item, and who waits for its answer.
pub(super) struct Job<W: Work> {
    pub(super) item: W::Item,
    pub(super) answer: oneshot::Sender<Result<W::Answer>>,
}

/// Owns the connection, and does one batch after the other.
pub(super) struct Worker<W: Work> {
    sessions: Sessions,
    inbox: mpsc::Receiver<Job<W>>,
    /// Taken from the queue, but not begun, in the order in which they came.
    waiting: VecDeque<Job<W>>,
    connection: Option<AsyncPgConnection>,
}

/// Why a batch was given up.
enum Fault<A> {
    /// The fault of an item, which is found by halving.
    Item(Error),
    /// Somebody else holds a lock for too long.
    Timeout,
    /// The fault of no item: all are told the same.
    All(fn() -> Error),
    /// It may have been committed.
    Lost(Vec<Result<A>>),
}

impl<W: Work> Worker<W> {
    pub(super) fn new(sessions: Sessions, inbox: mpsc::Receiver<Job<W>>) -> Self {
        Self { sessions, inbox, waiting: VecDeque::new(), connection: None }
    }

    /// Works until the last sender is gone and nothing is left.
    pub(super) async fn work(mut self) {
        loop {
            if self.waiting.is_empty() {
                let mut came = Vec::new();
                if self.inbox.recv_many(&mut came, MAX_BATCH).await == 0 {
                    return;
                }
                self.waiting.extend(came);
            }
            while self.waiting.len() < MAX_BATCH
                && let Ok(job) = self.inbox.try_recv()
            {
                self.waiting.push_back(job);
            }
            let batch = self.next_batch();
            self.settle(batch).await;
        }
    }

    /// All that wait and have nothing in common with one before them.
    fn next_batch(&mut self) -> Vec<Job<W>> {
        let mut claimed = HashSet::new();
        let (mut batch, mut left) = (Vec::new(), VecDeque::new());
        for job in self.waiting.drain(..) {
            // What waits claims as well: whoever came after it stays behind it.
            let claims = W::claims(&job.item);
            let is_free = claims.iter().all(|claim| !claimed.contains(claim));
            claimed.extend(claims);
            if is_free && batch.len() < MAX_BATCH {
                batch.push(job);
            } else {
                left.push_back(job);
            }
        }
        self.waiting = left;
        batch
    }

    /// Answers every item of a batch.
    async fn settle(&mut self, batch: Vec<Job<W>>) {
        let (mut open, mut timeouts) = (vec![batch], 0);
        while let Some(mut batch) = open.pop() {
            let fault = match self.attempts(&batch, timeouts > 0).await {
                Ok(outcomes) => {
                    answer(batch, outcomes);
                    continue;
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::Lost(outcomes) => self.find_out(batch, outcomes),
                Fault::All(error) => refuse(batch, error),
                Fault::Timeout if batch.len() == 1 || timeouts == MAX_TIMEOUTS => {
                    refuse(batch, || Error::Overloaded);
                }
                Fault::Item(error) if batch.len() == 1 => answer(batch, vec![Err(error)]),
                Fault::Item(_) | Fault::Timeout => {
                    timeouts += u32::from(matches!(fault, Fault::Timeout));
                    let later = batch.split_off(batch.len().div_ceil(2));
                    open.extend([later, batch]);
                }
            }
        }
    }

    /// Tries a batch until there is something to say.
    async fn attempts(
        &mut self,
        batch: &[Job<W>],
        is_brief: bool,
    ) -> Result<Vec<Result<W::Answer>>, Fault<W::Answer>> {
        metrics::histogram!("coffer_store_batch_items", "method" => W::NAME)
            .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let items: Vec<&W::Item> = batch.iter().map(|job| &job.item).collect();
        let patience = Some(self.sessions.database().options().statement_timeout)
            .filter(|timeout| !timeout.is_zero())
            .map(|timeout| timeout + MARGIN);
        for tried in 0..MAX_ATTEMPTS {
            let c = self.connection().await.map_err(|_| Fault::All(unavailable))?;
            let stop = match attempt::<W>(c, &items, tried > 0, is_brief, patience).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(stop) => stop,
            };
            let reason = match stop {
                Stop::Lost(outcomes) => {
                    self.connection = None;
                    return Err(Fault::Lost(outcomes));
                }
                Stop::Failed(Failure::Refused(error)) => return Err(Fault::Item(error)),
                Stop::Failed(Failure::Again) => continue,
                Stop::Failed(Failure::Database(error)) if is_race(&error) => {
                    if tried + 1 == MAX_ATTEMPTS {
                        return Err(Fault::Item(translate(W::NAME, error)));
                    }
                    "race"
                }
                Stop::Failed(Failure::Database(error)) => match Trouble::of(&error) {
                    Trouble::Timeout => return Err(Fault::Timeout),
                    Trouble::Contention => {
                        tokio::time::sleep(pause(tried + 1)).await;
                        Trouble::Contention.as_str()
                    }
                    Trouble::Disconnected | Trouble::Other => {
                        return Err(Fault::Item(translate(W::NAME, error)));
                    }
                },
                Stop::Hung => {
                    self.connection = None;
                    return Err(Fault::All(unavailable));
                }
                Stop::Gone => {
                    // Where one connection died, the idle ones did too: a restart of the server ends all.
                    self.connection = None;
                    self.sessions.database().drop_idle();
                    Trouble::Disconnected.as_str()
                }
            };
            metrics::counter!("coffer_store_retries_total", "method" => W::NAME, "reason" => reason)
                .increment(1);
            tracing::debug!(tried, reason, items = items.len(), "retrying a batch");
        }
        Err(Fault::All(if self.connection.is_some() { || Error::Overloaded } else { unavailable }))
    }

    /// The connection, which is kept as long as it is known to be idle between batches.
    async fn connection(&mut self) -> Result<&AsyncPgConnection> {
        if self.sessions.database().is_closed() {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(self.sessions.for_pipeline().await?)),
        }
    }

    /// Answers a batch whose commit was not answered, as soon as it is known whether it is there.
    fn find_out(&self, batch: Vec<Job<W>>, outcomes: Vec<Result<W::Answer>>) {
        let sessions = self.sessions.clone();
        tokio::spawn(async move {
            let operations: Vec<Option<OperationId>> =
                batch.iter().map(|job| W::settles(&job.item)).collect();
            let accepted = operations.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            let asked: Vec<OperationId> = accepted.filter_map(|(operation, _)| *operation).collect();
            let found = settled(&sessions, W::NAME, &asked).await;
            let is_there = |operation: Option<OperationId>| operation.is_some_and(|id| found.contains(&id));
            let outcomes = operations.iter().zip(outcomes).map(|(operation, outcome)| match outcome {
                Ok(_) if !is_there(*operation) => Err(unavailable()),
                outcome => outcome,
            });
            answer(batch, outcomes.collect());
        });
    }
}

fn answer<W: Work>(batch: Vec<Job<W>>, outcomes: Vec<Result<W::Answer>>) {
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        // Whoever has left meanwhile hears nothing.
        let _ = job.answer.send(outcome);
    }
}

fn refuse<W: Work>(batch: Vec<Job<W>>, error: fn() -> Error) {
    for job in batch {
        let _ = job.answer.send(Err(error()));
    }
}
