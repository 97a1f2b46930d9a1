//! What goes out, seen where the transport would take it.

use super::*;
use coffer_proto::BEST_DATA_BYTES;
use sha2::{Digest as _, Sha256};
use std::{fs, io::Write as _};
use tokio::io::{AsyncWriteExt as _, duplex};

const STALL: Duration = Duration::from_secs(5);
const MESSAGE: usize = BEST_DATA_BYTES;

fn sha256(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn spec() -> FirstMessage {
    FirstMessage::Spec(v1::UploadSpec { path: "a.bin".to_owned(), ..Default::default() })
}

fn begun() -> FirstMessage {
    FirstMessage::UploadId("u".to_owned())
}

/// Sends until the end, or until the call ends; answers the bytes sent too.
async fn send(
    source: &mut Source,
    first: FirstMessage,
    sender: mpsc::Sender<v1::BidiWriteFileRequest>,
    persisted: watch::Receiver<Option<u64>>,
) -> (Result<Option<Sent>>, u64) {
    let mut sent_bytes = 0;
    let sending = Sending {
        source,
        sent_bytes: &mut sent_bytes,
        progress: &mut |_| {},
        total_bytes: None,
        attempts: 1,
        persisted,
        sender,
        stall: STALL,
    };
    let outcome = sending.run(first).await;
    (outcome, sent_bytes)
}

/// The service's side: says first that it has `stored` bytes and takes `count` messages. Checks what all messages must be
/// like; answers where the data began, the data and the number of messages with data or `finish`.
async fn taken(
    source: &mut Source,
    first: FirstMessage,
    stored: Option<u64>,
    count: usize,
) -> (u64, Vec<u8>, usize, Option<Sent>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let (answers, persisted) = watch::channel(None);
    let take = async {
        let mut messages = Vec::new();
        while messages.len() < count
            && let Some(message) = receiver.recv().await
        {
            messages.push(message);
            if let Some(stored) = stored {
                answers.send_replace(Some(stored));
            }
        }
        receiver.close();
        messages
    };
    let opens = matches!(first, FirstMessage::UploadId(_));
    let ((outcome, sent_bytes), mut messages) = tokio::join!(send(source, first, sender, persisted), take);
    assert!(messages[0].first_message.is_some());
    if opens {
        let opening = messages.remove(0);
        assert!(opening.data.is_none() && !opening.finish);
    }
    let begin = messages.iter().find(|message| message.data.is_some() || message.finish);
    let begin = begin.map_or(0, |message| message.write_offset);
    let mut all = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        assert!(message.first_message.is_none() || index == 0 && !opens);
        assert_eq!(message.write_offset, begin + i64::try_from(all.len()).unwrap());
        if let Some(data) = &message.data {
            assert!((1..=MESSAGE).contains(&data.content.len()));
            assert_eq!(data.crc32c, Some(crc32c::crc32c(&data.content)));
            all.extend_from_slice(&data.content);
        }
        assert_eq!(message.sha256.is_empty(), !message.finish);
        assert!(!message.finish || index + 1 == messages.len());
    }
    assert!(sent_bytes >= all.len() as u64);
    (u64::try_from(begin).unwrap(), all, messages.len(), outcome.unwrap())
}

fn whole(body: &[u8]) -> Option<Sent> {
    Some(Sent { bytes: body.len() as u64, sha256: sha256(body) })
}

#[tokio::test]
async fn files_are_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    let cases = [(0, 1), (1, 1), (MESSAGE - 1, 1), (MESSAGE, 1), (MESSAGE + 1, 2), (5 * MESSAGE, 5)];
    for (length, messages) in cases {
        fs::write(&path, body(length)).unwrap();
        let mut source = Source::open(&path).await.unwrap();
        assert_eq!(source.declared_bytes(), (length > 0).then_some(length as u64));
        let (begin, received, count, sent) = taken(&mut source, spec(), None, usize::MAX).await;
        assert_eq!((begin, count), (0, messages), "{length}");
        assert!(received == body(length), "{length}");
        assert_eq!(sent, whole(&body(length)));
    }
}

#[tokio::test]
async fn streams_are_sent_whole() {
    for length in [0, 1, MESSAGE, 3 * MESSAGE + 17] {
        let (mut writer, reader) = duplex(1000);
        let feed = tokio::spawn(async move { writer.write_all(&body(length)).await });
        let (_, received, _, sent) = taken(&mut Source::stream(reader), spec(), Some(0), usize::MAX).await;
        feed.await.unwrap().unwrap();
        assert!(received == body(length), "{length}");
        assert_eq!(sent, whole(&body(length)));
    }
}

