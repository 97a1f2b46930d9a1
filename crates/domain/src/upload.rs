//! Uploads: contents on their way in, as rows that survive connections, clients and servers.

use crate::{
    content::SavedState,
    file::{Payer, texts},
    id::{FileId, UploadId, VersionId, VolumeId},
    path::Key,
    quota::Hold,
    request::Request,
    time::Timestamp,
    volume::UnknownValue,
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Largest single file there is, 1 PiB: what nobody can store should not take quota from those who can.
pub const MAX_FILE_BYTES: u64 = 1 << 50;
/// How long an open upload stays without recorded progress where its volume says nothing else.
pub const DEFAULT_TTL_SECONDS: u64 = 24 * 3_600;
/// Shortest and longest time a volume may say.
pub const TTL_SECONDS: std::ops::RangeInclusive<u64> = 60..=7 * 24 * 3_600;
/// How long the row of an upload that has ended is kept.
pub const ENDED_TTL_HOURS: i64 = 24;

texts! {
    /// Where an upload is in its life.
    State {
        /// Takes bytes.
        Open = "OPEN",
        /// All bytes are there; a node makes them a file.
        Finishing = "FINISHING",
        /// It is a file.
        Committed = "COMMITTED",
        /// Refused, cancelled or given up.
        Aborted = "ABORTED",
        /// Nothing was recorded of it for too long.
        Expired = "EXPIRED",
    }
}

/// An upload as its row has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    /// Identity.
    pub id: UploadId,
    /// Where it is in its life.
    pub state: State,
    /// Grows by one whenever somebody takes it over or ends it: whoever knows an earlier one can change nothing any more.
    pub epoch: i64,
    /// Where the bytes go.
    pub volume: VolumeId,
    /// The key they will have.
    pub key: Key,
    /// The version they will be.
    pub version: VersionId,
    /// The file: an existing one that gets a version, or what it became.
    pub file: Option<FileId>,
    /// Whom it is charged to.
    pub payer: Payer,
    /// Who may write it: the caller's scope of request ids.
    pub scope: String,
    /// The request that started it; `None`: it ends with its stream.
    #[serde(skip)]
    pub request: Option<Request>,
    /// What the caller asked for.
    pub spec: serde_json::Value,
    /// Bytes the caller declared.
    pub declared_size: Option<u64>,
    /// Bytes that are durable on the backend and recorded.
    pub persisted_size: u64,
    /// State of the hashes after them; `None` at 0.
    #[serde(skip)]
    pub state_at_persisted: Option<SavedState>,
    /// Quota it holds, in each dimension of its payer.
    pub held: Hold,
    /// When it was started.
    pub created_at: Timestamp,
    /// Last recorded progress or change of state.
    pub updated_at: Timestamp,
    /// When it expires unless progress is recorded before.
    pub expires_at: Timestamp,
}

impl Upload {
    /// What its holder names it by.
    pub fn held_by_epoch(&self) -> Held {
        Held { upload: self.id, epoch: self.epoch }
    }
}

/// An upload at the epoch its holder knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The upload.
    pub upload: UploadId,
    /// The epoch.
    pub epoch: i64,
}

/// Recorded progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub held: Held,
    /// Bytes that are durable on the backend.
    pub persisted_size: u64,
    /// State of the hashes after them.
    pub state: SavedState,
}

/// Whose uploads a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those a caller may write.
    Own(String),
    /// All of an organisation.
    Organisation(String),
}

/// What a list of uploads shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// To this path, as the caller asked for it.
    pub path: Option<String>,
}
