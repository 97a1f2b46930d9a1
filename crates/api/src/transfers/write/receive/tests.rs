mod connection;

use super::*;
use crate::edge::{Pace, Progress};
use coffer_domain::{error::Conflict, time::now};
use coffer_proto::v1::WriteFileRequest;
use futures_util::{Stream, StreamExt as _, stream};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tonic_types::StatusExt as _;

const STALL: Duration = Duration::from_secs(30);

fn progress() -> Progress {
    Progress::new(Pace { stall_timeout: STALL, min_rate: 0 })
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq)]
enum Note {
    Written(u64, usize),
    Flushed,
    Finished(Option<Sha256Sum>),
    Refused(&'static str),
}

/// Notes what it is given.
#[derive(Clone)]
struct Notebook {
    id: UploadId,
    notes: Arc<(Mutex<Vec<Note>>, Notify)>,
    /// Cancelled: bytes are taken.
    open: CancellationToken,
    /// Cancelled: another stream takes over.
    taken_over: CancellationToken,
}

impl Notebook {
    fn new() -> Self {
        let open = CancellationToken::new();
        open.cancel();
        Self { open, ..Self::closed() }
    }

    /// One that takes no bytes until it is opened.
    fn closed() -> Self {
        Self {
            id: UploadId::new(),
            notes: Arc::default(),
            open: CancellationToken::new(),
            taken_over: CancellationToken::new(),
        }
    }

    fn note(&self, note: Note) {
        self.notes.0.lock().unwrap().push(note);
        self.notes.1.notify_one();
    }

    fn notes(&self) -> Vec<Note> {
        self.notes.0.lock().unwrap().clone()
    }

    /// The notes once there is one like that.
    async fn noted(&self, is_it: impl Fn(&Note) -> bool) -> Vec<Note> {
        while !self.notes().iter().any(&is_it) {
            self.notes.1.notified().await;
        }
        self.notes()
    }

    fn written_bytes(&self) -> usize {
        let bytes = |note: &Note| if let Note::Written(_, bytes) = note { *bytes } else { 0 };
        self.notes().iter().map(bytes).sum()
    }

    /// Receives `messages`, the first of which is taken for the first of its stream.
    async fn receive(
        &self,
        messages: impl Stream<Item = Result<WriteFileRequest, Status>> + Send + 'static,
        handler: Handler,
    ) -> Result<(), Status> {
        let expires_at = now() + chrono::TimeDelta::hours(1);
        let mut messages = Messages::new(messages, progress(), expires_at);
        let first = messages.next().await.unwrap().expect("a first message");
        receive(self.clone(), messages, later_message(first).unwrap(), handler).await
    }
}

impl Sink for Notebook {
    type Done = ();

    fn id(&self) -> Option<UploadId> {
        Some(self.id)
    }

    async fn interrupted(&self) -> Error {
        self.taken_over.cancelled().await;
        Error::Conflict(Conflict::TakenOver)
    }

    async fn write(&mut self, offset: u64, bytes: Bytes, _: Option<u32>) -> Result<()> {
        self.open.cancelled().await;
        if bytes == "gap" {
            return Err(Error::OffsetGap { expected: 1, offset });
        }
        self.note(Note::Written(offset, bytes.len()));
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.note(Note::Flushed);
        Ok(())
    }

    async fn finish(self, sha256: Option<Sha256Sum>) -> Result<()> {
        self.note(Note::Finished(sha256));
        Ok(())
    }

