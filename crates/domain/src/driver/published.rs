//! What a backend says of an object that was published.

use std::{fmt, str::FromStr};

/// Most bytes of a version's id.
const MAX_BYTES: usize = 1_024;

/// An object that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Bytes, as the backend has them.
    pub size: u64,
    /// What the backend calls this version of it; `None` where it keeps none.
    pub version: Option<NativeVersion>,
}

impl Published {
    /// An object on a backend that keeps no versions.
    pub fn unversioned(size: u64) -> Self {
        Self { size, version: None }
    }
}

/// A backend's own id of one version of an object: 1 to 1,024 visible ASCII characters, which mean something to that backend alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NativeVersion(String);

/// The text cannot be the id of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 1,024 visible ASCII characters")]
pub struct NotANativeVersion;

impl NativeVersion {
    /// The id, as the backend tells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NativeVersion {
    type Err = NotANativeVersion;

    fn from_str(text: &str) -> Result<Self, NotANativeVersion> {
        let is_id = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_id { Ok(Self(text.to_owned())) } else { Err(NotANativeVersion) }
    }
}

impl fmt::Display for NativeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_versions_are_visible_and_not_endless() {
        for good in
            ["null", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo", &"v".repeat(1_024)]
        {
            assert_eq!(good.parse::<NativeVersion>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a\n", "ü", &"v".repeat(1_025)] {
            assert_eq!(bad.parse::<NativeVersion>(), Err(NotANativeVersion), "{bad:?}");
        }
    }
}
