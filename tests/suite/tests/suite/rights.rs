//! Who may do what, and that a tenant learns nothing of another.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, refusal},
};
use tonic::{Code, Status};

fn read(id: &str) -> v1::ReadFileRequest {
    v1::ReadFileRequest { file: by_id(id), ..Default::default() }
}

fn code(outcome: Result<impl Sized, Status>) -> Code {
    outcome.map_or_else(|status| refusal(&status).0, |_| Code::Ok)
}

/// The codes of seeing, reading, changing, replacing, deleting and undeleting a file; it is live again afterwards.
async fn rights(who: &Clients, id: &str) -> [Code; 6] {
    let mut files = who.files.clone();
    let seen = code(files.get_file(v1::GetFileRequest { file: by_id(id) }).await);
    let content = code(who.read(read(id)).await);
    let update_mask = Some(prost_types::FieldMask { paths: vec!["tags".into()] });
    let change = v1::UpdateFileRequest {
        file: by_id(id),
        changes: Some(v1::FileChanges::default()),
        update_mask,
        ..Default::default()
    };
    let changed = code(files.update_file(change).await);
    let replaced = code(who.upload(v1::UploadSpec { file: by_id(id), ..Default::default() }, b"new").await);
    let deleted =
        code(files.delete_file(v1::DeleteFileRequest { file: by_id(id), ..Default::default() }).await);
    let undeleted =
        code(files.undelete_file(v1::UndeleteFileRequest { file: by_id(id), ..Default::default() }).await);
    [seen, content, changed, replaced, deleted, undeleted]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_caller_has_its_rights() {
    use Code::{NotFound, Ok, PermissionDenied, Unauthenticated};
    let cofferd = Cofferd::start().await;
    let ann = Token::user("ann", "clinic");
    let owner = cofferd.clients(&ann).await;
    let private = owner.upload(at("private.txt"), b"abc").await.unwrap().id;
    let public =
        owner.upload(v1::UploadSpec { is_public: true, ..at("public.txt") }, b"abc").await.unwrap().id;
    let bot = cofferd.clients(&Token::app("chat", "clinic")).await;
    let of_app = bot.upload(at("chat.log"), b"abc").await.unwrap().id;

    let own = [Ok; 6];
    let administer = [Ok, PermissionDenied, Ok, PermissionDenied, Ok, Ok];
    let hidden = [NotFound; 6];
    let reader = [Ok, Ok, PermissionDenied, PermissionDenied, PermissionDenied, PermissionDenied];
    let table: Vec<(&str, Token, [[Code; 6]; 3])> = vec![
        ("owner", ann.clone(), [own, own, hidden]),
        ("owner through an app", ann.clone().through("chat"), [own, own, hidden]),
        ("colleague", Token::user("bob", "clinic"), [hidden, reader, hidden]),
        ("app", Token::app("chat", "clinic"), [hidden, reader, own]),
        ("another app", Token::app("mail", "clinic"), [hidden, reader, hidden]),
        ("admin", Token::user("ada", "clinic").role("admin"), [administer, administer, administer]),
        ("operator", Token::user("olga", "clinic").role("operator"), [hidden, reader, hidden]),
        ("auditor", Token::user("aud", "clinic").role("auditor"), [hidden, reader, hidden]),
        // A user is issuer and subject; the token's organisation decides which tenant's files are meant.
        ("owner in another organisation", Token::user("ann", "lab"), [hidden, reader, hidden]),
        ("admin of another organisation", Token::user("ada", "lab").role("admin"), [hidden, reader, hidden]),
    ];
    for (who, token, expected) in table {
        let clients = cofferd.clients(&token).await;
        for (id, expected) in [&private, &public, &of_app].into_iter().zip(expected) {
            assert_eq!(rights(&clients, id).await, expected, "{who}");
        }
    }
    let nobody = cofferd.anonymous().await;
    for id in [&private, &of_app, &uuid::Uuid::now_v7().to_string()] {
        assert_eq!(rights(&nobody, id).await, [Unauthenticated; 6]);
    }
    let [seen, content, rest @ ..] = rights(&nobody, &public).await;
    assert_eq!((seen, content, rest), (Ok, Ok, [Unauthenticated; 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_file_shows_no_more_than_it_must() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann
        .upload(v1::UploadSpec { is_public: true, tags: vec!["t".into()], ..at("folder/public.txt") }, b"abc")
        .await
        .unwrap();
    let expected = v1::File {
        id: file.id.clone(),
        filename: file.filename,
        mime_type: file.mime_type,
        size_bytes: 3,
        sha256: file.sha256,
        crc32c: file.crc32c,
        ..Default::default()
    };
    let nobody = cofferd.anonymous().await;
    let (metadata, content) = nobody.read(read(&file.id)).await.unwrap();
    assert_eq!((metadata.file.unwrap(), content), (expected.clone(), b"abc".to_vec()));
    let seen = nobody
        .files
        .clone()
        .get_file(v1::GetFileRequest { file: by_id(&file.id) })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(seen.file.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_meet() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let bob = cofferd.clients(&Token::user("bob", "lab").role("admin").role("auditor")).await;
    let spec = v1::UploadSpec { file_id: "report".into(), ..at("same/path.txt") };
    let hers = ann.upload(spec.clone(), b"hers").await.unwrap();
    let his = bob.upload(spec, b"his").await.unwrap();
    assert_ne!(hers.id, his.id);

    // Another's id answers exactly as one that never existed.
    let absent = uuid::Uuid::now_v7().to_string();
    let same = |a: Status, b: Status| {
        let text = |status: &Status, id: &str| status.message().replace(id, "ID");
        assert_eq!(refusal(&a), refusal(&b));
        assert_eq!(text(&a, &hers.id), text(&b, &absent));
        assert_eq!(a.details().len(), b.details().len());
    };
    let mut files = bob.files.clone();
    let get = |id: &str| v1::GetFileRequest { file: by_id(id) };
    same(files.get_file(get(&hers.id)).await.unwrap_err(), files.get_file(get(&absent)).await.unwrap_err());
    same(bob.read(read(&hers.id)).await.unwrap_err(), bob.read(read(&absent)).await.unwrap_err());
    let delete = |id: &str| v1::DeleteFileRequest { file: by_id(id), ..Default::default() };
    same(
        files.delete_file(delete(&hers.id)).await.unwrap_err(),
        files.delete_file(delete(&absent)).await.unwrap_err(),
    );
    let purge = |id: &str| v1::PurgeFileRequest { file: by_id(id), ..Default::default() };
    same(
        files.purge_file(purge(&hers.id)).await.unwrap_err(),
        files.purge_file(purge(&absent)).await.unwrap_err(),
    );
    let undelete = |id: &str| v1::UndeleteFileRequest { file: by_id(id), ..Default::default() };
    same(
        files.undelete_file(undelete(&hers.id)).await.unwrap_err(),
        files.undelete_file(undelete(&absent)).await.unwrap_err(),
    );
    let replace = |id: &str| v1::UploadSpec { file: by_id(id), ..Default::default() };
    same(
        bob.upload(replace(&hers.id), b"x").await.unwrap_err(),
        bob.upload(replace(&absent), b"x").await.unwrap_err(),
    );

    let listed = files.list_files(v1::ListFilesRequest::default()).await.unwrap().into_inner().files;
    assert_eq!(listed.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), [his.id.as_str()]);
    let operations = bob
        .audit
        .clone()
        .list_operations(v1::ListOperationsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .operations;
    assert!(
        !operations.is_empty()
            && operations.iter().all(|o| o.organisation_id == "lab" && o.file_id != hers.id)
    );
    let key = |of| Some(v1::QuotaKey { of: Some(of) });
    let of_clinic = v1::GetQuotaRequest { key: key(v1::quota_key::Of::OrganisationId("clinic".into())) };
    assert_eq!(code(bob.quotas.clone().get_quota(of_clinic).await), Code::PermissionDenied);
    assert_eq!(ann.read(read(&hers.id)).await.unwrap().1, b"hers");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nothing_is_done() {
    let cofferd = Cofferd::start().await;
    let good = cofferd.token(&Token::user("ann", "clinic"));
    let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
    parts[2] = parts[2].chars().rev().collect();
    let short = cofferd.token(&Token::user("ann", "clinic").ttl("1s"));
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let forged = parts.join(".");
    for (token, reason) in [
        (None, "TOKEN_MISSING"),
        (Some(""), "TOKEN_INVALID"),
        (Some("x"), "TOKEN_INVALID"),
        (Some(forged.as_str()), "TOKEN_INVALID"),
        (Some(short.as_str()), "TOKEN_EXPIRED"),
    ] {
        let clients = cofferd.clients_with(token).await;
        for status in [
            clients.upload(at("a.txt"), b"abc").await.unwrap_err(),
            clients.files.clone().list_files(v1::ListFilesRequest::default()).await.unwrap_err(),
            clients.volumes.clone().list_volumes(v1::ListVolumesRequest::default()).await.unwrap_err(),
            clients
                .quotas
                .clone()
                .get_quota(v1::GetQuotaRequest {
                    key: Some(v1::QuotaKey { of: Some(v1::quota_key::Of::UserId(String::new())) }),
                })
                .await
                .unwrap_err(),
            clients.audit.clone().list_operations(v1::ListOperationsRequest::default()).await.unwrap_err(),
        ] {
            assert_eq!(refusal(&status), (Code::Unauthenticated, reason.to_owned()), "{token:?}: {status:?}");
        }
    }
    assert_eq!(cofferd.objects(), Vec::<String>::new());
}
