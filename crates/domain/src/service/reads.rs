//! Contents on their way out. The read is in the audit trail before the first byte leaves.

mod pace;

use super::{Coffer, Trail};
use crate::{
    Error, Result,
    caller::{Caller, FileAccess},
    content::Checksum,
    driver::{self, ByteStream, Driver, ErrorKind, PieceSize},
    error::{Resource, State},
    file::{Content, File, FileRef, Status},
    operation::{Operation, OperationKind, OperationStatus},
    volume::VolumeRef,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use pace::{MAX_MESSAGE_BYTES, Pace};
use std::{sync::Arc, time::Instant};

/// What a backend gives in smaller pieces than this is gathered, so that they do not become small messages.
const MIN_MESSAGE_BYTES: usize = 64 * 1024;

/// How often a read starts anew because its content was replaced and removed between looking it up and opening it.
const MAX_REPLACED: usize = 3;

/// What a caller wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSpec {
    /// The file.
    pub file: FileRef,
    /// A version; `None`: the current one.
    pub version: Option<u32>,
    /// First byte; negative counts from the end.
    pub offset: i64,
    /// At most this many bytes; 0: to the end.
    pub length: u64,
}

/// A part of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the content.
    pub offset: u64,
    /// At most 256 KiB.
    pub bytes: Bytes,
    /// CRC-32C of the bytes.
    pub crc32c: u32,
}

/// A read in progress. Dropping it ends it: the caller left.
pub struct Reading {
    /// The file, with the content being read.
    pub file: File,
    /// How much of the file the caller may see.
    pub access: FileAccess,
    /// First byte that is read.
    pub offset: u64,
    /// Bytes that are read.
    pub length: u64,
    coffer: Coffer,
    source: Source,
    /// Recorded before the first byte as pending; `None` once its outcome is recorded too.
    pending: Option<Operation>,
    trail: Trail,
    sent: u64,
    checksum: Checksum,
    /// Bytes of the last piece, and when it was handed out.
    handed_out: Option<(usize, Instant)>,
}

enum Source {
    /// Read and verified as a whole before it was recorded.
    Small(Option<Piece>),
    /// Streamed; what the driver gave beyond a piece waits.
    Stream { stream: ByteStream, rest: Bytes, pace: Pace },
}

