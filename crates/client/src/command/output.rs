//! Printing: for people or, with `--json`, for programs.

use super::{exit::Failure, json};
use chrono::{DateTime, SecondsFormat};
use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write as _},
};

/// Where results and failures go.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints a line on stdout.
    pub(super) fn line(self, line: impl Display) -> Result<(), Failure> {
        writeln!(io::stdout().lock(), "{line}").map_err(Failure::Print)
    }

    /// Tells a failure on stderr. Its exit code is all that is left to tell if even that fails.
    pub(super) fn failure(self, failure: &Failure) {
        let line = if self.json {
            json::failure(failure).map(|value| value.to_string())
        } else {
            failure.message().map(|message| format!("coffer: {}", printable(&message)))
        };
        if let Some(line) = line {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// Tells a person something beside the result, on stderr.
    pub(super) fn note(self, note: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "coffer: {}", printable(note));
        }
    }
}

/// Text by others, safe to show on a terminal: without control characters and those that turn the direction of writing.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let deceives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(deceives) { text.replace(deceives, "\u{fffd}").into() } else { text.into() }
}

/// A time as RFC 3339 in UTC, to the second; `-` if unset.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| DateTime::from_timestamp(time.seconds, time.nanos.try_into().unwrap_or(0)))
        .map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The name of an enum's value without its prefix, in lower case: `FILE_STATUS_ACTIVE` is `active`.
pub(super) fn value_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_by_others_cannot_drive_the_terminal() {
        assert_eq!(printable("a b.txt ü"), "a b.txt ü");
        assert_eq!(printable("a\u{1b}[2J\n\u{202e}b"), "a\u{fffd}[2J\u{fffd}\u{fffd}b");
    }

    #[test]
    fn times_and_names() {
        let at = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 999_999_999 };
        assert_eq!(time(Some(&at)), "2023-11-14T22:13:20Z");
        assert_eq!(time(None), "-");
        assert_eq!(value_name("FILE_STATUS_ACTIVE", "FILE_STATUS_"), "active");
    }
}
