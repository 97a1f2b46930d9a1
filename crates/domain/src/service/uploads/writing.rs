//! The stream's end of an upload: takes messages in order, hands them to the worker in batches.

use super::worker::Step;
use crate::{
    Error, Result,
    budget::{Budget, Share},
    content::{Arrival, Piece, Pipeline},
    error::{Conflict, SHA256, Unavailable},
    file::{File, Sha256Sum},
    id::UploadId,
    service::{Coffer, Trail},
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Bytes that are handed to a driver at once, if there is memory: one blocking job hashes and writes them while the next are received.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// The same, if there is none left.
const LEAST_BATCH_BYTES: usize = 128 * 1024;
/// Most messages of a batch: each takes memory beside its bytes.
const BATCH_PIECES: usize = 4096;

/// A stream that writes an upload. Dropping it ends it as if the caller had left.
pub struct Writing {
    pub(super) coffer: Coffer,
    pub(super) trail: Trail,
    pub(super) id: Option<UploadId>,
    pub(super) mode: Mode,
    pub(super) pending: Pending,
    pub(super) arrival: Arrival,
    pub(super) persisted: watch::Receiver<u64>,
}

/// What waits for a full batch.
#[derive(Debug)]
pub(super) struct Pending {
    pieces: Vec<Piece>,
    bytes: usize,
    /// For this batch and the one that is being written.
    share: Share,
}

pub(super) enum Mode {
    /// Bytes go to the worker; its outcome is taken once.
    Store {
        steps: mpsc::Sender<Step>,
        outcome: Option<oneshot::Receiver<Result<File>>>,
        stop: CancellationToken,
    },
    /// It is a file already. Bytes are only compared with what was stored, if they come from the beginning.
    Replay { answer: Box<File>, comparison: Option<Pipeline> },
}

impl Writing {
    /// The upload. `None` where an answer is repeated whose upload is forgotten.
    pub fn id(&self) -> Option<UploadId> {
        self.id
    }

    /// Bytes that are durable and recorded: at first, where to go on.
    pub fn persisted(&self) -> watch::Receiver<u64> {
        self.persisted.clone()
    }

    /// Why this stream has to end although its caller has not ended it: another stream wants the upload, the node goes away, or the
    /// upload has failed. Hand the answer to [`Writing::refuse`].
    pub async fn interrupted(&self) -> Error {
        let Mode::Store { steps, stop, .. } = &self.mode else { return std::future::pending().await };
        tokio::select! {
            () = stop.cancelled() => Error::Conflict(Conflict::TakenOver),
            () = self.coffer.0.evicting.cancelled() => Error::Unavailable(Unavailable::ShuttingDown),
            // The worker's own error is the one that will be told.
            () = steps.closed() => Error::ClientLeft,
        }
    }

    /// Takes a message, as [`Arrival::take`] does.
    ///
    /// After an error the stream is over; call [`Writing::refuse`] with it, so that the trail knows why.
    pub async fn write(&mut self, offset: u64, bytes: Bytes, crc32c: Option<u32>) -> Result<()> {
        let Some(piece) = self.arrival.take(offset, bytes, crc32c)? else { return Ok(()) };
        self.trail.update(|operation| operation.bytes_transferred += piece.bytes.len() as u64);
        if let (true, Mode::Store { steps, .. }) = (self.pending.is_empty(), &self.mode) {
            // One batch is written and one is gathered. A third would be memory; its sender is held back instead, by HTTP/2. Where the worker
            // is gone, handing over tells why.
            let _ = steps.reserve().await;
        }
        self.pending.push(piece);
        if self.pending.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Hands over what waits for a full batch.
    pub async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pieces = self.pending.take();
        match &mut self.mode {
            Mode::Store { steps, outcome, .. } => match steps.send(Step::Write(pieces)).await {
                Ok(()) => Ok(()),
                Err(_) => settled(outcome.take()).await.map(drop),
            },
            Mode::Replay { comparison, .. } => {
                if let Some(pipeline) = comparison {
                    pipeline.encode(pieces);
                }
                Ok(())
            }
        }
    }

    /// All bytes were sent. Answers the file once it is durable and committed; goes on if the caller leaves meanwhile.
    pub async fn finish(mut self, sha256: Option<Sha256Sum>) -> Result<File> {
        let pieces = self.pending.take();
        match self.mode {
            Mode::Store { steps, outcome, .. } => {
                // Where the worker is gone already, its outcome says why.
                let _ = steps.send(Step::Finish(pieces, sha256)).await;
                settled(outcome).await
            }
            Mode::Replay { answer, comparison } => {
                let found = answer.content.sha256;
                let refusal = match (comparison, sha256) {
                    (Some(pipeline), sha256) => {
                        pipeline.encode(pieces);
                        let sent = pipeline.stored().sha256;
                        (sent != found || sha256.is_some_and(|sum| sum != sent))
                            .then_some(Error::RequestIdReused)
                    }
                    (None, Some(expected)) if expected != found => Some(Error::ChecksumMismatch {
                        algorithm: SHA256,
                        expected: expected.to_string(),
                        actual: found.to_string(),
                    }),
                    (None, _) if self.arrival.received() != answer.content.size => {
                        Some(Error::SizeMismatch {
                            declared: answer.content.size,
                            received: self.arrival.received(),
                        })
                    }
                    (None, _) => None,
                };
                match refusal {
                    None => Ok(*answer),
                    Some(error) => Err(self.coffer.failed(self.trail.operation(), error).await),
                }
            }
        }
    }

    /// Ends the stream for `error`. A resumable upload keeps what has arrived, unless the error is about the content; any other is aborted.
    /// Hands the error back; where the upload had failed by itself before, that error.
    pub async fn refuse(mut self, error: Error) -> Error {
        let pieces = self.pending.take();
        match self.mode {
            Mode::Store { steps, outcome, .. } => {
                let Some(outcome) = outcome else { return error };
                let _ = steps.send(Step::End(pieces, error)).await;
                match settled(Some(outcome)).await {
                    Err(error) => error,
                    Ok(_) => Error::ClientLeft,
                }
            }
            Mode::Replay { .. } => self.coffer.failed(self.trail.operation(), error).await,
        }
    }
}

impl Pending {
    /// Nothing of a content of so many bytes, if that is known.
    pub(super) fn new(budget: &Budget, size: Option<u64>) -> Self {
        // One more than a small content has, so that all of it is here when it is decided.
        let batch = size.and_then(|bytes| usize::try_from(bytes).ok()?.checked_add(1)).unwrap_or(usize::MAX);
        let share = budget.take(2 * batch.min(BATCH_BYTES), 2 * LEAST_BATCH_BYTES);
        Self { pieces: Vec::new(), bytes: 0, share }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.share.bytes() / 2 || self.pieces.len() >= BATCH_PIECES
    }

    fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes.len();
        self.pieces.push(piece);
    }

    /// Hands out what waits. The next batch is as large as there is memory for now.
    fn take(&mut self) -> Vec<Piece> {
        self.share.resize(2 * BATCH_BYTES, 2 * LEAST_BATCH_BYTES);
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }
}

/// The worker's outcome.
async fn settled(outcome: Option<oneshot::Receiver<Result<File>>>) -> Result<File> {
    let lost = || Error::internal("finish an upload", "its task ended without an outcome");
    match outcome {
        Some(outcome) => outcome.await.unwrap_or_else(|_| Err(lost())),
        None => Err(lost()),
    }
}
