use super::*;
use bytes::Bytes;
use coffer_domain::{
    error::Unavailable,
    file::{Classification, Content, Description, Metadata, Namespace, Owner, Status as FileStatus},
    id::{FileId, ObjectId, VersionId, VolumeId},
    path::{Key, StoragePath},
    volume::Provider,
};
use futures_util::StreamExt as _;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

const STALL: Duration = Duration::from_secs(30);

/// Gives what it is told to, and notes how it ends.
struct Script {
    pieces: Vec<Result<Piece>>,
    end: End,
    /// Pieces never end: the next one is awaited for ever.
    hangs: bool,
}

#[derive(Clone, Default)]
struct End(Arc<(Mutex<Vec<String>>, Notify)>);

impl End {
    fn note(&self, what: String) {
        self.0.0.lock().unwrap().push(what);
        self.0.1.notify_one();
    }

    async fn noted(&self) -> Vec<String> {
        while !self.0.0.lock().unwrap().iter().any(|note| note == "dropped") {
            self.0.1.notified().await;
        }
        self.0.0.lock().unwrap().clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.end.note("dropped".to_owned());
    }
}

impl Source for Script {
    fn about(&self) -> (File, FileAccess, u64, u64) {
        (file(), FileAccess::Public, 2, 6)
    }

    async fn next(&mut self) -> Option<Result<Piece>> {
        if self.pieces.is_empty() && self.hangs {
            std::future::pending::<()>().await;
        }
        (!self.pieces.is_empty()).then(|| self.pieces.remove(0))
    }

    async fn refuse(self, error: Error) -> Error {
        self.end.note(error.reason().to_owned());
        error
    }
}

fn piece(offset: u64) -> Result<Piece> {
    Ok(Piece { offset, bytes: Bytes::from_static(b"abc"), crc32c: 7 })
}

fn file() -> File {
    File {
        id: FileId::new(),
        file_id: "f".into(),
        volume: VolumeId::new(),
        owner: Owner { namespace: Namespace::Apps, user: None, app: Some("scanner".into()) },
        organisation: "clinic".into(),
        project: None,
        path: StoragePath::stored("a".into()),
        original_name: "a".into(),
        description: Description {
            filename: "a".into(),
            mime_type: "text/plain".into(),
            encoding: String::new(),
            classification: Classification::Public,
            tags: Vec::new(),
            custom_metadata: Metadata::new(),
        },
        content: Content {
            version: VersionId::new(),
            number: 1,
            object: ObjectId::new(),
            key: Key::parse("a").unwrap(),
            size: 8,
            sha256: "00".repeat(32).parse().unwrap(),
            crc32c: 0,
        },
        status: FileStatus::Active,
        is_public: true,
        provider: Provider::Local,
        created_by: None,
        updated_by: None,
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
        purged_at: None,
        last_accessed_at: None,
        access_count: 0,
        revision: 1,
    }
}

fn pump(pieces: Vec<Result<Piece>>, hangs: bool, expires_at: Option<Timestamp>) -> (Pieces, End) {
    let end = End::default();
    (Pieces::pump(Script { pieces, end: end.clone(), hangs }, STALL, expires_at), end)
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn metadata_comes_first_then_pieces_in_order_then_the_end() {
    let (stream, end) = pump(vec![piece(2), piece(5)], false, None);
    let messages: Vec<_> = stream.map(|message| message.unwrap()).collect().await;
    let metadata = messages[0].metadata.as_ref().unwrap();
    assert_eq!((metadata.offset, metadata.length), (2, 6));
    assert_eq!(metadata.file.as_ref().unwrap().volume_id, "", "the public must not see the volume");
    assert!(messages[0].data.is_none());
    let rest: Vec<_> =
        messages[1..].iter().map(|m| (m.read_offset, m.data.as_ref().unwrap().crc32c)).collect();
    assert_eq!(rest, [(2, Some(7)), (5, Some(7))]);
    assert_eq!(end.noted().await, ["dropped"]);
}

#[tokio::test]
async fn a_failed_read_ends_with_its_error() {
    let (stream, _) = pump(vec![piece(2), Err(Error::Unavailable(Unavailable::Backend))], false, None);
    let messages: Vec<_> = stream.collect().await;
    assert_eq!(messages.len(), 3);
    assert_eq!(reason(messages[2].as_ref().unwrap_err()), "BACKEND_UNAVAILABLE");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_stalls_and_hears_it_when_it_wakes() {
    let (mut stream, end) = pump(vec![piece(2), piece(5)], true, None);
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(end.noted().await, ["STREAM_STALLED", "dropped"]);
    let rest: Vec<_> = stream.collect().await;
    assert_eq!(rest.len(), 2, "the piece that was handed over, and why it ends");
    assert_eq!(reason(rest[1].as_ref().unwrap_err()), "STREAM_STALLED");
}

#[tokio::test]
async fn a_token_that_expires_ends_the_read() {
    let (stream, end) = pump(vec![piece(2)], false, Some(now()));
    let messages: Vec<_> = stream.collect().await;
    assert_eq!(reason(messages[0].as_ref().unwrap_err()), "TOKEN_EXPIRED");
    assert_eq!(end.noted().await, ["TOKEN_EXPIRED", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_answer_ends_a_read_that_waits_for_its_backend() {
    let (mut stream, end) = pump(vec![piece(2)], true, None);
    assert!(stream.next().await.unwrap().is_ok());
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    assert_eq!(end.noted().await, ["dropped"]);
}
