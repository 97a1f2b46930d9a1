//! Quotas: exact in every dimension, and never over.

#[path = "quotas/drift.rs"]
mod drift;
#[path = "quotas/holds.rs"]
mod holds;
#[path = "quotas/limits.rs"]
mod limits;
#[path = "quotas/lists.rs"]
mod lists;
#[path = "quotas/refusals.rs"]
mod refusals;

use coffer_proto::v1::{self, quota_key::Of, write_file_request::FirstMessage};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, exhausted, noise, refusal},
};
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// How long what the service does by itself may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn key(of: Of) -> Option<v1::QuotaKey> {
    Some(v1::QuotaKey { of: Some(of) })
}

pub(crate) async fn quota(clients: &Clients, of: Of) -> v1::Quota {
    let request = v1::GetQuotaRequest { key: key(of) };
    clients.quotas.clone().get_quota(request).await.unwrap().into_inner().quota.unwrap()
}

/// Sets limits; those the request does not name are lifted.
pub(crate) async fn set(clients: &Clients, request: v1::SetQuotaRequest) -> Result<v1::Quota, Status> {
    Ok(clients.quotas.clone().set_quota(request).await?.into_inner().quota.unwrap())
}

/// At most this many bytes.
pub(crate) fn bytes(of: Of, limit: i64) -> v1::SetQuotaRequest {
    v1::SetQuotaRequest { key: key(of), limit_bytes: Some(limit), ..Default::default() }
}

/// No limit.
pub(crate) fn unlimited(of: Of) -> v1::SetQuotaRequest {
    v1::SetQuotaRequest { key: key(of), ..Default::default() }
}

/// What a recount finds without changing anything.
pub(crate) async fn drifts(operator: &Clients) -> Vec<v1::QuotaDrift> {
    let request = v1::RecalculateQuotasRequest { dry_run: true, ..Default::default() };
    operator.quotas.clone().recalculate_quotas(request).await.unwrap().into_inner().drifts
}

pub(crate) fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub(crate) async fn start(clients: &Clients, spec: v1::UploadSpec) -> Result<v1::Upload, Status> {
    let request = v1::StartUploadRequest { spec: Some(spec) };
    Ok(clients.transfers.clone().start_upload(request).await?.into_inner().upload.unwrap())
}

pub(crate) async fn upload(clients: &Clients, id: &str) -> v1::Upload {
    let request = v1::GetUploadRequest { upload_id: id.to_owned() };
    clients.transfers.clone().get_upload(request).await.unwrap().into_inner().upload.unwrap()
}

pub(crate) async fn cancel(clients: &Clients, id: &str) -> Result<v1::Upload, Status> {
    let request = v1::CancelUploadRequest { upload_id: id.to_owned(), ..Default::default() };
    Ok(clients.transfers.clone().cancel_upload(request).await?.into_inner().upload.unwrap())
}

/// A message that goes on with an upload.
pub(crate) fn next(id: &str, offset: i64, content: impl Into<bytes::Bytes>) -> v1::WriteFileRequest {
    v1::WriteFileRequest {
        first_message: Some(FirstMessage::UploadId(id.to_owned())),
        write_offset: offset,
        data: Some(v1::ChecksummedData { content: content.into(), crc32c: None }),
        ..Default::default()
    }
}

/// The same as the last message of the upload.
pub(crate) fn last(id: &str, offset: i64, content: impl Into<bytes::Bytes>) -> v1::WriteFileRequest {
    v1::WriteFileRequest { finish: true, ..next(id, offset, content) }
}

/// One stream of one message.
pub(crate) async fn send(clients: &Clients, message: v1::WriteFileRequest) -> Result<v1::File, Status> {
    let answer = clients.transfers.clone().write_file(tokio_stream::iter([message])).await?;
    Ok(answer.into_inner().file.unwrap())
}

