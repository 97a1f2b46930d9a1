//! From the domain's errors to gRPC statuses: the only place that picks a code.

use coffer_domain::{
    Error,
    error::{Conflict, FieldViolation, State, Taken},
    id::UploadId,
    quota::{Dimension, Exhausted},
};
use coffer_proto::ERROR_DOMAIN;
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, QuotaViolation, StatusExt as _};

/// How long a client should wait before it tries again what may go through then.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Most bytes of a status message. Statuses travel in headers, whose size clients limit.
const MAX_MESSAGE_BYTES: usize = 512;

/// Most bytes of a text in the details.
const MAX_TEXT_BYTES: usize = 256;

/// Most violations that are named.
const MAX_VIOLATIONS: usize = 16;

/// The status of an error: canonical code, one `ErrorInfo` with the reason, and what else of `google.rpc` goes with it.
///
/// A fault of the service is logged here, once, with its sources; the answer says only what was being done.
pub fn status(error: &Error) -> Status {
    status_of_upload(error, None)
}

/// The same for a stream that writes an upload: `ErrorInfo` names it, for a client that has not heard of it yet.
pub(crate) fn status_of_upload(error: &Error, upload: Option<UploadId>) -> Status {
    if let Error::Internal { context, source } = error {
        tracing::error!(error.context = context, error.chain = chain(&**source), "internal error");
    }
    let mut facts = facts(error);
    facts.extend(upload.map(|id| ("upload_id".to_owned(), id.to_string())));
    let message = cut_to(&error.to_string(), MAX_MESSAGE_BYTES);
    Status::with_error_details(code(error), message, details(error, facts))
}

/// The name of a code in the specification, for logs and metrics. `UNKNOWN` for what is no code.
pub(crate) fn code_name(code: i32) -> &'static str {
    match Code::from_i32(code) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Whether a code says that the service, not the caller, is at fault.
pub(crate) fn is_fault(code: i32) -> bool {
    matches!(Code::from_i32(code), Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss)
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_)
        | Error::ChecksumMismatch { .. }
        | Error::MessageTooLarge { .. }
        | Error::RequestIdReused => Code::InvalidArgument,
        Error::SizeMismatch { .. } | Error::OffsetGap { .. } | Error::RangePastEnd { .. } => Code::OutOfRange,
        Error::Unauthenticated(_) => Code::Unauthenticated,
        Error::NotFound(_) => Code::NotFound,
        Error::PermissionDenied(_) => Code::PermissionDenied,
        Error::AlreadyExists(_) => Code::AlreadyExists,
        Error::Conflict(_) => Code::Aborted,
        Error::State(_) => Code::FailedPrecondition,
        Error::QuotaExceeded(_)
        | Error::FileTooLarge { .. }
        | Error::VolumeFull
        | Error::Overloaded
        | Error::LimitReached { .. } => Code::ResourceExhausted,
        Error::Stalled { .. } | Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::ClientLeft => Code::Cancelled,
        Error::Unavailable(_) => Code::Unavailable,
        Error::Corrupted(_) | Error::SecretUnreadable { .. } => Code::DataLoss,
        Error::Unsupported(_) => Code::Unimplemented,
        Error::Internal { .. } => Code::Internal,
    }
}