#[tokio::test]
async fn what_was_cut_goes_on_where_the_service_is() {
    const LENGTH: usize = 6 * MESSAGE + 17;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    fs::write(&path, body(LENGTH)).unwrap();
    let stored = 2 * MESSAGE as u64 + 5;
    for mut source in [Source::open(&path).await.unwrap(), Source::stream(std::io::Cursor::new(body(LENGTH)))]
    {
        let (_, received, _, sent) = taken(&mut source, spec(), Some(0), 4).await;
        assert_eq!(sent, None);
        assert!(received == body(LENGTH)[..4 * MESSAGE]);
        let (begin, received, _, sent) = taken(&mut source, begun(), Some(stored), usize::MAX).await;
        assert_eq!(begin, stored);
        assert!(received == body(LENGTH)[begin as usize..]);
        assert_eq!(sent, whole(&body(LENGTH)));
        // The answer was lost: nothing is sent again but the end.
        let (begin, received, count, sent) =
            taken(&mut source, begun(), Some(LENGTH as u64), usize::MAX).await;
        assert_eq!((begin, received.len(), count), (LENGTH as u64, 0, 1));
        assert_eq!(sent, whole(&body(LENGTH)));
    }
}

#[tokio::test]
async fn what_the_service_has_is_not_sent_by_another_process() {
    const LENGTH: usize = 6 * MESSAGE + 17;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    fs::write(&path, body(LENGTH)).unwrap();
    let stored = 4 * MESSAGE as u64 + 5;
    let mut source = Source::open(&path).await.unwrap();
    let (begin, received, _, sent) = taken(&mut source, begun(), Some(stored), usize::MAX).await;
    assert_eq!(begin, stored);
    assert!(received == body(LENGTH)[begin as usize..]);
    assert_eq!(sent, whole(&body(LENGTH)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_is_sent_as_it_comes() {
    let (mut writer, reader) = duplex(1000);
    let (sender, mut receiver) = mpsc::channel(1);
    let (_answers, persisted) = watch::channel(None);
    let mut source = Source::stream(reader);
    let sending = tokio::spawn(async move { send(&mut source, spec(), sender, persisted).await.0 });
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

#[tokio::test(start_paused = true)]
async fn a_full_buffer_waits_for_the_service_but_not_for_ever() {
    let mut source = Source::stream(tokio::io::repeat(7));
    let (sender, mut receiver) = mpsc::channel(1);
    let (answers, persisted) = watch::channel(None);
    let sending = tokio::spawn(async move { send(&mut source, spec(), sender, persisted).await.0 });
    /// Takes messages until none comes for `PATIENCE` but a little; answers the bytes.
    async fn drain(receiver: &mut mpsc::Receiver<v1::BidiWriteFileRequest>, at_most: u64) -> u64 {
        let mut bytes = 0;
        while bytes < at_most
            && let Ok(Some(message)) =
                tokio::time::timeout(PATIENCE - Duration::from_secs(1), receiver.recv()).await
        {
            bytes += message.data.map_or(0, |data| data.content.len() as u64);
        }
        bytes
    }
    let kept = drain(&mut receiver, u64::MAX).await;
    assert_eq!(kept, 32 * 1024 * 1024);
    answers.send_replace(Some(MESSAGE as u64));
    assert_eq!(drain(&mut receiver, u64::MAX).await, MESSAGE as u64);
    // The service says nothing more: what it has not stored is let go, and all goes on at once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(drain(&mut receiver, kept).await, kept);
    // It says something again, and is waited for again.
    answers.send_replace(Some(2 * kept));
    assert!(drain(&mut receiver, 4 * kept).await < 2 * kept);
    drop(receiver);
    assert_eq!(sending.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn files_that_change_meanwhile_are_not_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.bin");
    for grew in [true, false] {
        fs::write(&path, body(3 * MESSAGE)).unwrap();
        let mut source = Source::open(&path).await.unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        match grew {
            true => (&file).write_all(b"x").unwrap(),
            false => file.set_len(2 * MESSAGE as u64 + 1).unwrap(),
        }
        let (sender, mut receiver) = mpsc::channel(100);
        let (_answers, persisted) = watch::channel(None);
        let (outcome, _) = send(&mut source, spec(), sender, persisted).await;
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
    let mut directory_itself = Source::open(directory.path()).await.unwrap();
    let (sender, _receiver) = mpsc::channel(1);
    let (_answers, persisted) = watch::channel(None);
    let (outcome, _) = send(&mut directory_itself, spec(), sender, persisted).await;
    assert!(matches!(outcome, Err(Error::Io { .. })));
}

#[tokio::test]
async fn an_ended_call_stops_the_reading() {
    // The reader never gives anything; only the closed channel can end it.
    let (_writer, reader) = duplex(10);
    for first in [spec(), begun()] {
        let (sender, receiver) = mpsc::channel(1);
        let (_answers, persisted) = watch::channel(None);
        drop(receiver);
        let mut source = Source::stream(tokio::io::empty());
        assert_eq!(send(&mut source, first, sender, persisted).await.0.unwrap(), None);
    }
    let (sender, receiver) = mpsc::channel(1);
    let (_answers, persisted) = watch::channel(None);
    drop(receiver);
    assert_eq!(send(&mut Source::stream(reader), spec(), sender, persisted).await.0.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_takes_or_says_nothing_ends_the_stream() {
    for first in [spec(), begun()] {
        let (sender, _receiver) = mpsc::channel(1);
        let (_answers, persisted) = watch::channel(None);
        let mut source = Source::stream(tokio::io::repeat(7));
        let (outcome, _) = send(&mut source, first, sender, persisted).await;
        assert!(matches!(outcome, Err(Error::TimedOut { after: STALL, .. })), "{outcome:?}");
    }
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
