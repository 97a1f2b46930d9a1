//! What can go wrong, told by what the caller can do about it.

use crate::{driver, egress::Forbidden, id::FileId, quota::Exhausted};
use std::fmt;

/// Name of the checksum of a whole content, in [`Error::ChecksumMismatch`].
pub const SHA256: &str = "SHA-256";
/// Name of the checksum of a message.
pub const CRC32C: &str = "CRC-32C";

/// Result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was refused or failed. Each variant becomes one canonical code; texts are for the caller and never hold SQL,
/// hosts, keys or a backend's own words; only an operator is told an address ([`Error::to_operator`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields are malformed: correct the request.
    #[error("invalid request: {}", join(.0))]
    Invalid(Vec<FieldViolation>),
    /// The received bytes do not have the checksum the caller named: send again.
    #[error("the content's {algorithm} is {actual}, not {expected} as declared")]
    ChecksumMismatch {
        /// `SHA-256` or `CRC-32C`.
        algorithm: &'static str,
        /// What the caller named, in hexadecimal.
        expected: String,
        /// What arrived, in hexadecimal.
        actual: String,
    },
    /// A message carries more data than allowed.
    #[error("a message carries {bytes} bytes of data, more than {limit}")]
    MessageTooLarge {
        /// Data bytes of the message.
        bytes: usize,
        /// Most that are allowed.
        limit: usize,
    },
    /// The request id belongs to another request of the last 24 hours.
    #[error("request_id was used for another request")]
    RequestIdReused,
    /// More or fewer bytes than declared.
    #[error("{declared} bytes were declared, {received} {} received", if received > declared { "or more were" } else { "were" })]
    SizeMismatch {
        /// Size the caller declared.
        declared: u64,
        /// Bytes received when it showed.
        received: u64,
    },
    /// A message begins past what was received.
    #[error("the next byte expected is at offset {expected}, the message begins at {offset}")]
    OffsetGap {
        /// First byte not yet received.
        expected: u64,
        /// Where the message begins.
        offset: u64,
    },
    /// The range begins past the end.
    #[error("offset {offset} is past the end of the content, {size} bytes")]
    RangePastEnd {
        /// Where the range begins.
        offset: u64,
        /// Size of the content.
        size: u64,
    },
    /// The caller is not known.
    #[error("{0}")]
    Unauthenticated(Unauthenticated),
    /// It does not exist, or the caller may not know that it does.
    #[error("{0} not found")]
    NotFound(Resource),
    /// The caller may see it, but may not do this.
    #[error("not permitted to {0}")]
    PermissionDenied(&'static str),
    /// The name or place is in use.
    #[error("{0}")]
    AlreadyExists(Taken),
    /// Something else changed it, or works on it: read again and retry.
    #[error("{0}")]
    Conflict(Conflict),
    /// Its state forbids it; retrying does not help.
    #[error("{0}")]
    State(State),
    /// Quotas have no room.
    #[error("quota exceeded: {}", join(.0))]
    QuotaExceeded(Vec<Exhausted>),
    /// Larger than a single file may be.
    #[error("a file here may have at most {limit} bytes")]
    FileTooLarge {
        /// Most bytes of a single file.
        limit: u64,
    },
    /// The backend has no space left.
    #[error("the volume's backend has no space left")]
    VolumeFull,
    /// Too much work: retry later.
    #[error("the service is busy")]
    Overloaded,
    /// The caller has as much in progress as it may: retry when some of it has ended.
    #[error("the caller has {limit} {of} already, and may not have more at once")]
    LimitReached {
        /// What there is too much of.
        of: Limited,
        /// Most that a caller may have.
        limit: usize,
    },
    /// The peer sent or took nothing for too long.
    #[error("the stream made no progress for {seconds} seconds")]
    Stalled {
        /// How long was waited.
        seconds: u64,
    },
    /// The caller's deadline has passed.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The caller went away before the end. Nobody hears it; the audit trail does.
    #[error("the caller left before the end")]
    ClientLeft,
    /// Something the service needs does not answer: retry.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// Stored bytes are missing or wrong.
    #[error("the stored content of {0} is missing or no longer matches its checksum")]
    Corrupted(FileId),
    /// A stored secret cannot be opened.
    #[error("a stored secret, sealed under the key {key:?}, cannot be opened: {why}")]
    SecretUnreadable {
        /// Name of the key it says it was sealed under.
        key: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The volume's backend cannot do this.
    #[error("not supported by the volume's backend: {0}")]
    Unsupported(&'static str),
    /// A fault of the service.
    #[error("internal error while trying to {context}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// The fault, for the log only.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A malformed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field in the request, for example `spec.filename`.
    pub field: String,
    /// What is wrong, as a rule the caller can follow.
    pub problem: String,
}

impl fmt::Display for FieldViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// Why the caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unauthenticated {
    /// There is no token.
    #[error("a bearer token is required")]
    Missing,
    /// The token is not one we trust.
    #[error("the token is not valid")]
    Invalid,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The client's certificate names nobody who is known, or may not present this token.
    #[error("the client certificate names nobody who is known here, or may not present this token")]
    Certificate,
}

/// What one caller may have only so much of at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limited {
    /// Requests and streams in progress.
    #[error("requests in progress")]
    Requests,
    /// Streams that upload.
    #[error("uploads in progress")]
    Uploads,
    /// Uploads that were started and have not ended, whether or not a stream writes them.
    #[error("open uploads")]
    OpenUploads,
}

