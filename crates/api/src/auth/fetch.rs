//! One GET of a key set, from a place that is trusted no further than that.
//!
//! No redirect is followed, no proxy of the environment is used, nothing but the body is believed. Only addresses that the policy allows
//! are dialled, and the time and the size of an answer are limited.

use super::Error;
use bytes::Bytes;
use coffer_domain::egress::{self, Policy};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How long a fetch may take, all in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one address may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of a key set.
const MAX_BYTES: usize = 1024 * 1024;

/// Where to fetch from.
pub(super) struct Source {
    uri: Uri,
    host: String,
    port: u16,
    /// `None`: plain HTTP, to this machine alone.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    policy: Policy,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Refused(#[from] egress::Refused),
    #[error("plain http is for loopback only")]
    NotLoopback,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it answers {0}, and redirects are not followed")]
    Redirect(StatusCode),
    #[error("the answer has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

impl Source {
    /// A place by its URL: `https://…`, or `http://…` on this machine. `roots` is a PEM file of certificates to trust beside the system's.
    pub(super) fn new(url: &str, roots: Option<&Path>, policy: Policy) -> Result<Self, Error> {
        let unusable =
            |problem: &dyn ToString| Error::Url { url: url.to_owned(), problem: problem.to_string() };
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| unusable(&e))?;
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unusable(&"names no host"))?.to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(unusable(&"must hold no password"));
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unusable(&"must be https://, or http:// on loopback")),
        };
        let tls = if is_tls {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
            let name =
                ServerName::try_from(bare.to_owned()).map_err(|e: InvalidDnsNameError| unusable(&e))?;
            Some((TlsConnector::from(Arc::new(client_config(roots)?)), name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { uri, host, port, tls, policy })
    }

    /// The body of its answer.
    pub(super) async fn get(&self) -> Result<Bytes, Problem> {
        timeout(TIMEOUT, Box::pin(self.get_in_time())).await.unwrap_or(Err(Problem::Timeout))
    }

    async fn get_in_time(&self) -> Result<Bytes, Problem> {
        let stream = self.connect().await?;
        match &self.tls {
            Some((tls, name)) => {
                self.ask(tls.connect(name.clone(), stream).await.map_err(Problem::Tls)?).await
            }
            None => self.ask(stream).await,
        }
    }

    async fn connect(&self) -> Result<TcpStream, Problem> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.policy.resolve(&self.host, self.port).await? {
            if self.tls.is_none() && !address.ip().to_canonical().is_loopback() {
                return Err(Problem::NotLoopback);
            }
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Problem::Connect(last))
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Bytes, Problem> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its failure is the request's as well.
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .header(header::USER_AGENT, concat!("cofferd/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .expect("a URI's parts are a request's");
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(Problem::Redirect(status)),
            status => return Err(Problem::Status(status)),
        }
        match Limited::new(answer.into_body(), MAX_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge),
            Err(error) => Err(Problem::Body(error)),
        }
    }
}

fn client_config(roots_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = roots_file {
        add(&mut roots, path).map_err(|problem| Error::Roots { path: PathBuf::from(path), problem })?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut count = 0_usize;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        count += 1;
    }
    if count == 0 { Err("it holds no certificate".to_owned()) } else { Ok(()) }
}
