//! How operations on backends fail.

use std::{fmt, sync::Arc};

/// A failed operation on a backend: what kind it is decides what follows.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {kind}")]
pub struct Error {
    /// What it means.
    pub kind: ErrorKind,
    /// The operation: `read`, `write`, …
    pub operation: &'static str,
    /// The key, for the log.
    pub key: Option<String>,
    /// The backend's own words, for the log only.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What a backend's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No object at the key.
    NotFound,
    /// An object is at the key already.
    AlreadyExists,
    /// No space left.
    Full,
    /// The backend refuses our rights.
    Denied,
    /// No answer in time.
    Timeout,
    /// The backend cannot be reached or says that it is busy.
    Unavailable,
    /// This node does not see the volume's disk: its marker is missing or names another volume.
    NotOnThisNode,
    /// The backend cannot do this.
    Unsupported,
    /// The backend's answer is of no use: it cannot be understood, is longer than it may be, is of something else, or names another server.
    BadAnswer,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// The same operation may succeed if tried again.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no object at the key",
            Self::AlreadyExists => "an object is at the key",
            Self::Full => "no space left",
            Self::Denied => "access denied",
            Self::Timeout => "no answer in time",
            Self::Unavailable => "backend unavailable",
            Self::NotOnThisNode => "volume marker missing or foreign",
            Self::Unsupported => "unsupported",
            Self::BadAnswer => "an answer of no use",
            Self::Other => "unexpected failure",
        })
    }
}
