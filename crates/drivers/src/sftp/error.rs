//! What answers of SFTP mean to a caller.

use crate::{remote::Failure, wire};
use async_ssh2_lite::{
    Error,
    ssh2::{self, ErrorCode},
};
use coffer_domain::driver::ErrorKind;
use std::io;

/// No such file.
pub(super) const ABSENT: u16 = 2;
/// Of whatever has no code of its own: it is there already, a folder is not empty, the disk is full.
pub(super) const FAILED: u16 = 4;

/// libssh2's words for an answer with a code of SFTP's, and for answers that are none.
const SFTP_PROTOCOL: i32 = -31;
const NO_SUCH_ANSWERS: [i32; 4] = [SFTP_PROTOCOL, -14, -25, -41];
/// The end of a folder.
const END: i32 = -16;
/// No algorithm that both sides have. A connection that was lost too early is called the same.
const NOTHING_IN_COMMON: [i32; 2] = [-5, -17];
/// What is said when the connection is lost.
const LOST: [i32; 8] = [-1, -2, -3, -4, -7, -9, -13, -43];

/// How an operation failed, and whether its session is still of use.
pub(super) struct Ended {
    pub(super) failure: Failure,
    pub(super) is_spoilt: bool,
}

impl Ended {
    fn spoilt(failure: Failure) -> Self {
        Self { failure, is_spoilt: true }
    }

    pub(super) fn of(error: Error) -> Self {
        match error {
            Error::Ssh2(error) => match error.code() {
                ErrorCode::SFTP(code @ 1..) => Self { failure: refused(code), is_spoilt: false },
                ErrorCode::Session(code) if !NO_SUCH_ANSWERS.contains(&code) => Self::spoilt(broken(&error)),
                ErrorCode::Session(_) | ErrorCode::SFTP(_) => Self::spoilt(not_understood()),
            },
            error => Self::spoilt(wire::Failure::Broken(error.to_string()).into()),
        }
    }

    /// A read or a write, whose error does not tell its code; `last` is what the session remembers.
    pub(super) fn of_content(error: &io::Error, last: Option<ssh2::Error>) -> Self {
        let is_answer = last.is_some_and(|last| last.code() == ErrorCode::Session(SFTP_PROTOCOL));
        let text = error.to_string();
        let code = (1..=21).find(|code| ssh2::Error::from_errno(ErrorCode::SFTP(*code)).message() == text);
        match code {
            Some(code) if is_answer => Self { failure: refused(code), is_spoilt: false },
            None if is_answer => Self::spoilt(not_understood()),
            _ => Self::spoilt(wire::Failure::Broken(text).into()),
        }
    }
}

/// Whether a folder has no further entries.
pub(super) fn is_end(error: &Error) -> bool {
    error.as_ssh2().is_some_and(|error| error.code() == ErrorCode::Session(END))
}

/// Whether a handshake failed since the two sides have no algorithm in common.
pub(super) fn has_nothing_in_common(error: &Error) -> bool {
    let code = error.as_ssh2().map(ssh2::Error::code);
    matches!(code, Some(ErrorCode::Session(code)) if NOTHING_IN_COMMON.contains(&code))
}

/// A log-in that failed: the connection, or who asks.
pub(super) fn of_login(error: Error) -> Failure {
    match &error {
        Error::Ssh2(error) if !is_lost(error) => {
            wire::Failure::Config(format!("the log-in is refused: {}", error.message())).into()
        }
        error => wire::Failure::Broken(error.to_string()).into(),
    }
}

/// libssh2 calls a connection that is lost while it waits for the answer a refusal; the words tell.
fn is_lost(error: &ssh2::Error) -> bool {
    let waited = ["Waiting for", "Unable to send"].iter().any(|words| error.message().starts_with(words));
    waited || matches!(error.code(), ErrorCode::Session(code) if LOST.contains(&code))
}

fn broken(error: &ssh2::Error) -> Failure {
    wire::Failure::Broken(error.to_string()).into()
}

fn not_understood() -> Failure {
    Failure::wrong(ErrorKind::BadAnswer, "an answer that is none of SFTP's")
}

fn refused(code: i32) -> Failure {
    let message = ssh2::Error::from_errno(ErrorCode::SFTP(code)).message().to_owned();
    Failure::Refused {
        status: u16::try_from(code).unwrap_or(u16::MAX),
        code: "of SFTP".to_owned(),
        message,
        kind: kind(code),
    }
}

/// The table.
fn kind(code: i32) -> ErrorKind {
    match code {
        // No such file, no such path; a file where a folder would be.
        2 | 10 | 19 => ErrorKind::NotFound,
        // Permission denied; write protected.
        3 | 12 => ErrorKind::Denied,
        // No connection, connection lost; no medium; locked by somebody.
        6 | 7 | 13 | 17 => ErrorKind::Unavailable,
        8 => ErrorKind::Unsupported,
        11 => ErrorKind::AlreadyExists,
        // No space; over the quota.
        14 | 15 => ErrorKind::Full,
        // Also 4, "failure": whoever asked finds out what it was.
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_table_says() {
        for (code, expected) in [
            (2, ErrorKind::NotFound),
            (3, ErrorKind::Denied),
            (4, ErrorKind::Other),
            (7, ErrorKind::Unavailable),
            (8, ErrorKind::Unsupported),
            (11, ErrorKind::AlreadyExists),
            (14, ErrorKind::Full),
            (15, ErrorKind::Full),
            (99, ErrorKind::Other),
        ] {
            let error = Error::Ssh2(ssh2::Error::from_errno(ErrorCode::SFTP(code)));
            let Ended { failure, is_spoilt } = Ended::of(error);
            assert_eq!((failure.kind(), is_spoilt), (expected, false), "{code}");
        }
    }

    #[test]
    fn a_refused_write_is_known_by_its_words() {
        let answer = || Some(ssh2::Error::from_errno(ErrorCode::Session(SFTP_PROTOCOL)));
        let lost = || Some(ssh2::Error::from_errno(ErrorCode::Session(-43)));
        for (text, last, kind, is_spoilt) in [
            ("no space on filesystem", answer(), ErrorKind::Full, false),
            ("permission denied", answer(), ErrorKind::Denied, false),
            ("gibberish", answer(), ErrorKind::BadAnswer, true),
            ("permission denied", lost(), ErrorKind::Unavailable, true),
            ("permission denied", None, ErrorKind::Unavailable, true),
        ] {
            let ended = Ended::of_content(&io::Error::other(text), last);
            assert_eq!((ended.failure.kind(), ended.is_spoilt), (kind, is_spoilt), "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_of_sftp_spoils_the_session() {
        for (code, kind) in
            [(-31, ErrorKind::BadAnswer), (-14, ErrorKind::BadAnswer), (-43, ErrorKind::Unavailable)]
        {
            let Ended { failure, is_spoilt } =
                Ended::of(Error::Ssh2(ssh2::Error::from_errno(ErrorCode::Session(code))));
            assert_eq!((failure.kind(), is_spoilt), (kind, true), "{code}");
        }
        assert_eq!(
            of_login(Error::Ssh2(ssh2::Error::from_errno(ErrorCode::Session(-18)))).kind(),
            ErrorKind::Denied
        );
        assert_eq!(
            of_login(Error::Ssh2(ssh2::Error::from_errno(ErrorCode::Session(-13)))).kind(),
            ErrorKind::Unavailable
        );
    }
}
