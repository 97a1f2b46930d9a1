//! TLS to the service: whom to trust, who one is, and what a failed handshake means.

use crate::{Error, Result};
use rustls::{AlertDescription, CertificateError};
use std::{
    error::Error as StdError,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How each certificate begins in a PEM file.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What TLS needs beside what the system has; for `https://` only. The files are read when a connection is made for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the certificates that sign the service's; the system's then count no more.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's own certificate, with the intermediate ones behind it, if it is to show one.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Whether anything is set.
    pub(crate) fn is_set(&self) -> bool {
        self != &Self::default()
    }

    /// For the service at `host`, which is a name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn config(&self, host: &str, handshake: Duration) -> Result<ClientTlsConfig> {
        let Self { ca, certificate, key } = self;
        let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let config = ClientTlsConfig::new().domain_name(name).timeout(handshake);
        let config = match ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(certificates("ca", path)?)),
            None => config.with_native_roots(),
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let certificate = certificates("certificate", certificate)?;
                Ok(config.identity(Identity::from_pem(certificate, read(key)?)))
            }
            (None, None) => Ok(config),
            (Some(_), None) => Err(invalid("key", "goes with a certificate")),
            (None, Some(_)) => Err(invalid("certificate", "goes with a key")),
        }
    }
}

fn invalid(name: &'static str, problem: impl Into<String>) -> Error {
    Error::InvalidOption { name, problem: problem.into() }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("cannot read {}", path.display())))
}

fn certificates(name: &'static str, path: &Path) -> Result<String> {
    let pem = read(path)?;
    if pem.contains(CERTIFICATE) {
        Ok(pem)
    } else {
        Err(invalid(name, format!("{} holds no certificate in PEM form", path.display())))
    }
}

/// What is wrong, if an error comes from TLS.
pub(crate) fn problem(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error hides what it is made of from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = error.downcast_ref().or(inner) {
            return Some(words(tls));
        }
        // Under TLS 1.3 a refusal comes after the handshake, and HTTP/2 keeps no more than the words of what broke its connection.
        let text = error.to_string();
        let alert =
            |alert: &&AlertDescription| text.ends_with(&rustls::Error::AlertReceived(**alert).to_string());
        if let Some(alert) = ABOUT_CERTIFICATE.iter().find(alert) {
            return Some(words(&rustls::Error::AlertReceived(*alert)));
        }
        next = error.source();
    }
    None
}

fn words(tls: &rustls::Error) -> String {
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the service's certificate is signed by nobody who is trusted here".to_owned()
        }
        rustls::Error::InvalidCertificate(problem) => format!("the service's certificate: {problem}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the service asks for a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) if ABOUT_CERTIFICATE.contains(alert) => {
            format!("the service refuses the client certificate: {alert:?}")
        }
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}

/// What a service says of a client's certificate that it does not take.
const ABOUT_CERTIFICATE: &[AlertDescription] = &[
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];
