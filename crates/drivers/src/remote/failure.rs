//! How a request to a remote backend fails.

use super::pause;
use crate::{error::error, wire};
use coffer_domain::{
    driver::{Error, ErrorKind},
    path::Key,
};

/// How often a request is sent whose bytes are here.
const TRIES: u32 = 4;

/// A failed request, which knows neither operation nor key.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// It was refused.
    #[error("status {status} {code}: {message}")]
    Refused {
        /// Of HTTP, or of SFTP.
        status: u16,
        /// The backend's own; empty where it has none.
        code: String,
        /// For a person.
        message: String,
        /// What the driver's table says.
        kind: ErrorKind,
    },
    /// There is no answer, or none that can be understood.
    #[error(transparent)]
    Wire(#[from] wire::Failure),
    /// It was answered, but not by what was asked for.
    #[error("{kind}: {reason}")]
    Wrong {
        /// What it means.
        kind: ErrorKind,
        /// Why.
        reason: &'static str,
    },
}

impl Failure {
    pub(crate) fn wrong(kind: ErrorKind, reason: &'static str) -> Self {
        Self::Wrong { kind, reason }
    }

    pub(crate) fn at(self, operation: &'static str, key: Option<&Key>) -> Error {
        error(self.kind(), operation, key, self)
    }

    /// What it means to a caller.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Wire(failure) => failure.kind(),
            Self::Wrong { kind, .. } | Self::Refused { kind, .. } => *kind,
        }
    }

    /// The backend's own code, if it was refused with one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Wire(_) | Self::Wrong { .. } => "",
        }
    }

    /// The status it was refused with.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Wire(_) | Self::Wrong { .. } => None,
        }
    }

    /// Whether there is no such object.
    pub(crate) fn is_absent(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether a range begins behind the object's end.
    pub(crate) fn is_past_the_end(&self) -> bool {
        self.status() == Some(416)
    }
}

/// Sends what can be sent again until it is taken, with short pauses.
pub(crate) async fn insist<T, F: Future<Output = Result<T, Failure>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(failure) if failure.kind().is_retryable() && failures + 1 < TRIES => failures += 1,
            outcome => return outcome,
        }
        pause(failures).await;
    }
}
