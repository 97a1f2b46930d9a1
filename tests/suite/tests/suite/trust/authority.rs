//! A CA, and certificates in files.

use coffer_tests::{Cofferd, grpc::Clients};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A CA with a directory for what it makes.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key, in files and as text.
#[derive(Clone)]
pub(super) struct Signed {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub der: Vec<u8>,
    serial: u64,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let me = Self { issuer, directory: tempfile::tempdir().unwrap() };
        me.write("ca.pem", &me.issuer.pem());
        me
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// A certificate for this machine, or, where `change` says so, for somebody else, in files of this name.
    pub(super) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            certificate: self.write(&format!("{name}.pem"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            der: certificate.der().to_vec(),
            serial,
        }
    }

    /// A certificate for the holder of a URI.
    pub(super) fn sign_uri(&self, name: &str, uri: &str) -> Signed {
        self.sign(name, |params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())])
    }

    /// A revocation list with these.
    pub(super) fn revoke(&self, revoked: &[&Signed]) -> PathBuf {
        let revoked = revoked.iter().map(|signed| RevokedCertParams {
            serial_number: SerialNumber::from(signed.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("revocations.pem", &params.signed_by(&self.issuer).unwrap().pem().unwrap())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The settings of a service with this certificate.
pub(super) fn settings(server: &Signed) -> Vec<(&'static str, &str)> {
    vec![("grpc.tls.certificate", text(&server.certificate)), ("grpc.tls.key", text(&server.key))]
}

/// A connection to the service that trusts `ca`, and shows a certificate if there is one.
pub(super) async fn connect(
    cofferd: &Cofferd,
    ca: &Path,
    own: Option<&Signed>,
) -> Result<Channel, tonic::transport::Error> {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let mut tls =
        ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(read(ca)));
    if let Some(own) = own {
        tls = tls.identity(Identity::from_pem(read(&own.certificate), read(&own.key)));
    }
    let addr = format!("https://{}", cofferd.grpc_addr());
    Endpoint::from_shared(addr).unwrap().tls_config(tls).unwrap().connect().await
}

/// Clients on such a connection.
pub(super) async fn clients(
    cofferd: &Cofferd,
    ca: &Path,
    own: Option<&Signed>,
    token: Option<&str>,
) -> Clients {
    Clients::over(connect(cofferd, ca, own).await.unwrap(), token)
}
