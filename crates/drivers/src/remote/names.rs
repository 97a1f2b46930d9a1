//! What drivers of remote backends share about names.

use coffer_domain::path::{Key, RESERVED};

/// Whether a key can begin with this text: an empty, `.` or `..` segment that is followed by a slash is in none.
pub(crate) fn may_begin_a_key(prefix: &str) -> bool {
    let mut segments = prefix.split('/');
    let _ = segments.next_back();
    segments.all(|segment| !matches!(segment, "" | "." | ".."))
        && !prefix.contains('\\')
        && !prefix.chars().any(char::is_control)
}

/// Whether a listing shows the service's own folder.
pub(crate) fn shows_reserved(prefix: &str, after: Option<&Key>) -> bool {
    is_below_reserved(prefix) || after.is_some_and(is_reserved)
}

/// Whether a key is in the service's own folder.
pub(crate) fn is_reserved(key: &Key) -> bool {
    is_below_reserved(key.as_str())
}

fn is_below_reserved(text: &str) -> bool {
    text.strip_prefix(RESERVED).is_some_and(|rest| rest.starts_with('/'))
}

/// The text behind percent escapes; where `plus_is_blank`, a plus is a blank. `None` if that is no UTF-8 or an escape is none.
pub(crate) fn unescape(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte")
            }
            b'+' if plus_is_blank => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_no_key_has_are_known() {
        for prefix in ["", "a", "a/", "a/b", ".", "..", "a/..", ".coffer/"] {
            assert!(may_begin_a_key(prefix), "{prefix}");
        }
        for prefix in ["/", "a//", "../", "./a", "a/../b/", "a\\", "a\nb"] {
            assert!(!may_begin_a_key(prefix), "{prefix:?}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("a%20b+c%2Bd", true).as_deref(), Some("a b c+d"));
        assert_eq!(unescape("a+b%c3%A9", false).as_deref(), Some("a+bé"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(unescape(bad, true), None, "{bad}");
        }
    }
}
