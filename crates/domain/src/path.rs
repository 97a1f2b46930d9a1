//! Logical paths of files and keys of objects. Neither can be built invalid.

mod key;

pub use key::{Key, MAX_KEY_BYTES, STAGING, VERSIONS};

use serde::{Deserialize, Serialize};
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

/// Most bytes of a path, as given and in NFC: what fits into an index entry of PostgreSQL.
pub const MAX_PATH_BYTES: usize = 2_048;
/// Most bytes of one segment, which is what common file systems allow.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Most segments of a path.
pub const MAX_SEGMENTS: usize = 100;
/// The folder in every volume that is the service's own.
pub const RESERVED: &str = ".coffer";

/// How a volume reads its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRules {
    /// Whether paths are folders; else the whole path is one name.
    pub is_hierarchical: bool,
    /// What separates folders: 1 to 5 characters.
    pub delimiter: String,
}

impl Default for PathRules {
    fn default() -> Self {
        Self { is_hierarchical: true, delimiter: "/".to_owned() }
    }
}

impl PathRules {
    /// The segments of `path` under these rules.
    pub fn segments<'a>(&self, path: &'a str) -> Vec<&'a str> {
        if self.is_hierarchical { path.split(self.delimiter.as_str()).collect() } else { vec![path] }
    }

    /// Where other programs find what is at a path, in NFC: its segments joined by slashes.
    pub fn key(&self, nfc: &str) -> Result<Key, BadPath> {
        Key::parse(self.segments(nfc).join("/"))
    }

    /// The path in NFC that has this key, if one has.
    pub fn path(&self, key: &Key) -> String {
        if self.is_hierarchical {
            key.as_str().replace('/', &self.delimiter)
        } else {
            key.as_str().to_owned()
        }
    }
}

/// The logical name of a file in its volume.
///
/// Invariants: 1 to 2,048 bytes as given and in NFC; 1 to 100 segments, each 1 to 255 bytes and a valid [segment](check_segment); the first is not
/// `.coffer`. Kept as given; compared in NFC ([`StoragePath::nfc`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoragePath(String);

impl StoragePath {
    /// Checks `text` under the rules of a volume.
    pub fn parse(text: &str, rules: &PathRules) -> Result<Self, BadPath> {
        if text.is_empty() {
            return Err(BadPath::Empty);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(BadPath::TooLong);
        }
        let segments = rules.segments(text);
        if segments.len() > MAX_SEGMENTS {
            return Err(BadPath::TooDeep);
        }
        if segments[0].eq_ignore_ascii_case(RESERVED) {
            return Err(BadPath::Reserved);
        }
        segments.into_iter().try_for_each(check_segment)?;
        let path = Self(text.to_owned());
        if path.nfc().len() > MAX_PATH_BYTES { Err(BadPath::TooLong) } else { Ok(path) }
    }

    /// A path that was checked when it was stored.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The path as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path in Unicode NFC: what is unique and what is looked up.
    pub fn nfc(&self) -> String {
        self.0.nfc().collect()
    }

    /// The last segment.
    pub fn filename<'a>(&'a self, rules: &PathRules) -> &'a str {
        rules.segments(&self.0).pop().unwrap_or(&self.0)
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks one segment of a path, or a file name.
///
/// Refused is what some backend or desktop cannot hold or shows as something else: empty, `.`, `..`, separators of either kind,
/// control characters, bidirectional overrides and zero-width characters, a drive letter, a blank or dot at the end, and the
/// device names of Windows.
pub fn check_segment(segment: &str) -> Result<(), BadPath> {
    match segment {
        "" => return Err(BadPath::EmptySegment),
        "." | ".." => return Err(BadPath::DotSegment),
        _ => {}
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(BadPath::SegmentTooLong);
    }
    if segment.contains(['/', '\\']) {
        return Err(BadPath::Separator);
    }
    if segment.chars().any(is_deceptive) {
        return Err(BadPath::Character);
    }
    if segment.ends_with(['.', ' ']) {
        return Err(BadPath::Ending);
    }
    let bytes = segment.as_bytes();
    if bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' {
        return Err(BadPath::Drive);
    }
    let stem = segment.split('.').next().unwrap_or(segment).trim_end().to_ascii_uppercase();
    let is_numbered =
        |prefix: &str| stem.strip_prefix(prefix).is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']));
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || is_numbered("COM") || is_numbered("LPT") {
        return Err(BadPath::DeviceName);
    }
    Ok(())
}

