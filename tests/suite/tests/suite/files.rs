//! Descriptions, lists, and the life of a file.

use coffer_proto::v1::{self, file_reference::By};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, by_path, refusal},
};
use std::collections::HashSet;
use tonic::{Code, Status};

async fn get(clients: &Clients, file: Option<v1::FileReference>) -> Result<v1::File, Status> {
    Ok(clients.files.clone().get_file(v1::GetFileRequest { file }).await?.into_inner().file.unwrap())
}

async fn list(clients: &Clients, request: v1::ListFilesRequest) -> Result<v1::ListFilesResponse, Status> {
    Ok(clients.files.clone().list_files(request).await?.into_inner())
}

async fn update(
    clients: &Clients,
    id: &str,
    changes: v1::FileChanges,
    mask: &[&str],
    if_etag: &str,
) -> Result<v1::File, Status> {
    let update_mask = Some(prost_types::FieldMask { paths: mask.iter().map(|p| (*p).to_owned()).collect() });
    let request = v1::UpdateFileRequest {
        file: by_id(id),
        changes: Some(changes),
        update_mask,
        if_etag: if_etag.to_owned(),
        request_id: String::new(),
    };
    Ok(clients.files.clone().update_file(request).await?.into_inner().file.unwrap())
}

async fn delete(clients: &Clients, id: &str) -> Result<v1::File, Status> {
    Ok(clients
        .files
        .clone()
        .delete_file(v1::DeleteFileRequest { file: by_id(id), ..Default::default() })
        .await?
        .into_inner()
        .file
        .unwrap())
}

async fn undelete(clients: &Clients, id: &str, path: &str) -> Result<v1::File, Status> {
    let request =
        v1::UndeleteFileRequest { file: by_id(id), path: path.to_owned(), request_id: String::new() };
    Ok(clients.files.clone().undelete_file(request).await?.into_inner().file.unwrap())
}