impl Coffer {
    /// Begins to read a content or a range of it.
    pub async fn read_file(&self, caller: &Caller, spec: ReadSpec) -> Result<Reading> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::Download), move |me, trail| async move {
            me.try_read(&caller, &spec, &trail).await
        })
        .await
    }

    async fn try_read(&self, caller: &Caller, spec: &ReadSpec, trail: &Trail) -> Result<Reading> {
        self.must_be_open()?;
        for _ in 0..MAX_REPLACED {
            let seen = self.see(caller, &spec.file, trail).await?;
            let (mut file, access) = (seen.file, seen.access);
            match (access, file.status) {
                (FileAccess::Administer | FileAccess::Hidden, _) => {
                    return Err(Error::PermissionDenied("read the content of this file"));
                }
                (_, _) if file.deleted_at.is_some() => return Err(Error::NotFound(spec.file.resource())),
                (_, Status::Corrupted) => return Err(Error::State(State::FileStatus("corrupted"))),
                (_, Status::Active | Status::Archived | Status::Deleted) => {}
            }
            let volume = self.volume(Some(&VolumeRef::Id(file.volume))).await?;
            if !volume.settings.is_active {
                return Err(Error::State(State::VolumeInactive));
            }
            if let Some(number) = spec.version.filter(|number| *number != file.content.number) {
                file.content = self
                    .store()
                    .content(file.id, number)
                    .await?
                    .ok_or(Error::NotFound(Resource::Version(number)))?;
            }
            let (offset, length) = range(spec, file.content.size)?;
            let driver = self.driver(&volume).await?;
            match self.open(&*driver, &file, access, (offset, length), trail).await {
                Err(Open::Missing) if self.is_replaced(&file).await? => {}
                Err(Open::Missing) => return Err(self.corrupted(&file, "missing").await),
                Err(Open::Failed(error)) => return Err(error),
                Ok(reading) => return Ok(reading),
            }
        }
        Err(Error::Overloaded)
    }

    /// Opens the content and records the read.
    async fn open(
        &self,
        driver: &dyn Driver,
        file: &File,
        access: FileAccess,
        (offset, length): (u64, u64),
        trail: &Trail,
    ) -> std::result::Result<Reading, Open> {
        let is_whole = length == file.content.size;
        // One byte more than a whole content should have shows an object that has grown.
        let range = offset..offset + length + u64::from(is_whole);
        let is_small = length <= MAX_MESSAGE_BYTES as u64;
        let pace = Pace::new(&self.0.settings.budget);
        let size = if is_small { PieceSize::new(MAX_MESSAGE_BYTES) } else { pace.size() };
        let stream = driver.read(&file.content.key, range, size).await?;
        trail.update(|operation| {
            operation.metadata.insert("version".to_owned(), file.content.number.into());
            operation.metadata.insert("offset".to_owned(), offset.into());
            operation.metadata.insert("length".to_owned(), length.into());
        });
        let mut reading = Reading {
            file: file.clone(),
            access,
            offset,
            length,
            coffer: self.clone(),
            source: Source::Stream { stream, rest: Bytes::new(), pace },
            pending: None,
            trail: trail.clone(),
            sent: 0,
            checksum: Checksum::default(),
            handed_out: None,
        };
        if is_small {
            let piece = reading.advance().await.map_err(Open::Failed)?;
            trail.update(|operation| operation.bytes_transferred = length);
            self.store().begin_read(file.id, &trail.operation()).await.map_err(Open::Failed)?;
            reading.sent = 0;
            reading.source = Source::Small(piece);
        } else {
            let pending = Operation { status: OperationStatus::Pending, ..trail.operation() };
            self.store().begin_read(file.id, &pending).await.map_err(Open::Failed)?;
            reading.pending = Some(pending);
        }
        Ok(reading)
    }

    /// Whether the content that was looked up is no longer one of the file.
    async fn is_replaced(&self, file: &File) -> Result<bool> {
        let content = self.store().content(file.id, file.content.number).await?;
        Ok(content.is_none_or(|content: Content| content.object != file.content.object))
    }

    /// Marks a file whose stored bytes are wrong.
    async fn corrupted(&self, file: &File, how: &'static str) -> Error {
        tracing::error!(file.id = %file.id, object.id = %file.content.object, how, "stored content is wrong");
        let operation = Operation {
            node_id: Some(self.0.start.node),
            ..Caller::service().operation(OperationKind::Reconcile)
        }
        .on_file(file.id, file.volume, file.provider)
        .with("found", how)
        .with("object", file.content.object.to_string());
        let operation = Operation { organisation: file.organisation.clone(), ..operation };
        if let Err(problem) = self.store().mark_corrupted(file.content.object, &operation).await {
            tracing::warn!(file.id = %file.id, problem = %problem, "a corrupted file could not be marked");
        }
        Error::Corrupted(file.id)
    }
}

/// Why a content could not be opened.
enum Open {
    /// There is no object at its key.
    Missing,
    Failed(Error),
}

impl From<driver::Error> for Open {
    fn from(error: driver::Error) -> Self {
        if error.kind == ErrorKind::NotFound { Self::Missing } else { Self::Failed(error.into()) }
    }
}

impl Reading {
    /// The next piece; `None` after the last. After an error the read is over.
    pub async fn next(&mut self) -> Option<Result<Piece>> {
        if let (Source::Stream { pace, .. }, Some((bytes, at))) = (&mut self.source, self.handed_out.take()) {
            pace.taken(bytes, at.elapsed());
        }
        let piece = match &mut self.source {
            Source::Small(piece) => {
                let piece = piece.take();
                self.sent += piece.as_ref().map_or(0, |piece| piece.bytes.len() as u64);
                piece
            }
            Source::Stream { .. } => match self.advance().await {
                Ok(piece) => piece,
                Err(error) => return Some(Err(self.end(Some(error)).await.unwrap_or(Error::ClientLeft))),
            },
        };
        match piece {
            Some(piece) => {
                self.handed_out = Some((piece.bytes.len(), Instant::now()));
                Some(Ok(piece))
            }
            None => {
                self.end(None).await;
                None
            }
        }
    }

    /// Ends the read for `error` and hands it back; the trail says how far it came.
    pub async fn refuse(mut self, error: Error) -> Error {
        self.end(Some(error)).await.unwrap_or(Error::ClientLeft)
    }

