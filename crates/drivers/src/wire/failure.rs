//! How talking to a server fails.

use coffer_domain::{
    driver::ErrorKind,
    egress::{Forbidden, Refused},
};
use http::StatusCode;
use hyper_util::client::legacy;
use std::{error::Error, io};

/// Why there is no answer, or no whole one.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Forbidden(#[source] Forbidden),
    #[error("{0}")]
    Unresolved(String),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("not trusted: {0}")]
    Untrusted(String),
    #[error("{0} did not come in time")]
    Silent(&'static str),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("it answers {0} and names {host}; redirects are not followed", host = host(.1))]
    Redirect(StatusCode, String),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("the answer cannot be understood: {0}")]
    Malformed(String),
    #[error("{0}")]
    Config(String),
}

impl Failure {
    /// What it means to a caller.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            // Settings that only a person changes: an address that may not be dialled, a certificate that is not trusted.
            Self::Forbidden(_) | Self::Untrusted(_) | Self::Config(_) => ErrorKind::Denied,
            Self::Unresolved(_) | Self::Connect(_) | Self::Tls(_) | Self::Broken(_) => ErrorKind::Unavailable,
            Self::Silent(_) => ErrorKind::Timeout,
            Self::Redirect(..) | Self::TooLarge(_) | Self::Malformed(_) => ErrorKind::BadAnswer,
        }
    }

    /// What went wrong before there was an answer: our own word where the connector had one, else the client's.
    pub(super) fn from_client(error: legacy::Error) -> Self {
        match error.source().and_then(|source| source.downcast_ref::<Self>()) {
            Some(failure) => failure.clone(),
            None if error.is_connect() => Self::Connect(chain(&error)),
            None => Self::Broken(chain(&error)),
        }
    }

    pub(super) fn broken(error: &hyper::Error) -> Self {
        Self::Broken(chain(error))
    }

    /// A handshake that failed: certificates that are wrong stay wrong, everything else may pass.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let certificate =
            error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|inner| {
                matches!(inner, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
            });
        if certificate { Self::Untrusted(error.to_string()) } else { Self::Tls(error.to_string()) }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown { .. } => Self::Unresolved(refused.to_string()),
            Refused::Forbidden(forbidden) => Self::Forbidden(forbidden),
        }
    }
}

/// The host of a location: the rest may hold a secret.
fn host(location: &str) -> String {
    let uri: Option<http::Uri> = location.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| "itself".to_owned())
}

/// An error with its causes: the outermost alone says "client error".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
