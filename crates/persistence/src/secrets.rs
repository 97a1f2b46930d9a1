//! Secrets as they are stored: sealed with AES-256-GCM under a key of the ring, and bound to the row they belong to.

mod column;
mod file;
mod ring;
mod sealed;

pub use file::{KeysError, add_key, load_or_create};
pub use ring::KeyRing;

pub(crate) use column::Column;
pub(crate) use sealed::Sealed;

/// Secrets in what is about to be sealed, or has just been opened.
pub(crate) mod shown {
    use coffer_domain::secret::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests;
