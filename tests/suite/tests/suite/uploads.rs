//! Uploads that outlive their streams: started, written in pieces, taken over, finished once.

#[path = "uploads/ends.rs"]
mod ends;
#[path = "uploads/lists.rs"]
mod lists;
#[path = "uploads/progress.rs"]
mod progress;
#[path = "uploads/refusals.rs"]
mod refusals;

use coffer_proto::v1::{self, UploadState};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, data, finish, first, noise, of_upload, pieces, refusal},
};
use sha2::Digest as _;
use std::{
    ops::Range,
    time::{Duration, Instant},
};
use tonic::{Code, Status};

pub(crate) fn sha256(content: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(content))
}

/// What makes an upload resumable: a request id, here one of its own.
pub(crate) fn resumable(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..at(path) }
}

/// A stream with this part of the content for a started upload, without its end.
pub(crate) fn part(id: &str, content: &[u8], part: Range<usize>) -> Vec<v1::WriteFileRequest> {
    [vec![of_upload(id)], pieces(content, part)].concat()
}

/// A stream with the rest of the content from `from` on, and its end.
pub(crate) fn rest(id: &str, content: &[u8], from: usize) -> Vec<v1::WriteFileRequest> {
    let last = v1::WriteFileRequest { sha256: sha256(content), ..finish(content.len() as i64) };
    [part(id, content, from..content.len()), vec![last]].concat()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What unfinished uploads hold of all quotas, bytes and files together.
pub(crate) async fn held(cofferd: &Cofferd) -> i64 {
    cofferd
        .database
        .number(
            "SELECT ((SELECT coalesce(sum(quota_reserved), 0) FROM storage_volumes)
                   + (SELECT coalesce(sum(quota_reserved), 0) FROM user_quotas)
                   + (SELECT coalesce(sum(quota_reserved), 0) FROM app_quotas)
                   + (SELECT coalesce(sum(reserved_storage_bytes + reserved_files), 0) FROM storage_quotas))::bigint",
        )
        .await
}

/// Bytes on their way in, by upload.
pub(crate) fn staged(cofferd: &Cofferd) -> Vec<String> {
    coffer_tests::cofferd::files_below(&cofferd.main_volume().join(".coffer/staging"))
}

/// How many operations of a kind ended so.
pub(crate) async fn operations(cofferd: &Cofferd, kind: &str, status: &str) -> i64 {
    let sql =
        format!("SELECT count(*) FROM storage_operations WHERE operation = '{kind}' AND status = '{status}'");
    cofferd.database.number(&sql).await
}

async fn content_of(clients: &Clients, id: &str) -> Vec<u8> {
    clients.read(v1::ReadFileRequest { file: by_id(id), ..Default::default() }).await.unwrap().1
}

