//! Requests about uploads that are wrong, or come from the wrong caller.

use super::{operations, part, rest, resumable};
use coffer_proto::v1::{self, UploadState};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, data, finish, first, noise, of_upload, refusal},
};
use tonic::{Code, Status};

/// Every RPC that names an upload, with the kind of operation a refusal is recorded as.
const KINDS: [&str; 4] = ["view_upload", "cancel_upload", "upload", "upload"];

/// How they are refused.
async fn refusals(who: &Clients, id: &str) -> [Status; 4] {
    let bidi = match who.bidi_writing(of_upload(id)).await {
        Err(status) => status,
        Ok(mut stream) => stream.next().await.unwrap_err(),
    };
    [
        who.get_upload(id).await.unwrap_err(),
        who.cancel_upload(id).await.unwrap_err(),
        who.write([of_upload(id), data(0, b"abc"), finish(3)]).await.unwrap_err(),
        bidi,
    ]
}

async fn failures(cofferd: &Cofferd) -> i64 {
    cofferd.database.number("SELECT count(*) FROM storage_operations WHERE status = 'failed'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_others_are_absent() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    let absent = uuid::Uuid::now_v7().to_string();
    for who in [
        Token::user("bob", "clinic"),
        Token::user("ann", "lab"),
        Token::user("ada", "lab").role("admin"),
        Token::user("olga", "lab").role("operator"),
        Token::app("chat", "clinic"),
    ] {
        let clients = cofferd.clients(&who).await;
        let bytes = |status: &Status, id: &str| {
            let details = status.details().to_vec();
            let text = String::from_utf8_lossy(&details).replace(id, "ID");
            (status.code(), status.message().replace(id, "ID"), text)
        };
        let (hidden, absent_ones) = (refusals(&clients, &id).await, refusals(&clients, &absent).await);
        for (status, other) in hidden.iter().zip(&absent_ones) {
            assert_eq!(refusal(status), (Code::NotFound, "NOT_FOUND".to_owned()), "{who:?}");
            assert_eq!(bytes(status, &id), bytes(other, &absent), "{who:?}");
        }
    }
    // An admin of the organisation sees it, and cannot write what is somebody else's.
    let admin = cofferd.clients(&Token::user("ada", "clinic").role("admin")).await;
    assert_eq!(admin.get_upload(&id).await.unwrap().state(), UploadState::Open);
    let status = admin.write(rest(&id, b"abc", 0)).await.unwrap_err();
    assert!([Code::PermissionDenied, Code::NotFound].contains(&status.code()), "{status:?}");
    let nobody = cofferd.anonymous().await;
    for status in refusals(&nobody, &id).await {
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Open);
    ann.write(rest(&id, b"abc", 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let long = "x".repeat(10_240);
    for id in ["", "nonsense", "{}", long.as_str(), "'; DROP TABLE storage_uploads; --", "\0"] {
        for (status, kind) in refusals(&ann, id).await.into_iter().zip(KINDS) {
            assert_eq!(
                refusal(&status),
                (Code::InvalidArgument, "FIELD_INVALID".to_owned()),
                "{kind} {id:?}"
            );
            assert_eq!(bad_fields(&status), ["upload_id"], "{kind} {id:?}");
        }
    }
    let both = v1::CancelUploadRequest { upload_id: "x".into(), request_id: "y".into() };
    let mut fields = bad_fields(&ann.transfers.clone().cancel_upload(both).await.unwrap_err());
    fields.sort();
    assert_eq!(fields, ["request_id", "upload_id"], "all bad fields at once");
    for (kind, per_id) in [("view_upload", 1), ("cancel_upload", 1), ("upload", 2)] {
        let more = i64::from(kind == "cancel_upload");
        assert_eq!(operations(&cofferd, kind, "failed").await, 6 * per_id + more, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_recorded_once_and_leaves_nothing() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let absent = uuid::Uuid::now_v7().to_string();
    for (status, kind) in refusals(&ann, &absent).await.into_iter().zip(KINDS) {
        assert_eq!(refusal(&status).0, Code::NotFound, "{kind}");
    }
    assert_eq!(failures(&cofferd).await, 4);
    assert_eq!(operations(&cofferd, "upload", "failed").await, 2);

    let started = async |spec: Option<v1::UploadSpec>| {
        let before = operations(&cofferd, "start_upload", "failed").await;
        let status = ann.transfers.clone().start_upload(v1::StartUploadRequest { spec }).await.unwrap_err();
        assert_eq!(operations(&cofferd, "start_upload", "failed").await, before + 1, "{status:?}");
        status
    };
    for (field, spec) in [
        ("spec", None),
        ("spec.request_id", Some(at("a.bin"))),
        ("spec.request_id", Some(v1::UploadSpec { request_id: "x".into(), ..at("a.bin") })),
        ("spec.path", Some(resumable("../a.bin"))),
        ("spec.size_bytes", Some(v1::UploadSpec { size_bytes: Some(-1), ..resumable("a.bin") })),
        ("spec.sha256", Some(v1::UploadSpec { sha256: "x".into(), ..resumable("a.bin") })),
    ] {
        let status = started(spec).await;
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{field}");
        assert_eq!(bad_fields(&status), [field]);
    }
    let taken = ann.upload(at("taken.bin"), b"abc").await.unwrap();
    let stale = "stale".to_owned();
    for (expected, spec) in [
        ((Code::AlreadyExists, "PATH_TAKEN"), v1::UploadSpec { create_only: true, ..resumable("taken.bin") }),
        ((Code::Aborted, "ETAG_MISMATCH"), v1::UploadSpec { if_etag: stale, ..resumable("taken.bin") }),
        ((Code::NotFound, "NOT_FOUND"), v1::UploadSpec { volume: "no-such".into(), ..resumable("a.bin") }),
        (
            (Code::ResourceExhausted, "FILE_TOO_LARGE"),
            v1::UploadSpec { size_bytes: Some(i64::MAX), ..resumable("a.bin") },
        ),
    ] {
        // Whether a declared size fits the disk may also be found out by the first stream.
        let status = match ann.start_upload(spec.clone()).await {
            Err(status) => status,
            Ok(upload) => ann.write([of_upload(&upload.id), finish(0)]).await.unwrap_err(),
        };
        assert_eq!(refusal(&status), (expected.0, expected.1.to_owned()), "{spec:?}");
    }
    assert_eq!(taken.version, 1);

    // First messages that are none.
    let id = ann.start_upload(resumable("a.bin")).await.unwrap().id;
    let before = operations(&cofferd, "upload", "failed").await;
    for (n, messages) in [
        vec![],
        vec![data(0, b"abc"), finish(3)],
        vec![v1::WriteFileRequest::default(), of_upload(&id), finish(0)],
        vec![of_upload(&id), of_upload(&id), finish(0)],
        vec![first(resumable("b.bin")), of_upload(&id), finish(0)],
        vec![of_upload(&id), first(resumable("c.bin")), finish(0)],
    ]
    .into_iter()
    .enumerate()
    {
        let status = ann.write(messages).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "case {n}");
        let recorded = operations(&cofferd, "upload", "failed").await - before;
        assert_eq!(recorded, n as i64 + 1, "case {n} is recorded once");
    }
    assert_eq!(ann.get_upload(&id).await.unwrap().state(), UploadState::Open);

    // More than was ever sent, and then what follows the last message.
    let content = noise(100_000);
    for offset in [100_001, i64::MAX - 3] {
        let messages = [part(&id, &content, 0..100_000), vec![data(offset, b"abc")]].concat();
        let status = ann.write(messages).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::OutOfRange, "OFFSET_GAP".to_owned()), "{offset}");
    }
    let messages = [rest(&id, &content, 0), vec![data(0, b"abc")]].concat();
    assert_eq!(bad_fields(&ann.write(messages).await.unwrap_err()), ["finish"]);
    ann.write(rest(&id, &content, 0)).await.unwrap();
    crate::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_beyond_any_disk_takes_nothing_from_others() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let bob = cofferd.clients(&Token::user("bob", "clinic")).await;
    let endless = |path: &str| v1::UploadSpec { size_bytes: Some(i64::MAX), ..resumable(path) };
    let mut started = Vec::new();
    for n in 0..3 {
        match ann.start_upload(endless(&format!("{n}.bin"))).await {
            Ok(upload) => started.push(upload.id),
            Err(status) => assert_eq!(refusal(&status).0, Code::ResourceExhausted, "start {n}: {status:?}"),
        }
    }
    for size_bytes in [None, Some(3_000_000)] {
        let spec = v1::UploadSpec { size_bytes, ..at(&format!("{size_bytes:?}.bin")) };
        bob.upload(spec, &noise(3_000_000)).await.unwrap();
    }
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    assert_eq!(crate::quotas::drifts(&operator).await, []);
    for id in started {
        ann.cancel_upload(&id).await.unwrap();
    }
    assert_eq!(super::held(&cofferd).await, 0);
    crate::quotas::nothing_drifts(&cofferd).await;
}
