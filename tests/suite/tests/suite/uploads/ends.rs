//! How uploads end, or do not: cancelled, refused, expired; a node that stops or dies.

use super::{ended_early, held, operations, part, rest, resumable, sha256, staged, until};
use coffer_proto::v1::{self, UploadState};
use coffer_tests::{
    Cofferd, Token,
    grpc::{bad_fields, by_id, data, finish, first, noise, of_upload, refusal},
};
use std::time::Duration;
use tonic::Code;

fn ended() -> (Code, String) {
    (Code::FailedPrecondition, "UPLOAD_ENDED".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_gives_everything_back() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(500_000);
    let spec = v1::UploadSpec { size_bytes: Some(500_000), ..resumable("a.bin") };
    let id = ann.start_upload(spec.clone()).await.unwrap().id;
    ended_early(&ann.write(part(&id, &content, 0..400_000)).await.unwrap_err());
    assert!(held(&cofferd).await > 0 && staged(&cofferd).len() == 1);

    let cancelled = ann.cancel_upload(&id).await.unwrap();
    assert_eq!((cancelled.state(), cancelled.reserved_bytes), (UploadState::Aborted, 0));
    assert_eq!(held(&cofferd).await, 0);
    until("its bytes are gone", async || staged(&cofferd).is_empty()).await;
    assert_eq!(operations(&cofferd, "cancel_upload", "success").await, 1);
    assert_eq!(refusal(&ann.write(rest(&id, &content, 400_000)).await.unwrap_err()), ended());
    let status = match ann.bidi_writing(of_upload(&id)).await {
        Err(status) => status,
        Ok(mut stream) => stream.next().await.unwrap_err(),
    };
    assert_eq!(refusal(&status), ended());
    assert_eq!(ann.cancel_upload(&id).await.unwrap().state(), UploadState::Aborted, "it is as it is");
    assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Aborted);

    // The same request is free for another upload, and what is a file is not cancelled.
    let again = ann.start_upload(spec).await.unwrap();
    assert_ne!(again.id, id);
    assert_eq!((again.state(), again.persisted_size), (UploadState::Open, 0));
    let file = ann.write(rest(&again.id, &content, 0)).await.unwrap().file.unwrap();
    assert_eq!(refusal(&ann.cancel_upload(&again.id).await.unwrap_err()), ended());
    ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap();
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_stream_that_runs() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(500_000);
    for is_idle in [true, false] {
        let id = ann.start_upload(resumable("running.bin")).await.unwrap().id;
        let writing = ann.writing();
        for message in part(&id, &content, 0..300_000) {
            assert!(writing.send(message).await);
        }
        until("the stream runs", async || ann.get_upload(&id).await.unwrap().persisted_size > 0).await;
        ann.cancel_upload(&id).await.unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(10), async {
            // A busy one notices at its next message at the latest, an idle one is told.
            while !is_idle && writing.send(data(300_000, b"more")).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            writing.answer().await
        });
        let status = outcome.await.expect("it ends soon").unwrap_err();
        assert_eq!(status.code(), Code::Aborted, "idle: {is_idle}: {status:?}");
        assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Aborted);
        until("its bytes are gone", async || staged(&cofferd).is_empty()).await;
    }
    assert_eq!((held(&cofferd).await, cofferd.objects().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_content_ends_an_upload_at_once() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let other = "ab".repeat(32);
    let declared = |size: i64| v1::UploadSpec { size_bytes: Some(size), ..resumable("bad.bin") };
    let with_sha256 = |sha256: &str| v1::UploadSpec { sha256: sha256.to_owned(), ..resumable("bad.bin") };
    let wrong_end = v1::WriteFileRequest { sha256: other.clone(), ..finish(10) };
    for (name, spec, end, expected) in [
        ("fewer bytes", declared(11), finish(10), (Code::OutOfRange, "SIZE_MISMATCH")),
        ("more bytes", declared(9), finish(10), (Code::OutOfRange, "SIZE_MISMATCH")),
        ("SHA-256 declared", with_sha256(&other), finish(10), (Code::InvalidArgument, "CHECKSUM_MISMATCH")),
        ("SHA-256 at the end", resumable("bad.bin"), wrong_end, (Code::InvalidArgument, "CHECKSUM_MISMATCH")),
    ] {
        let id = ann.start_upload(spec.clone()).await.unwrap().id;
        ended_early(&ann.write([of_upload(&id), data(0, b"01234")]).await.unwrap_err());
        let status = ann.write([of_upload(&id), data(5, b"56789"), end]).await.unwrap_err();
        assert_eq!(refusal(&status), (expected.0, expected.1.to_owned()), "{name}");
        assert_eq!((held(&cofferd).await, staged(&cofferd).len()), (0, 0), "{name}: given back at once");
        assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Aborted, "{name}");
        assert_eq!(refusal(&ann.write([of_upload(&id), finish(10)]).await.unwrap_err()), ended(), "{name}");
        assert_ne!(ann.start_upload(spec.clone()).await.unwrap().id, id, "{name}: another begins anew");
        ann.cancel_upload(&ann.start_upload(spec).await.unwrap().id).await.unwrap();
    }
    // A limit that is met on the way.
    let id = ann.start_upload(resumable("large.bin")).await.unwrap().id;
    let sql = cofferd.database.connect().await;
    sql.batch_execute("UPDATE storage_volumes SET quota_limit = 1000000").await.unwrap();
    let status = ann.write(rest(&id, &noise(3_000_000), 0)).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
    assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Aborted);
    assert_eq!((held(&cofferd).await, staged(&cofferd).len(), cofferd.objects().len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_leave_an_upload_open() {
    let cofferd = Cofferd::start_with(&[("transfer.stall_timeout", "1s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    let content = noise(900_000);
    let with_crc32c = |message: v1::WriteFileRequest, crc32c: u32| {
        let data = message.data.map(|data| v1::ChecksummedData { crc32c: Some(crc32c), ..data });
        v1::WriteFileRequest { data, ..message }
    };
    let invalid = (Code::InvalidArgument, "FIELD_INVALID");
    let cases: Vec<(&str, v1::WriteFileRequest, (Code, &str))> = vec![
        ("a gap", data(500_001, b"x"), (Code::OutOfRange, "OFFSET_GAP")),
        ("a gap up to the largest size", data(i64::MAX - 1, b"x"), (Code::OutOfRange, "OFFSET_GAP")),
        ("an end past the largest size", data(i64::MAX, b"x"), invalid),
        ("a negative offset", data(-1, b"x"), invalid),
        (
            "crc32c of other bytes",
            with_crc32c(data(0, b"x"), 1),
            (Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        ),
        ("over 2 MiB", data(0, &noise(2 * 1024 * 1024 + 1)), (Code::InvalidArgument, "MESSAGE_TOO_LARGE")),
        ("over 4 MiB", data(0, &noise(4 * 1024 * 1024 + 1)), (Code::OutOfRange, "")),
        ("an upload in the middle", of_upload(&id), invalid),
        ("a spec in the middle", first(resumable("b.bin")), invalid),
        ("a malformed SHA-256", v1::WriteFileRequest { sha256: "x".into(), ..finish(0) }, invalid),
    ];
    assert_eq!(cases.len(), 10);
    let mut persisted = 0;
    for (name, bad, (code, reason)) in cases {
        let before = operations(&cofferd, "upload", "failed").await;
        let good = persisted..persisted + 50_000;
        persisted = good.end;
        let messages = [part(&id, &content, good), vec![bad]].concat();
        let status = ann.write(messages).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.to_owned()), "{name}: {status:?}");
        until(&format!("{name}: what came before is recorded, and the refusal once"), async || {
            let seen = ann.get_upload(&id).await.unwrap();
            assert_eq!(seen.state(), UploadState::Open, "{name}");
            seen.persisted_size == persisted as i64
                && operations(&cofferd, "upload", "failed").await == before + 1
        })
        .await;
    }
    // A stream that says nothing, and one whose client leaves.
    let stalled = ann.writing();
    for message in part(&id, &content, persisted..persisted + 50_000) {
        assert!(stalled.send(message).await);
    }
    let status = stalled.answer().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "STREAM_STALLED".to_owned()));
    assert_eq!(ann.get_upload(&id).await.unwrap().persisted_size, 550_000);
    let left = ann.writing();
    for message in part(&id, &content, 550_000..600_000) {
        assert!(left.send(message).await);
    }
    until("it arrives", async || ann.get_upload(&id).await.unwrap().persisted_size == 600_000).await;
    left.leave().await;

    let file = ann.write(rest(&id, &content, 600_000)).await.unwrap().file.unwrap();
    assert_eq!(file.sha256, sha256(&content));
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_under_the_same_request_leaves_the_upload_to_its_own() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let spec = resumable("a.bin");
    let id = ann.start_upload(spec.clone()).await.unwrap().id;
    let content = noise(900_000);
    let left = ann.writing();
    for message in part(&id, &content, 0..300_000) {
        assert!(left.send(message).await);
    }
    until("it arrives", async || ann.get_upload(&id).await.unwrap().persisted_size == 300_000).await;
    left.leave().await;
    let status = ann.upload(spec.clone(), &[7; 900_000]).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    let seen = ann.get_upload(&id).await.unwrap();
    assert_eq!((seen.state(), seen.persisted_size), (UploadState::Open, 300_000));
    assert_eq!(ann.upload(spec, &content).await.unwrap().sha256, sha256(&content));
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_progress_expires() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(200_000);
    let spec = v1::UploadSpec { size_bytes: Some(200_000), ..resumable("old.bin") };
    let old = ann.start_upload(spec.clone()).await.unwrap().id;
    let young = ann.start_upload(resumable("young.bin")).await.unwrap().id;
    for id in [&old, &young] {
        ended_early(&ann.write(part(id, &content, 0..100_000)).await.unwrap_err());
    }
    let with_young = held(&cofferd).await;
    let sql = cofferd.database.connect().await;
    let put_back =
        format!("UPDATE storage_uploads SET expire_time = now() - interval '1 second' WHERE id = '{old}'");
    assert_eq!(sql.execute(&put_back, &[]).await.unwrap(), 1);
    until("it has expired", async || ann.get_upload(&old).await.unwrap().state() == UploadState::Expired)
        .await;
    assert!(held(&cofferd).await < with_young);
    until("its bytes are gone", async || staged(&cofferd) == [young.clone()]).await;
    let records = sql
        .query("SELECT status, organisation_id, volume_id IS NOT NULL, metadata::text FROM storage_operations WHERE operation = 'expire_upload'", &[])
        .await
        .unwrap();
    assert_eq!(records.len(), 1, "once");
    assert_eq!((records[0].get::<_, &str>(1), records[0].get::<_, bool>(2)), ("clinic", true));
    assert_eq!(refusal(&ann.write(rest(&old, &content, 100_000)).await.unwrap_err()), ended());
    assert_eq!(ann.cancel_upload(&old).await.unwrap().state(), UploadState::Expired, "it is as it is");
    assert_ne!(ann.start_upload(spec).await.unwrap().id, old);
    ann.write(rest(&young, &content, 100_000)).await.unwrap();
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_says_how_long_uploads_stay() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let request = v1::GetVolumeRequest { volume: "main".into() };
    let volume = operator.volumes.clone().get_volume(request).await.unwrap().into_inner().volume.unwrap();
    let set = async |seconds: Option<i64>| {
        let upload_ttl = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = v1::UpdateVolumeRequest {
            volume: Some(v1::Volume { upload_ttl, ..volume.clone() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["upload_ttl".into()] }),
            request_id: String::new(),
        };
        let answer = operator.volumes.clone().update_volume(request).await?;
        Ok::<_, tonic::Status>(answer.into_inner().volume.unwrap().upload_ttl.map(|ttl| ttl.seconds))
    };
    for bad in [0, 59, 7 * 86_400 + 1, -1, i64::MAX] {
        let status = set(Some(bad)).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{bad} s");
        assert_eq!(bad_fields(&status), ["volume.upload_ttl"], "{bad} s");
    }
    for ttl in [Some(60), Some(7 * 86_400), None] {
        assert_eq!(set(ttl).await.unwrap(), ttl);
        let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
        ended_early(&ann.write(part(&id, b"abc", 0..3)).await.unwrap_err());
        let seen = ann.get_upload(&id).await.unwrap();
        let left = seen.expire_time.unwrap().seconds - seen.update_time.unwrap().seconds;
        let expected = ttl.unwrap_or(86_400);
        assert!((expected - 1..=expected + 1).contains(&left), "{left} s of {expected} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_switched_off_takes_nothing_until_it_is_on_again() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    let content = noise(200_000);
    ended_early(&ann.write(part(&id, &content, 0..100_000)).await.unwrap_err());
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let request = v1::GetVolumeRequest { volume: "main".into() };
    let volume = operator.volumes.clone().get_volume(request).await.unwrap().into_inner().volume.unwrap();
    let switch = async |is_active: bool| {
        let request = v1::UpdateVolumeRequest {
            volume: Some(v1::Volume { is_active: Some(is_active), ..volume.clone() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["is_active".into()] }),
            request_id: String::new(),
        };
        operator.volumes.clone().update_volume(request).await.unwrap();
    };
    switch(false).await;
    let off = (Code::FailedPrecondition, "VOLUME_INACTIVE".to_owned());
    assert_eq!(refusal(&ann.write(rest(&id, &content, 100_000)).await.unwrap_err()), off);
    assert_eq!(refusal(&ann.start_upload(resumable("b.bin")).await.unwrap_err()), off);
    assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Open);
    let delete = v1::DeleteVolumeRequest { volume: "main".into(), request_id: String::new() };
    let status = operator.volumes.clone().delete_volume(delete).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "VOLUME_NOT_EMPTY".to_owned()));
    switch(true).await;
    ann.write(rest(&id, &content, 100_000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_keeps_uploads_for_the_next() {
    let mut cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let ann = cofferd.clients_with(Some(&token)).await;
    let content = noise(1_500_000);
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    let (writing, idle) = (ann.writing(), ann.start_upload(resumable("idle.bin")).await.unwrap().id);
    for message in part(&id, &content, 0..1_000_000) {
        assert!(writing.send(message).await);
    }
    until("it has begun", async || ann.get_upload(&id).await.unwrap().persisted_size > 0).await;
    cofferd.ask_to_end();
    let status = writing.answer().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    drop(ann);
    assert!(cofferd.end().await.success());
    cofferd.launch().await;
    let ann = cofferd.clients_with(Some(&token)).await;
    let seen = ann.get_upload(&id).await.unwrap();
    assert_eq!((seen.state(), seen.persisted_size), (UploadState::Open, 1_000_000));
    ann.write(rest(&id, &content, 1_000_000)).await.unwrap();
    ann.write(rest(&idle, b"abc", 0)).await.unwrap();
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_was_finishing_takes_bytes_again() {
    let mut cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let ann = cofferd.clients_with(Some(&token)).await;
    let content = noise(300_000);
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    ended_early(&ann.write(part(&id, &content, 0..300_000)).await.unwrap_err());
    // As a node leaves it that dies between its last byte and its commit.
    let sql = cofferd.database.connect().await;
    sql.batch_execute("UPDATE storage_uploads SET state = 'FINISHING'").await.unwrap();
    let seen = ann.get_upload(&id).await.unwrap();
    assert_eq!((seen.state(), seen.persisted_size), (UploadState::Finishing, 300_000));
    let busy = (Code::Aborted, "REQUEST_IN_FLIGHT".to_owned());
    assert_eq!(refusal(&ann.cancel_upload(&id).await.unwrap_err()), busy);
    assert_eq!(refusal(&ann.write([of_upload(&id), finish(300_000)]).await.unwrap_err()), busy);
    cofferd.kill();
    cofferd.launch().await;
    let ann = cofferd.clients_with(Some(&token)).await;
    until("it is open", async || ann.get_upload(&id).await.unwrap().state() == UploadState::Open).await;
    let file = ann.write([of_upload(&id), finish(300_000)]).await.unwrap().file.unwrap();
    assert_eq!(file.sha256, sha256(&content));
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_finished_though_its_client_leaves() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(300_000);
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    // The commit has to wait for this row.
    let mut sql = cofferd.database.connect().await;
    let blocked = sql.transaction().await.unwrap();
    blocked.batch_execute("SELECT FROM coffer.storage_volumes FOR UPDATE").await.unwrap();
    let mut writing = ann.writing();
    for message in [part(&id, &content, 0..300_000), vec![finish(300_000)]].concat() {
        assert!(writing.send(message).await);
    }
    writing.close();
    until("all bytes are there", async || {
        ann.get_upload(&id).await.unwrap().state() == UploadState::Finishing
    })
    .await;
    writing.leave().await;
    blocked.rollback().await.unwrap();
    until("it is a file", async || ann.get_upload(&id).await.unwrap().state() == UploadState::Committed)
        .await;
    let answer = ann.write([of_upload(&id), finish(300_000)]).await.unwrap();
    assert_eq!(answer.file.unwrap().sha256, sha256(&content));
    assert_eq!(operations(&cofferd, "upload", "success").await, 1);
}