/// The stream was ended without `finish`.
fn ended_early(status: &Status) {
    assert_eq!(refusal(status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{status:?}");
    assert_eq!(bad_fields(status), ["finish"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_lives_from_its_start_to_its_file() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(1_000_000);
    let spec = v1::UploadSpec { size_bytes: Some(1_000_000), ..resumable("scans/a.bin") };
    let started = ann.start_upload(spec.clone()).await.unwrap();
    assert_eq!((started.state(), started.persisted_size), (UploadState::Open, 0));
    assert_eq!((started.size_bytes, started.reserved_bytes), (Some(1_000_000), 1_000_000));
    assert_eq!((started.path.as_str(), started.file_id.as_str()), ("scans/a.bin", ""));
    let ttl = started.expire_time.unwrap().seconds - started.create_time.unwrap().seconds;
    assert!((86_399..=86_401).contains(&ttl), "{ttl} s");
    assert_eq!(ann.start_upload(spec).await.unwrap(), started, "the same request is the same upload");
    assert_eq!(held(&cofferd).await, 4 * 1_000_000 + 2, "volume, user on it, user, organisation; two files");

    let mut expires = started.expire_time.unwrap();
    for range in [0..300_000, 300_000..300_000, 300_000..700_000] {
        let end = range.end as i64;
        let has_progress = !range.is_empty();
        ended_early(&ann.write(part(&started.id, &content, range)).await.unwrap_err());
        let seen = ann.get_upload(&started.id).await.unwrap();
        assert_eq!((seen.state(), seen.persisted_size), (UploadState::Open, end), "all whole messages");
        assert_eq!(seen.reserved_bytes, 1_000_000);
        let (before, now) = (expires, seen.expire_time.unwrap());
        let is_later = (before.seconds, before.nanos) < (now.seconds, now.nanos);
        assert!(is_later || !has_progress, "progress puts the end off: {before:?}, {now:?}");
        expires = now;
    }
    assert_eq!(staged(&cofferd).len(), 1);
    assert_eq!(cofferd.objects(), [""; 0], "nothing is visible yet");

    let answer = ann.write(rest(&started.id, &content, 700_000)).await.unwrap();
    let file = answer.file.unwrap();
    assert_eq!((answer.persisted_size, file.sha256.clone()), (1_000_000, sha256(&content)));
    assert!(content_of(&ann, &file.id).await == content);
    let ended = ann.get_upload(&started.id).await.unwrap();
    assert_eq!((ended.state(), ended.persisted_size), (UploadState::Committed, 1_000_000));
    assert_eq!((ended.file_id.as_str(), ended.reserved_bytes), (file.id.as_str(), 0));
    assert_eq!((held(&cofferd).await, staged(&cofferd).len(), cofferd.objects().len()), (0, 0, 1));
    assert_eq!(operations(&cofferd, "start_upload", "success").await, 1);
    assert_eq!(operations(&cofferd, "upload", "success").await, 1);
    super::quotas::nothing_drifts(&cofferd).await;

    // A version of a file there is names it from the start.
    let next = ann.start_upload(resumable("scans/a.bin")).await.unwrap();
    assert_eq!(next.file_id, file.id);
    let second = ann.write(rest(&next.id, b"second", 0)).await.unwrap().file.unwrap();
    assert_eq!((second.id.as_str(), second.version), (file.id.as_str(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_once_more_answers_the_same_file() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(300_000);
    let id = ann.start_upload(resumable("twice.bin")).await.unwrap().id;
    let answer = ann.write(rest(&id, &content, 0)).await.unwrap();
    ann.upload(at("elsewhere.bin"), b"other").await.unwrap();
    for newer in [false, true] {
        if newer {
            let newer = ann.upload(at("twice.bin"), b"newer").await.unwrap();
            assert_eq!((&newer.id, newer.version), (&answer.file.as_ref().unwrap().id, 2));
        }
        for from in [0, 100_000, 300_000] {
            let again = ann.write(rest(&id, &content, from)).await.unwrap();
            assert_eq!(again, answer, "from {from}, newer version: {newer}");
        }
        let mut bidi = ann.bidi_writing(of_upload(&id)).await.unwrap();
        let first = bidi.next().await.unwrap().unwrap();
        assert_eq!((first.upload_id.as_str(), first.persisted_size), (id.as_str(), 300_000));
        assert!(bidi.send(finish(300_000)).await);
        assert_eq!(bidi.end().await.unwrap().pop().unwrap().file, answer.file);
    }
    assert_eq!(
        cofferd
            .database
            .number(
                "SELECT count(*) FROM storage_operations WHERE operation = 'upload' AND status = 'success'"
            )
            .await,
        3
    );
    let status = ann.write(rest(&id, &noise(300_001), 0)).await.unwrap_err();
    assert_ne!(refusal(&status).0, Code::Internal, "other content is not that file: {status:?}");
    assert!(content_of(&ann, &answer.file.unwrap().id).await == b"newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_shot_with_a_request_id_goes_on_where_it_was() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(1_000_000);
    let last = finish(1_000_000);
    for (name, from) in [("at what is persisted", 500_000), ("before it", 300_001), ("at the beginning", 0)] {
        let spec = resumable(name);
        let begun = [vec![first(spec.clone())], pieces(&content, 0..500_000)].concat();
        ended_early(&ann.write(begun).await.unwrap_err());
        let upload = ann.start_upload(spec.clone()).await.unwrap();
        assert_eq!((upload.state(), upload.persisted_size), (UploadState::Open, 500_000), "{name}");

        let other = v1::UploadSpec { path: "elsewhere".into(), ..spec.clone() };
        let reused = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(refusal(&ann.start_upload(other.clone()).await.unwrap_err()), reused);
        assert_eq!(refusal(&ann.upload(other, &content).await.unwrap_err()), reused);

        let gone_on =
            [vec![first(spec.clone())], pieces(&content, from..1_000_000), vec![last.clone()]].concat();
        let file = ann.write(gone_on).await.unwrap().file.unwrap();
        assert_eq!(file.sha256, sha256(&content), "{name}");
        assert!(content_of(&ann, &file.id).await == content, "{name}");
        assert_eq!(ann.get_upload(&upload.id).await.unwrap().file_id, file.id);

        // It is answered from then on, for this content alone.
        assert_eq!(ann.upload(spec.clone(), &content).await.unwrap(), file);
        assert_eq!(refusal(&ann.upload(spec, &noise(999_999)).await.unwrap_err()), reused);
    }
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_file_versions").await, 3);
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_uploads").await, 3);
    assert_eq!((held(&cofferd).await, staged(&cofferd).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_takes_over_and_goes_on() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(2_000_000);
    let id = ann.start_upload(resumable("taken.bin")).await.unwrap().id;
    let one = ann.writing();
    for message in part(&id, &content, 0..700_000) {
        assert!(one.send(message).await);
    }
    until("what the first stream sent is recorded", async || {
        ann.get_upload(&id).await.unwrap().persisted_size == 700_000
    })
    .await;

    let mut two = ann.bidi_writing(of_upload(&id)).await.unwrap();
    let progress = two.next().await.unwrap().unwrap();
    assert_eq!(progress.persisted_size, 700_000, "all that had arrived is kept");
    let status = one.answer().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Aborted, "UPLOAD_TAKEN_OVER".to_owned()));
    for message in pieces(&content, 700_000..2_000_000) {
        assert!(two.send(message).await);
    }
    two.send(finish(2_000_000)).await;
    let file = two.end().await.unwrap().pop().unwrap().file.unwrap();
    assert!(content_of(&ann, &file.id).await == content);
    super::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_take_one_upload_from_each_other() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = bytes::Bytes::from(noise(3_000_000));
    let spec = resumable("storm.bin");
    let id = ann.start_upload(spec).await.unwrap().id;
    let writers = (0..8).map(|_| {
        let (ann, id, content) = (ann.clone(), id.clone(), content.clone());
        tokio::spawn(async move {
            let mut lost = 0;
            loop {
                let from = ann.get_upload(&id).await.unwrap().persisted_size as usize;
                let mut writing = ann.writing();
                for message in rest(&id, &content, from) {
                    // Slow enough for the others to come in between.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if !writing.send(message).await {
                        break;
                    }
                }
                writing.close();
                match writing.answer().await {
                    Ok(answer) => return (answer.file.unwrap(), lost),
                    Err(status) => {
                        assert_eq!(refusal(&status).0, Code::Aborted, "{status:?}");
                        lost += 1;
                    }
                }
            }
        })
    });
    let all = futures_util::future::join_all(writers);
    let ended = tokio::time::timeout(Duration::from_secs(60), all).await.expect("one of them gets through");
    let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
    let lost: Vec<_> = ended.iter().map(|(_, lost)| *lost).collect();
    println!("streams lost by each writer: {lost:?}");
    assert!(lost.iter().sum::<u32>() >= 4, "they came into each other's way: {lost:?}");
    assert!(ended.iter().all(|(file, _)| *file == ended[0].0), "all are told of one file");
    assert!(content_of(&ann, &ended[0].0.id).await == content);
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_file_versions").await, 1);
    assert_eq!((held(&cofferd).await, staged(&cofferd).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_answers_tells_its_progress() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(5_000_000);
    let mut writing = ann.bidi_writing(first(resumable("bidi.bin"))).await.unwrap();
    let begun = writing.next().await.unwrap().unwrap();
    assert_eq!((begun.persisted_size, &begun.file), (0, &None));
    assert_eq!(ann.get_upload(&begun.upload_id).await.unwrap().state(), UploadState::Open);
    let mut persisted = 0;
    for range in [0..2_000_000, 2_000_000..2_000_001, 2_000_001..5_000_000] {
        let end = range.end as i64;
        for message in pieces(&content, range) {
            assert!(writing.send(message).await);
        }
        while persisted < end {
            let progress = writing.next().await.unwrap().unwrap();
            assert!(progress.persisted_size > persisted, "{progress:?} after {persisted}");
            assert_eq!((progress.upload_id.as_str(), &progress.file), ("", &None));
            persisted = progress.persisted_size;
            assert_eq!(ann.get_upload(&begun.upload_id).await.unwrap().persisted_size, persisted, "recorded");
        }
        assert_eq!(persisted, end);
    }
    assert!(writing.send(finish(5_000_000)).await);
    let mut last = writing.end().await.unwrap();
    let end = last.pop().unwrap();
    assert!(last.iter().all(|progress| progress.file.is_none()));
    assert_eq!((end.persisted_size, end.file.unwrap().sha256), (5_000_000, sha256(&content)));

    // Without a request id it is stored all the same.
    let mut writing = ann.bidi_writing(first(at("plain.bin"))).await.unwrap();
    writing.next().await.unwrap().unwrap();
    assert!(writing.send(data(0, b"abc")).await && writing.send(finish(3)).await);
    let file = writing.end().await.unwrap().pop().unwrap().file.unwrap();
    assert_eq!(content_of(&ann, &file.id).await, b"abc");
}
