//! A folder on a server that logs people in.

use crate::path::is_deceptive;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Most bytes of a folder.
const MAX_FOLDER_BYTES: usize = 1_024;

/// A folder on a server: absolute, or from where the log-in leads, which the empty one is. It does not end with a slash, unless it is the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Folder(String);

/// What a folder breaks, as a rule to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be at most 1,024 bytes of segments joined by /, without empty ones, . and .., control characters and ~ at its beginning"
)]
pub struct BadFolder;

impl Folder {
    /// The folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Folder {
    type Err = BadFolder;

    fn from_str(text: &str) -> Result<Self, BadFolder> {
        if text.is_empty() || text == "/" {
            return Ok(Self(text.to_owned()));
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
        let is_folder = text.len() <= MAX_FOLDER_BYTES
            && text.strip_prefix('/').unwrap_or(text).split('/').all(is_segment)
            // Some servers put somebody's home in its place.
            && !text.starts_with('~')
            && !text.chars().any(is_deceptive);
        if is_folder { Ok(Self(text.to_owned())) } else { Err(BadFolder) }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Folder {
    type Error = BadFolder;

    fn try_from(text: String) -> Result<Self, BadFolder> {
        text.parse()
    }
}

impl From<Folder> for String {
    fn from(folder: Folder) -> Self {
        folder.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_leads_nowhere_else() {
        for (text, kept) in
            [("", ""), ("/", "/"), ("a b/ü/", "a b/ü"), ("/srv/in", "/srv/in"), ("a/~b", "a/~b")]
        {
            assert_eq!(text.parse::<Folder>().map(String::from), Ok(kept.to_owned()));
        }
        for text in [
            "//",
            "a//b",
            "/a//",
            "..",
            "/..",
            "a/../b",
            "./a",
            "~",
            "~root/x",
            "a\r\nb",
            "a\0b",
            "a\u{202e}b",
            &"a".repeat(1_025),
        ] {
            assert_eq!(text.parse::<Folder>(), Err(BadFolder), "{text:?}");
        }
    }
}
