//! `WriteFile`: from the stream's messages to an upload.
//!
//! The upload is committed when the stream has ended after the message with `finish`, which in every gRPC library is one step for the
//! client. So what follows `finish` is refused rather than ignored, and a client that is still sending has not been answered yet.

mod messages;

use super::{WRITE_FILE, convert};
use crate::{
    Api, Received,
    fields::{Fields, to_i64},
    files::to_file,
    request_id,
    status::status,
};
use coffer_domain::{
    Error,
    caller::{Caller, FileAccess, Principal},
    file::Sha256Sum,
    operation::OperationKind,
    service::Upload,
};
use coffer_proto::v1::{
    ChecksummedData, UploadSpec, WriteFileRequest, WriteFileResponse, write_file_request::FirstMessage,
};
use messages::{Messages, Stop};
use tonic::{Status, Streaming};

/// Most messages in a row that bring nothing.
const MAX_EMPTY_MESSAGES: u32 = 1_024;

/// The parts of a message beside its spec, checked.
#[derive(Debug, PartialEq)]
struct Part {
    data: Option<(u64, ChecksummedData)>,
    /// `Some`: this is the last message, with the checksum it may name.
    finish: Option<Option<Sha256Sum>>,
}

pub(super) async fn write(
    api: &Api,
    principal: Principal,
    received: Received<Streaming<WriteFileRequest>>,
) -> Result<WriteFileResponse, Status> {
    let Received { caller, mut fields, message: stream } = received;
    let mut messages = Messages::new(stream, api.coffer.stall_timeout(), principal.expires_at);
    let first = match messages.next().await {
        Ok(Some(first)) => first,
        Ok(None) => {
            return Err(
                refused(api, &caller, Error::invalid("spec", "the stream ended without a message")).await
            );
        }
        Err(Stop::Refused(error)) => return Err(refused(api, &caller, error).await),
        Err(Stop::Broken(status)) => return Err(status),
    };
    let (spec, part) = first_message(first, &principal, &mut fields);
    let (spec, part) = api.checked(&caller, OperationKind::Upload, fields, spec.zip(part)).await?;
    let mut upload = api.coffer.begin_upload(caller, spec).await.map_err(crate::refuse)?;
    match receive(&mut upload, &mut messages, part).await {
        Ok(sha256) => {
            let file = upload.finish(sha256).await.map_err(crate::refuse)?;
            let persisted_size = to_i64(file.content.size);
            Ok(WriteFileResponse { file: Some(to_file(file, FileAccess::Own)), persisted_size })
        }
        Err(Stop::Refused(error)) => Err(status(&upload.refuse(error).await)),
        // The upload is dropped, which aborts it: the client left, or what it sent was no message.
        Err(Stop::Broken(status)) => Err(status),
    }
}

async fn refused(api: &Api, caller: &Caller, error: Error) -> Status {
    status(&api.coffer.refused(caller, OperationKind::Upload, error).await)
}

/// Takes messages up to the end of the stream; answers the checksum that came with `finish`.
async fn receive(
    upload: &mut Upload,
    messages: &mut Messages<Streaming<WriteFileRequest>>,
    first: Part,
) -> Result<Option<Sha256Sum>, Stop> {
    let (mut part, mut empty) = (first, 0);
    loop {
        let Part { data, finish } = part;
        let is_empty = data.as_ref().is_none_or(|(_, data)| data.content.is_empty());
        empty = if is_empty { empty + 1 } else { 0 };
        if empty > MAX_EMPTY_MESSAGES {
            return Err(Error::invalid(
                "data",
                format!("more than {MAX_EMPTY_MESSAGES} messages in a row have no data"),
            )
            .into());
        }
        if let Some((offset, ChecksummedData { content, crc32c })) = data {
            upload.write(offset, content, crc32c).await?;
        }
        let next = messages.next().await?;
        part = match (finish, next) {
            (Some(sha256), None) => return Ok(sha256),
            (Some(_), Some(_)) => {
                return Err(
                    Error::invalid("finish", "must be in the last message, and a message followed").into()
                );
            }
            (None, None) => {
                return Err(Error::invalid(
                    "finish",
                    "must be set in the last message; the stream ended without",
                )
                .into());
            }
            (None, Some(message)) => later_message(message)?,
        };
    }
}

fn first_message(
    message: WriteFileRequest,
    principal: &Principal,
    fields: &mut Fields,
) -> (Option<coffer_domain::service::UploadSpec>, Option<Part>) {
    let WriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
    let spec = match first_message {
        Some(FirstMessage::Spec(spec)) => {
            let request = request_id(fields, principal, WRITE_FILE, &spec.request_id, &spec);
            convert::upload_spec(spec, request, fields)
        }
        None => fields.take("spec", Err::<_, &str>("must be in the first message")),
    };
    (spec, part(write_offset, data, finish, &sha256, fields))
}

fn later_message(message: WriteFileRequest) -> Result<Part, Error> {
    let mut fields = Fields::default();
    let WriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
    if let Some(FirstMessage::Spec(UploadSpec { .. })) = first_message {
        fields.refuse("spec", "must be in the first message only");
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
    let sha256 = fields.optional_sha256("sha256", sha256)?;
    if sha256.is_some() && !finish {
        fields.refuse("sha256", "goes with finish only; before, it belongs into spec");
    }
    let offset = offset?;
    Some(Part { data: data.map(|data| (offset, data)), finish: finish.then_some(sha256) })
}

#[cfg(test)]
mod tests;
