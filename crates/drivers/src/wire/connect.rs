//! Connections: only to checked addresses, and with TLS where the URL says so.

use super::Failure;
use coffer_domain::egress::{self, Policy};
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Finds addresses of a host. Outside of tests it is the system's resolver.
type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Connects to hosts, at addresses that the policy allows.
#[derive(Clone)]
pub(crate) struct Dialler {
    lookup: Arc<Lookup>,
    policy: Arc<Policy>,
    limit: Duration,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Connects to hosts of URLs.
#[derive(Clone)]
pub(super) struct Connector {
    dialler: Dialler,
    tls: TlsConnector,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("dialler", &self.dialler).finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(policy: Policy, roots: Option<&Path>, limit: Duration) -> Result<Self, Failure> {
        let tls = TlsConnector::from(Arc::new(client_config(roots)?));
        Ok(Self { dialler: Dialler::new(policy, limit), tls })
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Failure> {
        let host = uri.host().ok_or_else(|| Failure::Config("the URL names no host".to_owned()))?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.dialler.dial(host, port).await?;
        if !is_tls {
            return Ok(Stream::Plain(stream));
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| Failure::Config(e.to_string()))?;
        match timeout(self.dialler.limit, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(Failure::of_handshake(&error)),
            Err(_elapsed) => Err(Failure::Silent("a TLS handshake")),
        }
    }
}

impl Dialler {
    pub(crate) fn new(policy: Policy, limit: Duration) -> Self {
        let lookup = |host: String, port| -> BoxFuture<'static, _> {
            Box::pin(async move { egress::lookup(&host, port).await })
        };
        Self { lookup: Arc::new(lookup), policy: Arc::new(policy), limit }
    }

    /// The addresses of a host that may be dialled: what was checked, and not what the name says a moment later.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found = timeout(self.limit, (self.lookup)(host.to_owned(), port))
            .await
            .map_err(|_elapsed| Failure::Silent("an address"))?;
        Ok(self.policy.choose(host, found)?)
    }

    /// A connection to a host. Its name is looked up once for each.
    pub(crate) async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let mut last = Failure::Connect(format!("{host} has no address"));
        for address in self.addresses(host, port).await? {
            match dial(address, self.limit).await {
                Ok(stream) => return Ok(stream),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

/// A connection to an address that was checked.
pub(crate) async fn dial(address: SocketAddr, limit: Duration) -> Result<TcpStream, Failure> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Small requests are not held back. It fails only on a connection that is gone, which shows at once.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(Failure::Connect(format!("{address}: {error}"))),
        Err(_elapsed) => Err(Failure::Connect(format!("{address} does not accept in time"))),
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map(TokioIo::new) })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Trusts the system's certificates, and those of this file.
pub(crate) fn client_config(roots_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = roots_file {
        add(&mut roots, path)
            .map_err(|problem| Failure::Config(format!("certificates in {}: {problem}", path.display())))?;
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
    if count == 0 { Err("there is none".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
