//! Apps that act for users, and requests that come through proxies.

use coffer_proto::v1::{self, OperationKind, OperationStatus};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, messages, refusal},
};
use tonic::{Code, Request, Status, codegen::tokio_stream::iter};

const ANN: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
const BOB: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";

fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

async fn list_for(app: &Clients, user: &str) -> Result<Vec<String>, Status> {
    let request = with(v1::ListFilesRequest::default(), "coffer-on-behalf-of", user);
    let files = app.files.clone().list_files(request).await?.into_inner().files;
    Ok(files.into_iter().map(|file| file.id).collect())
}

async fn operations(auditor: &Clients, kind: OperationKind) -> Vec<v1::Operation> {
    let request = v1::ListOperationsRequest { kinds: vec![kind.into()], ..Default::default() };
    auditor.audit.clone().list_operations(request).await.unwrap().into_inner().operations
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_the_role_acts_for_users_of_its_organisation_and_both_are_recorded() {
    let cofferd = Cofferd::start().await;
    let portal = cofferd.clients(&Token::app("portal", "clinic").role("delegate").role("admin")).await;
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    let upload = with(iter(messages(at("a.txt"), b"abc")), "coffer-on-behalf-of", ANN);
    let file = portal.transfers.clone().write_file(upload).await.unwrap().into_inner().file.unwrap();
    assert_eq!(
        (file.owner_user_id.as_str(), file.app_id.as_str(), file.organisation_id.as_str()),
        (ANN, "portal", "clinic")
    );
    assert_eq!(list_for(&portal, ANN).await.unwrap(), std::slice::from_ref(&file.id));
    // It is her file, and whoever else the app acts for does not see it, although the app itself is an admin.
    let ann = cofferd.clients(&Token::user(ANN, "clinic")).await;
    let read = v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() };
    assert_eq!(ann.read(read).await.unwrap().1, b"abc");
    assert!(list_for(&portal, BOB).await.unwrap().is_empty());
    let look = with(v1::GetFileRequest { file: by_id(&file.id) }, "coffer-on-behalf-of", BOB);
    let hidden = portal.files.clone().get_file(look).await.unwrap_err();
    assert_eq!(refusal(&hidden), (Code::NotFound, "NOT_FOUND".to_owned()));

    let recorded = operations(&auditor, OperationKind::Upload).await.pop().unwrap();
    assert_eq!(
        (recorded.user_id.as_str(), recorded.app_id.as_str(), recorded.on_behalf_of.as_str()),
        (ANN, "portal", ANN)
    );
    let own = operations(&auditor, OperationKind::Download).await;
    assert!(!own.is_empty() && own.iter().all(|operation| operation.on_behalf_of.is_empty()));
    let sql = "SELECT count(*) FROM storage_operations WHERE operation = 'upload' AND on_behalf_of = user_id";
    assert_eq!(cofferd.database.number(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_acts_for_others_nor_anybody_for_users_of_another_organisation() {
    let cofferd = Cofferd::start().await;
    let portal = cofferd.clients(&Token::app("portal", "clinic").role("delegate")).await;
    cofferd.clients(&Token::user(BOB, "lab")).await.upload(at("b.txt"), b"abc").await.unwrap();
    let foreign = list_for(&portal, BOB).await.unwrap_err();
    assert_eq!(refusal(&foreign), (Code::NotFound, "NOT_FOUND".to_owned()));
    for bad in ["ann", "", "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b", "00000000-0000-0000-0000-000000000000"] {
        let malformed = list_for(&portal, bad).await.unwrap_err();
        assert_eq!(malformed.code(), Code::InvalidArgument, "{bad}");
        assert_eq!(bad_fields(&malformed), ["coffer-on-behalf-of"], "{bad}");
    }
    for token in [
        Token::app("portal", "clinic"),
        Token::app("portal", "clinic").role("admin").role("operator"),
        Token::user("ann", "clinic").role("delegate"),
        Token::user("ann", "clinic").through("portal").role("delegate"),
    ] {
        let refused = list_for(&cofferd.clients(&token).await, ANN).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()), "{token:?}");
    }
    let anonymous = list_for(&cofferd.anonymous().await, ANN).await.unwrap_err();
    assert_eq!(refusal(&anonymous), (Code::Unauthenticated, "TOKEN_MISSING".to_owned()));

    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    let refused = operations(&auditor, OperationKind::Authenticate).await;
    let of = |reason: &str| refused.iter().filter(|operation| operation.error_code == reason).count();
    assert_eq!((of("PERMISSION_DENIED"), of("NOT_FOUND"), of("FIELD_INVALID")), (4, 1, 4));
    assert!(
        refused
            .iter()
            .all(|operation| operation.status() == OperationStatus::Failed
                && operation.on_behalf_of.is_empty())
    );
}

/// Where the service says a list came from that says it came through others.
async fn seen_from(cofferd: &Cofferd, forwarded: &str) -> String {
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let request = with(v1::ListFilesRequest::default(), "x-forwarded-for", forwarded);
    ann.files.clone().list_files(request).await.unwrap();
    let auditor = cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await;
    operations(&auditor, OperationKind::List).await.remove(0).client_ip
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_proxies_say_where_a_request_comes_from() {
    let direct = Cofferd::start().await;
    assert_eq!(seen_from(&direct, "203.0.113.9").await, "127.0.0.1");
    let behind = Cofferd::start_with(&[("grpc.trusted_proxies", "127.0.0.0/8, 10.0.0.0/8")]).await;
    for (forwarded, client) in [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
    ] {
        assert_eq!(seen_from(&behind, forwarded).await, client, "{forwarded}");
    }
    // Refused credentials are counted by the same address.
    let unknown = behind.clients_with(Some("no.to.ken")).await;
    let request = with(v1::ListFilesRequest::default(), "x-forwarded-for", "198.51.100.7");
    unknown.files.clone().list_files(request).await.unwrap_err();
    let mut behind = behind;
    assert!(behind.terminate().await.success());
    let sql = "SELECT count(*) FROM storage_operations WHERE operation = 'authenticate' AND client_ip = '198.51.100.7'";
    assert_eq!(behind.database.number(sql).await, 1);
}