async fn purge(clients: &Clients, id: &str) -> Result<i64, Status> {
    Ok(clients
        .files
        .clone()
        .purge_file(v1::PurgeFileRequest { file: by_id(id), request_id: String::new() })
        .await?
        .into_inner()
        .freed_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_change_only_where_the_mask_says() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(v1::UploadSpec { tags: vec!["a".into()], ..at("a/b.txt") }, b"abc").await.unwrap();
    let changes = v1::FileChanges {
        path: "c/d.md".into(),
        filename: "d.md".into(),
        mime_type: "text/markdown".into(),
        tags: vec!["x".into(), "y".into()],
        is_public: true,
        classification: v1::Classification::Public.into(),
        ..Default::default()
    };
    let changed = update(&ann, &file.id, changes.clone(), &["path", "tags"], "").await.unwrap();
    assert_eq!(
        (changed.path.as_str(), changed.filename.as_str(), changed.mime_type.as_str()),
        ("c/d.md", "b.txt", "text/plain")
    );
    assert_eq!((changed.tags.len(), changed.is_public), (2, false));
    assert_ne!(changed.etag, file.etag);
    assert_eq!(refusal(&get(&ann, by_path("a/b.txt")).await.unwrap_err()).0, Code::NotFound);

    let stale = update(&ann, &file.id, changes.clone(), &["filename"], &file.etag).await.unwrap_err();
    assert_eq!(refusal(&stale), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let changed = update(
        &ann,
        &file.id,
        changes.clone(),
        &["filename", "mime_type", "is_public", "classification"],
        &changed.etag,
    )
    .await
    .unwrap();
    assert_eq!(
        (changed.filename.as_str(), changed.is_public, changed.original_name.as_str()),
        ("d.md", true, "b.txt")
    );

    for mask in [&["owner"][..], &["*"], &[], &["filename", "filename"], &vec!["tags"; 10_000]] {
        let status = update(&ann, &file.id, changes.clone(), mask, "").await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec!["update_mask".to_owned()]),
            "{} paths",
            mask.len()
        );
    }
    for (field, bad) in [
        ("path", v1::FileChanges { path: "../x".into(), ..Default::default() }),
        ("filename", v1::FileChanges::default()),
        ("mime_type", v1::FileChanges { mime_type: "nonsense".into(), ..Default::default() }),
        ("classification", v1::FileChanges { classification: 99, ..Default::default() }),
        ("status", v1::FileChanges { status: v1::FileStatus::Deleted.into(), ..Default::default() }),
    ] {
        let status = update(&ann, &file.id, bad, &[field], "").await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec![format!("changes.{field}")]),
            "{field}"
        );
    }
    let other = ann.upload(at("other.txt"), b"").await.unwrap();
    let taken = update(&ann, &other.id, changes, &["path"], "").await.unwrap_err();
    assert_eq!(refusal(&taken), (Code::AlreadyExists, "PATH_TAKEN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_files_are_read_and_not_replaced() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    let archive = v1::FileChanges { status: v1::FileStatus::Archived.into(), ..Default::default() };
    assert_eq!(
        update(&ann, &file.id, archive, &["status"], "").await.unwrap().status(),
        v1::FileStatus::Archived
    );
    assert_eq!(
        ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap().1,
        b"abc"
    );
    let status = ann.upload(at("a.txt"), b"new").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "FILE_STATUS".to_owned()));
    let active = v1::FileChanges { status: v1::FileStatus::Active.into(), ..Default::default() };
    update(&ann, &file.id, active, &["status"], "").await.unwrap();
    assert_eq!(ann.upload(at("a.txt"), b"new").await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_trash_and_back_and_gone() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann
        .upload(v1::UploadSpec { file_id: "mine".into(), tags: vec!["secret".into()], ..at("a.txt") }, b"abc")
        .await
        .unwrap();
    let trashed = delete(&ann, &file.id).await.unwrap();
    assert_eq!((trashed.status(), trashed.delete_time.is_some()), (v1::FileStatus::Deleted, true));
    for status in [
        delete(&ann, &file.id).await.unwrap_err(),
        get(&ann, by_path("a.txt")).await.unwrap_err(),
        ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status), (Code::NotFound, "NOT_FOUND".to_owned()));
    }
    assert_eq!(get(&ann, by_id(&file.id)).await.unwrap().status(), v1::FileStatus::Deleted);
    assert_eq!(
        cofferd.database.number("SELECT quota_used FROM storage_volumes").await,
        3,
        "the trash counts"
    );
    let listed = |deleted| v1::ListFilesRequest { deleted, ..Default::default() };
    assert_eq!(list(&ann, listed(false)).await.unwrap().files.len(), 0);
    assert_eq!(list(&ann, listed(true)).await.unwrap().files.len(), 1);

    // Its path is free meanwhile.
    let new = ann.upload(at("a.txt"), b"new").await.unwrap();
    assert_ne!(new.id, file.id);
    assert_eq!(
        refusal(&undelete(&ann, &file.id, "").await.unwrap_err()),
        (Code::AlreadyExists, "PATH_TAKEN".to_owned())
    );
    assert_eq!(undelete(&ann, &file.id, "b.txt").await.unwrap().path, "b.txt");
    assert_eq!(
        refusal(&undelete(&ann, &file.id, "").await.unwrap_err()),
        (Code::FailedPrecondition, "FILE_STATUS".to_owned())
    );
    assert_eq!(
        refusal(&purge(&ann, &file.id).await.unwrap_err()),
        (Code::FailedPrecondition, "FILE_STATUS".to_owned())
    );

    delete(&ann, &file.id).await.unwrap();
    assert_eq!(purge(&ann, &file.id).await.unwrap(), 3);
    for status in [
        purge(&ann, &file.id).await.unwrap_err(),
        undelete(&ann, &file.id, "").await.unwrap_err(),
        get(&ann, by_id(&file.id)).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status), (Code::NotFound, "NOT_FOUND".to_owned()));
    }
    let row = cofferd.database.connect().await.query_one("SELECT filename, storage_path, tags::text, file_id, user_id IS NOT NULL, checksum FROM storage_files WHERE purged_at IS NOT NULL", &[]).await.unwrap();
    let tombstone = |column: usize| row.get::<_, String>(column);
    assert_eq!((tombstone(0).as_str(), tombstone(2).as_str()), ("", "[]"), "name and tags are gone");
    assert!(!tombstone(1).contains("b.txt") && tombstone(3) != "mine");
    assert_eq!((row.get::<_, bool>(4), tombstone(5)), (true, file.sha256), "owner and checksum stay");
    let since = std::time::Instant::now();
    while cofferd.objects().len() > 1 {
        assert!(since.elapsed() < std::time::Duration::from_secs(10), "the purged object goes");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(cofferd.database.number("SELECT quota_used FROM storage_volumes").await, 3);
    ann.upload(v1::UploadSpec { file_id: "mine".into(), ..at("c.txt") }, b"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trash_is_emptied_when_its_time_is_over() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    delete(&ann, &file.id).await.unwrap();
    let main = operator
        .volumes
        .clone()
        .get_volume(v1::GetVolumeRequest { volume: "main".into() })
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    let volume = v1::Volume { trash_retention: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..main };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["trash_retention".into()] });
    operator
        .volumes
        .clone()
        .update_volume(v1::UpdateVolumeRequest {
            volume: Some(volume),
            update_mask,
            request_id: String::new(),
        })
        .await
        .unwrap();
    let since = std::time::Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_files WHERE purged_at IS NOT NULL").await == 0
    {
        assert!(since.elapsed() < std::time::Duration::from_secs(10), "purged after a second");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_file_once_in_every_order() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for n in 0..25 {
        ann.upload(
            at(&format!("{}/{:02}.txt", if n % 2 == 0 { "even" } else { "odd" }, (n * 7) % 25)),
            &vec![0; n % 5],
        )
        .await
        .unwrap();
    }
    for order in [
        v1::FileOrder::Unspecified,
        v1::FileOrder::Created,
        v1::FileOrder::Updated,
        v1::FileOrder::Name,
        v1::FileOrder::Size,
    ] {
        for descending in [false, true] {
            let mut request =
                v1::ListFilesRequest { page_size: 7, order: order.into(), descending, ..Default::default() };
            let mut seen = Vec::new();
            loop {
                let page = list(&ann, request.clone()).await.unwrap();
                assert!(page.files.len() <= 7);
                seen.extend(page.files);
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(seen.iter().map(|f| &f.id).collect::<HashSet<_>>().len(), 25, "{order:?}");
            assert_eq!(seen.len(), 25);
            let mut sorted = seen.clone();
            sorted.sort_by_key(|f| match order {
                v1::FileOrder::Name => (f.filename.clone(), 0, f.id.clone()),
                v1::FileOrder::Size => (String::new(), f.size_bytes, f.id.clone()),
                _ => (String::new(), 0, f.id.clone()),
            });
            if descending {
                sorted.reverse();
            }
            assert_eq!(seen, sorted, "{order:?}, descending {descending}");
        }
    }
    let even = list(
        &ann,
        v1::ListFilesRequest { path_prefix: "even/".into(), page_size: 1_000_000, ..Default::default() },
    )
    .await
    .unwrap();
    assert_eq!(even.files.len(), 13);
    let skipped = list(&ann, v1::ListFilesRequest { skip: 20, ..Default::default() }).await.unwrap();
    assert_eq!(skipped.files.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lists() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let bob = cofferd.clients(&Token::user("bob", "lab")).await;
    for n in 0..3 {
        ann.upload(at(&format!("{n}.txt")), b"").await.unwrap();
    }
    let token = list(&ann, v1::ListFilesRequest { page_size: 1, ..Default::default() })
        .await
        .unwrap()
        .next_page_token;
    assert!(!token.is_empty());
    let flipped: String = token
        .chars()
        .enumerate()
        .map(|(n, c)| if n == token.len() / 2 { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    let request = |token: &str| v1::ListFilesRequest {
        page_size: 1,
        page_token: token.to_owned(),
        ..Default::default()
    };
    for (who, bad) in [
        (&ann, request("garbage")),
        (&ann, request(&token[..token.len() - 2])),
        (&ann, request(&flipped)),
        (&ann, v1::ListFilesRequest { descending: true, ..request(&token) }),
        (&ann, v1::ListFilesRequest { path_prefix: "0".into(), ..request(&token) }),
        (&bob, request(&token)),
    ] {
        let status = list(who, bad).await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec!["page_token".to_owned()])
        );
    }
    assert_eq!(
        list(&ann, v1::ListFilesRequest { page_size: 900, ..request(&token) }).await.unwrap().files.len(),
        2,
        "another size is fine"
    );
    for (field, bad) in [
        ("page_size", v1::ListFilesRequest { page_size: -1, ..Default::default() }),
        ("skip", v1::ListFilesRequest { skip: 10_001, ..Default::default() }),
        ("skip", v1::ListFilesRequest { skip: -1, ..Default::default() }),
        ("order", v1::ListFilesRequest { order: 99, ..Default::default() }),
        ("owner_user_id", v1::ListFilesRequest { owner_user_id: "x".into(), ..Default::default() }),
        ("volume", v1::ListFilesRequest { volume: "NO".into(), ..Default::default() }),
    ] {
        let status = list(&ann, bad).await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
    }
    for prefix in ["%%%", "'", "\\", "x'; DROP TABLE storage_files; --"] {
        assert_eq!(
            list(&ann, v1::ListFilesRequest { path_prefix: prefix.into(), ..Default::default() })
                .await
                .unwrap()
                .files
                .len(),
            0,
            "{prefix}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_that_name_nothing() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let reference = |by| Some(v1::FileReference { by: Some(by) });
    for (field, bad) in [
        ("file", None),
        ("file", Some(v1::FileReference { by: None })),
        ("file.id", reference(By::Id(String::new()))),
        ("file.id", reference(By::Id("not-a-uuid".into()))),
        ("file.id", reference(By::Id(uuid::Uuid::nil().to_string()))),
        ("file.id", reference(By::Id("x".repeat(1_000_000)))),
    ] {
        for status in [
            get(&ann, bad.clone()).await.unwrap_err(),
            ann.read(v1::ReadFileRequest { file: bad.clone(), ..Default::default() }).await.unwrap_err(),
        ] {
            assert_eq!(
                (refusal(&status).0, bad_fields(&status)),
                (Code::InvalidArgument, vec![field.to_owned()])
            );
        }
    }
    for absent in
        [by_id(&uuid::Uuid::now_v7().to_string()), by_path("no/such"), reference(By::FileId("nobody".into()))]
    {
        assert_eq!(refusal(&get(&ann, absent).await.unwrap_err()), (Code::NotFound, "NOT_FOUND".to_owned()));
    }
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    let version = |version| v1::ReadFileRequest { file: by_id(&file.id), version, ..Default::default() };
    for (number, code) in [(-1, Code::InvalidArgument), (i32::MAX, Code::NotFound), (2, Code::NotFound)] {
        assert_eq!(refusal(&ann.read(version(number)).await.unwrap_err()).0, code, "version {number}");
    }
    assert_eq!(ann.read(version(1)).await.unwrap().1, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mutation_sent_again_has_one_effect_and_one_answer() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    let id = || uuid::Uuid::now_v7().to_string();
    let operations = "SELECT count(*) FROM storage_operations WHERE status = 'success' AND operation IN ('update_metadata', 'delete', 'undelete', 'purge')";

    let request = v1::UpdateFileRequest {
        file: by_id(&file.id),
        changes: Some(v1::FileChanges { tags: vec!["t".into()], ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["tags".into()] }),
        request_id: id(),
        ..Default::default()
    };
    let first = ann.files.clone().update_file(request.clone()).await.unwrap().into_inner();
    assert_eq!(ann.files.clone().update_file(request.clone()).await.unwrap().into_inner(), first);
    let other = v1::UpdateFileRequest { if_etag: "1".into(), ..request };
    assert_eq!(
        refusal(&ann.files.clone().update_file(other).await.unwrap_err()),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
    );

    let request = v1::DeleteFileRequest { file: by_id(&file.id), request_id: id(), ..Default::default() };
    let first = ann.files.clone().delete_file(request.clone()).await.unwrap().into_inner();
    assert_eq!(ann.files.clone().delete_file(request).await.unwrap().into_inner(), first);

    let request = v1::UndeleteFileRequest { file: by_id(&file.id), request_id: id(), ..Default::default() };
    let first = ann.files.clone().undelete_file(request.clone()).await.unwrap().into_inner();
    let again = (0..8).map(|_| {
        let (mut files, request) = (ann.files.clone(), request.clone());
        async move { files.undelete_file(request).await.unwrap().into_inner() }
    });
    assert!(futures_util::future::join_all(again).await.iter().all(|answer| *answer == first));

    delete(&ann, &file.id).await.unwrap();
    let request = v1::PurgeFileRequest { file: by_id(&file.id), request_id: id() };
    let all = (0..8).map(|_| {
        let (mut files, request) = (ann.files.clone(), request.clone());
        async move { files.purge_file(request).await.unwrap().into_inner().freed_bytes }
    });
    assert_eq!(futures_util::future::join_all(all).await, [3; 8]);
    assert_eq!(cofferd.database.number(operations).await, 5);
}
