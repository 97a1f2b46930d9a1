//! How files are found.

use crate::{
    id::{FileId, UserId},
    volume::VolumeRef,
};

/// A file as it can be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// By id, in any organisation: rights are checked on what is found.
    Id(FileId),
    /// By its organisation's name for it.
    Name {
        /// Tenant.
        organisation: String,
        /// `file_id`.
        name: String,
    },
    /// By place.
    Path {
        /// Tenant.
        organisation: String,
        /// Volume.
        volume: VolumeRef,
        /// Path in NFC.
        nfc: String,
    },
}

/// Whose files a list may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of an organisation.
    Organisation(String),
    /// A user's own.
    User {
        /// Tenant.
        organisation: String,
        /// Owner.
        user: UserId,
    },
    /// An app's own.
    App {
        /// Tenant.
        organisation: String,
        /// Owner.
        app: String,
    },
}
