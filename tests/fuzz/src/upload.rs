//! Uploads: whatever a stream's bytes are, what is stored is what was sent, in order and no more than was announced, or the stream is
//! refused for what is wrong with it first.
//!
//! A stream is read as `WriteFile` and as `BidiWriteFile`, by the code that reads those, and must come to the same; only the store behind
//! it is a vector.

mod content;
mod expected;
mod script;

use crate::principal;
use bytes::Bytes;
use coffer_api::{
    MAX_MESSAGE_BYTES,
    edge::{Gone, Pace},
    status::status,
    transfers::write::{Message, Opening, Stop, Stream, Target},
};
use coffer_domain::{service::UploadSpec, volume::VolumeRef};
use coffer_proto::{
    ERROR_DOMAIN,
    v1::{
        BidiWriteFileRequest, ErrorReason, UploadSpec as WireSpec, WriteFileRequest,
        write_file_request::FirstMessage,
    },
};
use content::Content;
use expected::{Frame, Refusal};
use futures_util::stream;
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstDecoder;
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Most pieces in which a body arrives.
const MAX_PIECES: usize = 256;
/// What was stored of an upload that goes on.
const BEGUN: &[u8] = b"begun";
/// Most bytes of a file on the volume.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Nothing here waits for anything: all of a body is there when it is read.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a thread is all it takes"));

/// A stream as it was sent.
#[derive(Debug, Clone)]
struct Sent {
    body: Bytes,
    piece_bytes: usize,
    /// Its client was gone before it ended.
    breaks_off: bool,
    /// A part of the content is there from before, where the stream names an upload or a request.
    goes_on: bool,
}

/// What came of a stream.
struct Outcome {
    /// What the first message asked for, if it could be understood.
    target: Option<Target>,
    /// What was taken, and if all was: the same.
    taken: Vec<u8>,
    result: Result<(), Status>,
}

/// The first byte says how the body that the rest is arrives, the second in which pieces.
pub(crate) fn upload(data: &[u8]) {
    let Some(([form, piece], rest)) = data.split_first_chunk() else { return };
    let body = if form & 1 == 0 { rest.to_vec() } else { script::body(rest) };
    let piece_bytes = (usize::from(*piece) + 1).max(body.len() / MAX_PIECES);
    let sent = Sent { body: body.into(), piece_bytes, breaks_off: form & 2 != 0, goes_on: form & 4 != 0 };
    let frames = expected::frames(&sent.body, sent.breaks_off);
    for outcome in [sent.receive::<WriteFileRequest>(true), sent.receive::<BidiWriteFileRequest>(false)] {
        check(&sent, &frames, outcome);
    }
}

impl Sent {
    /// `WriteFile` is `told_once`: of what is small it takes all before it begins.
    fn receive<M>(&self, is_told_once: bool) -> Outcome
    where
        M: prost::Message + Default + Into<Message> + 'static,
    {
        let Self { body, piece_bytes, breaks_off, goes_on } = self.clone();
        let pieces = (0..body.len()).step_by(piece_bytes);
        let pieces = pieces.map(move |at| Ok(body.slice(at..body.len().min(at + piece_bytes))));
        let pieces = pieces.chain(breaks_off.then_some(Err(Gone)));
        let body =
            StreamBody::new(stream::iter(pieces.map(|piece| piece.map(BodyFrame::data)).collect::<Vec<_>>()));
        let messages =
            Streaming::<M>::new_request(ProstDecoder::default(), body, None, Some(MAX_MESSAGE_BYTES));
        let pace = Pace { stall_timeout: Duration::from_secs(30), min_rate: 0 };
        RUNTIME.block_on(async {
            let opening =
                match Stream::new(principal("clinic", "scanner"), pace, messages).open(is_told_once).await {
                    Ok(opening) => opening,
                    Err(stop) => {
                        let status = match stop {
                            Stop::Refused(error) => status(&error),
                            Stop::Unreadable(status) => status,
                        };
                        return Outcome { target: None, taken: Vec::new(), result: Err(status) };
                    }
                };
            let taken: Arc<Mutex<Vec<u8>>> = Arc::default();
            let (target, result) = match opening {
                Opening::Whole(spec, whole) => {
                    let target = Target::New(spec);
                    let content = Content::new(&target, goes_on, &taken);
                    (target, content.store(whole).map_err(|error| status(&error)))
                }
                Opening::Streamed(target, rest) => {
                    let content = Content::new(&target, goes_on, &taken);
                    let result = rest.receive(content).await;
                    (target, result)
                }
            };
            let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Outcome { target: Some(target), taken, result }
        })
    }
}

