//! The receive loop: takes messages into an upload until its stream has ended, or must.
//!
//! It runs in a task of its own, and a stream that must end is ended only when what had arrived of it was taken: tonic drops a handler the
//! moment its client goes away, but the messages that came before are still there, and nothing that reached the service should have to be sent
//! again.

use super::{
    Part, later_message,
    messages::{Message, Messages, Stop},
};
use crate::{edge::Place, status::status_of_upload};
use bytes::Bytes;
use coffer_domain::{
    Error, Result,
    file::{File, Sha256Sum},
    id::UploadId,
    service::Writing,
};
use coffer_proto::v1::ChecksummedData;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Most messages in a row that bring nothing.
const MAX_EMPTY_MESSAGES: u32 = 1_024;

/// After so long what waits for a full batch is handed over.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Most bytes that are taken of a stream that must end: more than can have arrived before it had to, so that a client that goes on
/// sending does not keep it alive.
const MAX_ARRIVED_BYTES: usize = 16 * 1024 * 1024;

/// Where messages go: a [`Writing`].
pub trait Sink: Send {
    /// What it becomes.
    type Done;
    /// The upload, which refusals name.
    fn id(&self) -> Option<UploadId>;
    /// Resolves when the stream has to end.
    fn interrupted(&self) -> impl Future<Output = Error> + Send;
    /// Takes a message: at which byte of the content it begins, its bytes, and their CRC-32C if their sender found it.
    fn write(
        &mut self,
        offset: u64,
        bytes: Bytes,
        crc32c: Option<u32>,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Hands over what waits for a full batch.
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// All was sent, and has this SHA-256 if its sender said so.
    fn finish(self, sha256: Option<Sha256Sum>) -> impl Future<Output = Result<Self::Done>> + Send;
    /// Ends the stream and hands the error back.
    fn refuse(self, error: Error) -> impl Future<Output = Error> + Send;
}

impl Sink for Writing {
    type Done = File;

    fn id(&self) -> Option<UploadId> {
        Self::id(self)
    }

    fn interrupted(&self) -> impl Future<Output = Error> + Send {
        Self::interrupted(self)
    }

    fn write(
        &mut self,
        offset: u64,
        bytes: Bytes,
        crc32c: Option<u32>,
    ) -> impl Future<Output = Result<()>> + Send {
        Self::write(self, offset, bytes, crc32c)
    }

    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send {
        Self::flush(self)
    }

    fn finish(self, sha256: Option<Sha256Sum>) -> impl Future<Output = Result<File>> + Send {
        Self::finish(self, sha256)
    }

    fn refuse(self, error: Error) -> impl Future<Output = Error> + Send {
        Self::refuse(self, error)
    }
}

/// The caller's end of a stream, seen from the loop.
#[derive(Debug, Clone)]
pub(super) struct Handler {
    /// Cancelled when nobody waits for the answer any more.
    pub(super) left: CancellationToken,
    /// When the edge ends the RPC.
    pub(super) deadline: Option<Instant>,
    /// Held for as long as the stream is worked on, which may be longer than anybody waits for its answer.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) place: Option<Place>,
}

impl Handler {
    /// Resolves with the reason when nobody waits for the answer any more.
    pub(super) async fn left(&self) -> Error {
        self.left.cancelled().await;
        match self.deadline {
            Some(at) if at <= Instant::now() => Error::DeadlineExceeded,
            _ => Error::ClientLeft,
        }
    }
}

/// Takes `first` and what follows it into `sink`, and finishes that or ends it as it must be. A refusal names the upload.
pub(super) async fn receive<S: Sink>(
    mut sink: S,
    messages: Messages,
    first: Part,
    handler: Handler,
) -> Result<S::Done, Status> {
    let id = sink.id();
    let mut receiver = Receiver { sink: &mut sink, messages, handler, waiting_since: None, ending: None };
    let outcome = receiver.run(first).await;
    let ending = receiver.ending.take();
    let (error, unreadable) = match (outcome, ending) {
        (Ok(sha256), _) => return sink.finish(sha256).await.map_err(|error| status_of_upload(&error, id)),
        (Err(Stop::Refused(Error::ClientLeft)), Some(Ending { why, .. })) => (why, None),
        (Err(Stop::Refused(error)), _) => (error, None),
        (Err(Stop::Unreadable(status)), _) => {
            (Error::invalid("message", "must be one of the contract's"), Some(status))
        }
    };
    let error = sink.refuse(error).await;
    Err(unreadable.unwrap_or_else(|| status_of_upload(&error, id)))
}

/// Until what has waited since then is to be handed over.
async fn pause(since: Option<Instant>) {
    sleep_until(since.unwrap_or_else(Instant::now) + PAUSE).await;
}

struct Receiver<'a, S> {
    sink: &'a mut S,
    messages: Messages,
    handler: Handler,
    /// When the first of what waits to be handed over was written.
    waiting_since: Option<Instant>,
    ending: Option<Ending>,
}

/// The stream must end: only what has arrived is taken.
struct Ending {
    why: Error,
    taken_bytes: usize,
}

/// All that had arrived of a stream that must end was taken; [`Ending`] says why it must.
const NOTHING_MORE: Stop = Stop::Refused(Error::ClientLeft);

impl<S: Sink> Receiver<'_, S> {
    /// Takes messages up to the end of the stream; answers the checksum that came with `finish`.
    async fn run(&mut self, first: Part) -> Result<Option<Sha256Sum>, Stop> {
        let (mut part, mut empty) = (first, 0);
        loop {
            let Part { data, finish } = part;
            let is_empty = data.as_ref().is_none_or(|(_, data)| data.content.is_empty());
            empty = if is_empty { empty + 1 } else { 0 };
            if empty > MAX_EMPTY_MESSAGES {
                let problem = format!("more than {MAX_EMPTY_MESSAGES} messages in a row have no data");
                return Err(Error::invalid("data", problem).into());
            }
            if let Some((offset, data)) = data {
                self.write(offset, data).await?;
            }
            let next = self.next().await?;
            let misplaced = |problem: &str| Err(Error::invalid("finish", problem).into());
            part = match (finish, next) {
                (Some(sha256), None) => return Ok(sha256),
                (Some(_), Some(_)) => {
                    return misplaced("must be in the last message, and a message followed");
                }
                (None, None) => {
                    return misplaced("must be set in the last message; the stream ended without");
                }
                (None, Some(message)) => later_message(message)?,
            };
        }
    }

    async fn write(&mut self, offset: u64, data: ChecksummedData) -> Result<(), Stop> {
        let ChecksummedData { content, crc32c } = data;
        if let Some(ending) = &mut self.ending {
            ending.taken_bytes += content.len();
        }
        if !content.is_empty() {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        Ok(self.sink.write(offset, content, crc32c).await?)
    }

    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Message>, Stop> {
        while self.ending.is_none() {
            let why = tokio::select! {
                biased;
                why = self.sink.interrupted() => why,
                why = self.handler.left() => why,
                () = pause(self.waiting_since), if self.waiting_since.is_some() => {
                    self.sink.flush().await?;
                    self.waiting_since = None;
                    continue;
                }
                message = self.messages.next() => return message,
            };
            self.ending = Some(Ending { why, taken_bytes: 0 });
        }
        let is_too_much = self.ending.as_ref().is_some_and(|ending| ending.taken_bytes >= MAX_ARRIVED_BYTES);
        if is_too_much { Err(NOTHING_MORE) } else { self.messages.arrived()?.ok_or(NOTHING_MORE) }
    }
}

#[cfg(test)]
mod tests;
