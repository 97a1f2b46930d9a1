//! Volumes and what they stand on.

mod place;

pub use place::{FtpPlace, HttpPlace, OpenBackend, Place, S3Place, SftpPlace};

use crate::{
    endpoint::Server,
    error::{FieldViolation, Resource},
    id::{CredentialId, EndpointId, LocalPathId, VolumeId},
    path::{PathRules, check_segment},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Most bytes of a volume's name.
pub const MAX_NAME_BYTES: usize = 100;
/// Most organisations, and most apps, a volume names in its access lists.
pub const MAX_ACCESS_ENTRIES: usize = 1_000;

/// A named place that holds bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Identity.
    pub id: VolumeId,
    /// Everything an operator sets.
    pub settings: Settings,
    /// Bytes of all versions of all files.
    pub quota_used: u64,
    /// Bytes held by unfinished uploads.
    #[serde(default)]
    pub quota_reserved: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its settings last changed.
    pub updated_at: Timestamp,
}

impl Volume {
    /// A volume that is made now.
    pub fn new(settings: Settings) -> Self {
        let at = crate::time::now();
        Self {
            id: VolumeId::new(),
            settings,
            quota_used: 0,
            quota_reserved: 0,
            created_at: at,
            updated_at: at,
        }
    }
}

/// What an operator sets on a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Unique.
    pub name: String,
    /// Where the bytes are. Fixed.
    pub backend: Backend,
    /// How keys are chosen. Fixed.
    pub strategy: Strategy,
    /// What becomes of earlier versions.
    pub versioning: Versioning,
    /// How paths are read. Fixed once the volume holds files.
    pub paths: PathRules,
    /// Put before every key; empty, or segments ending with `/`. Fixed once the volume holds files.
    pub default_prefix: String,
    /// Bytes the volume may hold.
    pub quota_limit: Option<u64>,
    /// Largest single file, in bytes.
    pub max_file_bytes: Option<u64>,
    /// Whether uploads and reads are possible.
    pub is_active: bool,
    /// Who may upload here; everybody if both lists are empty.
    pub allowed_organisations: Vec<String>,
    /// Apps that may upload here.
    pub allowed_apps: Vec<String>,
    /// Seconds the trash is kept; `None`: until somebody purges.
    pub trash_retention_seconds: Option<u64>,
    /// Seconds an open upload stays without recorded progress; `None`: [`DEFAULT_TTL_SECONDS`](crate::upload::DEFAULT_TTL_SECONDS).
    #[serde(default)]
    pub upload_ttl_seconds: Option<u64>,
}

/// Where a volume's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Backend {
    /// An approved directory of the host.
    Local {
        /// Which.
        local_path_id: LocalPathId,
    },
    /// A bucket on S3 or what speaks like it.
    S3 {
        /// Which endpoint.
        bucket_id: EndpointId,
        /// What opens it; `None`: its newest credential.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential_id: Option<CredentialId>,
    },
    /// An HTTP or WebDAV server.
    Http {
        /// Which.
        endpoint_id: EndpointId,
        /// What opens it; `None`: its newest credential, or nothing if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential_id: Option<CredentialId>,
        /// Whether an object is `{url}?id={key}` and not `{url}/{key}`.
        #[serde(default)]
        use_query_params: bool,
    },
    /// An FTP or SFTP server: which, it says itself.
    Ftp {
        /// Which endpoint. It has one credential at most.
        ftp_id: EndpointId,
    },
}

impl Backend {
    /// Whether it can stand on such a server.
    pub fn fits(&self, server: &Server) -> bool {
        match self {
            Self::Local { .. } => false,
            Self::S3 { .. } => matches!(server, Server::S3Bucket(_)),
            Self::Http { .. } => matches!(server, Server::Http(_)),
            Self::Ftp { .. } => matches!(server, Server::Ftp(_) | Server::Sftp(_)),
        }
    }

    /// The document's `driver`.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
            Self::S3 { .. } => "s3",
            Self::Http { .. } => "http",
            Self::Ftp { .. } => "ftp",
        }
    }

    /// The endpoint it stands on, with the credential that is named.
    pub fn endpoint(&self) -> Option<(EndpointId, Option<CredentialId>)> {
        match self {
            Self::Local { .. } => None,
            Self::S3 { bucket_id: id, credential_id } | Self::Http { endpoint_id: id, credential_id, .. } => {
                Some((*id, *credential_id))
            }
            Self::Ftp { ftp_id } => Some((*ftp_id, None)),
        }
    }
}

