//! What is left to be set right on backends.

use crate::{
    id::{ObjectId, UploadId, VolumeId},
    path::Key,
    time::Timestamp,
};

/// An upload that ended without a file and whose bytes may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadUpload {
    /// The upload.
    pub id: UploadId,
    /// Its volume.
    pub volume: VolumeId,
    /// The key its bytes may be at.
    pub key: Key,
}

/// A path of a volume at which something else is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its volume.
    pub volume: VolumeId,
    /// The path, in NFC.
    pub nfc: String,
    /// Grows with each change of what is to be there.
    pub revision: i64,
    /// The object that is to be there, and its key; `None`: nothing.
    pub next: Option<(ObjectId, Key)>,
    /// Keys of what of ours may be there now.
    pub before: Vec<Key>,
}

/// Bytes that nobody names any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaim {
    /// The object.
    pub object: ObjectId,
    /// Its volume.
    pub volume: VolumeId,
    /// Its key.
    pub key: Key,
}

/// A live object, for comparing rows with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// The object.
    pub id: ObjectId,
    /// Its key.
    pub key: Key,
    /// Bytes on the backend.
    pub stored_size: u64,
    /// When it was committed.
    pub created_at: Timestamp,
}
