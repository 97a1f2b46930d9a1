//! Drivers on real servers.

use coffer_domain::{budget::Budget, driver::Driver, egress::Policy, endpoint, secret::Secret};
use coffer_drivers::{
    WireOptions,
    ftp::{self, Ftp},
    http::{self, Http},
    s3::{self, S3},
    sftp::{self, Login, Sftp},
    wrap,
};
use coffer_test_servers::{ACCESS_KEY, Kind, PASSWORD, SECRET_KEY, Server, Ssh, USER};
use rusoto_core::{Region, credential::AwsCredentials};
use rusoto_signature::SignedRequest;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What may be connected to in tests.
pub(crate) fn loopback() -> WireOptions {
    let allow = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
    WireOptions { policy: Policy { allow, deny: Vec::new() }, ..WireOptions::default() }
}

/// A bucket behind this URL.
pub(crate) fn s3_config(url: &str, bucket: &str) -> s3::Config {
    s3::Config { wire: loopback(), ..s3::Config::new(url, bucket, ACCESS_KEY, Secret::new(SECRET_KEY)) }
}

/// A bucket of its own.
pub(crate) async fn s3(kind: Kind, prefix: &str, budget: Budget) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = kind.shared()?;
    let config = s3_config(&server.url(), &server.place());
    let config = s3::Config { prefix: prefix.to_owned(), budget, ..config };
    Some((Arc::new(S3::open(config).await.unwrap()), server))
}

/// A bucket of its own whose name begins that of its host.
pub(crate) async fn virtual_host(prefix: &str) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = Kind::Minio.shared()?;
    let (url, bucket) = server.host_with_bucket();
    let config = s3::Config { is_virtual_host: true, prefix: prefix.to_owned(), ..s3_config(&url, &bucket) };
    Some((Arc::new(S3::open(config).await.unwrap()), server))
}

/// A bucket of its own that keeps versions.
pub(crate) async fn versioned(prefix: &str) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = Kind::Minio.shared()?;
    let bucket = server.place();
    set_versioning(&server, &bucket, "Enabled").await;
    let config = s3::Config { prefix: prefix.to_owned(), ..s3_config(&server.url(), &bucket) };
    Some((Arc::new(S3::open(config).await.unwrap()), server))
}

/// Lets a bucket keep versions from now on (`Enabled`), or no more (`Suspended`).
pub(crate) async fn set_versioning(server: &Server, bucket: &str, status: &str) {
    let body = format!(
        "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status>\
         </VersioningConfiguration>"
    );
    let answer = ask(server, "PUT", &format!("/{bucket}"), &[("versioning", "")], body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// How many versions and marks of removal a bucket has, however old.
pub(crate) async fn count_versions(server: &Server, bucket: &str) -> usize {
    let answer = ask(server, "GET", &format!("/{bucket}"), &[("versions", "")], String::new()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<IsTruncated>false"), "{answer}");
    answer.matches("<VersionId>").count()
}

/// A request that the driver never makes. MinIO says that it is ready before it is ready for all of them; then it says 503.
async fn ask(server: &Server, method: &str, path: &str, query: &[(&str, &str)], body: String) -> String {
    for _ in 0..200 {
        let answer = ask_once(server, method, path, query, body.clone()).await;
        if !answer.starts_with("HTTP/1.1 503") {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("MinIO does not become ready");
}

async fn ask_once(server: &Server, method: &str, path: &str, query: &[(&str, &str)], body: String) -> String {
    let region = Region::Custom { name: "us-east-1".to_owned(), endpoint: server.url() };
    let mut request = SignedRequest::new(method, "s3", &region, path);
    for (name, value) in query {
        request.add_param(*name, *value);
    }
    request.set_payload(Some(body.clone()));
    request.sign(&AwsCredentials::new(ACCESS_KEY, SECRET_KEY, None, None));
    let mut head = format!(
        "{method} {}?{} HTTP/1.1\r\nconnection: close\r\n",
        request.canonical_path(),
        request.canonical_query_string()
    );
    if !request.headers().contains_key("content-length") {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, values) in request.headers() {
        for value in values {
            head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value)));
        }
    }
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A folder of a server.
pub(crate) fn http_config(kind: Kind, url: &str, place: &str) -> http::Config {
    let basic = || endpoint::Login::Basic { username: USER.to_owned(), password: Secret::new(PASSWORD) };
    let login = (kind != Kind::Nginx).then(basic);
    http::Config { wire: loopback(), ..http::Config::new(format!("{url}/{place}"), login) }
}

/// A folder of its own on a server of HTTP.
pub(crate) async fn http(kind: Kind, prefix: &str, budget: Budget) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = kind.shared()?;
    let config = http_config(kind, &server.url(), &server.place());
    let config = http::Config { prefix: prefix.to_owned(), budget, ..config };
    Some((Arc::new(Http::open(config).await.unwrap()), server))
}

/// A folder of a server of SFTP, which is reached at this address.
pub(crate) fn sftp_config(server: &Server, address: SocketAddr, place: &str) -> sftp::Config {
    let Ssh { username, key, host_keys } = server.ssh();
    let login = match key {
        Some(key) => Login::Key(Secret::new(key)),
        None => Login::Password(Secret::new(PASSWORD)),
    };
    let host_key = host_keys[0].parse().unwrap();
    sftp::Config {
        port: address.port(),
        path: place.to_owned(),
        wire: loopback(),
        ..sftp::Config::new(address.ip().to_string(), username, login, host_key)
    }
}

/// A folder of its own on a server of SFTP.
pub(crate) async fn sftp(
    kind: Kind,
    prefix: &str,
    sessions: usize,
) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = kind.shared()?;
    let config = sftp_config(&server, server.address(), &server.place());
    let config = sftp::Config { prefix: prefix.to_owned(), sessions, ..config };
    Some((Arc::new(Sftp::open(config).await.unwrap()), server))
}

/// A folder of a server of FTP, of which `address` is the way to it.
pub(crate) fn ftp_config(kind: Kind, server: &Server, address: SocketAddr, place: &str) -> ftp::Config {
    let (security, certificate_authority) = match kind {
        Kind::VsftpdExplicit => (ftp::Security::Explicit, Some(server.authority())),
        Kind::VsftpdImplicit => (ftp::Security::Implicit, Some(server.authority())),
        _ => (ftp::Security::Plain, None),
    };
    let (host, password) = (address.ip().to_string(), Secret::new(PASSWORD));
    ftp::Config {
        path: place.to_owned(),
        wire: WireOptions { certificate_authority, ..loopback() },
        ..ftp::Config::new(host, address.port(), security, kind.user(), password)
    }
}

/// A folder of its own on a server of FTP.
pub(crate) async fn ftp(kind: Kind, prefix: &str, budget: Budget) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = kind.shared()?;
    let config = ftp_config(kind, &server, server.address(), &server.place());
    let config = ftp::Config { prefix: prefix.to_owned(), budget, ..config };
    Some((Arc::new(Ftp::open(config).await.unwrap()), server))
}

/// The driver, with all wrappers if it is to be so.
pub(crate) fn wrapped_if(is_wrapped: bool, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
    if is_wrapped { wrap::all(driver, &wrap::Options::default()) } else { driver }
}
