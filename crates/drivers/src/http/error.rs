//! What statuses of HTTP mean to a caller.

use crate::remote::Failure;
use coffer_domain::driver::ErrorKind;

/// A refusal. What the server says of it is for a browser.
pub(super) fn refused(status: u16) -> Failure {
    Failure::Refused { status, code: String::new(), message: String::new(), kind: kind(status) }
}

/// The table.
fn kind(status: u16) -> ErrorKind {
    match status {
        404 | 410 => ErrorKind::NotFound,
        401 | 403 | 407 => ErrorKind::Denied,
        // A MOVE that may not replace.
        412 => ErrorKind::AlreadyExists,
        408 | 504 => ErrorKind::Timeout,
        // Locked by somebody for a while (423); too early, too many; what a proxy says of its server.
        423 | 425 | 429 | 500 | 502 | 503 => ErrorKind::Unavailable,
        413 | 507 => ErrorKind::Full,
        405 | 414 | 501 => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_the_table_says() {
        for (status, expected) in [
            (404, ErrorKind::NotFound),
            (401, ErrorKind::Denied),
            (412, ErrorKind::AlreadyExists),
            (423, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (504, ErrorKind::Timeout),
            (507, ErrorKind::Full),
            (501, ErrorKind::Unsupported),
            (400, ErrorKind::Other),
        ] {
            assert_eq!(refused(status).kind(), expected, "{status}");
        }
    }
}