fn details(error: &Error, facts: HashMap<String, String>) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(error.reason(), ERROR_DOMAIN, facts);
    match error {
        Error::Invalid(violations) => {
            for FieldViolation { field, problem } in violations.iter().take(MAX_VIOLATIONS) {
                details.add_bad_request_violation(cut(field), cut(problem));
            }
        }
        Error::QuotaExceeded(exhausted) => {
            details.set_quota_failure(
                exhausted.iter().take(MAX_VIOLATIONS).map(quota_violation).collect::<Vec<_>>(),
            );
        }
        Error::State(state) => {
            details.add_precondition_failure_violation(
                error.reason(),
                state_subject(state),
                cut(&state.to_string()),
            );
        }
        Error::NotFound(resource) => {
            let (kind, name) = resource.kind_and_name();
            details.set_resource_info(kind, cut(&name), "", "not found");
        }
        Error::AlreadyExists(taken) => {
            details.set_resource_info(taken_kind(*taken), "", "", taken.to_string());
        }
        Error::Corrupted(file) => {
            details.set_resource_info(
                "file",
                file.to_string(),
                "",
                "the stored content is not what was uploaded",
            );
        }
        Error::Unavailable(_)
        | Error::Overloaded
        | Error::LimitReached { .. }
        | Error::Conflict(Conflict::InFlight) => {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Error::Conflict(Conflict::Etag | Conflict::Fenced | Conflict::TakenOver | Conflict::TaskRunning)
        | Error::SecretUnreadable { .. }
        | Error::ChecksumMismatch { .. }
        | Error::MessageTooLarge { .. }
        | Error::RequestIdReused
        | Error::SizeMismatch { .. }
        | Error::OffsetGap { .. }
        | Error::RangePastEnd { .. }
        | Error::Unauthenticated(_)
        | Error::PermissionDenied(_)
        | Error::FileTooLarge { .. }
        | Error::VolumeFull
        | Error::Stalled { .. }
        | Error::DeadlineExceeded
        | Error::ClientLeft
        | Error::Unsupported(_)
        | Error::Internal { .. } => {}
    }
    details
}

/// Facts a program may want beside the reason: `ErrorInfo.metadata`.
fn facts(error: &Error) -> HashMap<String, String> {
    let fact = |name: &str, value: &dyn ToString| (name.to_owned(), value.to_string());
    let facts = match error {
        Error::ChecksumMismatch { algorithm, expected, actual } => {
            vec![fact("algorithm", algorithm), fact("expected", expected), fact("actual", actual)]
        }
        Error::MessageTooLarge { bytes, limit } => vec![fact("bytes", bytes), fact("limit", limit)],
        Error::SizeMismatch { declared, received } => {
            vec![fact("declared", declared), fact("received", received)]
        }
        Error::OffsetGap { expected, offset } => {
            vec![fact("expected_offset", expected), fact("offset", offset)]
        }
        Error::RangePastEnd { offset, size } => vec![fact("offset", offset), fact("size", size)],
        Error::FileTooLarge { limit } => vec![fact("limit", limit)],
        Error::Stalled { seconds } => vec![fact("seconds", seconds)],
        Error::SecretUnreadable { key, why: _ } => vec![fact("key_id", &cut(key))],
        Error::LimitReached { of, limit } => vec![fact("of", of), fact("limit", limit)],
        _ => vec![],
    };
    facts.into_iter().collect()
}

fn quota_violation(exhausted: &Exhausted) -> QuotaViolation {
    let Exhausted { key, dimension, limit, used, reserved, requested } = exhausted;
    let metric = match dimension {
        Dimension::Bytes => "bytes",
        Dimension::Files => "files",
        Dimension::FileSize => "bytes of a single file",
    };
    let description =
        format!("{metric}: limit {limit}, used {used}, reserved {reserved}, requested {requested}");
    let mut violation = QuotaViolation::new(cut(&key.to_string()), description);
    violation.quota_metric = metric.to_owned();
    violation.quota_value = i64::try_from(*limit).unwrap_or(i64::MAX);
    violation.quota_dimensions = [("used", used), ("reserved", reserved), ("requested", requested)]
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .into();
    violation
}

fn state_subject(state: &State) -> &'static str {
    match state {
        State::VolumeInactive
        | State::VolumeNotEmpty
        | State::VolumeConflict(_)
        | State::AddressForbidden(_) => "volume",
        State::FileStatus(_) => "file",
        State::InUse(_) => "resource",
        State::LocalPath(_) => "local path",
        State::UploadEnded(_) => "upload",
        State::NoKeys => "service",
    }
}

fn taken_kind(taken: Taken) -> &'static str {
    match taken {
        Taken::Path | Taken::Place | Taken::FileName => "file",
        Taken::VolumeName => "volume",
        Taken::LocalPath => "local path",
        Taken::Endpoint => "endpoint",
        Taken::Credential => "credential",
    }
}

/// The text with each source behind it, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text.replace(char::is_control, " ")
}

fn cut(text: &str) -> String {
    cut_to(text, MAX_TEXT_BYTES)
}

fn cut_to(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