/// Control characters, and those that make a name look like another: bidirectional controls, zero-width characters, the byte
/// order mark, line and paragraph separators.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{061C}' | '\u{FEFF}')
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// No text.
    #[error("must not be empty")]
    Empty,
    /// Over the limit.
    #[error("must have at most {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Over the limit.
    #[error("must have at most {MAX_SEGMENTS} segments")]
    TooDeep,
    /// The service's own folder.
    #[error("must not begin with the reserved folder {RESERVED}")]
    Reserved,
    /// Two delimiters in a row, or one at an end.
    #[error("must not have an empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("must not have a segment . or ..")]
    DotSegment,
    /// Over the limit.
    #[error("segments must have at most {MAX_SEGMENT_BYTES} bytes")]
    SegmentTooLong,
    /// A slash or backslash where it does not separate.
    #[error("segments must not contain / or \\")]
    Separator,
    /// Something a person cannot see.
    #[error("must not contain control, bidirectional-override or zero-width characters")]
    Character,
    /// Lost on some backends.
    #[error("segments must not end with a dot or a blank")]
    Ending,
    /// `C:`.
    #[error("segments must not begin with a drive letter")]
    Drive,
    /// `CON`, `NUL`, …
    #[error("segments must not be a device name such as CON or NUL")]
    DeviceName,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<StoragePath, BadPath> {
        StoragePath::parse(text, &PathRules::default())
    }

    #[test]
    fn refuses_what_is_not_a_place_below_the_root() {
        for (text, why) in [
            ("", BadPath::Empty),
            (".", BadPath::DotSegment),
            ("..", BadPath::DotSegment),
            ("a/../b", BadPath::DotSegment),
            ("/etc/x", BadPath::EmptySegment),
            ("a//b", BadPath::EmptySegment),
            ("a/", BadPath::EmptySegment),
            ("C:\\x", BadPath::Separator),
            ("C:x", BadPath::Drive),
            ("a\0b", BadPath::Character),
            ("a\r\nDELE x", BadPath::Character),
            ("a/b ", BadPath::Ending),
            ("a/b.", BadPath::Ending),
            ("con", BadPath::DeviceName),
            ("a/NUL.txt", BadPath::DeviceName),
            ("lpt9", BadPath::DeviceName),
            ("invoice\u{202E}fdp.exe", BadPath::Character),
            ("a\u{200B}b", BadPath::Character),
            (".coffer/volume.json", BadPath::Reserved),
            (".Coffer/x", BadPath::Reserved),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
        assert_eq!(parse(&"x".repeat(256)), Err(BadPath::SegmentTooLong));
        assert_eq!(parse(&vec!["abcdefgh"; 600].join("/")), Err(BadPath::TooLong));
        assert_eq!(parse(&vec!["a"; 200].join("/")), Err(BadPath::TooDeep));
    }

    #[test]
    fn keeps_what_only_looks_dangerous() {
        for text in ["%2e%2e%2f", "...a", "a b/c", "COM0", "console", "é", ".cofferdam/x"] {
            assert!(parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn twins_in_nfc_and_nfd_are_one_path_kept_as_given() {
        let (nfc, nfd) = (parse("caf\u{e9}").unwrap(), parse("cafe\u{301}").unwrap());
        assert_ne!(nfc, nfd);
        assert_eq!(nfc.nfc(), nfd.nfc());
    }

    #[test]
    fn other_delimiters_and_flat_volumes() {
        let colons = PathRules { is_hierarchical: true, delimiter: "::".into() };
        assert_eq!(StoragePath::parse("a::..::b", &colons), Err(BadPath::DotSegment));
        assert_eq!(StoragePath::parse("a::b.txt", &colons).unwrap().filename(&colons), "b.txt");
        let flat = PathRules { is_hierarchical: false, delimiter: "/".into() };
        assert_eq!(StoragePath::parse("a/b", &flat), Err(BadPath::Separator));
    }

    #[test]
    fn paths_and_what_other_programs_find_them_at() {
        let colons = PathRules { is_hierarchical: true, delimiter: "::".into() };
        let flat = PathRules { is_hierarchical: false, delimiter: "/".into() };
        for (rules, path, key) in [
            (&PathRules::default(), "a/b.txt", "a/b.txt"),
            (&colons, "a::b:c", "a/b:c"),
            (&flat, "a::b", "a::b"),
        ] {
            let found = rules.key(path).unwrap();
            assert_eq!(found.as_str(), key);
            assert_eq!(rules.path(&found), path);
        }
        assert_eq!(PathRules::default().key(&["abcdefgh"; 120].join("/")), Err(BadPath::TooLong));
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_below_its_root(text in "[a-z./\\\\ :%\u{0}-\u{20}]{0,40}") {
            if let Ok(path) = parse(&text) {
                let joined = std::path::Path::new("/root").join(path.as_str());
                prop_assert!(joined.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(joined.starts_with("/root"));
            }
        }
    }
}
