//! Secrets, and the keys they are sealed under.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

/// Most bytes of a key's name.
pub const MAX_KEY_ID_BYTES: usize = 64;

/// A text that is shown to nobody: no log, no answer and no error holds it. Its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for whoever seals it or presents it to a backend.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The name of a key: 1 to 64 of `A-Z a-z 0-9 _ -`. It stands beside what was sealed under the key, and is no secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// The text cannot be the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ -")]
pub struct NotAKeyId;

impl KeyId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let is_name = (1..=MAX_KEY_ID_BYTES).contains(&text.len()) && text.bytes().all(is_valid);
        if is_name { Ok(Self(text.to_owned())) } else { Err(NotAKeyId) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = NotAKeyId;

    fn try_from(text: String) -> Result<Self, NotAKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The refusal of what was sealed under `key` and cannot be opened.
pub fn unreadable(key: &str, why: &'static str) -> Error {
    Error::SecretUnreadable { key: key.chars().take(MAX_KEY_ID_BYTES).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("swordfish");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(***) Secret(***)");
        assert_eq!(secret.expose(), "swordfish");
    }

    #[test]
    fn names_of_keys_have_no_dots_and_no_spaces() {
        for good in ["k", "2026-11_a", &"k".repeat(64)] {
            assert_eq!(good.parse::<KeyId>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "a.b", "a b", "ü", "a\n", &"k".repeat(65)] {
            assert_eq!(bad.parse::<KeyId>(), Err(NotAKeyId), "{bad:?}");
        }
    }
}