/// Deletes and purges a file.
pub(crate) async fn remove(clients: &Clients, id: &str) {
    let file = by_id(id);
    let delete = v1::DeleteFileRequest { file: file.clone(), ..Default::default() };
    clients.files.clone().delete_file(delete).await.unwrap();
    let purge = v1::PurgeFileRequest { file, ..Default::default() };
    clients.files.clone().purge_file(purge).await.unwrap();
}

/// Waits for what the service does by itself.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One row per quota: what it is, then bytes and files counted as used and as reserved, then the same as its rows add up to.
const BOOKS: &str = "
WITH used AS (
    SELECT f.volume_id, f.user_id, f.app_id, f.organisation_id, f.project_id, (f.purged_at IS NULL)::int AS files,
           coalesce((SELECT sum(size) FROM storage_file_versions v WHERE v.file_id = f.id), 0) AS bytes
    FROM storage_files f
), held AS (
    SELECT volume_id, user_id, app_id, organisation_id, project_id, reserved_files AS files, reserved_bytes AS bytes
    FROM storage_uploads WHERE state IN ('OPEN', 'FINISHING')
), quotas AS (
    SELECT 'volume' AS kind, id AS volume_id, NULL::uuid AS user_id, NULL AS app_id, NULL AS organisation_id,
           NULL AS project_id, quota_used AS bytes, quota_reserved AS held_bytes, NULL::int AS files,
           NULL::int AS held_files
    FROM storage_volumes
    UNION ALL
    SELECT 'user on volume', volume_id, user_id, NULL, NULL, NULL, quota_used, quota_reserved, NULL, NULL FROM user_quotas
    UNION ALL
    SELECT 'app on volume', volume_id, NULL, app_id, NULL, NULL, quota_used, quota_reserved, NULL, NULL FROM app_quotas
    UNION ALL
    SELECT entity_type, NULL, user_id, NULL, organisation_id, CASE entity_type WHEN 'project' THEN entity_id END,
           used_storage_bytes, reserved_storage_bytes, used_files, reserved_files
    FROM storage_quotas
)
SELECT q::text, q.bytes, q.held_bytes, coalesce(q.files, 0)::bigint, coalesce(q.held_files, 0)::bigint,
       coalesce(used.bytes, 0)::bigint, coalesce(held.bytes, 0)::bigint,
       CASE WHEN q.files IS NULL THEN 0 ELSE coalesce(used.files, 0) END::bigint,
       CASE WHEN q.files IS NULL THEN 0 ELSE coalesce(held.files, 0) END::bigint
FROM quotas q,
LATERAL (
    SELECT sum(bytes) AS bytes, sum(files) AS files FROM used c
    WHERE (q.volume_id IS NULL OR c.volume_id = q.volume_id) AND (q.user_id IS NULL OR c.user_id = q.user_id)
      AND (q.app_id IS NULL OR c.app_id = q.app_id) AND (q.project_id IS NULL OR c.project_id = q.project_id)
      AND (q.organisation_id IS NULL OR c.organisation_id = q.organisation_id)
) used,
LATERAL (
    SELECT sum(bytes) AS bytes, sum(files) AS files FROM held c
    WHERE (q.volume_id IS NULL OR c.volume_id = q.volume_id) AND (q.user_id IS NULL OR c.user_id = q.user_id)
      AND (q.app_id IS NULL OR c.app_id = q.app_id) AND (q.project_id IS NULL OR c.project_id = q.project_id)
      AND (q.organisation_id IS NULL OR c.organisation_id = q.organisation_id)
) held";