/// What was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A file, by the name the caller used.
    File(String),
    /// A version of a file.
    Version(u32),
    /// A volume, by the name the caller used.
    Volume(String),
    /// An approved local path.
    LocalPath(String),
    /// A project of the caller's organisation.
    Project(String),
    /// An upload.
    Upload(String),
    /// A user.
    User(String),
    /// A server that volumes stand on.
    Endpoint(String),
    /// What opens an endpoint.
    Credential(String),
    /// A key of the key ring.
    Key(String),
    /// Long work.
    Task(String),
}

impl Resource {
    /// Kind and name, for `google.rpc.ResourceInfo`.
    pub fn kind_and_name(&self) -> (&'static str, String) {
        match self {
            Self::File(name) => ("file", name.clone()),
            Self::Version(number) => ("version", number.to_string()),
            Self::Volume(name) => ("volume", name.clone()),
            Self::LocalPath(name) => ("local path", name.clone()),
            Self::Project(name) => ("project", name.clone()),
            Self::Upload(name) => ("upload", name.clone()),
            Self::User(name) => ("user", name.clone()),
            Self::Endpoint(name) => ("endpoint", name.clone()),
            Self::Credential(name) => ("credential", name.clone()),
            Self::Key(name) => ("key", name.clone()),
            Self::Task(name) => ("task", name.clone()),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.kind_and_name();
        write!(f, "{kind} {name:?}")
    }
}

/// What is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Another live file has the path.
    #[error("another file has this path")]
    Path,
    /// On the backend something else is at the path, or in its way: of another program, or a file where a folder would be.
    #[error("something else is at this path of the volume, or in its way")]
    Place,
    /// Another file of the organisation has the `file_id`.
    #[error("another file has this file_id")]
    FileName,
    /// Another volume has the name.
    #[error("another volume has this name")]
    VolumeName,
    /// The directory is approved already.
    #[error("this path is approved already")]
    LocalPath,
    /// The bucket, URL or place on a server is an endpoint already.
    #[error("this bucket, URL or place on a server is an endpoint already")]
    Endpoint,
    /// The endpoint can have one credential only, and has it.
    #[error("this endpoint has its credential already, which can be updated")]
    Credential,
}

/// What a retry would meet differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The resource changed since its etag was read.
    #[error("the file has changed since this etag was read")]
    Etag,
    /// A request with this id is being worked on.
    #[error("a request with this request_id is being worked on")]
    InFlight,
    /// The service gave the upload up, or it was cancelled.
    #[error("the upload was given up")]
    Fenced,
    /// Another stream writes the upload now.
    #[error("another stream writes this upload now")]
    TakenOver,
    /// Such a task runs already.
    #[error("a task of this kind runs already")]
    TaskRunning,
}

