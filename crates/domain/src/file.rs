//! Files: their description, their content, and how they are asked for.

use crate::{
    error::{FieldViolation, Resource},
    id::{FileId, ObjectId, UserId, VersionId, VolumeId},
    name,
    path::{Key, StoragePath},
    time::Timestamp,
    volume::{Provider, UnknownValue, VolumeRef},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Custom metadata: a JSON object.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A file with its current (or a chosen) content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Identity, for good.
    pub id: FileId,
    /// The caller's own name for it, or [`FileId::default_name`].
    pub file_id: String,
    /// Volume that holds it.
    pub volume: VolumeId,
    /// Whose it is.
    pub owner: Owner,
    /// Tenant.
    pub organisation: String,
    /// Project that is charged as well.
    pub project: Option<String>,
    /// Place in the volume.
    pub path: StoragePath,
    /// First name.
    pub original_name: String,
    /// What can be changed without new content.
    #[serde(flatten)]
    pub description: Description,
    /// The stored content.
    pub content: Content,
    /// Life of the file.
    pub status: Status,
    /// Anybody may read the content.
    pub is_public: bool,
    /// Kind of backend.
    pub provider: Provider,
    /// First author; `None`: an app.
    pub created_by: Option<UserId>,
    /// Last author; `None`: an app.
    pub updated_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change of content or description.
    pub updated_at: Timestamp,
    /// When it went to the trash.
    pub deleted_at: Option<Timestamp>,
    /// When it was purged: only a tombstone is left.
    pub purged_at: Option<Timestamp>,
    /// Last read of the content.
    pub last_accessed_at: Option<Timestamp>,
    /// Reads of the content.
    pub access_count: u64,
    /// Grows with every change of content or description.
    pub revision: u64,
}

impl File {
    /// What clients compare: changes with the revision.
    pub fn etag(&self) -> String {
        self.revision.to_string()
    }

    /// Who pays for its versions.
    pub fn payer(&self) -> Payer {
        Payer {
            volume: self.volume,
            user: self.owner.user,
            app: self.owner.app.clone(),
            organisation: self.organisation.clone(),
            project: self.project.clone(),
        }
    }
}

/// Who owns a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Kind of owner.
    pub namespace: Namespace,
    /// The user, in namespace `users`.
    pub user: Option<UserId>,
    /// The app that owns it (namespace `apps`), or through which its user made it.
    pub app: Option<String>,
}

impl Owner {
    /// The owner's name in a path made by the service.
    pub fn path_segment(&self) -> String {
        match (self.namespace, self.user, &self.app) {
            (Namespace::Users, Some(user), _) => user.to_string(),
            (_, _, Some(app)) => app.clone(),
            (_, Some(user), None) => user.to_string(),
            (_, None, None) => "system".to_owned(),
        }
    }
}

/// What of a file is description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Current name.
    pub filename: String,
    /// MIME type.
    pub mime_type: String,
    /// Content encoding as the caller named it; may be empty.
    pub encoding: String,
    /// How sensitive it is.
    pub classification: Classification,
    /// Tags, each once.
    pub tags: Vec<String>,
    /// Custom metadata.
    pub custom_metadata: Metadata,
}

impl Description {
    /// Every malformed field, named below `prefix` as in the contract.
    pub fn violations(&self, prefix: &str) -> Vec<FieldViolation> {
        let checks = [
            ("filename", name::check_filename(&self.filename).map_err(|e| e.to_string())),
            ("mime_type", name::check_mime(&self.mime_type).map_err(str::to_owned)),
            ("encoding", name::check_encoding(&self.encoding).map_err(str::to_owned)),
            ("tags", name::check_tags(&self.tags).map_err(str::to_owned)),
            ("custom_metadata", name::check_metadata(&self.custom_metadata).map_err(str::to_owned)),
        ];
        checks
            .into_iter()
            .filter_map(|(field, outcome)| {
                Some(FieldViolation { field: format!("{prefix}{field}"), problem: outcome.err()? })
            })
            .collect()
    }
}

/// One immutable content of a file and the object that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The version.
    pub version: VersionId,
    /// Its number, from 1.
    pub number: u32,
    /// The object.
    pub object: ObjectId,
    /// The object's key.
    pub key: Key,
    /// Plain bytes.
    pub size: u64,
    /// SHA-256 of the plain bytes.
    pub sha256: Sha256Sum,
    /// CRC-32C of the plain bytes.
    pub crc32c: u32,
}

