//! TLS: asked for, verified, and never silently left out.
//!
//! The peer is a listener that speaks PostgreSQL's first messages and real TLS, because a private cluster listens
//! on a Unix socket only, where there is none.

use std::fs;
use std::sync::Arc;

use coffer_persistence::Database;
use coffer_persistence::database::{Error, Options};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// PostgreSQL's SSLRequest: its length, and a version number that no version has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Protocol 3.0, the second word of the message that names user and database.
const STARTUP: [u8; 4] = [0, 3, 0, 0];

/// What a client sent after the handshake, if it got that far: the protocol version of its first message.
type Heard = JoinHandle<Option<[u8; 4]>>;

struct Server {
    port: u16,
    heard: Heard,
    folder: TempDir,
}

impl Server {
    /// One that has TLS with a certificate for `localhost` of its own making, in `root.pem`.
    async fn with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("root.pem"), made.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen(folder, async move |mut client| {
            client.write_all(b"S").await.unwrap();
            let mut client = acceptor.accept(client).await.ok()?;
            let mut first = [0; 8];
            client.read_exact(&mut first).await.ok()?;
            first.last_chunk().copied()
        })
        .await
    }

    /// One that has none.
    async fn without_tls() -> Self {
        Self::listen(TempDir::new().unwrap(), async |mut client| {
            client.write_all(b"N").await.unwrap();
            let mut first = [0; 8];
            client.read_exact(&mut first).await.ok()?;
            first.last_chunk().copied()
        })
        .await
    }

    async fn listen<T, F>(folder: TempDir, talk: T) -> Self
    where
        T: FnOnce(TcpStream) -> F + Send + 'static,
        F: Future<Output = Option<[u8; 4]>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            client.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SSL_REQUEST);
            talk(client).await
        });
        Self { port, heard, folder }
    }

    /// Connects, which always ends in an error, because the server never answers the first message.
    async fn call(self, host: &str, mode: &str, trusted: bool) -> (String, Option<[u8; 4]>) {
        let url = format!("postgres://u@{host}:{}/d?hostaddr=127.0.0.1&sslmode={mode}", self.port);
        let root_certificates = trusted.then(|| self.folder.path().join("root.pem"));
        let database = Database::new(&url, Options { root_certificates, ..Options::default() }).unwrap();
        let Err(Error::Unavailable(reason)) = database.get().await.map(drop) else {
            panic!("connected to nothing")
        };
        (reason, self.heard.await.unwrap())
    }
}

#[tokio::test]
async fn required_tls_is_used() {
    for mode in ["require", "verify-full", "prefer"] {
        let (_, heard) = Server::with_tls().await.call("localhost", mode, true).await;
        assert_eq!(heard, Some(STARTUP), "{mode}");
    }
}

#[tokio::test]
async fn required_tls_is_never_left_out() {
    let (reason, heard) = Server::without_tls().await.call("localhost", "require", false).await;
    assert_eq!(heard, None, "something was sent in plain text");
    assert!(reason.contains("TLS"), "{reason}");
}

#[tokio::test]
async fn preferred_tls_may_be_left_out() {
    let (_, heard) = Server::without_tls().await.call("localhost", "prefer", false).await;
    assert_eq!(heard, Some(STARTUP));
}

#[tokio::test]
async fn a_stranger_is_not_trusted() {
    let (reason, heard) = Server::with_tls().await.call("localhost", "require", false).await;
    assert_eq!(heard, None);
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_counts_for_its_name_only() {
    let (reason, heard) = Server::with_tls().await.call("db.example", "require", true).await;
    assert_eq!(heard, None);
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_named() {
    let folder = TempDir::new().unwrap();
    let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
    fs::write(&empty, "no certificate").unwrap();
    for file in [missing, empty] {
        let options = Options { root_certificates: Some(file.clone()), ..Options::default() };
        match Database::new("postgres://u@h/d", options) {
            Err(Error::Certificates { path, .. }) => assert_eq!(path, file),
            other => panic!("{other:?}"),
        }
    }
}