    async fn refuse(self, error: Error) -> Error {
        self.note(Note::Refused(error.reason()));
        error
    }
}

fn handler() -> Handler {
    Handler { left: CancellationToken::new(), deadline: None, place: None }
}

/// One whose client has left already.
fn abandoned(deadline: Option<Instant>) -> Handler {
    let left = CancellationToken::new();
    left.cancel();
    Handler { left, deadline, place: None }
}

fn data(write_offset: i64, content: &[u8]) -> Result<WriteFileRequest, Status> {
    let data = ChecksummedData { content: Bytes::copy_from_slice(content), crc32c: None };
    Ok(WriteFileRequest { write_offset, data: Some(data), ..WriteFileRequest::default() })
}

fn finish() -> Result<WriteFileRequest, Status> {
    Ok(WriteFileRequest { finish: true, write_offset: 6, ..WriteFileRequest::default() })
}

/// Messages after which nothing comes, though the stream has not ended.
fn and_silence(
    messages: Vec<Result<WriteFileRequest, Status>>,
) -> impl Stream<Item = Result<WriteFileRequest, Status>> {
    stream::iter(messages).chain(stream::pending())
}

fn field(status: &Status) -> String {
    status.get_error_details().bad_request().expect("a BadRequest").field_violations[0].field.clone()
}

#[tokio::test]
async fn a_stream_that_ends_after_finish_is_a_file() {
    let sink = Notebook::new();
    let messages = vec![data(0, b"abc"), data(3, b"def"), finish()];
    sink.receive(stream::iter(messages), handler()).await.unwrap();
    assert_eq!(sink.notes(), [Note::Written(0, 3), Note::Written(3, 3), Note::Finished(None)]);
}

#[tokio::test]
async fn what_breaks_the_order_of_messages_is_refused_by_its_field() {
    let spec_again = || {
        let first = coffer_proto::v1::write_file_request::FirstMessage::UploadId(UploadId::new().to_string());
        Ok(WriteFileRequest { first_message: Some(first), ..WriteFileRequest::default() })
    };
    for (messages, expected) in [
        (vec![data(0, b"abc"), finish(), data(3, b"def")], "finish"),
        (vec![data(0, b"abc")], "finish"),
        (vec![data(0, b"abc"), spec_again()], "upload_id"),
        (vec![data(0, b"abc"), data(-1, b"def")], "write_offset"),
        ((0..2_000).map(|_| data(0, b"")).collect(), "data"),
    ] {
        let sink = Notebook::new();
        let status = sink.receive(stream::iter(messages), handler()).await.unwrap_err();
        assert_eq!(field(&status), expected);
        assert_eq!(sink.notes().last(), Some(&Note::Refused("FIELD_INVALID")), "{expected}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_upload_and_where_to_go_on() {
    let sink = Notebook::new();
    let status = sink.receive(and_silence(vec![data(5, b"gap")]), handler()).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "OFFSET_GAP");
    assert_eq!((&*info.metadata["expected_offset"], &*info.metadata["offset"]), ("1", "5"));
    assert_eq!(info.metadata["upload_id"], sink.id.to_string());
}

#[tokio::test]
async fn what_is_no_message_is_answered_as_tonic_does() {
    let sink = Notebook::new();
    let messages = vec![data(0, b"abc"), Err(Status::out_of_range("too large"))];
    let status = sink.receive(stream::iter(messages), handler()).await.unwrap_err();
    assert_eq!(status.message(), "too large");
    assert_eq!(sink.notes(), [Note::Written(0, 3), Note::Refused("FIELD_INVALID")]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_handed_over_once_in_each_pause() {
    let sink = Notebook::new();
    let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
    sender.send(data(0, b"abc")).unwrap();
    let begun = Instant::now();
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
    let work = tokio::spawn({
        let sink = sink.clone();
        async move { sink.receive(messages, handler()).await }
    });
    sink.noted(|note| *note == Note::Flushed).await;
    assert_eq!(begun.elapsed(), PAUSE);
    tokio::time::sleep(10 * PAUSE).await;
    sender.send(data(3, b"def")).unwrap();
    let status = work.await.unwrap().unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "STREAM_STALLED");
    let flushed = [Note::Written(0, 3), Note::Flushed, Note::Written(3, 3), Note::Flushed];
    assert_eq!(sink.notes(), [&flushed[..], &[Note::Refused("STREAM_STALLED")]].concat());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_over_where_nothing_waits() {
    let sink = Notebook::new();
    let messages = and_silence(vec![Ok(WriteFileRequest::default())]);
    sink.receive(messages, handler()).await.unwrap_err();
    assert_eq!(sink.notes(), [Note::Refused("STREAM_STALLED")]);
}

#[tokio::test]
async fn what_had_arrived_is_kept_when_the_client_leaves() {
    for (deadline, reason) in [
        (None, "CLIENT_LEFT"),
        (Some(Instant::now() + STALL), "CLIENT_LEFT"),
        (Some(Instant::now()), "DEADLINE_EXCEEDED"),
    ] {
        let sink = Notebook::new();
        let messages = and_silence(vec![data(0, b"abc"), data(3, b"def"), finish()]);
        sink.receive(messages, abandoned(deadline)).await.unwrap_err();
        assert_eq!(sink.notes(), [Note::Written(0, 3), Note::Written(3, 3), Note::Refused(reason)]);
    }
}

#[tokio::test]
async fn a_stream_that_had_ended_is_finished_though_the_client_left() {
    let sink = Notebook::new();
    let messages = stream::iter(vec![data(0, b"abc"), data(3, b"def"), finish()]);
    sink.receive(messages, abandoned(None)).await.unwrap();
    assert_eq!(sink.notes().last(), Some(&Note::Finished(None)));
}

#[tokio::test]
async fn what_is_wrong_with_what_had_arrived_is_why_the_stream_ends() {
    for (wrong, reason) in [
        (data(5, b"gap"), "OFFSET_GAP"),
        (data(-1, b"abc"), "FIELD_INVALID"),
        (Err(Status::internal("garbage")), "FIELD_INVALID"),
    ] {
        let sink = Notebook::new();
        let messages = stream::iter(vec![data(0, b"abc"), wrong, data(3, b"def")]);
        sink.receive(messages, abandoned(None)).await.unwrap_err();
        assert_eq!(sink.notes(), [Note::Written(0, 3), Note::Refused(reason)]);
    }
}

#[tokio::test]
async fn a_stream_that_is_taken_over_keeps_what_had_arrived() {
    let sink = Notebook::new();
    sink.taken_over.cancel();
    let messages = and_silence(vec![data(0, b"abc"), data(3, b"def")]);
    let status = sink.receive(messages, handler()).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "UPLOAD_TAKEN_OVER");
    assert_eq!(sink.notes(), [Note::Written(0, 3), Note::Written(3, 3), Note::Refused("UPLOAD_TAKEN_OVER")]);
}

#[tokio::test]
async fn a_client_that_goes_on_sending_does_not_keep_its_stream() {
    let sink = Notebook::new();
    sink.taken_over.cancel();
    let megabyte = vec![0; 1024 * 1024];
    let messages = stream::repeat_with(move || data(0, &megabyte));
    sink.receive(messages, handler()).await.unwrap_err();
    assert_eq!(sink.written_bytes(), MAX_ARRIVED_BYTES + 1024 * 1024, "with the first message");
    assert_eq!(sink.notes().last(), Some(&Note::Refused("UPLOAD_TAKEN_OVER")));
}
