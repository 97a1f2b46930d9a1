//! Endpoints and credentials: what goes in, what comes out, and what is refused.

use coffer_proto::v1::{
    self, CredentialKind, Login, endpoint::Server, login::Kind, volume_service_client::VolumeServiceClient,
};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Authorised, Clients, bad_fields, refusal},
};
use tonic::{Code, Status};

pub(crate) fn bucket(name: &str) -> Server {
    Server::S3Bucket(v1::S3Bucket {
        endpoint_url: "https://s3.example:9000".into(),
        bucket_name: name.into(),
        ..Default::default()
    })
}

pub(crate) fn http(url: &str) -> Server {
    Server::Http(v1::HttpServer { url: url.into() })
}

pub(crate) fn s3(secret: &str) -> Kind {
    Kind::S3(v1::S3Login { access_key: "AKEXAMPLE".into(), secret_key: secret.into() })
}

pub(crate) fn basic(password: &str) -> Kind {
    Kind::Basic(v1::BasicLogin { username: "ann".into(), password: password.into() })
}

pub(crate) fn bearer(token: &str) -> Kind {
    Kind::Bearer(v1::BearerLogin { token: token.into() })
}

pub(crate) fn header(name: &str, value: &str) -> Kind {
    Kind::CustomHeader(v1::CustomHeaderLogin { name: name.into(), value: value.into() })
}

fn volumes(clients: &Clients) -> VolumeServiceClient<Authorised> {
    clients.volumes.clone()
}

pub(crate) async fn create(operator: &Clients, server: Server) -> Result<v1::Endpoint, Status> {
    let endpoint = Some(v1::Endpoint { server: Some(server), description: "d".into(), ..Default::default() });
    let request = v1::CreateEndpointRequest { endpoint, request_id: String::new() };
    Ok(volumes(operator).create_endpoint(request).await?.into_inner().endpoint.unwrap())
}

pub(crate) async fn store(operator: &Clients, endpoint: &str, kind: Kind) -> Result<v1::Credential, Status> {
    let request = v1::CreateCredentialRequest {
        endpoint_id: endpoint.to_owned(),
        login: Some(Login { kind: Some(kind) }),
        description: "d".into(),
        request_id: String::new(),
    };
    Ok(volumes(operator).create_credential(request).await?.into_inner().credential.unwrap())
}

pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
}

