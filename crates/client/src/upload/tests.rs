//! What goes out, seen where the transport would take it.

use super::*;
use coffer_proto::BEST_DATA_BYTES;
use sha2::{Digest as _, Sha256};
use std::{fs, io::Write as _};
use tokio::io::{AsyncWriteExt as _, duplex};

const STALL: Duration = Duration::from_secs(5);

fn sha256(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

fn spec() -> v1::UploadSpec {
    v1::UploadSpec { path: "a.bin".to_owned(), ..Default::default() }
}

/// Sends all of a source and checks what every upload must be like; answers the bytes and the number of messages.
async fn sent(source: Source) -> (Vec<u8>, usize) {
    let (sender, mut receiver) = mpsc::channel(1);
    let collect = async {
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await {
            messages.push(message);
        }
        messages
    };
    let (outcome, messages) = tokio::join!(send(source, spec(), sender, STALL, |_| {}), collect);
    let mut body = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let is_last = index + 1 == messages.len();
        assert_eq!(message.first_message.is_some(), index == 0);
        assert_eq!(message.finish, is_last);
        assert_eq!(usize::try_from(message.write_offset), Ok(body.len()));
        if let Some(data) = &message.data {
            assert!((1..=BEST_DATA_BYTES).contains(&data.content.len()));
            assert_eq!(data.crc32c, Some(crc32c::crc32c(&data.content)));
            body.extend_from_slice(&data.content);
        }
        assert_eq!(message.sha256, if is_last { sha256(&body) } else { String::new() });
    }
    let expected = Sent { bytes: body.len() as u64, sha256: sha256(&body) };
    assert_eq!(outcome.unwrap(), Some(expected));
    (body, messages.len())
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test]
async fn files_are_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    for (length, messages) in [
        (0, 1),
        (1, 1),
        (BEST_DATA_BYTES - 1, 1),
        (BEST_DATA_BYTES, 1),
        (BEST_DATA_BYTES + 1, 2),
        (5 * BEST_DATA_BYTES, 5),
    ] {
        fs::write(&path, body(length)).unwrap();
        let source = Source::open(&path).await.unwrap();
        assert_eq!(source.declared_bytes(), (length > 0).then_some(length as u64));
        let (received, count) = sent(source).await;
        assert!(received == body(length), "{length}");
        assert_eq!(count, messages, "{length}");
    }
}

#[tokio::test]
async fn streams_are_sent_whole() {
    for length in [0, 1, BEST_DATA_BYTES, 3 * BEST_DATA_BYTES + 17] {
        let (mut writer, reader) = duplex(1000);
        let feed = tokio::spawn(async move { writer.write_all(&body(length)).await });
        let (received, _) = sent(Source::stream(reader)).await;
        feed.await.unwrap().unwrap();
        assert!(received == body(length), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_is_sent_as_it_comes() {
    let (mut writer, reader) = duplex(1000);
    let (sender, mut receiver) = mpsc::channel(1);
    let sending = tokio::spawn(send(Source::stream(reader), spec(), sender, STALL, |_| {}));
    let first = receiver.recv().await.unwrap();
    assert!(first.first_message.is_some() && first.data.is_none() && !first.finish);
    writer.write_all(b"tick").await.unwrap();
    let second = receiver.recv().await.unwrap();
    assert_eq!(second.data.unwrap().content.as_ref(), b"tick");
    drop(writer);
    let last = receiver.recv().await.unwrap();
    assert!(last.finish && last.sha256 == sha256(b"tick"));
    assert!(sending.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn files_that_change_meanwhile_are_not_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    for grew in [true, false] {
        fs::write(&path, body(3 * BEST_DATA_BYTES)).unwrap();
        let source = Source::open(&path).await.unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        match grew {
            true => (&file).write_all(b"x").unwrap(),
            false => file.set_len(2 * BEST_DATA_BYTES as u64 + 1).unwrap(),
        }
        let (sender, mut receiver) = mpsc::channel(100);
        let outcome = send(source, spec(), sender, STALL, |_| {}).await;
        assert!(
            matches!(outcome, Err(Error::SourceChanged { grew: found, .. }) if found == grew),
            "{outcome:?}"
        );
        let mut count = 0;
        while let Some(message) = receiver.recv().await {
            assert!(!message.finish);
            count += 1;
        }
        assert_eq!(count, 2);
    }
}

#[tokio::test]
async fn missing_files_are_told_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = Source::open(&directory.path().join("none")).await.err();
    assert!(matches!(&outcome, Some(Error::Io { what, .. }) if what.ends_with("none")), "{outcome:?}");
    let directory_itself = Source::open(directory.path()).await.unwrap();
    let (sender, _receiver) = mpsc::channel(1);
    assert!(matches!(send(directory_itself, spec(), sender, STALL, |_| {}).await, Err(Error::Io { .. })));
}

#[tokio::test]
async fn an_ended_call_stops_the_reading() {
    // The reader never gives anything; only the closed channel can end it.
    let (_writer, reader) = duplex(10);
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    assert_eq!(send(Source::stream(reader), spec(), sender, STALL, |_| {}).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_takes_nothing_ends_the_upload() {
    let (sender, _receiver) = mpsc::channel(1);
    let reader = tokio::io::repeat(7);
    let outcome = send(Source::stream(reader), spec(), sender, STALL, |_| {}).await;
    assert!(matches!(outcome, Err(Error::TimedOut { after: STALL, .. })), "{outcome:?}");
}

#[test]
fn the_answer_must_be_what_was_sent() {
    let sent = Sent { bytes: 3, sha256: sha256(b"abc") };
    let file = |size_bytes, sha256| v1::File { size_bytes, sha256, ..Default::default() };
    assert!(sent.compare(&file(3, sha256(b"abc"))).is_ok());
    for wrong in [file(2, sha256(b"abc")), file(3, sha256(b"abd")), file(-1, String::new())] {
        assert!(matches!(sent.compare(&wrong), Err(Error::Corrupted(_))));
    }
}
