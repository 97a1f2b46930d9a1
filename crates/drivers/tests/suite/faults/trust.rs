//! Servers that may not be talked to, or do not let us in.

use super::{assert_kind, open_http, open_s3};
use crate::servers;
use coffer_domain::{
    driver::{Driver, Error, ErrorKind},
    egress::{self, Forbidden, Policy, Rule},
    endpoint::Login,
    secret::Secret,
};
use coffer_drivers::{WireOptions, http, s3};
use coffer_test_servers::Kind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::{io::Write as _, sync::Arc};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::task::AbortOnDropHandle;

#[tokio::test]
async fn wrong_credentials_are_denied() {
    for kind in [Kind::RcloneS3, Kind::Minio] {
        let Some(server) = kind.shared() else { continue };
        let config = || servers::s3_config(&server.url(), &server.place());
        let wrong = s3::Config { secret_key: Secret::new("not the secret"), ..config() };
        assert_kind(open_s3(wrong).await, ErrorKind::Denied, "the secret");
        let wrong = s3::Config { access_key: "nobody".to_owned(), ..config() };
        assert_kind(open_s3(wrong).await, ErrorKind::Denied, "the key");
    }
    for kind in [Kind::RcloneWebdav, Kind::ApacheDav] {
        let Some(server) = kind.shared() else { return };
        let basic = Login::Basic { username: "nobody".to_owned(), password: Secret::new("x") };
        for login in [Some(basic), None, Some(Login::Bearer { token: Secret::new("x") })] {
            let config = http::Config { login, ..servers::http_config(kind, &server.url(), &server.place()) };
            assert_kind(open_http(config).await, ErrorKind::Denied, "WebDAV");
        }
    }
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = s3::Config { wire: WireOptions::default(), ..servers::s3_config(&url, "bucket") };
    refused_by_the_policy(open_s3(config).await);
    refused_by_the_policy(open_http(http::Config::new(&url, None)).await);
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(accepted.is_err(), "nobody has connected");
}

/// What an operator is told of, and nobody else.
fn refused_by_the_policy(opened: Result<Arc<dyn Driver>, Error>) {
    let failure = opened.err().unwrap();
    assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
    let forbidden = Forbidden::behind(&failure).expect("the policy says why");
    assert!(forbidden.address.is_loopback());
    assert_eq!(forbidden.rule, Rule::Reserved(egress::Kind::Loopback));
    assert!(!coffer_domain::Error::from(failure).to_string().contains("127.0.0.1"));
}

#[tokio::test]
async fn a_denied_network_is_named_to_an_operator() {
    let policy = Policy { deny: vec!["127.0.0.0/8".parse().unwrap()], ..servers::loopback().policy };
    let wire = WireOptions { policy, ..WireOptions::default() };
    let config = s3::Config { wire, ..servers::s3_config("http://127.0.0.1:9", "bucket") };
    let said = coffer_domain::Error::to_operator(open_s3(config).await.err().unwrap()).to_string();
    let address = "127.0.0.1 is at 127.0.0.1, which may not be connected to: egress.deny has 127.0.0.0/8";
    assert!(said.ends_with(address), "{said}");
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_kind(open_s3(servers::s3_config(&url, "bucket")).await, ErrorKind::Unavailable, "S3");
    let config = http::Config { wire: servers::loopback(), ..http::Config::new(&url, None) };
    assert_kind(open_http(config).await, ErrorKind::Unavailable, "HTTP");
}

#[tokio::test]
async fn a_missing_bucket_is_unavailable() {
    for kind in [Kind::RcloneS3, Kind::Minio] {
        let Some(server) = kind.shared() else { continue };
        let opened = open_s3(servers::s3_config(&server.url(), "no-such-bucket")).await;
        assert_kind(opened, ErrorKind::Unavailable, "S3");
    }
}

/// An authority, and a server with a certificate of its.
struct Tls {
    url: String,
    authority: NamedTempFile,
    _server: AbortOnDropHandle<()>,
}

async fn tls(year: i32) -> Tls {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut authority = NamedTempFile::new().unwrap();
    authority.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], own.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let refusal = b"HTTP/1.1 403 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(refusal).await;
            let _ = stream.shutdown().await;
        }
    });
    Tls { url, authority, _server: AbortOnDropHandle::new(server) }
}

async fn problem(url: &str, authority: Option<&NamedTempFile>) -> String {
    let certificate_authority = authority.map(|file| file.path().to_owned());
    let wire = WireOptions { certificate_authority, ..servers::loopback() };
    let failure = open_s3(s3::Config { wire, ..servers::s3_config(url, "bucket") }).await.err().unwrap();
    assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
    failure.source.unwrap().to_string()
}

#[tokio::test]
async fn a_certificate_counts_while_it_is_valid_and_of_an_authority_that_is_trusted() {
    let valid = tls(2100).await;
    let said = problem(&valid.url, Some(&valid.authority)).await;
    assert!(said.starts_with("status 403"), "it was talked to: {said}");
    for said in [problem(&valid.url, None).await, {
        let expired = tls(2021).await;
        problem(&expired.url, Some(&expired.authority)).await
    }] {
        assert!(said.starts_with("not trusted"), "{said}");
    }
    let other_name = valid.url.replace("localhost", "127.0.0.1");
    assert!(problem(&other_name, Some(&valid.authority)).await.starts_with("not trusted"));
}

/// Not an empty volume, in which everything is lost.
#[tokio::test]
async fn a_volume_whose_folder_is_gone_is_unavailable() {
    let Some(server) = Kind::ApacheDav.shared() else { return };
    let place = server.place();
    let driver = open_http(servers::http_config(Kind::ApacheDav, &server.url(), &place)).await.unwrap();
    assert_eq!(driver.list("", None, 10).await.unwrap(), []);
    std::fs::remove_dir_all(server.directory(&place)).unwrap();
    assert_kind(driver.list("", None, 10).await, ErrorKind::Unavailable, "a listing");
    assert_kind(driver.stat(&crate::support::fresh_key()).await, ErrorKind::Unavailable, "a look");
}
