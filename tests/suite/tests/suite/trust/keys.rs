//! An issuer's keys under a URL, from a real server over TLS.

use super::authority::Authority;
use bytes::Bytes;
use coffer_proto::v1;
use coffer_tests::{Cofferd, grpc::refusal};
use data_encoding::BASE64URL_NOPAD as BASE64;
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::{
    ServerConfig,
    crypto::ring as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const ISSUER: &str = "https://login.example";

struct Key(Ed25519KeyPair);

impl Key {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn set(&self) -> String {
        let x = BASE64.encode(self.0.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": x}]})
            .to_string()
    }

    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let encode = |part: serde_json::Value| BASE64.encode(part.to_string().as_bytes());
        let claims = json!({"iss": ISSUER, "aud": "coffer", "sub": "ann", "org": "clinic", "exp": now + 600});
        let signed = format!("{}.{}", encode(json!({"alg": "EdDSA", "kid": "k1"})), encode(claims));
        format!("{signed}.{}", BASE64.encode(self.0.sign(signed.as_bytes()).as_ref()))
    }
}

/// Publishes a set under TLS from now on.
async fn publish(addr: SocketAddr, authority: &Authority, set: String) {
    let own = authority.sign("idp", |_| {});
    let chain =
        CertificateDer::pem_file_iter(&own.certificate).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&own.key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let set = Bytes::from(set.clone());
            let service = service_fn(move |_| {
                let answer = Response::new(Full::new(set.clone()));
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

/// An address of this machine where nobody listens.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn list(cofferd: &Cofferd, token: &str) -> Result<(), Status> {
    let clients = cofferd.clients_with(Some(token)).await;
    clients.files.clone().list_files(v1::ListFilesRequest::default()).await.map(|_| ())
}

fn settings<'a>(url: &'a str, roots: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("auth.issuer", ISSUER),
        ("auth.audience", "coffer"),
        ("auth.jwks_url", url),
        ("auth.jwks_root_certificates", roots),
        ("egress.allow", "127.0.0.0/8"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_as_soon_as_the_issuer_is_there() {
    let (authority, key) = (Authority::new("the issuer"), Key::new());
    let addr = free().await;
    let (url, ca) = (format!("https://{addr}/keys"), authority.ca());
    let cofferd = Cofferd::start_with(&settings(&url, ca.to_str().unwrap())).await;
    let early = list(&cofferd, &key.token()).await.unwrap_err();
    assert_eq!(refusal(&early), (Code::Unavailable, "ISSUER_KEYS_UNAVAILABLE".to_owned()));
    assert!(early.get_details_retry_info().is_some());
    assert!(cofferd.log().contains("no token of it can be verified"), "{}", cofferd.log());
    publish(addr, &authority, key.set()).await;
    let since = Instant::now();
    while let Err(status) = list(&cofferd, &key.token()).await {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(since.elapsed() < Duration::from_secs(30), "{}", cofferd.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let forged = list(&cofferd, &Key::new().token()).await.unwrap_err();
    assert_eq!(refusal(&forged), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_not_to_be_connected_to_or_not_to_be_trusted_is_not_believed() {
    let (authority, key) = (Authority::new("the issuer"), Key::new());
    let addr = free().await;
    publish(addr, &authority, key.set()).await;
    let (url, ca) = (format!("https://{addr}/keys"), authority.ca());
    for (change, words) in [
        (("egress.allow", ""), "which may not be connected to"),
        (("auth.jwks_root_certificates", ""), "UnknownIssuer"),
    ] {
        let mut set = settings(&url, ca.to_str().unwrap());
        set.retain(|(name, _)| *name != change.0);
        set.push(change);
        let cofferd = Cofferd::start_with(&set).await;
        let status = list(&cofferd, &key.token()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{words}");
        assert!(cofferd.log().contains(words), "{words}: {}", cofferd.log());
    }
}
