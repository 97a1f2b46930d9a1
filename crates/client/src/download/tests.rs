//! Downloads played by streams of messages.

use super::*;
use crate::content::tests::{self, Message, piece, whole};
use futures_util::{StreamExt as _, stream};
use std::{
    fs,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tonic::Status;

const STALL: Duration = Duration::from_secs(5);

async fn content(messages: Vec<Message>) -> Content {
    tests::content(stream::iter(messages), (0, 0), STALL).await.unwrap()
}

fn is_empty(directory: &TempDir) -> bool {
    fs::read_dir(directory.path()).unwrap().next().is_none()
}

fn into(directory: &TempDir) -> Destination {
    Destination::Directory { path: directory.path().to_owned(), replace: false }
}

/// A body of several batches, in pieces of 256 KiB.
fn large() -> (&'static [u8], Vec<Message>) {
    let body: Vec<u8> =
        (0..3 * BATCH_BYTES as u32 + 12_345).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body: &'static [u8] = body.leak();
    let pieces = body.chunks(256 * 1024).scan(0, |offset, chunk| {
        let at = *offset;
        *offset += i64::try_from(chunk.len()).unwrap();
        Some(piece(at, chunk))
    });
    let messages: Vec<Message> = std::iter::once(whole(body)).chain(pieces).collect();
    assert!(messages.len() > 10);
    (body, messages)
}

#[tokio::test]
async fn whole_files_arrive_under_the_name_the_service_gives() {
    let directory = tempfile::tempdir().unwrap();
    let (body, messages) = large();
    let mut seen = Vec::new();
    let downloaded = receive_file(content(messages).await, into(&directory), |progress| seen.push(progress))
        .await
        .unwrap();
    assert_eq!(downloaded.path, directory.path().join("fox.txt"));
    assert_eq!(downloaded.written_bytes, body.len() as u64);
    assert!(fs::read(&downloaded.path).unwrap() == body);
    assert!(seen.is_sorted_by_key(|progress| progress.done_bytes));
    let total_bytes = Some(body.len() as u64);
    assert_eq!(seen.first(), Some(&Progress { done_bytes: 0, total_bytes, attempts: 1 }));
    assert_eq!(seen.last(), Some(&Progress { done_bytes: body.len() as u64, total_bytes, attempts: 1 }));
}

#[tokio::test]
async fn nothing_stays_of_a_broken_download() {
    let (_, good) = large();
    let cut = |length: usize| good[..length].to_vec();
    let mut refused = cut(9);
    refused.push(Err(Status::unauthenticated("token expired")));
    let mut rotten = good.clone();
    rotten[0] = whole(b"x").map(|mut message| {
        let length = i64::try_from(large().0.len()).unwrap();
        let metadata = message.metadata.as_mut().unwrap();
        metadata.length = length;
        metadata.file.as_mut().unwrap().size_bytes = length;
        message
    });
    for messages in [cut(9), cut(1), refused, rotten] {
        let directory = tempfile::tempdir().unwrap();
        let outcome = receive_file(content(messages).await, into(&directory), |_| {}).await;
        assert!(matches!(outcome, Err(Error::Corrupted(_) | Error::Refused(_))), "{outcome:?}");
        assert!(is_empty(&directory));
    }
}

#[tokio::test]
async fn a_dropped_download_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let part = directory.path().join("fox.txt.part");
    let (_, messages) = large();
    let messages = stream::iter(messages[..3].to_vec()).chain(stream::once(pending()));
    let content = tests::content(messages, (0, 0), STALL).await.unwrap();
    let received = AtomicU64::new(0);
    let count = |progress: Progress| received.store(progress.done_bytes, Ordering::Relaxed);
    let mut download = Box::pin(receive_file(content, into(&directory), count));
    while received.load(Ordering::Relaxed) < 2 * 256 * 1024 {
        assert!(futures_util::poll!(&mut download).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(part.exists());
    drop(download);
    assert!(is_empty(&directory));
}

#[tokio::test]
async fn existing_files_are_replaced_only_where_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fox.txt");
    fs::write(&path, "old").unwrap();
    let messages = || vec![whole(b"new"), piece(0, b"new")];

    let refused = receive_file(content(messages()).await, into(&directory), |_| {}).await;
    assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");

    let replace = Destination::Directory { path: directory.path().to_owned(), replace: true };
    receive_file(content(messages()).await, replace, |_| {}).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");

    fs::write(&path, "old").unwrap();
    receive_file(content(messages()).await, Destination::File(path.clone()), |_| {}).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn names_that_could_do_harm_are_refused() {
    for bad in ["", ".", "..", "/etc/passwd", "a/b", "..\\x", "a\nb", "a\0", "\u{1b}[2J"] {
        assert!(matches!(safe_name(bad), Err(Error::Destination(_))), "{bad:?}");
    }
    for good in ["a", ".bashrc", "a b.txt", "ü", "..."] {
        assert_eq!(safe_name(good).unwrap(), Path::new(good));
    }
}

/// Takes so many bytes and then fails, as a full disk does.
#[derive(Clone)]
struct Bounded {
    taken: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = self.taken.lock().unwrap();
        let count = bytes.len().min(self.room - taken.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn writers_get_the_bytes_and_their_failures_are_told() {
    let (body, messages) = large();
    let sink = Bounded { taken: Arc::default(), room: body.len() };
    receive(&mut content(messages.clone()).await, sink.clone(), |_| {}).await.unwrap();
    assert!(*sink.taken.lock().unwrap() == body);

    let sink = Bounded { taken: Arc::default(), room: body.len() - 1 };
    let outcome = receive(&mut content(messages).await, sink, |_| {}).await.err();
    assert!(
        matches!(&outcome, Some(Error::Io { error, .. }) if error.kind() == io::ErrorKind::StorageFull),
        "{outcome:?}"
    );
}
