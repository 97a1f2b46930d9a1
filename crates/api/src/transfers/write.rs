//! `WriteFile` and `BidiWriteFile`: from a stream's messages to an upload.
//!
//! The upload is committed when the stream has ended after the message with `finish`, which in every gRPC library is one step for the
//! client. So what follows `finish` is refused rather than ignored, and a client that is still sending has not been answered yet.

mod answers;
mod messages;
mod receive;
mod whole;

pub(super) use answers::Answers;
pub use messages::{Message, Stop};
pub use receive::Sink;

use super::convert;
use crate::{
    Api, Received,
    edge::{Pace, Place, Progress},
    fields::{Fields, to_i64},
    files::to_file,
    metadata::Deadline,
    refuse, request_id,
    status::{status, status_of_upload},
};
use answers::Begun;
use coffer_domain::{
    Error,
    caller::{Caller, FileAccess, Principal},
    file::Sha256Sum,
    id::UploadId,
    operation::OperationKind,
    request::UPLOAD_METHOD,
    service::{MAX_WHOLE_BYTES, UploadSpec, Whole, Writing},
};
use coffer_proto::v1::{BidiWriteFileRequest, ChecksummedData, WriteFileRequest, WriteFileResponse};
use messages::{First, Messages};
use receive::Handler;
use std::sync::Arc;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};
use tracing::Instrument as _;

/// The parts of a message beside what only the first has, checked.
#[derive(Debug, PartialEq)]
struct Part {
    data: Option<(u64, ChecksummedData)>,
    /// `Some`: this is the last message, with the checksum it may name.
    finish: Option<Option<Sha256Sum>>,
}

/// What a stream writes.
#[derive(Debug)]
pub enum Target {
    /// An upload of its own, or the one that its request has begun.
    New(Box<UploadSpec>),
    /// An upload that was started.
    Started(UploadId),
}

/// A stream that is about to be received.
#[derive(Debug)]
pub struct Stream {
    principal: Principal,
    fields: Fields,
    messages: Messages,
    handler: Handler,
}

/// What a stream asks for, by its first message.
#[derive(Debug)]
pub enum Opening {
    /// To store a content that is all here.
    Whole(Box<UploadSpec>, Whole),
    /// To store what it is about to send.
    Streamed(Target, Box<Rest>),
}

/// A stream from its first message on.
#[derive(Debug)]
pub struct Rest {
    first: Part,
    messages: Messages,
    handler: Handler,
}

/// `WriteFile`: one answer when all is done.
pub(super) async fn write(
    api: Arc<Api>,
    request: Request<Streaming<WriteFileRequest>>,
) -> Result<WriteFileResponse, Status> {
    let (caller, stream, _guard) = Stream::of(&api, request)?;
    tokio::spawn(upload(api, caller, stream, None).in_current_span()).await.unwrap_or_else(lost)
}

/// `BidiWriteFile`: answers on the way.
pub(super) fn bidi_write(
    api: Arc<Api>,
    request: Request<Streaming<BidiWriteFileRequest>>,
) -> Result<Answers, Status> {
    let (caller, stream, guard) = Stream::of(&api, request)?;
    let (report, begun) = oneshot::channel();
    let work = tokio::spawn(upload(api, caller, stream, Some(report)).in_current_span());
    Ok(answers::answers(begun, work, guard))
}

/// For a task that ended without an outcome.
fn lost<T>(error: tokio::task::JoinError) -> Result<T, Status> {
    Err(status(&Error::internal("receive an upload", error)))
}

/// Receives a stream to its end. What follows the first message goes on without its handler, and drain waits for it.
async fn upload(
    api: Arc<Api>,
    caller: Caller,
    stream: Stream,
    report: Option<oneshot::Sender<Begun>>,
) -> Result<WriteFileResponse, Status> {
    let opening = match stream.open(report.is_none()).await {
        Ok(opening) => opening,
        Err(Stop::Refused(error @ (Error::ClientLeft | Error::DeadlineExceeded))) => {
            return Err(status(&error));
        }
        Err(Stop::Refused(error)) => {
            return Err(status(&api.coffer.refused(&caller, OperationKind::Upload, error).await));
        }
        Err(Stop::Unreadable(status)) => return Err(status),
    };
    let coffer = api.coffer.clone();
    let work = async move {
        let (target, rest) = match opening {
            Opening::Whole(spec, whole) => {
                let (id, stored) = api.coffer.upload_whole(caller, *spec, whole).await;
                return stored.map_err(|error| status_of_upload(&error, id));
            }
            Opening::Streamed(target, rest) => (target, rest),
        };
        let writing = begin(&api, caller, target).await?;
        if let Some(report) = report {
            // Nobody listens any more where the client has left.
            let _ = report.send(Begun { id: writing.id(), persisted: writing.persisted() });
        }
        rest.receive(writing).await
    };
    let file = coffer.tracked(Box::pin(work)).await?;
    let persisted_size = to_i64(file.content.size);
    Ok(WriteFileResponse { file: Some(to_file(file, FileAccess::Own)), persisted_size })
}

impl Stream {
    /// The messages of `principal`, whose client stays to the end and keeps to `pace`.
    pub fn new<M>(
        principal: Principal,
        pace: Pace,
        messages: impl futures_util::Stream<Item = Result<M, Status>> + Send + 'static,
    ) -> Self
    where
        M: Into<Message>,
    {
        let messages = Messages::new(messages, Progress::new(pace), principal.expires_at);
        let handler = Handler { left: CancellationToken::new(), deadline: None, place: None };
        Self { principal, fields: Fields::default(), messages, handler }
    }

