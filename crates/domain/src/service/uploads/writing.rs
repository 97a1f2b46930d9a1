//! The stream's end of an upload: takes messages in order, hands them to the worker in batches.

use super::worker::Step;
use crate::{
    Error, Result,
    content::{Codec, Pipeline, SavedState},
    error::{CRC32C, Conflict, SHA256, Unavailable},
    file::{File, Sha256Sum},
    id::UploadId,
    service::{Coffer, Trail},
};
use bytes::{Buf as _, Bytes};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Most bytes of data in one message.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes that are handed to a driver at once: one blocking job hashes and writes them while the next are received.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

/// A stream that writes an upload. Dropping it ends it as if the caller had left.
pub struct Writing {
    pub(super) coffer: Coffer,
    pub(super) trail: Trail,
    pub(super) id: Option<UploadId>,
    pub(super) mode: Mode,
    pub(super) pending: Vec<Bytes>,
    pub(super) pending_bytes: usize,
    /// Where the next byte belongs.
    pub(super) received: u64,
    pub(super) declared_size: Option<u64>,
    pub(super) max_file_bytes: Option<u64>,
    pub(super) repeated: Option<Repeated>,
    pub(super) persisted: watch::Receiver<u64>,
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

/// The beginning of a content that is sent once more: has to be what was sent before.
pub(super) struct Repeated {
    pub(super) pipeline: Pipeline,
    pub(super) bytes: u64,
    pub(super) expected: SavedState,
}

impl Repeated {
    /// A comparison with what led to `expected`.
    pub(super) fn with(expected: SavedState) -> Self {
        Self { pipeline: Pipeline::new(Codec::Identity), bytes: 0, expected }
    }
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

    /// Takes a message. `offset` may be earlier than what was received: the overlap is skipped.
    ///
    /// After an error the stream is over; call [`Writing::refuse`] with it, so that the trail knows why.
    pub async fn write(&mut self, offset: u64, mut bytes: Bytes, crc32c: Option<u32>) -> Result<()> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Error::MessageTooLarge { bytes: bytes.len(), limit: MAX_MESSAGE_BYTES });
        }
        if let Some(expected) = crc32c {
            let actual = crc32c::crc32c(&bytes);
            if expected != actual {
                return Err(Error::ChecksumMismatch {
                    algorithm: CRC32C,
                    expected: format!("{expected:08x}"),
                    actual: format!("{actual:08x}"),
                });
            }
        }
        let Some(overlap) = self.received.checked_sub(offset) else {
            return Err(Error::OffsetGap { expected: self.received, offset });
        };
        if overlap > 0 {
            let known = bytes.split_to(usize::try_from(overlap).map_or(bytes.len(), |n| n.min(bytes.len())));
            self.repeat(offset, known)?;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let received = self.received + bytes.len() as u64;
        if let Some(declared) = self.declared_size.filter(|declared| received > *declared) {
            return Err(Error::SizeMismatch { declared, received });
        }
        if let Some(limit) = self.max_file_bytes.filter(|limit| received > *limit) {
            return Err(Error::FileTooLarge { limit });
        }
        self.received = received;
        let new_bytes = bytes.remaining() as u64;
        self.trail.update(|operation| operation.bytes_transferred += new_bytes);
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Compares what is sent once more with what was sent before, as long as it comes in order from the beginning.
    fn repeat(&mut self, offset: u64, known: Bytes) -> Result<()> {
        let Some(repeated) = &mut self.repeated else { return Ok(()) };
        if offset > repeated.bytes {
            self.repeated = None;
            return Ok(());
        }
        let again = usize::try_from(repeated.bytes - offset).unwrap_or(usize::MAX).min(known.len());
        let next = known.slice(again..);
        repeated.bytes += next.len() as u64;
        repeated.pipeline.batch(vec![next]).encode();
        if repeated.bytes < self.received {
            return Ok(());
        }
        let is_same = repeated.pipeline.save() == repeated.expected;
        self.repeated = None;
        if is_same { Ok(()) } else { Err(Error::RequestIdReused) }
    }

    /// Hands over what waits for a full batch.
    pub async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pieces = self.take_pending();
        match &mut self.mode {
            Mode::Store { steps, outcome, .. } => match steps.send(Step::Write(pieces)).await {
                Ok(()) => Ok(()),
                Err(_) => settled(outcome.take()).await.map(drop),
            },
            Mode::Replay { comparison, .. } => {
                if let Some(pipeline) = comparison {
                    pipeline.batch(pieces).encode();
                }
                Ok(())
            }
        }
    }

    /// All bytes were sent. Answers the file once it is durable and committed; goes on if the caller leaves meanwhile.
    pub async fn finish(mut self, sha256: Option<Sha256Sum>) -> Result<File> {
        let pieces = self.take_pending();
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
                        pipeline.batch(pieces).encode();
                        let sent = pipeline.stored().sha256;
                        (sent != found || sha256.is_some_and(|sum| sum != sent))
                            .then_some(Error::RequestIdReused)
                    }
                    (None, Some(expected)) if expected != found => Some(Error::ChecksumMismatch {
                        algorithm: SHA256,
                        expected: expected.to_string(),
                        actual: found.to_string(),
                    }),
                    (None, _) if self.received != answer.content.size => {
                        Some(Error::SizeMismatch { declared: answer.content.size, received: self.received })
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
        let pieces = self.take_pending();
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

    fn take_pending(&mut self) -> Vec<Bytes> {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
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
