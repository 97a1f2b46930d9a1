//! An upload on its way to a file: how it begins, and what it becomes.

use super::NodeStart;
use crate::{
    caller::User,
    content::Stored,
    driver::NativeVersion,
    file::{Changes, Description, Owner, Payer},
    id::{FileId, ObjectId, UploadId, VersionId, VolumeId},
    operation::Operation,
    path::{Key, StoragePath},
    quota::Hold,
    request::Request,
    time::Timestamp,
    upload::Held,
    volume::Provider,
};

/// An upload that has begun.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Identity.
    pub id: UploadId,
    /// Where the bytes go.
    pub volume: VolumeId,
    /// The key they will have: recorded before the first byte, so that none is ever without a row. Where their content decides it,
    /// [`Key::apart`] until that is known.
    pub key: Key,
    /// The version they will be.
    pub version: VersionId,
    /// An existing file that gets a version.
    pub file: Option<FileId>,
    /// Whom they are charged to.
    pub payer: Payer,
    /// What is held of the payer's quotas from the start.
    pub hold: Hold,
    /// Size of the content as far as it is known, for limits on single files.
    pub file_bytes: u64,
    /// Bytes that its commit gives back.
    pub replaced_bytes: u64,
    /// The caller's scope of request ids.
    pub scope: String,
    /// The request; without one the upload ends with its stream.
    pub request: Option<Request>,
    /// Most uploads with a request that may be open in its scope, this one included.
    pub open_limit: usize,
    /// What the caller asked for, for whoever goes on with it.
    pub spec: serde_json::Value,
    /// Bytes the caller declared.
    pub declared_size: Option<u64>,
    /// The node's start that works on it.
    pub start: NodeStart,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A finished upload.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its intent.
    pub held: Held,
    /// New file, or new version of one.
    pub target: Target,
    /// The version.
    pub version: VersionId,
    /// The object, published under its key.
    pub object: ObjectId,
    /// Volume of the object.
    pub volume: VolumeId,
    /// Key of the object.
    pub key: Key,
    /// What was stored.
    pub stored: Stored,
    /// What the backend calls the object's version, where it keeps versions.
    pub native_version: Option<NativeVersion>,
    /// Whether equal contents of the volume are one object: the version names the one that is there, if there is one, and this one is reclaimed.
    pub is_shareable: bool,
    /// Whether the content is to be found at the file's path too.
    pub is_linked: bool,
    /// Whether the content it replaces stays as an earlier version; else it is given up.
    pub keeps_versions: bool,
    /// Why this version was made.
    pub change_description: String,
    /// Who made it.
    pub by: Option<User>,
    /// The audit record; `file_id` is filled in by the store for a version of an existing file.
    pub operation: Operation,
    /// The request, if it is protected.
    pub request: Option<Request>,
    /// When.
    pub at: Timestamp,
}

/// What an upload becomes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A new file; its content fields are filled in by the store from the commit.
    New(Box<NewFile>),
    /// A new version of a live file, with the description changed as the upload asks.
    Version {
        /// The file.
        file: FileId,
        /// The revision it must have.
        if_revision: Option<u64>,
        /// What the upload changes of the description.
        changes: Changes,
    },
}

/// A file that is not stored yet.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Identity.
    pub id: FileId,
    /// The caller's name or the default one.
    pub file_id: String,
    /// Whose it is.
    pub owner: Owner,
    /// Tenant.
    pub organisation: String,
    /// Project.
    pub project: Option<String>,
    /// Place.
    pub path: StoragePath,
    /// Description.
    pub description: Description,
    /// Visibility.
    pub is_public: bool,
    /// Kind of backend.
    pub provider: Provider,
}
