//! What S3's answers mean to a caller.

use crate::remote::{Failure, xml};
use coffer_domain::driver::ErrorKind;

/// What a refusal says of itself.
pub(super) fn refused(status: u16, body: &[u8]) -> Failure {
    let field = |name| -> String { xml::text(body, name).unwrap_or_default().chars().take(200).collect() };
    let (code, message) = (field("Code"), field("Message"));
    let kind = kind(status, &code);
    Failure::Refused { status, code, message, kind }
}

/// The table. Codes first, since one status has many; then the status, which is all that an answer to HEAD has.
fn kind(status: u16, code: &str) -> ErrorKind {
    match code {
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => return ErrorKind::NotFound,
        // Not the object is missing but all of them: an answer that a bucket without this object would not give.
        "NoSuchBucket" => return ErrorKind::Unavailable,
        // Bytes that were damaged on their way: the next try has others.
        "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
            return ErrorKind::Unavailable;
        }
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "InternalError"
        | "Busy"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "TooManyRequests" => {
            return ErrorKind::Unavailable;
        }
        "RequestTimeout" => return ErrorKind::Timeout,
        // A quota of the bucket or of the account, or more than one object may have.
        "QuotaExceeded"
        | "InsufficientCapacity"
        | "StorageFull"
        | "EntityTooLarge"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded" => return ErrorKind::Full,
        // Rights, keys, clocks that differ (which is signed), and objects in a cold class.
        "AccessDenied"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "ExpiredToken"
        | "InvalidToken"
        | "RequestTimeTooSkewed"
        | "InvalidObjectState"
        | "AuthorizationHeaderMalformed" => {
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
            assert_eq!(refused(status, body.as_bytes()).kind(), kind, "{status} {code}");
        }
        assert_eq!(refused(503, b"").kind(), ErrorKind::Unavailable);
    }
}