/// A SHA-256, shown as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Sum(pub [u8; 32]);

impl FromStr for Sha256Sum {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| UnknownValue)?;
        bytes.try_into().map(Self).map_err(|_| UnknownValue)
    }
}

impl TryFrom<String> for Sha256Sum {
    type Error = UnknownValue;

    fn try_from(text: String) -> Result<Self, UnknownValue> {
        text.parse()
    }
}

impl From<Sha256Sum> for String {
    fn from(sum: Sha256Sum) -> Self {
        sum.to_string()
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// The stored value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownValue;

            fn from_str(text: &str) -> Result<Self, UnknownValue> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(UnknownValue) }
            }
        }
    };
}
pub(crate) use texts;

texts! {
    /// Kinds of owner.
    Namespace {
        /// A user's file.
        Users = "users",
        /// An app's file.
        Apps = "apps",
    }
}

texts! {
    /// How sensitive a file is.
    Classification {
        /// For everybody.
        Public = "public",
        /// For the organisation.
        Internal = "internal",
        /// Views are recorded.
        Confidential = "confidential",
        /// Views are recorded.
        Restricted = "restricted",
    }
}

texts! {
    /// Life of a file.
    Status {
        /// In use.
        Active = "active",
        /// Readable, not replaceable.
        Archived = "archived",
        /// In the trash, or purged.
        Deleted = "deleted",
        /// Not readable.
        Corrupted = "corrupted",
    }
}

/// Whom a file's versions are charged to: fixed when the file is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payer {
    /// Its volume.
    pub volume: VolumeId,
    /// Its owner.
    pub user: Option<UserId>,
    /// Its app.
    pub app: Option<String>,
    /// Its tenant; not charged if empty.
    pub organisation: String,
    /// Its project.
    pub project: Option<String>,
}

/// How a caller names a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRef {
    /// By id.
    Id(FileId),
    /// By the caller's own name, in the caller's organisation.
    Name(String),
    /// By place, in the caller's organisation. Live files only.
    Path {
        /// `None`: the default volume.
        volume: Option<VolumeRef>,
        /// As the caller wrote it.
        path: String,
    },
}

impl FileRef {
    /// For a refusal: says what the caller said.
    pub fn resource(&self) -> Resource {
        Resource::File(match self {
            Self::Id(id) => id.to_string(),
            Self::Name(name) => name.clone(),
            Self::Path { path, .. } => path.clone(),
        })
    }
}

/// Changes of a description; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// New place.
    pub path: Option<String>,
    /// New name.
    pub filename: Option<String>,
    /// New type.
    pub mime_type: Option<String>,
    /// New encoding.
    pub encoding: Option<String>,
    /// New classification.
    pub classification: Option<Classification>,
    /// New tags, as a whole.
    pub tags: Option<Vec<String>>,
    /// New custom metadata, as a whole.
    pub custom_metadata: Option<Metadata>,
    /// New visibility.
    pub is_public: Option<bool>,
    /// Archive or back.
    pub is_archived: Option<bool>,
}

impl Changes {
    /// Changes `file` as far as it is description; time, author and revision are the store's. The path was checked by who asked.
    pub fn apply(&self, file: &mut File) {
        fn set<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        if let Some(path) = &self.path {
            file.path = StoragePath::stored(path.clone());
        }
        let description = &mut file.description;
        set(&mut description.filename, &self.filename);
        set(&mut description.mime_type, &self.mime_type);
        set(&mut description.encoding, &self.encoding);
        set(&mut description.classification, &self.classification);
        set(&mut description.tags, &self.tags);
        set(&mut description.custom_metadata, &self.custom_metadata);
        set(&mut file.is_public, &self.is_public);
        if let Some(is_archived) = self.is_archived {
            file.status = if is_archived { Status::Archived } else { Status::Active };
        }
    }
}

/// Named orders of a list; the id decides among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Order {
    /// By creation.
    #[default]
    Created,
    /// By last change.
    Updated,
    /// By name, byte by byte.
    Name,
    /// By size.
    Size,
}

/// Which files a caller asks for, beside what it may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// In this volume.
    pub volume: Option<VolumeRef>,
    /// With paths that begin with this.
    pub path_prefix: Option<String>,
    /// Of this owner.
    pub owner: Option<UserId>,
    /// Of or through this app.
    pub app: Option<String>,
    /// In the trash.
    pub is_deleted: bool,
    /// In this order.
    pub order: Order,
    /// The other way round.
    pub is_descending: bool,
}
