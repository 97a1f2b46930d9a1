//! TLS of the listener, and what the command says when it does not come about.

use super::authority::{Authority, Signed, clients, connect, settings};
use coffer_tests::{Cofferd, Token, cofferd::command, grpc::at};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, pki_types::ServerName, version,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long a change of files may take to be seen.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A bare handshake.
async fn shake_hands(
    cofferd: &Cofferd,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The certificate a new connection is shown.
async fn shown(cofferd: &Cofferd, authority: &Authority) -> Vec<u8> {
    let stream = shake_hands(cofferd, authority, &version::TLS13, &["h2"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn hang_up(cofferd: &Cofferd) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(cofferd.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < TIMEOUT, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_http2_is_spoken_under_tls_1_2_and_1_3_and_nothing_without() {
    let authority = Authority::new("the clinic");
    let server = authority.sign("server", |_| {});
    let cofferd = Cofferd::start_with(&settings(&server)).await;
    for version in [&version::TLS12, &version::TLS13] {
        let stream = shake_hands(&cofferd, &authority, version, &["http/1.1", "h2"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert!(shake_hands(&cofferd, &authority, version, &["http/1.1"]).await.is_err());
    }
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let ann = clients(&cofferd, &authority.ca(), None, Some(&token)).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    assert_eq!(file.organisation_id, "clinic");
    assert!(
        connect(&cofferd, &Authority::new("another").ca(), None).await.is_err(),
        "nobody else is the service"
    );
    let plain = cofferd.channel().await;
    let refused = coffer_tests::grpc::Clients::over(plain, Some(&token)).upload(at("b.txt"), b"abc").await;
    assert!(refused.is_err(), "nothing is said in clear");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_connections_go_on_and_bad_ones_change_nothing() {
    let authority = Authority::new("the clinic");
    let server = authority.sign("server", |_| {});
    let cofferd = Cofferd::start_with(&settings(&server)).await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let before = clients(&cofferd, &authority.ca(), None, Some(&token)).await;
    before.upload(at("a.txt"), b"abc").await.unwrap();
    assert_eq!(shown(&cofferd, &authority).await, server.der);

    // Of a pair one half is new.
    let other = authority.sign("other", |_| {});
    std::fs::copy(&other.certificate, &server.certificate).unwrap();
    hang_up(&cofferd);
    let told = "the new certificates cannot be used, and the ones before still are";
    until("the refusal", async || cofferd.log().contains(told)).await;
    assert_eq!(shown(&cofferd, &authority).await, server.der);
    std::fs::write(&server.certificate, "no certificate").unwrap();
    hang_up(&cofferd);
    until("another refusal", async || cofferd.log().matches(told).count() == 2).await;
    assert_eq!(shown(&cofferd, &authority).await, server.der);

    std::fs::copy(&other.certificate, &server.certificate).unwrap();
    std::fs::copy(&other.key, &server.key).unwrap();
    hang_up(&cofferd);
    until("the new certificate", async || shown(&cofferd, &authority).await == other.der).await;
    before.upload(at("b.txt"), b"abc").await.unwrap();
    let after = clients(&cofferd, &authority.ca(), None, Some(&token)).await;
    after.upload(at("c.txt"), b"abc").await.unwrap();

    // Without a signal it takes a little longer.
    let third = authority.sign("third", |_| {});
    std::fs::copy(&third.certificate, &server.certificate).unwrap();
    std::fs::copy(&third.key, &server.key).unwrap();
    until("the third certificate", async || shown(&cofferd, &authority).await == third.der).await;
    before.upload(at("d.txt"), b"abc").await.unwrap();
}

/// `coffer ls` at an address with these arguments: its exit code, and what it says.
fn ls(addr: &str, token: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command("coffer");
    command.args(["--addr", addr, "--retry", "0"]).args(arguments).arg("ls").env("COFFER_TOKEN", token);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_is_wrong_with_a_connection() {
    let (authority, stranger) = (Authority::new("the clinic"), Authority::new("a stranger"));
    let server = authority.sign("server", |_| {});
    let own = authority.sign_uri("own", "spiffe://clinic/desk");
    let elsewhere = stranger.sign_uri("own", "spiffe://clinic/desk");
    let file = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let ca = file(&authority.ca());
    let mut set = settings(&server);
    set.extend([("grpc.tls.client_ca", ca.as_str()), ("grpc.tls.client_auth", "required")]);
    let cofferd = Cofferd::start_with(&set).await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let (tls, plain) =
        (format!("https://{}", cofferd.grpc_addr()), format!("http://{}", cofferd.grpc_addr()));
    let shows = |signed: &Signed| [file(&signed.certificate), file(&signed.key)];
    let ([certificate, key], [foreign, foreign_key]) = (shows(&own), shows(&elsewhere));
    let (strange_ca, http) = (file(&stranger.ca()), format!("https://{}", cofferd.http_addr()));
    let trusted = ["--ca", ca.as_str(), "--cert", certificate.as_str(), "--key", key.as_str()];
    assert_eq!(ls(&tls, &token, &trusted), (Some(0), String::new()));
    assert_eq!(ls(cofferd.grpc_addr(), &token, &trusted).0, Some(0), "https, for it names a CA");
    let cases: [(&str, &[&str], i32, &str); 8] = [
        (&tls, &trusted[..2], 7, "the service asks for a client certificate"),
        (
            &tls,
            &["--ca", ca.as_str(), "--cert", foreign.as_str(), "--key", foreign_key.as_str()],
            7,
            "the service refuses the client certificate",
        ),
        (&tls, &["--ca", strange_ca.as_str()], 7, "is signed by nobody who is trusted here"),
        (&tls, &trusted[..4], 2, "key: goes with a certificate"),
        (&tls, &["--ca", key.as_str()], 2, "holds no certificate in PEM form"),
        (
            &tls,
            &["--ca", ca.as_str(), "--cert", certificate.as_str(), "--key", foreign_key.as_str()],
            2,
            "tls: cannot be used",
        ),
        (&plain, &trusted[..2], 2, "certificates go with https://"),
        (&http, &trusted[..2], 7, "does not speak TLS"),
    ];
    for (addr, arguments, code, words) in cases {
        // Under TLS 1.3 the service's refusal of a certificate may find the command between two steps: then it knows only of a connection
        // that was closed.
        let mut tries = (0..50).map(|_| ls(addr, &token, arguments));
        let (exit, said) = tries.find(|(_, said)| !said.ends_with("connection closed\n")).unwrap();
        assert!(said.contains(words) && exit == Some(code), "{arguments:?}: {exit:?} {said}");
    }
    let (exit, said) = ls(&plain, &token, &[]);
    assert_eq!(exit, Some(7), "{said}");
}
