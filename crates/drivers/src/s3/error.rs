//! What S3's answers mean to a caller.

use crate::{error::error, wire, xml};
use coffer_domain::{
    driver::{Error, ErrorKind},
    path::Key,
};

/// A failed request, which knows neither operation nor key.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// It was refused.
    #[error("status {status} {code}: {message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// S3's own; empty where the answer has no body.
        code: String,
        /// For a person.
        message: String,
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
    /// What a refusal says of itself.
    pub(super) fn refused(status: u16, body: &[u8]) -> Self {
        let field = |name| xml::text(body, name).unwrap_or_default().chars().take(200).collect();
        Self::Refused { status, code: field("Code"), message: field("Message") }
    }

    pub(super) fn wrong(kind: ErrorKind, reason: &'static str) -> Self {
        Self::Wrong { kind, reason }
    }

    pub(super) fn at(self, operation: &'static str, key: Option<&Key>) -> Error {
        error(self.kind(), operation, key, self)
    }

    /// Whether there is no such object (or upload).
    pub(super) fn is_absent(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// S3's own code, if it was refused with one.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Wire(_) | Self::Wrong { .. } => "",
        }
    }

    /// Whether a range begins behind the object's end.
    pub(super) fn is_past_the_end(&self) -> bool {
        matches!(self, Self::Refused { status: 416, .. })
    }

    /// Whether a request of this id, or this part of it, may succeed if it is asked again.
    pub(super) fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// The table. Codes first, since one status has many; then the status, which is all that an answer to HEAD has.
    pub(super) fn kind(&self) -> ErrorKind {
        let (status, code) = match self {
            Self::Wire(failure) => return failure.kind(),
            Self::Wrong { kind, .. } => return *kind,
            Self::Refused { status, code, .. } => (*status, code.as_str()),
        };
        match code {
            "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => return ErrorKind::NotFound,
            // Not the object is missing but all of them: an answer that a bucket without this object would not give.
            "NoSuchBucket" => return ErrorKind::Unavailable,
            // Bytes that were damaged on their way: the next try has others.
            "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
                return ErrorKind::Unavailable;
            }
            "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ServiceUnavailable" | "InternalError" | "Busy"
            | "OperationAborted" | "ConditionalRequestConflict" | "TooManyRequests" => {
                return ErrorKind::Unavailable;
            }
            "RequestTimeout" => return ErrorKind::Timeout,
            // A quota of the bucket or of the account, or more than one object may have.
            "QuotaExceeded" | "InsufficientCapacity" | "StorageFull" | "EntityTooLarge"
            | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => return ErrorKind::Full,
            // Rights, keys, clocks that differ (which is signed), and objects in a cold class.
            "AccessDenied" | "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken"
            | "RequestTimeTooSkewed" | "InvalidObjectState" | "AuthorizationHeaderMalformed" => {
                return ErrorKind::Denied;
            }
            "NotImplemented" | "KeyTooLongError" | "MethodNotAllowed" => return ErrorKind::Unsupported,
            _ => {}
        }
        match status {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Denied,
            408 | 504 => ErrorKind::Timeout,
            429 | 500 | 502 | 503 => ErrorKind::Unavailable,
            413 | 507 => ErrorKind::Full,
            405 | 501 => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (status, code, kind) in [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (404, "NoSuchUpload", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::Unavailable),
            (400, "BadDigest", ErrorKind::Unavailable),
            (400, "RequestTimeout", ErrorKind::Timeout),
            (400, "EntityTooLarge", ErrorKind::Full),
            (400, "InvalidPart", ErrorKind::Other),
            (403, "", ErrorKind::Denied),
            (403, "QuotaExceeded", ErrorKind::Full),
            (503, "SlowDown", ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
            (200, "InternalError", ErrorKind::Unavailable),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (418, "", ErrorKind::Other),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            assert_eq!(Failure::refused(status, body.as_bytes()).kind(), kind, "{status} {code}");
        }
        assert_eq!(Failure::refused(503, b"").kind(), ErrorKind::Unavailable);
    }
}
