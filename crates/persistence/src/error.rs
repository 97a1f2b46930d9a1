//! From what PostgreSQL said to what a caller can do about it: the one place where that is decided.
//!
//! Refusals are known by the name of the constraint that failed. diesel hands out no SQLSTATE, so the few failures that
//! are no constraint's are known by their message, which our sessions have in English.

use coffer_domain::Error;
use coffer_domain::error::{Conflict, Taken, Unavailable};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why the body of a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Decided by a rule: an answer for the caller.
    Refused(Error),
    /// Said by the database: to be retried or translated.
    Database(DieselError),
    /// What the body took for granted is not so, and it knows now: to be done again.
    Again,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

/// Result of a step of a transaction.
pub(crate) type Step<T> = Result<T, Failure>;

/// What kind of trouble a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Two transactions were in each other's way: doing it again helps.
    Contention,
    /// The connection is gone, or the server is going: another connection may help.
    Disconnected,
    /// A lock or the statement took longer than allowed.
    Timeout,
    /// Anything else: doing it again would end the same way.
    Other,
}

impl Trouble {
    pub(crate) fn of(error: &DieselError) -> Self {
        match error {
            DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Self::Contention,
            DieselError::DatabaseError(
                DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
                _,
            )
            | DieselError::BrokenTransactionManager => Self::Disconnected,
            DieselError::DatabaseError(_, information) => Self::of_message(information.message()),
            _ => Self::Other,
        }
    }

    fn of_message(message: &str) -> Self {
        match message {
            "deadlock detected" => Self::Contention,
            "canceling statement due to lock timeout" | "canceling statement due to statement timeout" => {
                Self::Timeout
            }
            _ if message.starts_with("terminating connection")
                || message.starts_with("the database system is ")
                || message.starts_with("server closed the connection") =>
            {
                Self::Disconnected
            }
            _ => Self::Other,
        }
    }

    /// For metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Contention => "contention",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

/// Whether somebody else has just made what a transaction was about to make. It looked before; when it looks again, it
/// sees that.
pub(crate) fn is_race(error: &DieselError) -> bool {
    let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, information) = error else {
        return false;
    };
    matches!(
        information.constraint_name(),
        Some(
            "request_results_pkey"
                | "storage_objects_content_key"
                | "storage_files_file_id_key"
                | "storage_files_path_key"
                | "storage_uploads_request_key"
        )
    )
}

/// What a caller of `method` is told.
pub(crate) fn translate(method: &'static str, error: DieselError) -> Error {
    match Trouble::of(&error) {
        Trouble::Disconnected => return unavailable(),
        Trouble::Contention | Trouble::Timeout => return Error::Overloaded,
        Trouble::Other => {}
    }
    let constraint = match &error {
        DieselError::DatabaseError(_, information) => information.constraint_name(),
        _ => None,
    };
    match constraint {
        Some("storage_files_path_key") => Error::AlreadyExists(Taken::Path),
        Some("storage_files_file_id_key") => Error::AlreadyExists(Taken::FileName),
        Some("storage_volumes_name_key") => Error::AlreadyExists(Taken::VolumeName),
        Some("local_paths_path_key") => Error::AlreadyExists(Taken::LocalPath),
        Some("s3_buckets_place_key" | "http_endpoints_url_key" | "ftp_endpoints_place_key") => {
            Error::AlreadyExists(Taken::Endpoint)
        }
        Some("tasks_rotation_key") => Error::Conflict(Conflict::TaskRunning),
        Some("storage_uploads_request_key" | "request_results_pkey") => Error::Conflict(Conflict::InFlight),
        _ => Error::internal(method, error),
    }
}

/// The refusal while the database cannot be reached, or does not say whether it did what was asked.
pub(crate) fn unavailable() -> Error {
    Error::Unavailable(Unavailable::Metadata)
}

/// A row holds what this build cannot read: a newer one wrote it.
pub(crate) fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::Refused(Error::internal("read a stored value", error))
}

/// A number that a column cannot hold.
pub(crate) fn too_large(error: std::num::TryFromIntError) -> Failure {
    Failure::Refused(Error::internal("store a number", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(message: &str) -> DieselError {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned()))
    }

    #[test]
    fn messages_of_postgresql_are_recognised() {
        for (message, trouble) in [
            ("deadlock detected", Trouble::Contention),
            ("canceling statement due to lock timeout", Trouble::Timeout),
            ("canceling statement due to statement timeout", Trouble::Timeout),
            ("terminating connection due to administrator command", Trouble::Disconnected),
            ("the database system is shutting down", Trouble::Disconnected),
            ("division by zero", Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&unknown(message)), trouble, "{message}");
        }
    }

    #[test]
    fn what_nobody_foresaw_is_internal_and_does_not_tell_its_text() {
        let error = translate("commit_upload", unknown("relation \"secret\" does not exist"));
        assert!(matches!(error, Error::Internal { context: "commit_upload", .. }));
        assert!(!error.to_string().contains("secret"));
    }
}
