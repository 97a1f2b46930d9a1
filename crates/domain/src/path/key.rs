//! Keys of objects, and the forms of those that the service makes.

use super::{BadPath, RESERVED};
use crate::{file::Sha256Sum, id::VersionId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a key, which is what S3 allows.
pub const MAX_KEY_BYTES: usize = 1_024;
/// What the keys of staged bytes begin with; the id of their upload follows.
pub const STAGING: &str = ".coffer/staging/";
/// What keys begin with that no path can be; the id of a version follows.
pub const VERSIONS: &str = ".coffer/versions/";

/// The name of an object inside a volume's backend: segments joined by `/`.
///
/// Invariants: 1 to 1,024 bytes; no empty, `.` or `..` segment, no backslash, no control character.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks `text`.
    pub fn parse(text: impl Into<String>) -> Result<Self, BadPath> {
        let text = text.into();
        if text.is_empty() {
            return Err(BadPath::Empty);
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(BadPath::TooLong);
        }
        for segment in text.split('/') {
            match segment {
                "" => return Err(BadPath::EmptySegment),
                "." | ".." => return Err(BadPath::DotSegment),
                s if s.contains('\\') => return Err(BadPath::Separator),
                s if s.chars().any(char::is_control) => return Err(BadPath::Character),
                _ => {}
            }
        }
        Ok(Self(text))
    }

    /// The key of a version under the strategy `uuid`: `{xxxxx}/{yyy}/{id}`, by the clock that its id begins with. A folder takes what is
    /// made in 65 seconds (2^16 ms), the one above it what is made in three days (2^28 ms): a new folder costs two waits for the disk, and
    /// so all uploads of a minute share them.
    pub fn of_version(id: VersionId) -> Self {
        let text = id.to_string();
        Self(format!("{}/{}/{text}", &text[..5], &text[5..8]))
    }

    /// Whether the key has the form that [`Key::of_version`] makes.
    fn is_of_version(&self) -> bool {
        self.0
            .rsplit('/')
            .next()
            .and_then(|id| id.parse().ok())
            .is_some_and(|id| Self::of_version(id) == *self)
    }

    /// The key of a content under the strategy `hash`: `{aa}/{SHA-256}.{version id}`, in 256 folders by the first two digits of the sum. Equal
    /// contents share the object of the first; the id keeps a key from ever being used again, so that removing one never harms another.
    pub fn of_content(sum: &Sha256Sum, id: VersionId) -> Self {
        let text = sum.to_string();
        Self(format!("{}/{text}.{id}", &text[..2]))
    }

    /// Whether the key has the form that [`Key::of_content`] makes.
    fn is_of_content(&self) -> bool {
        let name = self.0.rsplit('/').next().unwrap_or_default();
        let parts = name.split_once('.').and_then(|(sum, id)| Some((sum.parse().ok()?, id.parse().ok()?)));
        parts.is_some_and(|(sum, id)| Self::of_content(&sum, id) == *self)
    }

    /// Whether the key has a form that the service makes by itself: only such objects are ever swept.
    pub fn is_made(&self) -> bool {
        self.is_of_version() || self.is_of_content() || self.is_apart()
    }

    /// A key that no path can be. It is that of a version under the strategy `none`; under `hash`, what an upload has instead of a key until
    /// its content says which, and nothing is ever published there.
    pub fn apart(id: VersionId) -> Self {
        Self(format!("{VERSIONS}{id}"))
    }

    /// Whether the key has the form that [`Key::apart`] makes.
    fn is_apart(&self) -> bool {
        self.0.strip_prefix(VERSIONS).is_some_and(|id| id.parse().is_ok_and(|id| Self::apart(id) == *self))
    }

    /// The marker that says whose volume this is.
    pub fn marker() -> Self {
        Self(format!("{RESERVED}/volume.json"))
    }

    /// Where a check of the volume writes.
    pub fn check(id: uuid::Uuid) -> Self {
        Self(format!("{RESERVED}/check/{id}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        Self::parse(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_versions_know_their_form() {
        let key = Key::of_version(VersionId::new());
        assert!(key.is_of_version());
        let of = |id: &str| Key::of_version(id.parse().unwrap()).to_string();
        let noon = "018f3c2a-7b1e-7aaa-8bbb-0123456789ab";
        assert_eq!(of(noon), format!("018f3/c2a/{noon}"));
        let a_minute_later = "018f3c2b-0000-7aaa-8bbb-0123456789ab";
        assert_eq!(of(a_minute_later), format!("018f3/c2b/{a_minute_later}"));
        assert!(!Key::parse(format!("ab/89/{noon}")).unwrap().is_of_version());
        assert!(!Key::parse("ab/cd/other").unwrap().is_of_version());
        assert!(!Key::parse(format!("zz/{key}")).unwrap().is_of_version());
        assert!(key.is_made());
    }

    #[test]
    fn keys_of_contents_know_their_form() {
        let sum = Sha256Sum([0xab; 32]);
        let id: VersionId = "018f3c2a-7b1e-7aaa-8bbb-0123456789ab".parse().unwrap();
        let key = Key::of_content(&sum, id);
        assert_eq!(key.as_str(), format!("ab/{sum}.{id}"));
        assert!(key.is_made());
        assert!(Key::parse(key.as_str()).is_ok());
        for other in [
            format!("ac/{sum}.{id}"),
            format!("ab/{sum}"),
            format!("ab/{sum}.1"),
            format!("{sum}.{id}"),
            format!("zz/{key}"),
            format!("ab/{}.{id}", sum.to_string().to_uppercase()),
            format!("{VERSIONS}{sum}"),
            format!("{VERSIONS}x/{id}"),
        ] {
            assert!(!Key::parse(other.clone()).unwrap().is_made(), "{other}");
        }
        assert!(Key::apart(id).is_made());
    }
}
