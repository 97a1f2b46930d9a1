//! `WriteFile` and `BidiWriteFile`: from a stream's messages to an upload.
//!
//! The upload is committed when the stream has ended after the message with `finish`, which in every gRPC library is one step for the
//! client. So what follows `finish` is refused rather than ignored, and a client that is still sending has not been answered yet.

mod answers;
mod messages;
mod receive;

pub(super) use answers::Answers;

use super::convert;
use crate::{
    Api, Received,
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
    service::{UploadSpec, Writing},
};
use coffer_proto::v1::{BidiWriteFileRequest, ChecksummedData, WriteFileRequest, WriteFileResponse};
use messages::{First, Message, Messages, Stop};
use receive::Handler;
use std::sync::Arc;
use tokio::sync::oneshot;
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
enum Target {
    New(Box<UploadSpec>),
    Started(UploadId),
}

/// A stream that is about to be received.
struct Stream {
    principal: Principal,
    caller: Caller,
    fields: Fields,
    messages: Messages,
    handler: Handler,
}

/// `WriteFile`: one answer when all is done.
pub(super) async fn write(
    api: Arc<Api>,
    request: Request<Streaming<WriteFileRequest>>,
) -> Result<WriteFileResponse, Status> {
    let (stream, _guard) = Stream::of(&api, request)?;
    tokio::spawn(stream.receive(api, None).in_current_span()).await.unwrap_or_else(lost)
}

/// `BidiWriteFile`: answers on the way.
pub(super) fn bidi_write(
    api: Arc<Api>,
    request: Request<Streaming<BidiWriteFileRequest>>,
) -> Result<Answers, Status> {
    let (stream, guard) = Stream::of(&api, request)?;
    let (report, begun) = oneshot::channel();
    let work = tokio::spawn(stream.receive(api, Some(report)).in_current_span());
    Ok(answers::answers(begun, work, guard))
}

/// For a task that ended without an outcome.
fn lost<T>(error: tokio::task::JoinError) -> Result<T, Status> {
    Err(status(&Error::internal("receive an upload", error)))
}

impl Stream {
    /// With the guard that its handler keeps: dropped, it tells that nobody waits for the answer any more.
    fn of<M>(api: &Api, request: Request<Streaming<M>>) -> Result<(Self, DropGuard), Status>
    where
        M: Send + 'static,
        Message: From<M>,
    {
        let deadline = request.extensions().get().map(|Deadline(at)| *at);
        let (principal, Received { caller, fields, message: stream }) = api.receive_known(request)?;
        let messages = Messages::new(stream, api.coffer.stall_timeout(), principal.expires_at);
        let left = CancellationToken::new();
        let guard = left.clone().drop_guard();
        Ok((Self { principal, caller, fields, messages, handler: Handler { left, deadline } }, guard))
    }

    /// Receives the stream to its end. What follows the first message goes on without its handler, and drain waits for it.
    async fn receive(
        self,
        api: Arc<Api>,
        report: Option<oneshot::Sender<Begun>>,
    ) -> Result<WriteFileResponse, Status> {
        let Self { principal, caller, mut fields, mut messages, handler } = self;
        let first = tokio::select! {
            biased;
            first = messages.next() => first,
            why = handler.left() => Err(why.into()),
        };
        let first = match first {
            Ok(Some(first)) => first,
            Ok(None) => {
                let error = Error::invalid("spec", "the stream ended without a message");
                return Err(refused(&api, &caller, error).await);
            }
            Err(Stop::Refused(error @ (Error::ClientLeft | Error::DeadlineExceeded))) => {
                return Err(status(&error));
            }
            Err(Stop::Refused(error)) => return Err(refused(&api, &caller, error).await),
            Err(Stop::Unreadable(status)) => return Err(status),
        };
        let (target, part) = first_message(first, &principal, &mut fields);
        let (target, part) = api.checked(&caller, OperationKind::Upload, fields, target.zip(part)).await?;
        if handler.left.is_cancelled() {
            // Its client may write this upload by another stream already, which it must not take over from.
            return Err(status(&Error::ClientLeft));
        }
        let coffer = api.coffer.clone();
        let work = async move {
            let writing = begin(&api, caller, target).await?;
            if let Some(report) = report {
                // Nobody listens any more where the client has left.
                let _ = report.send(Begun { id: writing.id(), persisted: writing.persisted() });
            }
            receive::receive(writing, messages, part, handler).await
        };
        let file = coffer.outlive(work).await.map_err(refuse)??;
        let persisted_size = to_i64(file.content.size);
        Ok(WriteFileResponse { file: Some(to_file(file, FileAccess::Own)), persisted_size })
    }
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

async fn refused(api: &Api, caller: &Caller, error: Error) -> Status {
    status(&api.coffer.refused(caller, OperationKind::Upload, error).await)
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