/// Which state forbids it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum State {
    /// Switched off.
    #[error("the volume is not active")]
    VolumeInactive,
    /// It still holds files.
    #[error("the volume still holds files")]
    VolumeNotEmpty,
    /// The change does not go with what the volume holds, or another volume has the place.
    #[error("{0}")]
    VolumeConflict(&'static str),
    /// The policy of addresses refuses the volume's backend: which address and which rule, where the caller is an operator.
    #[error("the service may not connect to the volume's backend{}", told(.0.as_ref()))]
    AddressForbidden(Option<Forbidden>),
    /// The file's status forbids it.
    #[error("the file is {0}")]
    FileStatus(&'static str),
    /// Something stands on it.
    #[error("{0}")]
    InUse(&'static str),
    /// A directory of the host cannot carry a volume.
    #[error("{0}")]
    LocalPath(&'static str),
    /// There is no key to seal secrets under.
    #[error("no secret can be stored, because the service has no keys (secrets.keys_file)")]
    NoKeys,
    /// The upload has ended: how.
    #[error("the upload is {0}")]
    UploadEnded(&'static str),
}

/// What does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// PostgreSQL.
    #[error("the metadata database is not available")]
    Metadata,
    /// A volume's backend.
    #[error("the volume's backend is not available")]
    Backend,
    /// The volume's disk is not on this node.
    #[error("the volume is not on this node")]
    NotOnThisNode,
    /// This node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The issuer of tokens, whose keys are not known or too old.
    #[error("the issuer's keys are not available, so that the token cannot be verified")]
    IssuerKeys,
}

impl Error {
    /// One malformed field.
    pub fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), problem: problem.to_string() }])
    }

    /// A fault of the service, with what was being done.
    pub fn internal(
        context: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { context, source: source.into() }
    }

    /// A driver's failure, told to whoever may know where the backend is: with the address that may not be connected to, and the rule.
    pub fn to_operator(error: driver::Error) -> Self {
        match Forbidden::behind(&error).cloned() {
            Some(forbidden) => Self::State(State::AddressForbidden(Some(forbidden))),
            None => error.into(),
        }
    }

    /// Whether what the caller sent can never become a file: an upload that meets this is over. Everything else ends a stream.
    pub fn refuses_content(&self) -> bool {
        match self {
            Self::SizeMismatch { .. }
            | Self::AlreadyExists(_)
            | Self::NotFound(_)
            | Self::QuotaExceeded(_)
            | Self::FileTooLarge { .. }
            | Self::RequestIdReused
            | Self::Conflict(Conflict::Etag | Conflict::Fenced)
            | Self::State(State::FileStatus(_) | State::UploadEnded(_)) => true,
            Self::ChecksumMismatch { algorithm, .. } => *algorithm == SHA256,
            Self::Invalid(_)
            | Self::MessageTooLarge { .. }
            | Self::OffsetGap { .. }
            | Self::RangePastEnd { .. }
            | Self::Unauthenticated(_)
            | Self::PermissionDenied(_)
            | Self::Conflict(Conflict::InFlight | Conflict::TakenOver | Conflict::TaskRunning)
            | Self::State(_)
            | Self::VolumeFull
            | Self::Overloaded
            | Self::LimitReached { .. }
            | Self::Stalled { .. }
            | Self::DeadlineExceeded
            | Self::ClientLeft
            | Self::Unavailable(_)
            | Self::Corrupted(_)
            | Self::SecretUnreadable { .. }
            | Self::Unsupported(_)
            | Self::Internal { .. } => false,
        }
    }

    /// The name of the reason: that of `ErrorReason` in the contract, without its prefix. Also the audit trail's `error_code`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "FIELD_INVALID",
            Self::ChecksumMismatch { .. } => "CHECKSUM_MISMATCH",
            Self::MessageTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::SizeMismatch { .. } => "SIZE_MISMATCH",
            Self::OffsetGap { .. } => "OFFSET_GAP",
            Self::RangePastEnd { .. } => "RANGE_PAST_END",
            Self::Unauthenticated(Unauthenticated::Missing) => "TOKEN_MISSING",
            Self::Unauthenticated(Unauthenticated::Invalid) => "TOKEN_INVALID",
            Self::Unauthenticated(Unauthenticated::Expired) => "TOKEN_EXPIRED",
            Self::Unauthenticated(Unauthenticated::Certificate) => "CERTIFICATE_INVALID",
            Self::NotFound(_) => "NOT_FOUND",
            Self::PermissionDenied(_) => "PERMISSION_DENIED",
            Self::AlreadyExists(Taken::Path) => "PATH_TAKEN",
            Self::AlreadyExists(Taken::Place) => "PATH_OCCUPIED",
            Self::AlreadyExists(
                Taken::FileName | Taken::VolumeName | Taken::LocalPath | Taken::Endpoint | Taken::Credential,
            ) => "NAME_TAKEN",
            Self::Conflict(Conflict::Etag) => "ETAG_MISMATCH",
            Self::Conflict(Conflict::InFlight) => "REQUEST_IN_FLIGHT",
            Self::Conflict(Conflict::Fenced) => "UPLOAD_FENCED",
            Self::Conflict(Conflict::TakenOver) => "UPLOAD_TAKEN_OVER",
            Self::Conflict(Conflict::TaskRunning) => "TASK_RUNNING",
            Self::State(State::UploadEnded(_)) => "UPLOAD_ENDED",
            Self::State(State::NoKeys) => "KEYS_MISSING",
            Self::State(State::VolumeInactive) => "VOLUME_INACTIVE",
            Self::State(State::VolumeNotEmpty) => "VOLUME_NOT_EMPTY",
            Self::State(State::VolumeConflict(_) | State::LocalPath(_)) => "VOLUME_CONFLICT",
            Self::State(State::AddressForbidden(_)) => "ADDRESS_FORBIDDEN",
            Self::State(State::FileStatus(_)) => "FILE_STATUS",
            Self::State(State::InUse(_)) => "IN_USE",
            Self::QuotaExceeded(_) => "QUOTA_EXCEEDED",
            Self::FileTooLarge { .. } => "FILE_TOO_LARGE",
            Self::VolumeFull => "VOLUME_FULL",
            Self::Overloaded => "OVERLOADED",
            Self::LimitReached { .. } => "LIMIT_REACHED",
            Self::Stalled { .. } => "STREAM_STALLED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::ClientLeft => "CLIENT_LEFT",
            Self::Unavailable(Unavailable::Metadata) => "METADATA_UNAVAILABLE",
            Self::Unavailable(Unavailable::Backend) => "BACKEND_UNAVAILABLE",
            Self::Unavailable(Unavailable::NotOnThisNode) => "VOLUME_NOT_ON_THIS_NODE",
            Self::Unavailable(Unavailable::ShuttingDown) => "SHUTTING_DOWN",
            Self::Unavailable(Unavailable::IssuerKeys) => "ISSUER_KEYS_UNAVAILABLE",
            Self::Corrupted(_) => "CONTENT_CORRUPTED",
            Self::SecretUnreadable { .. } => "SECRET_UNREADABLE",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::Internal { .. } => "INTERNAL",
        }
    }
}