/// Every counter equals what the rows add up to, in all six dimensions, used and reserved.
pub(crate) async fn nothing_drifts(cofferd: &Cofferd) {
    for row in cofferd.database.connect().await.query(BOOKS, &[]).await.unwrap() {
        let numbers: Vec<i64> = (1..9).map(|n| row.get(n)).collect();
        assert_eq!(numbers[..4], numbers[4..], "{}", row.get::<_, String>(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_where_it_belongs() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let file = ann
        .upload(v1::UploadSpec { project_id: "trial".into(), ..at("a.bin") }, &noise(1_000))
        .await
        .unwrap();
    ann.upload(at("b.bin"), &noise(10)).await.unwrap();
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    assert_eq!(quota(&operator, Of::Volume("main".into())).await.used_bytes, 1_010);
    for (of, bytes, files) in [
        (Of::UserOnVolume(v1::UserOnVolume::default()), 1_010, 0),
        (Of::AppOnVolume(v1::AppOnVolume::default()), 1_010, 0),
        (Of::UserId(String::new()), 1_010, 2),
        (Of::OrganisationId(String::new()), 1_010, 2),
        (Of::ProjectId("trial".into()), 1_000, 1),
    ] {
        let found = quota(&ann, of.clone()).await;
        assert_eq!(
            (found.used_bytes, found.used_files, found.reserved_bytes, found.limit_bytes),
            (bytes, files, 0, None),
            "{of:?}"
        );
    }
    let never_used =
        quota(&operator, Of::AppOnVolume(v1::AppOnVolume { app_id: "mail".into(), ..Default::default() }))
            .await;
    assert_eq!((never_used.used_bytes, never_used.update_time), (0, None));

    // A replaced version gives its bytes back, a purged file everything.
    ann.upload(v1::UploadSpec { file: by_id(&file.id), ..Default::default() }, &noise(400)).await.unwrap();
    assert_eq!(quota(&ann, Of::ProjectId("trial".into())).await.used_bytes, 400);
    ann.files
        .clone()
        .delete_file(v1::DeleteFileRequest { file: by_id(&file.id), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(quota(&ann, Of::UserId(String::new())).await.used_bytes, 410);
    ann.files
        .clone()
        .purge_file(v1::PurgeFileRequest { file: by_id(&file.id), ..Default::default() })
        .await
        .unwrap();
    let left = quota(&ann, Of::UserId(String::new())).await;
    assert_eq!((left.used_bytes, left.used_files), (10, 1));
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_in_every_dimension_however_many_upload_at_once() {
    let cofferd = Cofferd::start().await;
    let token = Token::user("ann", "clinic").through("viewer").project("trial");
    let ann = cofferd.clients(&token).await;
    // The first upload makes the rows that are then limited.
    let spec = |path: String| v1::UploadSpec { project_id: "trial".into(), ..at(&path) };
    ann.upload(spec("first".into()), &noise(1_000)).await.unwrap();
    for (n, (name, limit)) in [
        ("volume:", "UPDATE storage_volumes SET quota_limit = quota_used + 5000"),
        ("user:", "UPDATE user_quotas SET quota_limit = quota_used + 5000"),
        ("app:", "UPDATE app_quotas SET quota_limit = quota_used + 5000"),
        ("user:", "UPDATE storage_quotas SET max_storage_bytes = used_storage_bytes + 5000 WHERE entity_type = 'user'"),
        ("organisation:", "UPDATE storage_quotas SET max_storage_bytes = used_storage_bytes + 5000 WHERE entity_type = 'organization'"),
        ("project:", "UPDATE storage_quotas SET max_storage_bytes = used_storage_bytes + 5000 WHERE entity_type = 'project'"),
        ("user:", "UPDATE storage_quotas SET max_files = used_files + 5 WHERE entity_type = 'user'"),
        ("organisation:", "UPDATE storage_quotas SET max_files = used_files + 5 WHERE entity_type = 'organization'"),
    ]
    .into_iter()
    .enumerate()
    {
        let sql = cofferd.database.connect().await;
        sql.batch_execute(limit).await.unwrap();
        // Half of them declare their size, half do not.
        let uploads = (0..20).map(|i| {
            let (ann, spec) = (ann.clone(), v1::UploadSpec { size_bytes: (i % 2 == 0).then_some(1_000), ..spec(format!("{n}/{i}")) });
            tokio::spawn(async move { ann.upload(spec, &noise(1_000)).await })
        });
        let mut succeeded = 0;
        for outcome in futures_util::future::join_all(uploads).await {
            match outcome.unwrap() {
                Ok(_) => succeeded += 1,
                Err(status) => {
                    assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
                    let subjects = exhausted(&status);
                    assert!(subjects.len() == 1 && subjects[0].starts_with(name), "{name}: {subjects:?}");
                }
            }
        }
        assert_eq!(succeeded, 5, "{limit}");
        sql.batch_execute(
            "UPDATE storage_volumes SET quota_limit = NULL; UPDATE user_quotas SET quota_limit = NULL; UPDATE app_quotas SET quota_limit = NULL;
             UPDATE storage_quotas SET max_storage_bytes = NULL, max_files = NULL",
        )
        .await
        .unwrap();
        nothing_drifts(&cofferd).await;
    }
    assert_eq!(cofferd.objects().len(), 41, "refused uploads left no bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exhausted_quota_is_named_and_early() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    ann.upload(at("first"), &noise(1_000)).await.unwrap();
    let sql = cofferd.database.connect().await;
    sql.batch_execute("UPDATE storage_volumes SET quota_limit = 1500; UPDATE storage_quotas SET max_storage_bytes = 1200, max_file_size_bytes = 900, max_files = 1").await.unwrap();
    for declared in [Some(3_000_000), None] {
        let status = ann
            .upload(v1::UploadSpec { size_bytes: declared, ..at("second") }, &noise(3_000_000))
            .await
            .unwrap_err();
        assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
        let subjects = exhausted(&status);
        // A new file breaks the number of files before its first byte.
        let expected = if declared.is_some() { 7 } else { 2 };
        assert_eq!(subjects.len(), expected, "{subjects:?}");
    }
    // A version adds no file, and what it replaces is given back: 1,000 bytes may become 900.
    ann.upload(at("first"), &noise(900)).await.unwrap();
    // A limit below usage: nothing grows, everything may shrink.
    sql.batch_execute(
        "UPDATE storage_volumes SET quota_limit = 10; UPDATE storage_quotas SET max_storage_bytes = NULL",
    )
    .await
    .unwrap();
    ann.upload(at("first"), &noise(800)).await.unwrap();
    assert_eq!(refusal(&ann.upload(at("first"), &noise(801)).await.unwrap_err()).1, "QUOTA_EXCEEDED");
    sql.batch_execute("UPDATE storage_volumes SET max_file_bytes = 700, quota_limit = NULL").await.unwrap();
    assert_eq!(refusal(&ann.upload(at("first"), &noise(701)).await.unwrap_err()).1, "FILE_TOO_LARGE");
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_others_are_not_seen() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let other = uuid::Uuid::now_v7().to_string();
    for (of, code) in [
        (Some(Of::Volume("main".into())), Code::PermissionDenied),
        (Some(Of::UserId(other.clone())), Code::PermissionDenied),
        (
            Some(Of::UserOnVolume(v1::UserOnVolume { user_id: other, ..Default::default() })),
            Code::PermissionDenied,
        ),
        (Some(Of::OrganisationId("lab".into())), Code::PermissionDenied),
        (
            Some(Of::AppOnVolume(v1::AppOnVolume { app_id: "mail".into(), ..Default::default() })),
            Code::PermissionDenied,
        ),
        (Some(Of::ProjectId("trial".into())), Code::NotFound),
        (Some(Of::UserId("nonsense".into())), Code::InvalidArgument),
        (
            Some(Of::UserOnVolume(v1::UserOnVolume { volume: "no-such".into(), ..Default::default() })),
            Code::NotFound,
        ),
        (None, Code::InvalidArgument),
    ] {
        let request = v1::GetQuotaRequest { key: of.clone().map(|of| v1::QuotaKey { of: Some(of) }) };
        assert_eq!(refusal(&ann.quotas.clone().get_quota(request).await.unwrap_err()).0, code, "{of:?}");
    }
}
