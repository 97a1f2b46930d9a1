//! What can go wrong, sorted by what the caller can do about it.

mod refusal;

pub use refusal::{FieldViolation, QuotaViolation, Refusal};

use std::{io, path::PathBuf, time::Duration};
use tonic::Status;

/// The result of this library's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The text of each is a complete sentence for a person, its cause included.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service said no. [`Refusal::code`] and [`Refusal::reason`] say what to do.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Nobody answers at the address. Check it, or try again.
    #[error("cannot connect to {addr} ({attempts} attempts): {reason}")]
    Connect {
        /// The address as given.
        addr: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt met.
        reason: String,
    },
    /// One side does not trust the other's certificate, or does not speak TLS. Correct the address or [`Options::tls`](crate::Options::tls).
    #[error("no TLS connection to the service: {0}")]
    Tls(String),
    /// The connection broke during a call. Whether the service did what was asked is unknown.
    #[error("the connection to the service was lost: {0}")]
    Lost(String),
    /// Nothing came or went for too long. Whether the service did what was asked is unknown.
    #[error("gave up after waiting {} s for {what}", after.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// An upload failed, and the service keeps what it has until the upload expires. Go on with
    /// [`resume_file`](crate::Client::resume_file), or end it with [`cancel_upload`](crate::Client::cancel_upload).
    #[error("{error}; upload {upload_id} has {persisted_bytes} bytes and can be resumed")]
    Unfinished {
        /// The upload.
        upload_id: String,
        /// What the service had stored of it when it last said so; it may be more.
        persisted_bytes: u64,
        /// Why it failed; never another of this variant.
        error: Box<Error>,
    },
    /// The version that was being read is gone: the file was replaced where earlier versions are not kept, or removed. Read it
    /// again from the beginning.
    #[error(
        "version {version} of the file is gone after {received_bytes} bytes of it: it was replaced or removed meanwhile"
    )]
    VersionGone {
        /// The version.
        version: i32,
        /// What had been received.
        received_bytes: u64,
    },
    /// An option cannot be used. Correct it.
    #[error("{name}: {problem}")]
    InvalidOption {
        /// The field of [`Options`](crate::Options).
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file or stream on this side failed.
    #[error("{what}: {error}")]
    Io {
        /// What was done to what, for example `cannot read photo.jpg`.
        what: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The file that was being uploaded changed its size meanwhile. Nothing is stored; send it again.
    #[error("the file changed while it was sent: it had {declared_bytes} bytes and now has {now}", now = if *.grew { "more" } else { "fewer" })]
    SourceChanged {
        /// Size when the upload began.
        declared_bytes: u64,
        /// It has become larger, not smaller.
        grew: bool,
    },
    /// A download would replace a file and may not. Remove it, or name another destination.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Another download is writing to the same destination. Wait for it, or name another destination.
    #[error("{} is being written by another download", .0.display())]
    Busy(PathBuf),
    /// The destination of a download cannot be one. Name another.
    #[error("{0}")]
    Destination(String),
    /// What arrived is not what the service holds or was sent. Try again; if it stays so, tell the operator.
    #[error("{0}")]
    Corrupted(Corruption),
    /// The service, or something between, broke the contract. Nothing the caller can do.
    #[error("unexpected answer of the service: {0}")]
    Protocol(String),
}

/// How bytes and their description disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A message does not have the CRC-32C it came with.
    #[error("the bytes at offset {offset} do not match their CRC-32C")]
    Crc32c {
        /// Where in the content the message begins.
        offset: u64,
    },
    /// A message does not begin where the one before ended.
    #[error("the bytes at offset {expected} are missing: the next ones are for offset {found}")]
    Gap {
        /// Where it should have begun.
        expected: u64,
        /// Where it said it begins.
        found: i64,
    },
    /// The stream ended well, but too early.
    #[error("{received_bytes} of {expected_bytes} bytes arrived")]
    Short {
        /// How much was announced.
        expected_bytes: u64,
        /// How much came.
        received_bytes: u64,
    },
    /// More came than was announced.
    #[error("more than the {expected_bytes} bytes announced arrived")]
    Long {
        /// How much was announced.
        expected_bytes: u64,
    },
    /// The whole content has another checksum.
    #[error("the content does not match its SHA-256: it is {found}, not {expected}")]
    Sha256 {
        /// As the sender says; 64 lowercase hexadecimal digits.
        expected: String,
        /// As received.
        found: String,
    },
}

impl Error {
    /// For `map_err`: what was done when the operating system failed.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// The refusal by the service, also where it left an upload unfinished.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unfinished { error, .. } => error.refusal(),
            _ => None,
        }
    }
}

/// Tells the service's own words from what the transport makes up when the connection fails.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut cause = std::error::Error::source(&status);
        if cause.is_none() {
            return Self::Refused(Box::new(Refusal::from_status(&status)));
        }
        if let Some(problem) = cause.and_then(crate::tls::problem) {
            return Self::Tls(problem);
        }
        let mut words = vec![status.message().to_owned()];
        while let Some(error) = cause {
            // Layers of the transport often repeat each other.
            let text = error.to_string();
            if !words.iter().any(|said| said.contains(&text)) {
                words.push(text);
            }
            cause = error.source();
        }
        words.retain(|text| !text.is_empty());
        Self::Lost(words.join(": "))
    }
}
