//! The task that sends what is written. It has a session while it has something to send: one that has nothing for a while, or that others
//! wait for, is given back, and the file gone on with later.

use super::super::{
    ends::UnderWay,
    objects::less,
    session::To,
    space::Space,
    sums::{Running, Sum},
    upload::Upload,
};
use crate::remote::{Failure, insist};
use bytes::Bytes;
use coffer_domain::{driver::ErrorKind, id::UploadId};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that may wait for the task.
const FLIGHT: usize = 512 * 1024;
/// How long a session is kept that nothing comes for.
const IDLE: Duration = Duration::from_secs(3);
/// How long a session is kept that others wait for.
const TURN: Duration = Duration::from_secs(2);

/// The writer's end of it. Dropped, what is under way is given up.
pub(super) struct Sending {
    steps: mpsc::UnboundedSender<Step>,
    flight: Arc<Semaphore>,
    /// How many bytes were handed over, and of how many the server has answered.
    given: u64,
    settled: Arc<AtomicU64>,
    _given_up: DropGuard,
}

/// What is there when all that was handed over is.
pub(super) struct There {
    /// How long the file is.
    pub(super) length: u64,
    /// Its sum, if it was begun here and the server tells sums.
    pub(super) sum: Option<Running>,
}

/// What the task does next.
enum Step {
    /// Bytes, and their part of what may wait.
    Piece(Bytes, Option<OwnedSemaphorePermit>),
    /// Answers when all that came before is in the file.
    Settle(oneshot::Sender<Result<There, Failure>>),
}

impl Sending {
    /// Begins to send to a staged file of this length, from the byte `start` on.
    pub(super) fn begin(space: &Arc<Space>, upload: UploadId, staged: &str, start: u64, length: u64) -> Self {
        let (steps, coming) = mpsc::unbounded_channel();
        let (flight, settled) = (Arc::new(Semaphore::new(FLIGHT)), Arc::new(AtomicU64::new(0)));
        let given_up = CancellationToken::new();
        let sender = Sender {
            space: Arc::clone(space),
            staged: staged.to_owned(),
            at: start,
            length,
            sent: 0,
            sum: space.sum.filter(|_| start == 0).map(Sum::begin),
            upload: None,
            since: Instant::now(),
            settled: Arc::clone(&settled),
            problem: None,
            _under_way: space.ends.begin(upload),
        };
        tokio::spawn(sender.run(coming, Arc::clone(&flight), given_up.clone()));
        Self { steps, flight, given: 0, settled, _given_up: given_up.drop_guard() }
    }

    /// Whether the server has all that was handed over, and no session is in use for it.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.given
    }

    /// Hands a piece over when there is room for it.
    pub(super) async fn send(&mut self, piece: Bytes) -> Result<(), Failure> {
        let wanted = u32::try_from(piece.len().min(FLIGHT)).expect("it is less than a mebibyte");
        match Arc::clone(&self.flight).acquire_many_owned(wanted).await {
            Ok(permit) => {
                self.give(piece, Some(permit));
                Ok(())
            }
            // The task has failed, and says why.
            Err(_closed) => Err(self.settle().await.err().unwrap_or_else(stopped)),
        }
    }

    /// Hands over a piece of what may be kept in memory anyway.
    pub(super) fn send_at_once(&mut self, piece: Bytes) {
        self.give(piece, None);
    }

    fn give(&mut self, piece: Bytes, permit: Option<OwnedSemaphorePermit>) {
        self.given += piece.len() as u64;
        // A task that has ended shows when it is asked.
        let _ = self.steps.send(Step::Piece(piece, permit));
    }

    /// Waits until all that was handed over is in the file.
    pub(super) async fn settle(&self) -> Result<There, Failure> {
        self.begin_to_settle().await
    }

    /// The same, beside what is handed over later.
    pub(super) fn begin_to_settle(&self) -> impl Future<Output = Result<There, Failure>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let _ = self.steps.send(Step::Settle(answer));
        async move { answered.await.unwrap_or_else(|_| Err(stopped())) }
    }
}

fn stopped() -> Failure {
    Failure::wrong(ErrorKind::Unavailable, "the writer was given up")
}

/// The task's end of it.
struct Sender {
    space: Arc<Space>,
    staged: String,
    /// Where the next byte goes, and how long the file is.
    at: u64,
    length: u64,
    /// Bytes that were handed to the server.
    sent: u64,
    sum: Option<Running>,
    upload: Option<Upload>,
    /// When the upload began.
    since: Instant,
    settled: Arc<AtomicU64>,
    problem: Option<Failure>,
    /// Last, since nothing is under way when it is dropped.
    _under_way: UnderWay,
}

impl Sender {
    async fn run(
        mut self,
        mut coming: mpsc::UnboundedReceiver<Step>,
        flight: Arc<Semaphore>,
        given_up: CancellationToken,
    ) {
        loop {
            let may_rest = self.upload.is_some() && self.space.appends;
            let step = tokio::select! {
                biased;
                () = given_up.cancelled() => break,
                step = coming.recv() => step,
                () = tokio::time::sleep(IDLE), if may_rest => {
                    self.rest().await;
                    continue;
                }
            };
            match step {
                Some(Step::Piece(piece, _permit)) if self.problem.is_none() => {
                    if let Err(failure) = self.write(&piece, &given_up).await {
                        self.problem = Some(failure);
                    }
                }
                Some(Step::Piece(..)) => {}
                Some(Step::Settle(answer)) => {
                    self.rest().await;
                    let there = There { length: self.length, sum: self.sum.clone() };
                    let _ = answer.send(self.problem.clone().map_or(Ok(there), Err));
                }
                None => break,
            }
            if self.problem.is_some() {
                flight.close();
            }
        }
        if let Some(upload) = self.upload.take() {
            upload.give_up().await;
        }
    }

    async fn write(&mut self, piece: &Bytes, given_up: &CancellationToken) -> Result<(), Failure> {
        if self.upload.is_none() {
            // Not given up in the middle: the server would make the file when nobody waits for it any more.
            self.upload = Some(open(&self.space, &self.staged, self.at, self.length).await?);
            self.since = Instant::now();
        }
        let upload = self.upload.as_mut().expect("it was just opened");
        tokio::select! {
            biased;
            () = given_up.cancelled() => return Err(stopped()),
            written = upload.write(piece) => written?,
        }
        if let Some(sum) = &mut self.sum {
            sum.add(piece);
        }
        self.at += piece.len() as u64;
        self.sent += piece.len() as u64;
        if self.space.appends && self.since.elapsed() > TURN && self.space.client.is_wanted() {
            self.conclude().await?;
        }
        Ok(())
    }

    /// Gives the session back until there is more to send.
    async fn rest(&mut self) {
        if self.problem.is_none()
            && let Err(failure) = self.conclude().await
        {
            self.problem = Some(failure);
        }
    }

    /// Ends the transfer, and looks whether the server has what it was sent.
    async fn conclude(&mut self) -> Result<(), Failure> {
        let Some(upload) = self.upload.take() else { return Ok(()) };
        let found = upload.end().await?;
        // What an earlier writer had written behind it stays there where this one has not come so far.
        if found != self.at && (found != self.length || found < self.at) {
            return Err(less());
        }
        self.length = found;
        self.settled.store(self.sent, Ordering::Release);
        Ok(())
    }
}

async fn open(space: &Space, staged: &str, at: u64, length: u64) -> Result<Upload, Failure> {
    let to = match at {
        0 => To::Anew,
        at if at < length => To::At(at),
        _ => To::End,
    };
    let client = &space.client;
    client.within(staged, || insist(|| Upload::open(client, staged, to))).await
}