pub(crate) async fn operator(cofferd: &Cofferd) -> Clients {
    cofferd.clients(&Token::user("olga", "clinic").role("operator")).await
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    refusal(&outcome.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_and_credentials_are_made_seen_changed_and_removed() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let photos = create(&operator, bucket("photos")).await.unwrap();
    let Some(Server::S3Bucket(made)) = &photos.server else { panic!("a bucket") };
    assert_eq!(
        (made.endpoint_url.as_str(), made.region.as_str(), made.use_ssl, made.use_path_style),
        ("https://s3.example:9000", "us-east-1", Some(true), Some(true))
    );
    let web = create(&operator, http("http://Web.example:80/dav/")).await.unwrap();
    assert_eq!(web.server, Some(http("http://web.example/dav")));
    assert_eq!(
        refused(create(&operator, http("http://web.example/dav")).await),
        (Code::AlreadyExists, "NAME_TAKEN".to_owned())
    );
    let get = v1::GetEndpointRequest { id: photos.id.clone() };
    let seen = volumes(&operator).get_endpoint(get).await.unwrap().into_inner().endpoint;
    assert_eq!(seen.as_ref(), Some(&photos));
    let mut request = v1::ListEndpointsRequest { page_size: 1, ..Default::default() };
    let mut listed = Vec::new();
    loop {
        let page = volumes(&operator).list_endpoints(request.clone()).await.unwrap().into_inner();
        listed.extend(page.endpoints);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed, [photos.clone(), web.clone()]);

    let update = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint {
            id: photos.id.clone(),
            description: "new".into(),
            ..Default::default()
        }),
        update_mask: mask(&["description"]),
        request_id: String::new(),
    };
    let updated = volumes(&operator).update_endpoint(update).await.unwrap().into_inner().endpoint;
    assert_eq!(updated, Some(v1::Endpoint { description: "new".into(), ..photos.clone() }));

    let key = store(&operator, &photos.id, s3("swordfish-1")).await.unwrap();
    assert_eq!((key.kind(), key.access_key.as_str()), (CredentialKind::S3, "AKEXAMPLE"));
    for (kind, expected) in [
        (basic("swordfish-2"), CredentialKind::Basic),
        (bearer("swordfish-3"), CredentialKind::Bearer),
        (header("X-Key", "swordfish-4"), CredentialKind::CustomHeader),
    ] {
        assert_eq!(store(&operator, &web.id, kind).await.unwrap().kind(), expected);
    }
    let list = v1::ListCredentialsRequest { endpoint_id: web.id.clone(), ..Default::default() };
    let listed = volumes(&operator).list_credentials(list).await.unwrap().into_inner().credentials;
    assert_eq!(listed.len(), 3);
    assert!(!format!("{listed:?}").contains("swordfish"));
    let change = v1::UpdateCredentialRequest {
        id: listed[0].id.clone(),
        login: Some(Login { kind: Some(bearer("swordfish-5")) }),
        update_mask: mask(&["login"]),
        ..Default::default()
    };
    let changed =
        volumes(&operator).update_credential(change).await.unwrap().into_inner().credential.unwrap();
    assert_eq!((changed.kind(), changed.description.as_str()), (CredentialKind::Bearer, "d"));
    let get = v1::GetCredentialRequest { id: changed.id.clone() };
    assert_eq!(volumes(&operator).get_credential(get).await.unwrap().into_inner().credential, Some(changed));

    let delete = v1::DeleteCredentialRequest { id: key.id.clone(), ..Default::default() };
    volumes(&operator).delete_credential(delete.clone()).await.unwrap();
    assert_eq!(
        refused(volumes(&operator).delete_credential(delete).await),
        (Code::NotFound, "NOT_FOUND".to_owned())
    );
    for id in [&photos.id, &web.id] {
        let delete = v1::DeleteEndpointRequest { id: id.clone(), ..Default::default() };
        volumes(&operator).delete_endpoint(delete).await.unwrap();
    }
    let get = v1::GetCredentialRequest { id: listed[1].id.clone() };
    assert_eq!(refused(volumes(&operator).get_credential(get).await).0, Code::NotFound);
    let recorded = cofferd
        .database
        .number(
            "SELECT count(*) FROM storage_operations WHERE status = 'success' AND operation IN ('create_endpoint',
             'update_endpoint', 'delete_endpoint', 'create_credential', 'update_credential', 'delete_credential')",
        )
        .await;
    assert_eq!(recorded, 2 + 1 + 2 + 4 + 1 + 1, "each change is in the audit trail");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_texts_that_no_endpoint_may_have() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let invalid = |status: Status, field: &str, what: &dyn std::fmt::Debug| {
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{what:?}");
        assert_eq!(bad_fields(&status), [field], "{what:?}");
    };
    for url in [
        "",
        "example.org",
        "file:///etc/passwd",
        "gopher://example.org",
        "http://user:password@example.org",
        "http://example.org:0",
        "http://example.org:22",
        "http://example.org:5432",
        "http://example.org:65536",
        "http://example.org:-1",
        "http://0x7f000001",
        "http://2130706433",
        "http://a\r\nb",
        "http://example.org/%2e%2e/x",
        "http://example.org/../x",
        "http://example.org/x?y",
        "http://ex\u{e4}mple.org",
        &format!("http://{}", "a".repeat(300)),
    ] {
        invalid(create(&operator, http(url)).await.unwrap_err(), "endpoint.http.url", &url);
    }
    for name in ["", "a/b", "..", "a\r\nb", &"a".repeat(256)] {
        let status = create(&operator, bucket(name)).await.unwrap_err();
        invalid(status, "endpoint.s3_bucket.bucket_name", &name);
    }
    let web = create(&operator, http("http://example.org")).await.unwrap();
    for name in ["Host", "Transfer-Encoding", "Content-Length", "a:b", "a b", "a\r\nb", ""] {
        let status = store(&operator, &web.id, header(name, "value")).await.unwrap_err();
        invalid(status, "login.custom_header.name", &name);
    }
    for (kind, field) in [
        (header("x-key", "a\r\nHost: b"), "login.custom_header.value"),
        (basic("a\0b"), "login.basic.password"),
        (bearer("a\nb"), "login.bearer.token"),
        (s3("x"), "login"),
    ] {
        invalid(store(&operator, &web.id, kind.clone()).await.unwrap_err(), field, &field);
    }
    let stored = "SELECT (SELECT count(*) FROM http_credentials) + (SELECT count(*) FROM s3_credentials)";
    assert_eq!(cofferd.database.number(stored).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_needs_an_endpoint_of_its_kind() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    // Loopback, where nobody may be connected to.
    let (photos, web) = (
        create(&operator, bucket("photos")).await.unwrap().id,
        create(&operator, http("http://127.0.0.1:8")).await.unwrap().id,
    );
    let key = store(&operator, &photos, s3("x")).await.unwrap().id;
    let on = |backend| v1::Volume { name: "remote".into(), backend: Some(backend), ..Default::default() };
    let on_s3 = |bucket_id: &str, credential_id: &str| {
        on(v1::volume::Backend::S3(v1::S3Backend {
            bucket_id: bucket_id.into(),
            credential_id: credential_id.into(),
        }))
    };
    let on_web = |endpoint_id: &str, credential_id: &str| {
        on(v1::volume::Backend::Http(v1::HttpBackend {
            endpoint_id: endpoint_id.into(),
            credential_id: credential_id.into(),
            use_query_params: false,
        }))
    };
    let absent = uuid::Uuid::now_v7().to_string();
    for (volume, code, fields) in [
        (on_s3("photos", ""), Code::InvalidArgument, &["volume.s3.bucket_id"][..]),
        (on_s3(&web, ""), Code::InvalidArgument, &["volume.s3.bucket_id"]),
        (on_web(&photos, ""), Code::InvalidArgument, &["volume.http.endpoint_id"]),
        (on_web(&web, "x"), Code::InvalidArgument, &["volume.http.credential_id"]),
        (on_s3(&absent, ""), Code::NotFound, &[]),
        (on_web(&web, &key), Code::NotFound, &[]),
        (on_s3(&photos, &absent), Code::NotFound, &[]),
    ] {
        let status = crate::volumes::create(&operator, volume.clone()).await.unwrap_err();
        assert_eq!(
            (status.code(), bad_fields(&status)),
            (code, fields.iter().map(|f| (*f).to_owned()).collect()),
            "{volume:?}"
        );
    }
    let other_kind = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint { id: web.clone(), server: Some(bucket("other")), ..Default::default() }),
        update_mask: mask(&["server"]),
        request_id: String::new(),
    };
    let status = volumes(&operator).update_endpoint(other_kind).await.unwrap_err();
    assert_eq!((status.code(), bad_fields(&status)), (Code::InvalidArgument, vec!["endpoint".to_owned()]));
    let status = crate::volumes::create(&operator, on(v1::volume::Backend::S3(Default::default()))).await;
    assert_eq!(bad_fields(&status.unwrap_err()), ["volume.s3.bucket_id"]);
    let nowhere = v1::Volume { name: "remote".into(), ..Default::default() };
    let status = crate::volumes::create(&operator, nowhere).await.unwrap_err();
    assert_eq!(
        (status.code(), bad_fields(&status)),
        (Code::InvalidArgument, vec!["volume.backend".to_owned()])
    );
    let status = crate::volumes::create(&operator, on_web(&web, "")).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "ADDRESS_FORBIDDEN".to_owned()));
    let said = "127.0.0.1 is at 127.0.0.1, which may not be connected to: it is a loopback address, \
                and no network of egress.allow has it";
    assert!(status.message().ends_with(said), "{status:?}");
    let made = "SELECT count(*) FROM storage_volumes WHERE name = 'remote'";
    assert_eq!(cofferd.database.number(made).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_see_endpoints_and_credentials() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let web = create(&operator, http("http://example.org")).await.unwrap().id;
    let pass = store(&operator, &web, basic("x")).await.unwrap().id;
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    for token in [Token::user("ann", "clinic"), Token::user("aud", "clinic").role("auditor")] {
        let clients = cofferd.clients(&token).await;
        let mut volumes = volumes(&clients);
        assert_eq!(refused(create(&clients, http("http://other.example")).await), denied);
        assert_eq!(refused(store(&clients, &web, basic("y")).await), denied);
        let id = || web.clone();
        assert_eq!(refused(volumes.get_endpoint(v1::GetEndpointRequest { id: id() }).await), denied);
        assert_eq!(refused(volumes.list_endpoints(v1::ListEndpointsRequest::default()).await), denied);
        let update = v1::UpdateEndpointRequest {
            endpoint: Some(v1::Endpoint { id: id(), ..Default::default() }),
            update_mask: mask(&["description"]),
            request_id: String::new(),
        };
        assert_eq!(refused(volumes.update_endpoint(update).await), denied);
        let delete = v1::DeleteEndpointRequest { id: id(), ..Default::default() };
        assert_eq!(refused(volumes.delete_endpoint(delete).await), denied);
        let get = v1::GetCredentialRequest { id: pass.clone() };
        assert_eq!(refused(volumes.get_credential(get).await), denied);
        let list = v1::ListCredentialsRequest { endpoint_id: id(), ..Default::default() };
        assert_eq!(refused(volumes.list_credentials(list).await), denied);
        let update = v1::UpdateCredentialRequest {
            id: pass.clone(),
            update_mask: mask(&["description"]),
            ..Default::default()
        };
        assert_eq!(refused(volumes.update_credential(update).await), denied);
        let delete = v1::DeleteCredentialRequest { id: pass.clone(), ..Default::default() };
        assert_eq!(refused(volumes.delete_credential(delete).await), denied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_twice_makes_one() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let endpoint = Some(v1::Endpoint { server: Some(http("http://example.org")), ..Default::default() });
    let request = v1::CreateEndpointRequest { endpoint, request_id: uuid::Uuid::now_v7().to_string() };
    let first = volumes(&operator).create_endpoint(request.clone()).await.unwrap().into_inner();
    assert_eq!(volumes(&operator).create_endpoint(request).await.unwrap().into_inner(), first);
    let request = |password: &str, description: &str, request_id: &str| v1::CreateCredentialRequest {
        endpoint_id: first.endpoint.as_ref().unwrap().id.clone(),
        login: Some(Login { kind: Some(basic(password)) }),
        description: description.into(),
        request_id: request_id.into(),
    };
    let id = uuid::Uuid::now_v7().to_string();
    let made = volumes(&operator).create_credential(request("one", "d", &id)).await.unwrap().into_inner();
    let again = volumes(&operator).create_credential(request("one", "d", &id)).await.unwrap().into_inner();
    assert_eq!(made, again);
    assert_eq!(
        refused(volumes(&operator).create_credential(request("one", "other", &id)).await),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
    );
    assert_eq!(cofferd.database.number("SELECT count(*) FROM http_credentials").await, 1);
}
