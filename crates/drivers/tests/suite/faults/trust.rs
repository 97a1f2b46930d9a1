//! Servers that may not be talked to, or do not let us in.

use super::{assert_kind, open_http, open_s3};
use crate::servers;
use coffer_domain::driver::ErrorKind;
use coffer_drivers::{
    WireOptions,
    http::{self, Auth},
    s3,
};
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
    let Some(server) = Kind::RcloneS3.shared() else { return };
    let mut config = servers::s3_config(&server.url(), &server.place());
    config.credentials.secret_key = "not the secret".to_owned();
    assert_kind(open_s3(config).await, ErrorKind::Denied, "S3");
    for kind in [Kind::RcloneWebdav, Kind::ApacheDav] {
        let Some(server) = kind.shared() else { return };
        let auth = Auth::Basic { user: "nobody".to_owned(), password: "x".to_owned() };
        for auth in [auth, Auth::None, Auth::Bearer("x".to_owned())] {
            let config = http::Config { auth, ..servers::http_config(kind, &server.url(), &server.place()) };
            assert_kind(open_http(config).await, ErrorKind::Denied, "WebDAV");
        }
    }
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = s3::Config { wire: WireOptions::default(), ..servers::s3_config(&url, "bucket") };
    assert_kind(open_s3(config).await, ErrorKind::Denied, "S3");
    let config = http::Config::new(&url, Auth::None);
    assert_kind(open_http(config).await, ErrorKind::Denied, "HTTP");
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(accepted.is_err(), "nobody has connected");
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_kind(open_s3(servers::s3_config(&url, "bucket")).await, ErrorKind::Unavailable, "S3");
    let config = http::Config { wire: servers::loopback(), ..http::Config::new(&url, Auth::None) };
    assert_kind(open_http(config).await, ErrorKind::Unavailable, "HTTP");
}

#[tokio::test]
async fn a_missing_bucket_is_unavailable() {
    let Some(server) = Kind::RcloneS3.shared() else { return };
    assert_kind(
        open_s3(servers::s3_config(&server.url(), "no-such-bucket")).await,
        ErrorKind::Unavailable,
        "S3",
    );
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
