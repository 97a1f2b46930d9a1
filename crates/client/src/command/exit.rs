//! How the command ends: one table from errors to exit codes.

use coffer_client::{Code, Error, Refusal, v1::ErrorReason};
use indicatif::BinaryBytes;
use std::{io, process::ExitCode};

/// The exit codes. `exit_codes.txt` explains them to the reader of `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Success = 0,
    Other = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    Conflict = 5,
    Exhausted = 6,
    Unavailable = 7,
    Corrupted = 8,
    /// As shells have it for SIGINT.
    Interrupted = 130,
}

impl Exit {
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::Success,
        Self::Other,
        Self::Usage,
        Self::NotFound,
        Self::Denied,
        Self::Conflict,
        Self::Exhausted,
        Self::Unavailable,
        Self::Corrupted,
        Self::Interrupted,
    ];

    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Refused(refusal) => Self::of_refusal(refusal),
            Error::Unfinished { error, .. } => Self::of(error),
            Error::Connect { .. } | Error::Tls(_) | Error::Lost(_) | Error::TimedOut { .. } => {
                Self::Unavailable
            }
            Error::InvalidOption { .. } | Error::Destination(_) => Self::Usage,
            Error::Exists(_) | Error::Busy(_) | Error::VersionGone { .. } => Self::Conflict,
            Error::Corrupted(_) => Self::Corrupted,
            Error::Io { .. } | Error::SourceChanged { .. } | Error::Protocol(_) => Self::Other,
            // The enum may grow.
            _ => Self::Other,
        }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        match refusal.reason {
            Some(ErrorReason::ChecksumMismatch) => return Self::Corrupted,
            Some(ErrorReason::RequestIdReused) => return Self::Conflict,
            Some(ErrorReason::RangePastEnd) => return Self::Usage,
            _ => {}
        }
        match refusal.code {
            Code::InvalidArgument => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            Code::ResourceExhausted => Self::Exhausted,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unavailable,
            Code::DataLoss => Self::Corrupted,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal => Self::Other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do all it should.
#[derive(Debug)]
pub(super) enum Failure {
    Client(Error),
    /// An upload can go on with this command.
    Unfinished {
        error: Error,
        persisted_bytes: u64,
        command: String,
    },
    Usage(String),
    Other(String),
    /// Standard output did not take what was to be printed.
    Print(io::Error),
    /// Already told, each as it happened.
    Reported(Exit),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) | Self::Unfinished { error, .. } => Exit::of(error),
            Self::Usage(_) => Exit::Usage,
            Self::Other(_) => Exit::Other,
            // The reader has seen enough, as in `coffer ls | head`.
            Self::Print(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Self::Print(_) => Exit::Other,
            Self::Reported(exit) => *exit,
        }
    }

    /// What to tell; nothing if it was told or needs no words.
    pub(super) fn message(&self) -> Option<String> {
        match self {
            Self::Client(error) => Some(error.to_string()),
            Self::Unfinished { error, persisted_bytes, command } => {
                let stored = BinaryBytes(*persisted_bytes);
                Some(format!("{error}; {stored} of it are stored, to go on: {command}"))
            }
            Self::Usage(text) | Self::Other(text) => Some(text.clone()),
            Self::Print(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Print(error) => Some(format!("cannot print: {error}")),
            Self::Reported(_) => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_client::Corruption;
    use std::time::Duration;

    fn refused(code: Code, reason: Option<ErrorReason>) -> Error {
        Error::Refused(Box::new(Refusal {
            code,
            reason,
            reason_name: String::new(),
            message: String::new(),
            fields: Vec::new(),
            quotas: Vec::new(),
            retry_after: None,
            facts: Default::default(),
            trace_id: None,
        }))
    }

    #[test]
    fn every_code_of_the_service() {
        let table = [
            (Code::Cancelled, Exit::Other),
            (Code::Unknown, Exit::Other),
            (Code::InvalidArgument, Exit::Usage),
            (Code::DeadlineExceeded, Exit::Unavailable),
            (Code::NotFound, Exit::NotFound),
            (Code::AlreadyExists, Exit::Conflict),
            (Code::PermissionDenied, Exit::Denied),
            (Code::ResourceExhausted, Exit::Exhausted),
            (Code::FailedPrecondition, Exit::Conflict),
            (Code::Aborted, Exit::Conflict),
            (Code::OutOfRange, Exit::Other),
            (Code::Unimplemented, Exit::Other),
            (Code::Internal, Exit::Other),
            (Code::Unavailable, Exit::Unavailable),
            (Code::DataLoss, Exit::Corrupted),
            (Code::Unauthenticated, Exit::Denied),
        ];
        for (code, exit) in table {
            assert_eq!(Exit::of(&refused(code, None)), exit, "{code:?}");
        }
    }

    #[test]
    fn reasons_that_say_more_than_their_code() {
        let of = |code, reason| Exit::of(&refused(code, Some(reason)));
        assert_eq!(of(Code::InvalidArgument, ErrorReason::ChecksumMismatch), Exit::Corrupted);
        assert_eq!(of(Code::InvalidArgument, ErrorReason::RequestIdReused), Exit::Conflict);
        assert_eq!(of(Code::InvalidArgument, ErrorReason::FieldInvalid), Exit::Usage);
        assert_eq!(of(Code::OutOfRange, ErrorReason::RangePastEnd), Exit::Usage);
        assert_eq!(of(Code::OutOfRange, ErrorReason::SizeMismatch), Exit::Other);
    }

    #[test]
    fn failures_on_this_side() {
        let connect = Error::Connect { addr: String::new(), attempts: 4, reason: String::new() };
        assert_eq!(Exit::of(&connect), Exit::Unavailable);
        assert_eq!(Exit::of(&Error::Lost(String::new())), Exit::Unavailable);
        assert_eq!(Exit::of(&Error::TimedOut { what: "", after: Duration::ZERO }), Exit::Unavailable);
        assert_eq!(Exit::of(&Error::Exists("x".into())), Exit::Conflict);
        let short = Corruption::Short { expected_bytes: 2, received_bytes: 1 };
        assert_eq!(Exit::of(&Error::Corrupted(short)), Exit::Corrupted);
        assert_eq!(Exit::of(&Error::VersionGone { version: 1, received_bytes: 0 }), Exit::Conflict);
        let missing = Error::Io { what: String::new(), error: io::ErrorKind::NotFound.into() };
        assert_eq!(Exit::of(&missing), Exit::Other);
    }

    #[test]
    fn an_unfinished_upload_ends_as_its_cause_and_names_the_way_on() {
        let unfinished = |error| {
            let (upload_id, persisted_bytes) = ("u".to_owned(), 2048);
            Error::Unfinished { upload_id, persisted_bytes, error: Box::new(error) }
        };
        assert_eq!(Exit::of(&unfinished(Error::Lost(String::new()))), Exit::Unavailable);
        let expired = refused(Code::Unauthenticated, Some(ErrorReason::TokenExpired));
        assert_eq!(Exit::of(&unfinished(expired)), Exit::Denied);
        let failure = Failure::Unfinished {
            error: Error::Lost("reset".to_owned()),
            persisted_bytes: 2048,
            command: "coffer upload --resume a".to_owned(),
        };
        assert_eq!(failure.exit(), Exit::Unavailable);
        let message = failure.message().unwrap();
        assert!(
            message.ends_with("reset; 2.00 KiB of it are stored, to go on: coffer upload --resume a"),
            "{message}"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::Print(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit(), closed.message()), (Exit::Success, None));
        let full = Failure::Print(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Other);
        assert!(full.message().is_some());
    }
}
