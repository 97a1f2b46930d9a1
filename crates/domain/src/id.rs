//! Identifiers, each a type of its own so that one cannot stand for another.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id (UUIDv7): later ids sort after earlier ones.
            #[expect(clippy::new_without_default, reason = "every call gives another id")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as a plain UUID, for the wire and the database.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )+};
}

ids! {
    /// A file, for its whole life and as a tombstone.
    FileId,
    /// One immutable content of a file.
    VersionId,
    /// Stored bytes under one key of a volume.
    ObjectId,
    /// A content on its way in.
    UploadId,
    /// A named place that holds bytes.
    VolumeId,
    /// An approved directory of the host.
    LocalPathId,
    /// One audit record.
    OperationId,
    /// A user: the token's subject if that is a UUID, else derived from issuer and subject.
    UserId,
    /// One `cofferd`, across its restarts.
    NodeId,
    /// What a caller names a mutation by, so that sending it twice has one effect.
    RequestId,
    /// The metadata database a volume's marker names.
    ClusterId,
    /// An event for other systems.
    EventId,
    /// A server that volumes stand on.
    EndpointId,
    /// What opens an endpoint.
    CredentialId,
    /// Long work.
    TaskId,
}

impl UserId {
    /// The id of a subject: the subject itself where it is a UUID, else UUIDv5 of issuer and subject. The same on every node.
    pub fn of_subject(issuer: &str, subject: &str) -> Self {
        match Uuid::parse_str(subject) {
            Ok(id) if !id.is_nil() => Self(id),
            _ => Self(Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{issuer}\u{0}{subject}").as_bytes())),
        }
    }
}

impl FileId {
    /// The name a file has when its creator gave none: `file_` and the id in lowercase base32 (RFC 4648, no padding).
    pub fn default_name(self) -> String {
        let mut text = data_encoding::BASE32_NOPAD.encode(self.0.as_bytes());
        text.make_ascii_lowercase();
        format!("file_{text}")
    }
}

/// The text is not a UUID in its hyphenated form, or is the nil UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID such as 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
pub struct NotAnId;

fn parse(text: &str) -> Result<Uuid, NotAnId> {
    if text.len() != 36 {
        return Err(NotAnId);
    }
    Uuid::parse_str(text).ok().filter(|id| !id.is_nil()).ok_or(NotAnId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hyphenated_uuids_are_ids() {
        for bad in [
            "",
            "not-a-uuid",
            "00000000-0000-0000-0000-000000000000",
            "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
            "{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5}",
        ] {
            assert_eq!(bad.parse::<FileId>(), Err(NotAnId), "{bad}");
        }
        let id = FileId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_subject_that_is_no_uuid_has_the_same_id_everywhere_but_per_issuer() {
        assert_eq!(UserId::of_subject("https://a", "ann"), UserId::of_subject("https://a", "ann"));
        assert_ne!(UserId::of_subject("https://a", "ann"), UserId::of_subject("https://b", "ann"));
        let id = UserId::new();
        assert_eq!(UserId::of_subject("https://a", &id.to_string()), id);
    }
}