/// A driver's failure seen from a use case. What depends on the file (missing or short content) is decided where the file is known.
impl From<driver::Error> for Error {
    fn from(error: driver::Error) -> Self {
        if matches!(error.kind, driver::ErrorKind::Denied | driver::ErrorKind::BadAnswer) {
            tell(&error);
        }
        match error.kind {
            driver::ErrorKind::Full => Self::VolumeFull,
            driver::ErrorKind::Unsupported => Self::Unsupported(error.operation),
            driver::ErrorKind::NotOnThisNode => Self::Unavailable(Unavailable::NotOnThisNode),
            driver::ErrorKind::Unavailable | driver::ErrorKind::Timeout | driver::ErrorKind::BadAnswer => {
                Self::Unavailable(Unavailable::Backend)
            }
            driver::ErrorKind::Denied if Forbidden::behind(&error).is_some() => {
                Self::State(State::AddressForbidden(None))
            }
            driver::ErrorKind::Denied => Self::State(State::VolumeConflict(
                "the backend refuses the service, or its certificate is not trusted",
            )),
            driver::ErrorKind::NotFound | driver::ErrorKind::AlreadyExists | driver::ErrorKind::Other => {
                Self::internal("use a volume's backend", error)
            }
        }
    }
}

fn told(forbidden: Option<&Forbidden>) -> String {
    forbidden.map(|forbidden| format!(": {forbidden}")).unwrap_or_default()
}

/// Logs what only a person can mend, and what callers are not told: the backend's own words.
fn tell(error: &driver::Error) {
    let words = error.source.as_ref().map(|source| source.to_string().replace(char::is_control, " "));
    tracing::warn!(
        error.kind = ?error.kind,
        operation = error.operation,
        problem = words.unwrap_or_default(),
        "a volume's backend cannot be used"
    );
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Policy;
    use std::sync::Arc;

    #[tokio::test]
    async fn only_an_operator_is_told_which_address_is_refused() {
        let refused = Policy::default().resolve("127.0.0.1", 80).await.unwrap_err();
        let source: Arc<dyn std::error::Error + Send + Sync> = Arc::new(refused);
        let failure = || driver::Error {
            kind: driver::ErrorKind::Denied,
            operation: "open",
            key: None,
            source: Some(Arc::clone(&source)),
        };
        let user = Error::from(failure());
        assert_eq!(user.to_string(), "the service may not connect to the volume's backend");
        assert!(!format!("{user:?}").contains("127"));
        let operator = Error::to_operator(failure());
        assert_eq!(
            operator.to_string(),
            "the service may not connect to the volume's backend: 127.0.0.1 is at 127.0.0.1, which may not be \
             connected to: it is a loopback address, and no network of egress.allow has it"
        );
        assert_eq!((user.reason(), operator.reason()), ("ADDRESS_FORBIDDEN", "ADDRESS_FORBIDDEN"));
        // What a backend refuses itself is another thing.
        let denied = driver::Error { source: None, ..failure() };
        assert_eq!(Error::to_operator(denied).reason(), "VOLUME_CONFLICT");
    }
}
