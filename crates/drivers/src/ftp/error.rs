//! What replies of FTP mean to a caller.

use crate::{remote::Failure, wire};
use coffer_domain::driver::ErrorKind;
use std::io;
use suppaftp::{
    FtpError, Status,
    types::{ReplyTooLarge, Response},
};

/// Most bytes of a reply, which is what the client library reads.
const MOST_REPLY_BYTES: usize = 256 * 1024;

/// What went wrong. What the server says of it goes nowhere.
pub(super) fn failure(error: FtpError) -> Failure {
    match error {
        FtpError::UnexpectedResponse(reply) if is_refusal(&reply) => refused(code(&reply)),
        FtpError::UnexpectedResponse(_) => {
            Failure::wrong(ErrorKind::BadAnswer, "a reply to something else than was asked")
        }
        FtpError::BadResponse | FtpError::InvalidAddress(_) => {
            wire::Failure::Malformed("it is no reply of FTP".to_owned()).into()
        }
        FtpError::ConnectionError(error) => of_connection(&error).into(),
        FtpError::SecureError(problem) => wire::Failure::Tls(problem).into(),
        FtpError::DataConnectionAlreadyOpen => {
            Failure::wrong(ErrorKind::Other, "a session is used for two transfers")
        }
    }
}

pub(super) fn of_connection(error: &io::Error) -> wire::Failure {
    let inner = error.get_ref();
    if let Some(failure) = inner.and_then(|inner| inner.downcast_ref::<wire::Failure>()) {
        return failure.clone();
    }
    if inner.is_some_and(|inner| inner.is::<ReplyTooLarge>()) {
        return wire::Failure::TooLarge(MOST_REPLY_BYTES);
    }
    match error.kind() {
        io::ErrorKind::InvalidInput => wire::Failure::Config("a command has more than one line".to_owned()),
        _ => wire::Failure::Broken(error.to_string()),
    }
}

/// Whether a reply says no and nothing more: what was asked for has not happened, and the next may be asked.
pub(super) fn is_clean(error: &FtpError) -> bool {
    matches!(error, FtpError::UnexpectedResponse(reply) if is_refusal(reply) && code(reply) != 421)
}

fn is_refusal(reply: &Response) -> bool {
    (400..600).contains(&code(reply))
}

/// The library knows some of the codes.
fn code(reply: &Response) -> u16 {
    let known = match reply.status {
        Status::Unknown => None,
        status => u16::try_from(status.code()).ok(),
    };
    let told = || std::str::from_utf8(reply.body.get(..3)?).ok()?.parse().ok();
    known.or_else(told).unwrap_or_default()
}

pub(super) fn refused(status: u16) -> Failure {
    Failure::Refused { status, code: String::new(), message: String::new(), kind: kind(status) }
}

/// A refusal that has nothing to do with what is there.
pub(super) fn denied(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { status, code, message, kind: ErrorKind::NotFound } => {
            Failure::Refused { status, code, message, kind: ErrorKind::Denied }
        }
        other => other,
    }
}

/// Whether a name was refused, which servers do where its folder is missing too.
pub(super) fn is_of_the_name(failure: &Failure) -> bool {
    matches!(failure.status(), Some(550 | 553))
}

/// The table.
fn kind(status: u16) -> ErrorKind {
    match status {
        // Absent, not permitted, or there already: servers have one code for all of it. Whoever cares looks.
        550 => ErrorKind::NotFound,
        // Busy, too many connections, a data connection that failed, an error inside.
        421 | 425 | 426 | 431 | 434 | 450 | 451 => ErrorKind::Unavailable,
        // Log-in, account, what is asked of the protection of a connection (RFC 4217), a name that is not allowed.
        332 | 430 | 522 | 530 | 532 | 533 | 534 | 535 | 536 | 537 | 553 => ErrorKind::Denied,
        452 | 552 => ErrorKind::Full,
        500 | 502 | 504 => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_mean_what_the_table_says() {
        for (status, expected) in [
            (550, ErrorKind::NotFound),
            (553, ErrorKind::Denied),
            (530, ErrorKind::Denied),
            (421, ErrorKind::Unavailable),
            (425, ErrorKind::Unavailable),
            (426, ErrorKind::Unavailable),
            (451, ErrorKind::Unavailable),
            (452, ErrorKind::Full),
            (552, ErrorKind::Full),
            (502, ErrorKind::Unsupported),
            (501, ErrorKind::Other),
        ] {
            assert_eq!(refused(status).kind(), expected, "{status}");
        }
        assert_eq!(denied(refused(550)).kind(), ErrorKind::Denied);
        assert_eq!(denied(refused(552)).kind(), ErrorKind::Full);
    }

    #[test]
    fn words_of_a_server_are_not_passed_on() {
        let reply = |text: &str| {
            let status = text[..3].parse::<u32>().map(Status::from).unwrap_or(Status::Unknown);
            FtpError::UnexpectedResponse(Response::new(status, text.as_bytes().to_vec()))
        };
        for (text, expected) in [
            ("550 /etc/secret\r\n", ErrorKind::NotFound),
            ("522 secret\r\n", ErrorKind::Denied),
            ("226 secret\r\n", ErrorKind::BadAnswer),
            ("999 secret\r\n", ErrorKind::BadAnswer),
        ] {
            let failure = failure(reply(text));
            assert_eq!(failure.kind(), expected, "{text}");
            assert!(!format!("{failure} {failure:?}").contains("secret"));
        }
        assert!(is_clean(&reply("550 x\r\n")) && is_clean(&reply("522 x\r\n")));
        assert!(!is_clean(&reply("421 x\r\n")) && !is_clean(&reply("226 x\r\n")));
    }
}