/// The kind of backend a file is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// A disk of the host.
    Local,
    /// A bucket on S3 or what speaks like it.
    S3,
    /// An HTTP or WebDAV server.
    Http,
    /// An FTP server.
    Ftp,
    /// An SFTP server.
    Sftp,
}

impl Provider {
    /// The document's `provider`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "s3",
            Self::Http => "http",
            Self::Ftp => "ftp",
            Self::Sftp => "sftp",
        }
    }
}

impl FromStr for Provider {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        match text {
            "local" => Ok(Self::Local),
            "s3" => Ok(Self::S3),
            "http" => Ok(Self::Http),
            "ftp" => Ok(Self::Ftp),
            "sftp" => Ok(Self::Sftp),
            _ => Err(UnknownValue),
        }
    }
}

/// How keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// [`crate::path::Key::apart`], and the current content of a file is also found at the file's path.
    None,
    /// [`crate::path::Key::of_version`]: never reused.
    Uuid,
    /// [`crate::path::Key::of_content`]: equal contents of the volume share one object.
    Hash,
}

impl Strategy {
    /// The document's `auto_path_strategy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Uuid => "uuid",
            Self::Hash => "hash",
        }
    }
}

impl FromStr for Strategy {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        match text {
            "none" => Ok(Self::None),
            "uuid" => Ok(Self::Uuid),
            "hash" => Ok(Self::Hash),
            _ => Err(UnknownValue),
        }
    }
}

/// What becomes of earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    /// The old content is reclaimed after the new one is committed.
    None,
    /// Earlier contents stay as objects of their own.
    Source,
}

impl Versioning {
    /// The document's `versioning_mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Source => "source",
        }
    }
}

impl FromStr for Versioning {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        match text {
            "none" => Ok(Self::None),
            "source" => Ok(Self::Source),
            _ => Err(UnknownValue),
        }
    }
}

/// A stored value that this build does not know: written by a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown value")]
pub struct UnknownValue;

impl Settings {
    /// Settings of a volume on `backend` with everything else as by default.
    pub fn new(name: impl Into<String>, backend: Backend) -> Self {
        Self {
            name: name.into(),
            backend,
            strategy: Strategy::Uuid,
            versioning: Versioning::None,
            paths: PathRules::default(),
            default_prefix: String::new(),
            quota_limit: None,
            max_file_bytes: None,
            is_active: true,
            allowed_organisations: Vec::new(),
            allowed_apps: Vec::new(),
            trash_retention_seconds: None,
            upload_ttl_seconds: None,
        }
    }

    /// How long an open upload stays without recorded progress.
    pub fn upload_ttl(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.upload_ttl_seconds.unwrap_or(crate::upload::DEFAULT_TTL_SECONDS))
    }

    /// Every malformed field, named as in the contract's `Volume`.
    pub fn violations(&self) -> Vec<FieldViolation> {
        let mut found = Vec::new();
        let mut check = |is_valid: bool, field: &str, problem: &str| {
            if !is_valid {
                found.push(FieldViolation { field: format!("volume.{field}"), problem: problem.to_owned() });
            }
        };
        check(
            is_name(&self.name),
            "name",
            "must be 1 to 100 of a-z 0-9 - _ . and begin with a letter or digit",
        );
        check(
            (1..=5).contains(&self.paths.delimiter.chars().count())
                && !self.paths.delimiter.chars().any(|c| c.is_control() || c.is_alphanumeric() || c == '.'),
            "path_delimiter",
            "must be 1 to 5 characters other than letters, digits, dots and control characters",
        );
        check(
            is_prefix(&self.default_prefix),
            "default_prefix",
            "must be empty, or valid segments each followed by /, not beginning with .coffer",
        );
        for (field, limit) in [
            ("quota_limit_bytes", self.quota_limit),
            ("max_file_bytes", self.max_file_bytes),
            ("trash_retention", self.trash_retention_seconds),
        ] {
            check(limit.is_none_or(|n| i64::try_from(n).is_ok()), field, "is too large");
        }
        check(
            self.upload_ttl_seconds.is_none_or(|seconds| crate::upload::TTL_SECONDS.contains(&seconds)),
            "upload_ttl",
            "must be 1 minute to 7 days",
        );
        for (field, names) in
            [("allowed_organisations", &self.allowed_organisations), ("allowed_apps", &self.allowed_apps)]
        {
            check(names.len() <= MAX_ACCESS_ENTRIES, field, "must have at most 1,000 entries");
            check(
                names.iter().all(|n| crate::name::is_identifier(n)),
                field,
                "entries must be 1 to 100 visible characters",
            );
        }
        found
    }

    /// The name of the first setting that may not change from `self` to `new` while the volume holds files.
    pub fn fixed_change(&self, new: &Self) -> Option<&'static str> {
        if self.paths.is_hierarchical != new.paths.is_hierarchical {
            Some("enforce_hierarchy is fixed once the volume holds files")
        } else if self.paths.delimiter != new.paths.delimiter {
            Some("path_delimiter is fixed once the volume holds files")
        } else if self.default_prefix != new.default_prefix {
            Some("default_prefix is fixed once the volume holds files")
        } else {
            None
        }
    }
}

