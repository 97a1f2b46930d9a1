//! Quotas: exact in every dimension, and never over.

use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, exhausted, noise, refusal},
};
use tonic::Code;

async fn quota(clients: &Clients, of: Of) -> v1::Quota {
    let request = v1::GetQuotaRequest { key: Some(v1::QuotaKey { of: Some(of) }) };
    clients.quotas.clone().get_quota(request).await.unwrap().into_inner().quota.unwrap()
}

/// Every counter equals what the rows add up to, in all six dimensions.
pub(crate) async fn nothing_drifts(cofferd: &Cofferd) {
    for (name, sql) in [
        (
            "volume",
            "SELECT v.id::text, v.quota_used, coalesce(sum(s.size), 0)::bigint FROM storage_volumes v LEFT JOIN storage_files f ON f.volume_id = v.id LEFT JOIN storage_file_versions s ON s.file_id = f.id GROUP BY 1, 2",
        ),
        (
            "user on volume",
            "SELECT q.user_id::text, q.quota_used, coalesce(sum(s.size), 0)::bigint FROM user_quotas q LEFT JOIN storage_files f ON f.volume_id = q.volume_id AND f.user_id = q.user_id LEFT JOIN storage_file_versions s ON s.file_id = f.id GROUP BY 1, 2",
        ),
        (
            "app on volume",
            "SELECT q.app_id, q.quota_used, coalesce(sum(s.size), 0)::bigint FROM app_quotas q LEFT JOIN storage_files f ON f.volume_id = q.volume_id AND f.app_id = q.app_id LEFT JOIN storage_file_versions s ON s.file_id = f.id GROUP BY 1, 2",
        ),
        (
            "user",
            "SELECT q.entity_id, q.used_storage_bytes, coalesce(sum(s.size), 0)::bigint FROM storage_quotas q LEFT JOIN storage_files f ON f.user_id = q.user_id AND f.organisation_id = q.organisation_id LEFT JOIN storage_file_versions s ON s.file_id = f.id WHERE q.entity_type = 'user' GROUP BY 1, 2",
        ),
        (
            "organisation",
            "SELECT q.entity_id, q.used_storage_bytes, coalesce(sum(s.size), 0)::bigint FROM storage_quotas q LEFT JOIN storage_files f ON f.organisation_id = q.organisation_id LEFT JOIN storage_file_versions s ON s.file_id = f.id WHERE q.entity_type = 'organization' GROUP BY 1, 2",
        ),
        (
            "project",
            "SELECT q.entity_id, q.used_storage_bytes, coalesce(sum(s.size), 0)::bigint FROM storage_quotas q LEFT JOIN storage_files f ON f.organisation_id = q.organisation_id AND f.project_id = q.entity_id LEFT JOIN storage_file_versions s ON s.file_id = f.id WHERE q.entity_type = 'project' GROUP BY 1, 2",
        ),
        (
            "user's files",
            "SELECT q.entity_id, q.used_files::bigint, count(f.id) FROM storage_quotas q LEFT JOIN storage_files f ON f.user_id = q.user_id AND f.organisation_id = q.organisation_id AND f.purged_at IS NULL WHERE q.entity_type = 'user' GROUP BY 1, 2",
        ),
        (
            "project's files",
            "SELECT q.entity_id, q.used_files::bigint, count(f.id) FROM storage_quotas q LEFT JOIN storage_files f ON f.organisation_id = q.organisation_id AND f.project_id = q.entity_id AND f.purged_at IS NULL WHERE q.entity_type = 'project' GROUP BY 1, 2",
        ),
        (
            "organisation's files",
            "SELECT q.entity_id, q.used_files::bigint, count(f.id) FROM storage_quotas q LEFT JOIN storage_files f ON f.organisation_id = q.organisation_id AND f.purged_at IS NULL WHERE q.entity_type = 'organization' GROUP BY 1, 2",
        ),
    ] {
        for row in cofferd.database.connect().await.query(sql, &[]).await.unwrap() {
            assert_eq!(row.get::<_, i64>(1), row.get::<_, i64>(2), "{name} {}", row.get::<_, String>(0));
        }
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
