//! Many callers, one transaction: what waits while one batch is committed is the next one.
//!
//! Every item is accepted or refused on its own. What fails as a whole is halved until the item at fault stands alone. Items
//! are judged in the order in which they came; whoever has left meanwhile is no reason not to do what he asked for.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_domain::id::OperationId;
use coffer_domain::{Error, Result};
use diesel_async::AsyncPgConnection;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Step, unavailable};
use crate::sessions::Sessions;
use crate::transaction::measured;
use worker::{Job, Worker};

mod attempt;
mod worker;

/// Most items that wait; who comes then is told that the service is busy.
const MAX_QUEUED: usize = 4_096;

/// What is done for many items in one transaction, in two steps: everything is decided before anything is written.
pub(crate) trait Work: Sized + Send + Sync + 'static {
    /// What one caller asks for.
    type Item: Send + Sync + 'static;
    /// What he is answered.
    type Answer: Send + 'static;
    /// What no two items of one transaction may have in common; the later one waits for the next.
    type Claim: Eq + Hash + Send;
    /// What is to be written.
    type Writes: Send + Sync;

    /// For metrics and logs.
    const NAME: &'static str;

    /// What an item claims.
    fn claims(item: &Self::Item) -> Vec<Self::Claim>;

    /// The operation that tells, if the answer to the commit is lost, whether it is there.
    fn settles(item: &Self::Item) -> Option<OperationId>;

    /// Whether an answer has to be true after a loss of power. One such item makes its batch durable.
    fn is_durable(item: &Self::Item) -> bool;

    /// Takes locks and decides about each item, in their order. `is_again`: not for the first time.
    fn decide(
        c: &AsyncPgConnection,
        items: &[&Self::Item],
        is_again: bool,
    ) -> impl Future<Output = Step<Decided<Self>>> + Send;

    /// Writes what was decided. All statements have to be sent when this is first polled, none may wait for the answer of
    /// another: the commit is sent right behind them.
    fn write(
        c: &AsyncPgConnection,
        items: &[&Self::Item],
        writes: &Self::Writes,
    ) -> impl Future<Output = Step<()>> + Send;
}

/// What each item is answered if the commit succeeds, and what is to be written for that.
pub(crate) type Decided<W> = (Vec<Result<<W as Work>::Answer>>, <W as Work>::Writes);

/// The way into the transactions of one kind of work. Cheap to clone; ends with the last clone, after all that was queued.
pub(crate) struct Pipeline<W: Work> {
    sessions: Sessions,
    queue: Arc<Mutex<Option<mpsc::Sender<Job<W>>>>>,
}

impl<W: Work> Pipeline<W> {
    /// Nothing is begun before it is needed.
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self { sessions, queue: Arc::default() }
    }

    /// Has one item done, as `method`.
    ///
    /// # Errors
    /// What is decided about the item; `Overloaded` if too many wait already; `Unavailable` if the database cannot be reached, or does
    /// not say whether it has done it.
    pub(crate) async fn run(&self, method: &'static str, item: W::Item) -> Result<W::Answer> {
        measured(method, async {
            let (answer, answered) = oneshot::channel();
            self.queue().try_send(Job { item, answer }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => unavailable(),
            })?;
            answered.await.unwrap_or_else(|_| Err(unavailable()))
        })
        .await
    }

    /// The queue of the worker, which is started anew should it ever have ended.
    fn queue(&self) -> mpsc::Sender<Job<W>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref().filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (sender, inbox) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(Worker::new(self.sessions.clone(), inbox).work());
        queue.insert(sender).clone()
    }
}

impl<W: Work> Clone for Pipeline<W> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), queue: Arc::clone(&self.queue) }
    }
}

impl<W: Work> fmt::Debug for Pipeline<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("work", &W::NAME).finish_non_exhaustive()
    }
}