fn check(sent: &Sent, frames: &[Frame], Outcome { target, taken, result }: Outcome) {
    let refusal = result.as_ref().err().map(refusal);
    let Some(target) = target else {
        let refusal = refusal.expect("nothing was opened");
        match expected::opening(frames) {
            // Which names and numbers make a spec is not said again here.
            Ok(()) => assert_eq!(refusal, Refusal::Field),
            Err(expected) => assert_eq!(refusal, expected),
        }
        return;
    };
    let Some(Frame::Message(first)) = frames.first() else { panic!("it was opened by nothing") };
    says_the_same(&target, first);
    let (stored, expected) = expected::content(frames, sent.goes_on && may_go_on(&target));
    assert_eq!(refusal, expected.err(), "{frames:?}");
    // What a whole content was refused for may come after its last byte.
    assert!(stored.starts_with(&taken), "nothing but what was sent");
    assert!(refusal.is_some() || stored == taken, "all of it");
    if let (Some(Refusal::Gap), Err(status)) = (refusal, &result) {
        let info = status.get_details_error_info().expect("every refusal has one");
        assert_eq!(info.metadata.get("expected_offset"), Some(&taken.len().to_string()));
    }
}

/// Whether a stream of this target may find a beginning that another one has left.
fn may_go_on(target: &Target) -> bool {
    match target {
        Target::New(spec) => spec.request.is_some(),
        Target::Started(_) => true,
    }
}

/// The target is what the message names.
fn says_the_same(target: &Target, first: &WriteFileRequest) {
    match (target, &first.first_message) {
        (Target::Started(id), Some(FirstMessage::UploadId(text))) => {
            assert_eq!(Uuid::parse_str(text), Ok(id.uuid()));
        }
        (Target::New(spec), Some(FirstMessage::Spec(sent))) => is_the_spec(spec, sent),
        _ => panic!("{target:?} was made of {first:?}"),
    }
}

fn is_the_spec(spec: &UploadSpec, sent: &WireSpec) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!(text(&spec.path), sent.path);
    assert_eq!(text(&spec.file_id), sent.file_id);
    assert_eq!(text(&spec.project), sent.project_id);
    assert_eq!(text(&spec.if_etag), sent.if_etag);
    assert_eq!(text(&spec.changes.filename), sent.filename);
    assert_eq!(text(&spec.changes.mime_type), sent.mime_type);
    assert_eq!(spec.size.map(i64::try_from), sent.size_bytes.map(Ok));
    assert_eq!(spec.sha256.map(|sum| sum.to_string()).unwrap_or_default(), sent.sha256);
    assert_eq!(spec.volume, VolumeRef::parse(&sent.volume));
    assert_eq!(spec.file.is_some(), sent.file.is_some());
    assert_eq!(spec.create_only, sent.create_only);
    assert_eq!(spec.changes.is_public.unwrap_or_default(), sent.is_public);
    assert_eq!(spec.change_description, sent.change_description);
    // An id may be written in more than one way.
    let request = spec.request.as_ref().map(|request| request.id.uuid());
    assert_eq!(request, Uuid::parse_str(&sent.request_id).ok());
}

/// What a status says, which has to be one of the contract's, complete and with its code.
fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        let codes = [Code::Internal, Code::OutOfRange, Code::Unimplemented, Code::InvalidArgument];
        assert!(codes.contains(&status.code()), "{status:?}");
        return Refusal::Unreadable;
    };
    assert_eq!(info.domain, ERROR_DOMAIN);
    let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
    let (code, refusal) = match reason {
        Some(ErrorReason::FieldInvalid) => (Code::InvalidArgument, Refusal::Field),
        Some(ErrorReason::ChecksumMismatch) => (Code::InvalidArgument, Refusal::Checksum),
        Some(ErrorReason::MessageTooLarge) => (Code::InvalidArgument, Refusal::TooLarge),
        Some(ErrorReason::RequestIdReused) => (Code::InvalidArgument, Refusal::AnotherContent),
        Some(ErrorReason::SizeMismatch) => (Code::OutOfRange, Refusal::Size),
        Some(ErrorReason::OffsetGap) => (Code::OutOfRange, Refusal::Gap),
        Some(ErrorReason::FileTooLarge) => (Code::ResourceExhausted, Refusal::FileTooLarge),
        Some(ErrorReason::ClientLeft) => (Code::Cancelled, Refusal::Left),
        other => panic!("{other:?} is no reason to refuse a stream: {status:?}"),
    };
    assert_eq!(status.code(), code, "{status:?}");
    if refusal == Refusal::Field {
        let fields = details.bad_request().map_or(&[][..], |bad| &bad.field_violations[..]);
        assert!(!fields.is_empty());
        let known = ["upload_id", "write_offset", "sha256", "data", "finish", "spec"];
        assert!(fields.iter().all(|bad| known.contains(&bad.field.split('.').next().unwrap_or_default())));
    }
    refusal
}
