//! Client certificates: whom they stand for, beside tokens and instead of them.

use super::authority::{Authority, Signed, clients, connect, settings};
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{at, refusal},
};
use rcgen::{DnType, SanType, date_time_ymd};
use serde_json::json;
use tonic::Code;

/// What the service says to a list of files. `None`: there was no connection to say it on.
async fn answer(
    cofferd: &Cofferd,
    authority: &Authority,
    own: Option<&Signed>,
    token: Option<&str>,
) -> Option<String> {
    let channel = connect(cofferd, &authority.ca(), own).await.ok()?;
    let clients = coffer_tests::grpc::Clients::over(channel, token);
    match clients.files.clone().list_files(v1::ListFilesRequest::default()).await {
        Ok(_) => Some("OK".to_owned()),
        // Under TLS 1.3 the client learns after the handshake that its certificate was refused.
        Err(status) if std::error::Error::source(&status).is_some() => None,
        Err(status) => {
            assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{status:?}");
            Some(refusal(&status).1)
        }
    }
}

struct Rig {
    authority: Authority,
    cofferd: Cofferd,
    revoked: Signed,
}

impl Rig {
    async fn start(client_auth: &str) -> Self {
        let authority = Authority::new("the clinic");
        let server = authority.sign("server", |_| {});
        let list = json!({"certificates": [
            {"uri": "spiffe://clinic/scanner", "organisation": "clinic", "app": "scanner"},
            {"uri": "spiffe://clinic/gateway", "app": "gateway", "roles": ["delegate"]},
            {"uri": "spiffe://clinic/revoked", "organisation": "clinic", "app": "scanner"},
            {"dns": "nurse.clinic.example", "organisation": "clinic", "user": "nina", "issuer": "coffer-development"},
        ]});
        let list = authority.write("list.json", &list.to_string());
        let revoked = authority.sign_uri("revoked", "spiffe://clinic/revoked");
        let crl = authority.revoke(&[&revoked]);
        let ca = authority.ca();
        let mut set = settings(&server);
        set.extend([
            ("grpc.tls.client_ca", ca.to_str().unwrap()),
            ("grpc.tls.client_auth", client_auth),
            ("grpc.tls.client_crl", crl.to_str().unwrap()),
            ("auth.certificates_file", list.to_str().unwrap()),
        ]);
        let cofferd = Cofferd::start_with(&set).await;
        Self { cofferd, revoked, authority }
    }

    async fn answer(&self, own: Option<&Signed>, token: Option<&str>) -> Option<String> {
        answer(&self.cofferd, &self.authority, own, token).await
    }
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_for_whom_the_list_names() {
    let rig = Rig::start("optional").await;
    let Rig { authority, cofferd, .. } = &rig;
    let scanner = authority.sign_uri("scanner", "spiffe://clinic/scanner");
    let app = clients(cofferd, &authority.ca(), Some(&scanner), None).await;
    let file = app.upload(at("scan.bin"), b"abc").await.unwrap();
    assert_eq!((file.organisation_id.as_str(), file.app_id.as_str()), ("clinic", "scanner"));
    assert_eq!(file.namespace(), v1::Namespace::Apps);

    // By certificate or by token she is the same user.
    let nurse = authority.sign("nurse", |params| {
        params.subject_alt_names = vec![SanType::DnsName("nurse.clinic.example".try_into().unwrap())];
    });
    let by_certificate = clients(cofferd, &authority.ca(), Some(&nurse), None).await;
    let own = by_certificate.upload(at("notes.txt"), b"abc").await.unwrap();
    let token = cofferd.token(&Token::user("nina", "clinic"));
    let by_token = clients(cofferd, &authority.ca(), None, Some(&token)).await;
    let files =
        by_token.files.clone().list_files(v1::ListFilesRequest::default()).await.unwrap().into_inner().files;
    assert_eq!(files.iter().map(|file| &file.id).collect::<Vec<_>>(), [&own.id]);

    let nobody = authority.sign_uri("nobody", "spiffe://clinic/nobody");
    let common_name = authority.sign("common-name", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, "nurse.clinic.example");
    });
    for unknown in [&nobody, &common_name] {
        assert_eq!(rig.answer(Some(unknown), None).await, said("CERTIFICATE_INVALID"));
        assert_eq!(rig.answer(Some(unknown), Some(&token)).await, said("CERTIFICATE_INVALID"));
    }
    assert_eq!(rig.answer(None, None).await, said("TOKEN_MISSING"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_good_make_no_connection() {
    let stranger = Authority::new("a stranger");
    for client_auth in ["optional", "required"] {
        let rig = Rig::start(client_auth).await;
        let uri = || vec![SanType::URI("spiffe://clinic/scanner".try_into().unwrap())];
        let expired = rig.authority.sign("expired", |params| {
            params.subject_alt_names = uri();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        let early = rig.authority.sign("early", |params| {
            params.subject_alt_names = uri();
            params.not_before = date_time_ymd(2090, 1, 1);
            params.not_after = date_time_ymd(2099, 1, 1);
        });
        let foreign = stranger.sign_uri("foreign", "spiffe://clinic/scanner");
        for (name, bad) in
            [("expired", &expired), ("early", &early), ("foreign", &foreign), ("revoked", &rig.revoked)]
        {
            assert_eq!(rig.answer(Some(bad), None).await, None, "{name} {client_auth}");
        }
        let good = rig.authority.sign_uri("good", "spiffe://clinic/scanner");
        assert_eq!(rig.answer(Some(&good), None).await, said("OK"), "{client_auth}");
        let token = rig.cofferd.token(&Token::user("ann", "clinic"));
        let without = if client_auth == "optional" { said("OK") } else { None };
        assert_eq!(rig.answer(None, Some(&token)).await, without, "{client_auth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_presented_by_its_app_or_by_one_that_may_delegate() {
    let rig = Rig::start("required").await;
    let token = |token: Token| rig.cofferd.token(&token);
    let scanner = rig.authority.sign_uri("scanner", "spiffe://clinic/scanner");
    let gateway = rig.authority.sign_uri("gateway", "spiffe://clinic/gateway");
    let through = token(Token::user("ann", "clinic").through("scanner"));
    let another = token(Token::user("ann", "clinic").through("mail"));
    let alone = token(Token::user("ann", "clinic"));
    let elsewhere = token(Token::user("ann", "lab").through("scanner"));
    for (own, token, expected) in [
        (&scanner, &through, "OK"),
        (&scanner, &another, "CERTIFICATE_INVALID"),
        (&scanner, &alone, "CERTIFICATE_INVALID"),
        (&scanner, &elsewhere, "CERTIFICATE_INVALID"),
        (&gateway, &through, "OK"),
        (&gateway, &alone, "OK"),
        (&gateway, &elsewhere, "OK"),
    ] {
        assert_eq!(rig.answer(Some(own), Some(token)).await, said(expected));
    }
    assert_eq!(rig.answer(Some(&scanner), Some("no.to.ken")).await, said("TOKEN_INVALID"));
    // The token says who it is.
    let ann = clients(&rig.cofferd, &rig.authority.ca(), Some(&gateway), Some(&through)).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    assert_eq!((file.organisation_id.as_str(), file.app_id.as_str()), ("clinic", "scanner"));
    assert_eq!(file.namespace(), v1::Namespace::Users);
}