/// Changes of settings; `None` leaves a setting as it is, `Some(None)` removes a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New name.
    pub name: Option<String>,
    /// New versioning.
    pub versioning: Option<Versioning>,
    /// Whether paths are folders.
    pub is_hierarchical: Option<bool>,
    /// New delimiter.
    pub delimiter: Option<String>,
    /// New prefix.
    pub default_prefix: Option<String>,
    /// New limit of bytes.
    pub quota_limit: Option<Option<u64>>,
    /// New limit of a single file.
    pub max_file_bytes: Option<Option<u64>>,
    /// On or off.
    pub is_active: Option<bool>,
    /// Who may upload, as a whole.
    pub allowed_organisations: Option<Vec<String>>,
    /// Which apps may upload, as a whole.
    pub allowed_apps: Option<Vec<String>>,
    /// New keeping of the trash.
    pub trash_retention_seconds: Option<Option<u64>>,
    /// New keeping of open uploads.
    pub upload_ttl_seconds: Option<Option<u64>>,
}

impl Changes {
    /// The settings after these changes.
    pub fn apply(self, mut settings: Settings) -> Settings {
        fn set<T>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        set(&mut settings.name, self.name);
        set(&mut settings.versioning, self.versioning);
        set(&mut settings.paths.is_hierarchical, self.is_hierarchical);
        set(&mut settings.paths.delimiter, self.delimiter);
        set(&mut settings.default_prefix, self.default_prefix);
        set(&mut settings.quota_limit, self.quota_limit);
        set(&mut settings.max_file_bytes, self.max_file_bytes);
        set(&mut settings.is_active, self.is_active);
        set(&mut settings.allowed_organisations, self.allowed_organisations);
        set(&mut settings.allowed_apps, self.allowed_apps);
        set(&mut settings.trash_retention_seconds, self.trash_retention_seconds);
        set(&mut settings.upload_ttl_seconds, self.upload_ttl_seconds);
        settings
    }
}

/// A volume by id or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeRef {
    /// By id.
    Id(VolumeId),
    /// By name.
    Name(String),
}

impl VolumeRef {
    /// Reads a UUID or a name. `None` if the text is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(id) => Some(Self::Id(id)),
            Err(_) => is_name(text).then(|| Self::Name(text.to_owned())),
        }
    }

    /// For a refusal.
    pub fn resource(&self) -> Resource {
        Resource::Volume(match self {
            Self::Id(id) => id.to_string(),
            Self::Name(name) => name.clone(),
        })
    }
}

/// A directory of the host that volumes may stand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPath {
    /// Identity.
    pub id: LocalPathId,
    /// Absolute.
    pub path: String,
    /// For people.
    pub description: String,
    /// When it was approved.
    pub created_at: Timestamp,
}

fn is_name(text: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && text.bytes().next().is_some_and(is_first)
        && text.bytes().all(|b| is_first(b) || matches!(b, b'-' | b'_' | b'.'))
}

fn is_prefix(text: &str) -> bool {
    text.is_empty()
        || (text.len() <= 512
            && text.strip_suffix('/').is_some_and(|t| {
                !t.to_ascii_lowercase().starts_with(crate::path::RESERVED)
                    && t.split('/').all(|s| check_segment(s).is_ok())
            }))
}
