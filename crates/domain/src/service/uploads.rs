//! Contents on their way in: intent, bytes, publish, commit.
//!
//! An [`Upload`] is the caller's end. The work is done by a task of its own, which owns the writer and ends in a commit or in an
//! abort whatever becomes of the caller.

mod plan;
mod worker;

use super::{Coffer, Trail};
use crate::{
    Error, Result,
    caller::Caller,
    content::{Codec, Pipeline},
    file::{Changes, File, FileRef, Sha256Sum},
    operation::OperationKind,
    request::Request,
    volume::VolumeRef,
};
use bytes::{Buf as _, Bytes};
use plan::Ceiling;
use tokio::sync::{mpsc, oneshot};
use worker::Step;

/// Most bytes of data in one message.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes that are handed to a driver at once: one blocking job hashes and writes them while the next are received.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a caller wants stored.
#[derive(Debug, Clone, Default)]
pub struct UploadSpec {
    /// Volume of a new file; `None`: the default one.
    pub volume: Option<VolumeRef>,
    /// Place of the file; `None`: one of its own.
    pub path: Option<String>,
    /// An existing file that gets a version.
    pub file: Option<FileRef>,
    /// The caller's name for a new file.
    pub file_id: Option<String>,
    /// What was said of the description. For a new version, what was not said stays as it is.
    pub changes: Changes,
    /// Project that is charged as well.
    pub project: Option<String>,
    /// Bytes to come.
    pub size: Option<u64>,
    /// SHA-256 of what is to come.
    pub sha256: Option<Sha256Sum>,
    /// Refuse if the path is taken.
    pub create_only: bool,
    /// The version that is meant to be replaced.
    pub if_etag: Option<String>,
    /// Why this version is made.
    pub change_description: String,
    /// Protection against being sent twice.
    pub request: Option<Request>,
}

/// An upload in progress. Dropping it aborts it: the caller left.
pub struct Upload {
    coffer: Coffer,
    trail: Trail,
    mode: Mode,
    pending: Vec<(Bytes, u32)>,
    pending_bytes: usize,
    received: u64,
    declared_size: Option<u64>,
    ceiling: Ceiling,
}

enum Mode {
    /// Bytes go to the worker; its outcome is taken once.
    Store { steps: mpsc::Sender<Step>, outcome: Option<oneshot::Receiver<Result<File>>> },
    /// The request was answered before: bytes are only compared with what was stored then.
    Replay { answer: Box<File>, pipeline: Pipeline },
}

impl Coffer {
    /// Begins an upload: checks everything that can be known before the first byte, and records the intent.
    pub async fn begin_upload(&self, caller: Caller, spec: UploadSpec) -> Result<Upload> {
        let trail = Trail::new(caller.operation(OperationKind::Upload), self.0.start);
        match self.try_begin(&caller, spec, &trail).await {
            Ok(upload) => Ok(upload),
            Err(error) => Err(self.failed(trail.operation(), error).await),
        }
    }

    async fn try_begin(&self, caller: &Caller, spec: UploadSpec, trail: &Trail) -> Result<Upload> {
        self.must_be_open()?;
        caller.known()?;
        let declared_size = spec.size;
        let (mode, ceiling) = match self.recall(spec.request.as_ref()).await? {
            Some(answer) => (
                Mode::Replay { answer: Box::new(answer), pipeline: Pipeline::new(Codec::Identity) },
                Ceiling::default(),
            ),
            None => {
                let (plan, ceiling) = self.plan(caller, spec, trail).await?;
                let (steps, inbox) = mpsc::channel(1);
                let (report, outcome) = oneshot::channel();
                self.start_worker(plan, trail.clone(), inbox, report).await?;
                (Mode::Store { steps, outcome: Some(outcome) }, ceiling)
            }
        };
        let coffer = self.clone();
        Ok(Upload {
            coffer,
            trail: trail.clone(),
            mode,
            pending: Vec::new(),
            pending_bytes: 0,
            received: 0,
            declared_size,
            ceiling,
        })
    }
}

impl Upload {
    /// Takes a message. `offset` may be earlier than what was received: the overlap is skipped.
    ///
    /// After an error the upload is over; call [`Upload::refuse`] with it, so that the trail knows why.
    pub async fn write(&mut self, offset: u64, mut bytes: Bytes, crc32c: Option<u32>) -> Result<()> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Error::MessageTooLarge { bytes: bytes.len(), limit: MAX_MESSAGE_BYTES });
        }
        let mut actual = crc32c::crc32c(&bytes);
        if let Some(expected) = crc32c.filter(|expected| *expected != actual) {
            return Err(Error::ChecksumMismatch {
                algorithm: "CRC-32C",
                expected: format!("{expected:08x}"),
                actual: format!("{actual:08x}"),
            });
        }
        let Some(overlap) = self.received.checked_sub(offset) else {
            return Err(Error::OffsetGap { expected: self.received, offset });
        };
        if overlap > 0 {
            bytes.advance(usize::try_from(overlap).map_or(bytes.len(), |n| n.min(bytes.len())));
            actual = crc32c::crc32c(&bytes);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let received = self.received + bytes.len() as u64;
        if let Some(declared) = self.declared_size.filter(|declared| received > *declared) {
            return Err(Error::SizeMismatch { declared, received });
        }
        self.ceiling.check(received)?;
        self.received = received;
        self.trail.update(|operation| operation.bytes_transferred = received);
        self.pending_bytes += bytes.len();
        self.pending.push((bytes, actual));
        if self.pending_bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// All bytes were sent. Answers the file once it is durable and committed; goes on if the caller leaves meanwhile.
    pub async fn finish(mut self, sha256: Option<Sha256Sum>) -> Result<File> {
        if let Err(error) = self.flush().await {
            return Err(self.refuse(error).await);
        }
        match self.mode {
            Mode::Store { steps, outcome } => {
                // Where the worker is gone already, its outcome says why.
                let _ = steps.send(Step::Finish(sha256)).await;
                settled(outcome).await
            }
            Mode::Replay { answer, pipeline } => {
                let stored = pipeline.stored();
                if stored.sha256 == answer.content.sha256 && sha256.is_none_or(|sum| sum == stored.sha256) {
                    return Ok(*answer);
                }
                Err(self.coffer.failed(self.trail.operation(), Error::RequestIdReused).await)
            }
        }
    }

    /// Aborts the upload for `error`: bytes and intent go, the trail says why. Hands the error back; where the upload had failed
    /// by itself before, that error.
    pub async fn refuse(self, error: Error) -> Error {
        match self.mode {
            Mode::Store { steps, outcome } => {
                let Some(outcome) = outcome else { return error };
                let _ = steps.send(Step::Refuse(error)).await;
                match settled(Some(outcome)).await {
                    Err(error) => error,
                    Ok(_) => Error::ClientLeft,
                }
            }
            Mode::Replay { .. } => self.coffer.failed(self.trail.operation(), error).await,
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pieces = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        match &mut self.mode {
            Mode::Store { steps, outcome } => match steps.send(Step::Write(pieces)).await {
                Ok(()) => Ok(()),
                Err(_) => settled(outcome.take()).await.map(drop),
            },
            Mode::Replay { pipeline, .. } => {
                pipeline.batch(pieces).encode();
                Ok(())
            }
        }
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
