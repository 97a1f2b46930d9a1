//! The audit trail: everything is in it, and it says what was.

use coffer_proto::v1::{self, OperationKind, OperationStatus};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, noise, refusal},
};
use std::time::{Duration, Instant};
use tonic::{Code, Request, Status};

async fn operations(
    auditor: &Clients,
    request: v1::ListOperationsRequest,
) -> Result<v1::ListOperationsResponse, Status> {
    Ok(auditor.audit.clone().list_operations(request).await?.into_inner())
}

async fn of_kind(auditor: &Clients, kind: OperationKind) -> Vec<v1::Operation> {
    let request = v1::ListOperationsRequest { kinds: vec![kind.into()], ..Default::default() };
    operations(auditor, request).await.unwrap().operations
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_recorded_with_who_and_how() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer")).await;
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    let file = ann
        .upload(
            v1::UploadSpec { classification: v1::Classification::Restricted.into(), ..at("a.bin") },
            &noise(1_000_000),
        )
        .await
        .unwrap();
    let mut request = Request::new(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() });
    for (name, value) in [
        ("coffer-purpose", "treatment"),
        ("coffer-session-id", "s-1"),
        ("coffer-correlation-id", "c-1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let mut stream = ann.transfers.clone().read_file(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    ann.files.clone().get_file(v1::GetFileRequest { file: by_id(&file.id) }).await.unwrap();
    ann.files.clone().list_files(v1::ListFilesRequest::default()).await.unwrap();
    ann.files
        .clone()
        .delete_file(v1::DeleteFileRequest { file: by_id(&file.id), ..Default::default() })
        .await
        .unwrap();

    let upload = of_kind(&auditor, OperationKind::Upload).await.pop().unwrap();
    assert_eq!(
        (upload.status(), upload.bytes_transferred, upload.file_id.as_str()),
        (OperationStatus::Success, 1_000_000, file.id.as_str())
    );
    assert_eq!(
        (upload.app_id.as_str(), upload.provider.as_str(), upload.user_id.as_str()),
        ("viewer", "local", file.owner_user_id.as_str())
    );
    assert_eq!(
        (upload.client_ip.as_str(), upload.volume_id.as_str()),
        ("127.0.0.1", file.volume_id.as_str())
    );
    assert!(upload.user_agent.contains("tonic") && !upload.node_id.is_empty());

    let downloads = of_kind(&auditor, OperationKind::Download).await;
    let [outcome, pending] = downloads.as_slice() else { panic!("two records: {downloads:?}") };
    assert_eq!((pending.status(), pending.bytes_transferred), (OperationStatus::Pending, 0));
    assert_eq!(
        (outcome.status(), outcome.bytes_transferred, outcome.completes_id.as_str()),
        (OperationStatus::Success, 1_000_000, pending.id.as_str())
    );
    for record in &downloads {
        assert_eq!(
            (record.purpose.as_str(), record.session_id.as_str(), record.correlation_id.as_str()),
            ("treatment", "s-1", "c-1")
        );
        assert_eq!(record.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    for kind in [OperationKind::ViewMetadata, OperationKind::List, OperationKind::Delete] {
        assert_eq!(of_kind(&auditor, kind).await.len(), 1, "{kind:?}");
    }
    // The columns are an index of the record; the record is canonical JSON.
    let json: serde_json::Value = serde_json::from_slice(&upload.record).unwrap();
    assert_eq!(json["id"], upload.id.as_str());
    assert_eq!(json["operation"], "upload");
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_operations o FULL JOIN audit_pending p ON p.operation_id = o.id WHERE o.id IS NULL OR p.operation_id IS NULL").await, 0, "each waits for its seal");
    let (count, accessed) = {
        let row = cofferd
            .database
            .connect()
            .await
            .query_one("SELECT access_count::bigint, last_accessed_at IS NOT NULL FROM storage_files", &[])
            .await
            .unwrap();
        (row.get::<_, i64>(0), row.get::<_, bool>(1))
    };
    assert_eq!((count, accessed), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_read_is_recorded_once_and_a_broken_one_with_how_far_it_came() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    let small = ann.upload(at("small"), b"abc").await.unwrap();
    ann.read(v1::ReadFileRequest { file: by_id(&small.id), ..Default::default() }).await.unwrap();
    let records = of_kind(&auditor, OperationKind::Download).await;
    assert_eq!(
        (records.len(), records[0].status(), records[0].bytes_transferred),
        (1, OperationStatus::Success, 3)
    );

    let large = ann.upload(at("large"), &noise(50_000_000)).await.unwrap();
    let mut stream = ann
        .transfers
        .clone()
        .read_file(v1::ReadFileRequest { file: by_id(&large.id), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    drop(stream);
    let since = Instant::now();
    let outcome = loop {
        let request = v1::ListOperationsRequest {
            file_id: large.id.clone(),
            status: OperationStatus::Failed.into(),
            ..Default::default()
        };
        if let Some(found) = operations(&auditor, request).await.unwrap().operations.pop() {
            break found;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "the outcome of a broken read is recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(outcome.error_code, "CLIENT_LEFT");
    assert!(outcome.bytes_transferred < 50_000_000 && !outcome.completes_id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_recorded_too() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    let absent = uuid::Uuid::now_v7().to_string();
    ann.upload(at("../x"), b"").await.unwrap_err();
    ann.upload(v1::UploadSpec { classification: 99, ..at("x") }, b"").await.unwrap_err();
    ann.read(v1::ReadFileRequest { file: by_id(&absent), ..Default::default() }).await.unwrap_err();
    ann.files
        .clone()
        .purge_file(v1::PurgeFileRequest { file: by_id(&absent), ..Default::default() })
        .await
        .unwrap_err();
    ann.audit.clone().list_operations(v1::ListOperationsRequest::default()).await.unwrap_err();
    ann.volumes.clone().list_local_paths(v1::ListLocalPathsRequest::default()).await.unwrap_err();
    ann.volumes.clone().get_volume(v1::GetVolumeRequest { volume: "none".into() }).await.unwrap_err();
    ann.volumes.clone().get_volume(v1::GetVolumeRequest { volume: "NO NAME".into() }).await.unwrap_err();
    let failed = operations(
        &auditor,
        v1::ListOperationsRequest { status: OperationStatus::Failed.into(), ..Default::default() },
    )
    .await
    .unwrap()
    .operations;
    let seen: Vec<_> = failed.iter().rev().map(|o| (o.kind(), o.error_code.as_str())).collect();
    assert_eq!(
        seen,
        [
            (OperationKind::Upload, "FIELD_INVALID"),
            (OperationKind::Upload, "FIELD_INVALID"),
            (OperationKind::Download, "NOT_FOUND"),
            (OperationKind::Purge, "NOT_FOUND"),
            (OperationKind::ReadOperations, "PERMISSION_DENIED"),
            (OperationKind::ViewVolume, "PERMISSION_DENIED"),
            (OperationKind::ViewVolume, "NOT_FOUND"),
            (OperationKind::ViewVolume, "FIELD_INVALID"),
        ]
    );
    assert!(
        failed.iter().all(|o| o.file_id.is_empty() && !o.error_message.is_empty() && !o.user_id.is_empty())
    );

    // Refused credentials are counted per source and written at the latest when the service ends.
    for _ in 0..5 {
        cofferd
            .clients_with(Some("forged"))
            .await
            .files
            .clone()
            .list_files(v1::ListFilesRequest::default())
            .await
            .unwrap_err();
    }
    let mut cofferd = cofferd;
    assert!(cofferd.terminate().await.success());
    let row = cofferd.database.connect().await.query_one("SELECT metadata->>'count', client_ip, error_code FROM storage_operations WHERE operation = 'authenticate'", &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
        ("5", "127.0.0.1", "TOKEN_INVALID")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters_of_the_trail() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    for n in 0..12 {
        ann.upload(at(&n.to_string()), b"").await.unwrap();
    }
    let mut request = v1::ListOperationsRequest {
        page_size: 5,
        kinds: vec![OperationKind::Upload.into()],
        ..Default::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = operations(&auditor, request.clone()).await.unwrap();
        ids.extend(page.operations.into_iter().map(|o| o.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!((ids.len(), &ids), (12, &sorted), "newest first, each once");

    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let future = v1::ListOperationsRequest { start_time: time(4_000_000_000), ..Default::default() };
    assert_eq!(operations(&auditor, future).await.unwrap().operations.len(), 0);
    for (field, bad) in [
        (
            "end_time",
            v1::ListOperationsRequest { start_time: time(20), end_time: time(10), ..Default::default() },
        ),
        (
            "start_time",
            v1::ListOperationsRequest {
                start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
                ..Default::default()
            },
        ),
        ("start_time", v1::ListOperationsRequest { start_time: time(i64::MAX), ..Default::default() }),
        ("end_time", v1::ListOperationsRequest { end_time: time(-100_000_000_000), ..Default::default() }),
        ("kinds[0]", v1::ListOperationsRequest { kinds: vec![99], ..Default::default() }),
        ("kinds", v1::ListOperationsRequest { kinds: vec![1; 33], ..Default::default() }),
        ("status", v1::ListOperationsRequest { status: 99, ..Default::default() }),
        ("file_id", v1::ListOperationsRequest { file_id: "x".into(), ..Default::default() }),
        ("page_token", v1::ListOperationsRequest { page_token: "x".into(), ..Default::default() }),
    ] {
        let status = operations(&auditor, bad).await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_request_has_limits() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for (name, value) in [
        ("coffer-purpose", "x".repeat(257)),
        ("coffer-session-id", "x".repeat(257)),
        ("coffer-correlation-id", "\u{1b}[31mred".to_owned()),
    ] {
        let mut request = Request::new(v1::ListFilesRequest::default());
        let Ok(value) = value.parse() else { continue };
        request.metadata_mut().insert(name, value);
        let status = ann.files.clone().list_files(request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{name}");
        assert_eq!(bad_fields(&status), [name]);
    }
}
