//! TLS of the gRPC listener: certificates from files that may change, and clients that may show certificates of their own.
//!
//! A handshake uses the files as they were when they were last good. Connections that are open stay as they are.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use coffer_api::auth::ClientCertificate;
use ring::digest;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::traffic::discard;
use crate::config::{self, ClientAuth};

/// What is spoken inside.
const HTTP_2: &[u8] = b"h2";

/// So long may a client take to hear why there is no connection.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Most bytes of a file.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Makes connections of TLS. Cheap to clone; clones follow the files together.
#[derive(Clone)]
pub(super) struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    serving: RwLock<Serving>,
}

/// Which files.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_auth: ClientAuth,
    client_crl: Option<PathBuf>,
}

/// What handshakes use, and what the files held when they were last looked at.
struct Serving {
    config: Arc<ServerConfig>,
    seen: digest::Digest,
}

/// What the files hold.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

impl Tls {
    /// TLS as it is set. `None`: without a certificate there is none.
    pub(super) fn load(settings: &config::Tls) -> anyhow::Result<Option<Self>> {
        let config::Tls { certificate, key, client_ca, client_auth, client_crl } = settings.clone();
        let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
        let files = Files { certificate, key, client_ca, client_auth, client_crl };
        let contents = files.read()?;
        let config = files.config(&contents)?;
        let serving = RwLock::new(Serving { config: Arc::new(config), seen: contents.digest() });
        Ok(Some(Self(Arc::new(Shared { files, serving }))))
    }

    /// Looks whether the files have changed. `true`: they have, and new handshakes use them.
    ///
    /// # Errors
    ///
    /// They have changed, but cannot be used; what was used before still is. Told once per change.
    pub(super) fn reload(&self) -> anyhow::Result<bool> {
        let Shared { files, serving } = &*self.0;
        let contents = files.read()?;
        let seen = contents.digest();
        let old = serving.read().unwrap_or_else(PoisonError::into_inner).seen;
        if seen.as_ref() == old.as_ref() {
            return Ok(false);
        }
        let config = files.config(&contents);
        let mut serving = serving.write().unwrap_or_else(PoisonError::into_inner);
        serving.seen = seen;
        serving.config = Arc::new(config?);
        Ok(true)
    }

    /// A handshake, and the client's certificate if it has shown one. How long it may take is the caller's to say.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<Arc<ClientCertificate>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.serving.read().unwrap_or_else(PoisonError::into_inner).config);
        let stream = match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // A client of TLS 1.3 is already talking: it has to hear the alert, not that its connection is gone.
                let heard = async {
                    stream.shutdown().await?;
                    discard(&mut stream).await;
                    io::Result::Ok(())
                };
                let _ = timeout(LAST_WORDS, heard).await;
                return Err(error);
            }
        };
        let certificate = match stream.get_ref().1.peer_certificates() {
            Some([certificate, ..]) => {
                Some(ClientCertificate::from_der(certificate).map_err(io::Error::other)?)
            }
            _ => None,
        };
        Ok((stream, certificate.map(Arc::new)))
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<Contents> {
        let read = |key: &str, path: &PathBuf| {
            let context = || format!("{key} {}", path.display());
            let size = fs::metadata(path).with_context(context)?.len();
            ensure!(size <= MAX_FILE_BYTES, "{} has more than {MAX_FILE_BYTES} bytes", context());
            fs::read(path).with_context(context)
        };
        Ok(Contents {
            certificate: read("grpc.tls.certificate", &self.certificate)?,
            key: read("grpc.tls.key", &self.key)?,
            client_ca: self.client_ca.as_ref().map(|path| read("grpc.tls.client_ca", path)).transpose()?,
            client_crl: self.client_crl.as_ref().map(|path| read("grpc.tls.client_crl", path)).transpose()?,
        })
    }

    fn config(&self, contents: &Contents) -> anyhow::Result<ServerConfig> {
        let chain = certificates(&contents.certificate).context("grpc.tls.certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).context("grpc.tls.key")?;
        let provider = Arc::new(provider::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3");
        let builder = match &contents.client_ca {
            Some(roots) => builder.with_client_cert_verifier(self.verifier(
                roots,
                contents.client_crl.as_deref(),
                provider,
            )?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .context("grpc.tls.certificate and grpc.tls.key do not go together")?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        roots_pem: &[u8],
        lists_pem: Option<&[u8]>,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(roots_pem).context("grpc.tls.client_ca")? {
            roots.add(certificate).context("grpc.tls.client_ca")?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(pem) = lists_pem {
            let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .context("grpc.tls.client_crl")?;
            ensure!(!lists.is_empty(), "grpc.tls.client_crl holds no revocation list");
            builder = builder.with_crls(lists);
        }
        if self.client_auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().context("grpc.tls.client_ca and grpc.tls.client_crl")
    }
}

impl Contents {
    fn digest(&self) -> digest::Digest {
        let Self { certificate, key, client_ca, client_crl } = self;
        let mut context = digest::Context::new(&digest::SHA256);
        for file in [Some(certificate), Some(key), client_ca.as_ref(), client_crl.as_ref()] {
            let bytes = file.map_or(&[][..], Vec::as_slice);
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        }
        context.finish()
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    ensure!(!chain.is_empty(), "it holds no certificate");
    Ok(chain)
}