    /// The next bytes of the stream, verified: an object that is shorter, longer or other than it should be is an error before the last
    /// of its bytes is handed out.
    async fn advance(&mut self) -> Result<Option<Piece>> {
        let (offset, left) = (self.offset + self.sent, self.length - self.sent);
        if left == 0 && self.length > 0 {
            return Ok(None);
        }
        let Source::Stream { stream, rest, pace } = &mut self.source else { return Ok(None) };
        let (most, least) = match self.length <= MAX_MESSAGE_BYTES as u64 {
            true => (MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
            false => (pace.message_bytes(), MIN_MESSAGE_BYTES),
        };
        let wanted = most.min(usize::try_from(left).unwrap_or(usize::MAX));
        let least = least.min(wanted);
        let mut bytes = take(rest, wanted);
        while bytes.len() < least {
            match stream.next().await {
                Some(more) => {
                    *rest = more?;
                    let more = take(rest, wanted - bytes.len());
                    bytes = if bytes.is_empty() { more } else { [bytes, more].concat().into() };
                }
                None => break,
            }
        }
        if bytes.len() < least {
            return Err(self.coffer.corrupted(&self.file, "shorter than it was").await);
        }
        let crc32c = crc32c::crc32c(&bytes);
        if self.length == self.file.content.size {
            self.checksum.append(crc32c, bytes.len() as u64);
            if bytes.len() as u64 == left {
                while rest.is_empty() {
                    match stream.next().await {
                        Some(more) => *rest = more?,
                        None => break,
                    }
                }
                if !rest.is_empty() {
                    return Err(self.coffer.corrupted(&self.file, "longer than it was").await);
                }
                if self.checksum.value() != self.file.content.crc32c {
                    return Err(self.coffer.corrupted(&self.file, "other than it was").await);
                }
            }
        }
        self.sent += bytes.len() as u64;
        Ok(Some(Piece { offset, bytes, crc32c }).filter(|piece| !piece.bytes.is_empty()))
    }

    /// Records the outcome of a pending read, once. In a task of its own: the caller may be gone.
    async fn end(&mut self, error: Option<Error>) -> Option<Error> {
        let Some(outcome) = self.outcome(error.as_ref()) else { return error };
        let coffer = self.coffer.clone();
        let recorded = self.coffer.outlive(async move { coffer.store().record(&[outcome]).await }).await;
        if let Err(problem) | Ok(Err(problem)) = recorded {
            tracing::warn!(file.id = %self.file.id, problem = %problem, "the outcome of a read could not be recorded");
        }
        error
    }

    fn outcome(&mut self, error: Option<&Error>) -> Option<Operation> {
        let pending = self.pending.take()?;
        let outcome = Operation {
            bytes_transferred: self.sent,
            duration_ms: self.trail.operation().duration_ms,
            ..pending.outcome()
        };
        Some(match error {
            Some(error) => outcome.failed(error),
            None => outcome,
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome(Some(&Error::ClientLeft)) else { return };
        let coffer = Arc::clone(&self.coffer.0);
        if tokio::runtime::Handle::try_current().is_ok() {
            self.coffer.0.tasks.spawn(async move {
                if let Err(problem) = coffer.store.record(&[outcome]).await {
                    tracing::warn!(problem = %problem, "the outcome of a read could not be recorded");
                }
            });
        }
    }
}

fn take(rest: &mut Bytes, wanted: usize) -> Bytes {
    rest.split_to(wanted.min(rest.len()))
}

/// The range a request means: offset and length.
fn range(spec: &ReadSpec, size: u64) -> Result<(u64, u64)> {
    let offset = match u64::try_from(spec.offset) {
        Ok(offset) => offset,
        Err(_) => size.saturating_sub(spec.offset.unsigned_abs()),
    };
    if offset > size {
        return Err(Error::RangePastEnd { offset, size });
    }
    if spec.offset >= 0
        && spec.length > 0
        && offset.checked_add(spec.length).is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Error::invalid("length", "offset and length together are too large"));
    }
    let left = size - offset;
    Ok((offset, if spec.length == 0 { left } else { left.min(spec.length) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::FileId;

    fn resolve(offset: i64, length: u64, size: u64) -> Result<(u64, u64)> {
        range(&ReadSpec { file: FileRef::Id(FileId::new()), version: None, offset, length }, size)
    }

    #[test]
    fn ranges() {
        assert_eq!(resolve(0, 0, 10).unwrap(), (0, 10));
        assert_eq!(resolve(3, 4, 10).unwrap(), (3, 4));
        assert_eq!(resolve(3, 100, 10).unwrap(), (3, 7));
        assert_eq!(resolve(10, 0, 10).unwrap(), (10, 0));
        assert_eq!(resolve(-4, 0, 10).unwrap(), (6, 4));
        assert_eq!(resolve(-4, 2, 10).unwrap(), (6, 2));
        assert_eq!(resolve(-40, 0, 10).unwrap(), (0, 10));
        assert_eq!(resolve(i64::MIN, 0, 10).unwrap(), (0, 10));
        assert!(matches!(resolve(11, 0, 10), Err(Error::RangePastEnd { offset: 11, size: 10 })));
        assert!(matches!(resolve(1, i64::MAX as u64, 10), Err(Error::Invalid(_))));
        assert_eq!(resolve(0, i64::MAX as u64, 10).unwrap(), (0, 10));
    }
}