    /// With the guard that its handler keeps: dropped, it tells that nobody waits for the answer any more.
    fn of<M>(api: &Api, request: Request<Streaming<M>>) -> Result<(Caller, Self, DropGuard), Status>
    where
        M: Into<Message> + Send + 'static,
    {
        let deadline = request.extensions().get().map(|Deadline(at)| *at);
        let place = request.extensions().get::<Place>().cloned();
        let pace = Pace { stall_timeout: api.coffer.stall_timeout(), min_rate: 0 };
        let progress = request.extensions().get().cloned().unwrap_or_else(|| Progress::new(pace));
        let (principal, Received { caller, fields, message: stream }) = api.receive_known(request)?;
        let messages = Messages::new(stream, progress, principal.expires_at);
        let left = CancellationToken::new();
        let guard = left.clone().drop_guard();
        let handler = Handler { left, deadline, place };
        Ok((caller, Self { principal, fields, messages, handler }, guard))
    }

    /// Reads the first message; with `is_told_once` also what follows, where that is small and comes at once: its client hears nothing
    /// before the end.
    ///
    /// # Errors
    ///
    /// Where nothing was asked for, or with fields that are wrong, or the client has left.
    pub async fn open(self, is_told_once: bool) -> Result<Opening, Stop> {
        let Self { principal, mut fields, mut messages, handler } = self;
        let first = tokio::select! {
            biased;
            first = messages.next() => first?,
            why = handler.left() => return Err(why.into()),
        };
        let first = first.ok_or_else(|| Error::invalid("spec", "the stream ended without a message"))?;
        let (target, part) = first_message(first, &principal, &mut fields);
        let (target, first) = fields.finish(target.zip(part))?;
        let whole = match &target {
            Target::New(spec) if is_told_once && is_stored_at_once(spec) => tokio::select! {
                whole = timeout(receive::PAUSE, whole::gather(&first, &mut messages)) => whole.ok().flatten(),
                _ = handler.left() => None,
            },
            _ => None,
        };
        if handler.left.is_cancelled() {
            // Its client may write this upload by another stream already, which it must not take over from.
            return Err(Error::ClientLeft.into());
        }
        Ok(match (target, whole) {
            (Target::New(spec), Some(whole)) => Opening::Whole(spec, whole),
            (target, _) => Opening::Streamed(target, Box::new(Rest { first, messages, handler })),
        })
    }
}

impl Rest {
    /// Takes the messages into `sink` to the end of the stream, and finishes that or ends it as it must be.
    ///
    /// # Errors
    ///
    /// The status that refuses the stream; it names the upload.
    pub async fn receive<S: Sink>(self, sink: S) -> Result<S::Done, Status> {
        let Self { first, messages, handler } = self;
        receive::receive(sink, messages, first, handler).await
    }
}

/// Whether a content is stored in one step if it arrives at once: it is small, and nobody can go on with it.
fn is_stored_at_once(spec: &UploadSpec) -> bool {
    spec.request.is_none() && spec.size.is_none_or(|bytes| bytes <= MAX_WHOLE_BYTES as u64)
}

async fn begin(api: &Api, caller: Caller, target: Target) -> Result<Writing, Status> {
    match target {
        Target::New(spec) => api.coffer.begin_upload(caller, *spec).await.map_err(refuse),
        Target::Started(id) => {
            let begun = api.coffer.continue_upload(caller, id).await;
            begun.map_err(|error| status_of_upload(&error, Some(id)))
        }
    }
}

fn first_message(
    message: Message,
    principal: &Principal,
    fields: &mut Fields,
) -> (Option<Target>, Option<Part>) {
    let Message { first, write_offset, data, finish, sha256 } = message;
    let target = match first {
        Some(First::Spec(spec)) => {
            let request = request_id(fields, principal, UPLOAD_METHOD, &spec.request_id, &*spec);
            convert::upload_spec(*spec, request, fields).map(|spec| Target::New(Box::new(spec)))
        }
        Some(First::Upload(id)) => fields.id("upload_id", &id).map(Target::Started),
        None => fields.take("spec", Err("the first message must have spec or upload_id")),
    };
    (target, part(write_offset, data, finish, &sha256, fields))
}

fn later_message(message: Message) -> Result<Part, Error> {
    let mut fields = Fields::default();
    let Message { first, write_offset, data, finish, sha256 } = message;
    if let Some(first) = first {
        let field = match first {
            First::Spec(_) => "spec",
            First::Upload(_) => "upload_id",
        };
        fields.refuse(field, "must be in the first message only");
    }
    let part = part(write_offset, data, finish, &sha256, &mut fields);
    fields.finish(part)
}

fn part(
    write_offset: i64,
    data: Option<ChecksummedData>,
    finish: bool,
    sha256: &str,
    fields: &mut Fields,
) -> Option<Part> {
    let offset = fields.count("write_offset", write_offset);
    let length = data.as_ref().map_or(0, |data| data.content.len() as u64);
    if offset.and_then(|offset| offset.checked_add(length)).is_some_and(|end| i64::try_from(end).is_err()) {
        fields.refuse("write_offset", "must leave the end of data below 2^63");
    }
    let sha256 = fields.optional_sha256("sha256", sha256)?;
    if sha256.is_some() && !finish {
        fields.refuse("sha256", "goes with finish only; before, it belongs into spec");
    }
    let offset = offset?;
    Some(Part { data: data.map(|data| (offset, data)), finish: finish.then_some(sha256) })
}

#[cfg(test)]
mod tests;
