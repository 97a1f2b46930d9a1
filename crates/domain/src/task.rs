//! Long work that goes on when its caller leaves and when its node dies.

use crate::{error::Resource, file::texts, id::TaskId, secret::KeyId, time::Timestamp, volume::UnknownValue};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

texts! {
    /// Where a task is.
    TaskState {
        /// Somebody works on it, or will.
        Running = "RUNNING",
        /// All is done.
        Succeeded = "SUCCEEDED",
        /// It ended before all was done; what was done stays.
        Failed = "FAILED",
        /// It was asked to end; what was done stays.
        Cancelled = "CANCELLED",
    }
}

texts! {
    /// Kinds of work, for filters.
    TaskKind {
        /// [`Work::RotateKeys`].
        RotateKeys = "rotate_keys",
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// All secrets are sealed under one key.
    RotateKeys {
        /// Which.
        key_id: KeyId,
    },
}

impl Work {
    /// Its kind.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::RotateKeys { .. } => TaskKind::RotateKeys,
        }
    }
}

/// A task that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Identity.
    pub id: TaskId,
    /// What is to be done.
    pub work: Work,
}

/// Long work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Identity.
    pub id: TaskId,
    /// What is to be done.
    pub work: Work,
    /// Where it is.
    pub state: TaskState,
    /// Items that are done.
    pub items_done: u64,
    /// Items that could not be done.
    pub items_failed: u64,
    /// Items there were at its beginning; others may come.
    pub items_total: u64,
    /// Why it failed.
    pub error: Option<TaskError>,
    /// It was asked to end.
    pub is_cancel_requested: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When something of it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// As [`Error::reason`](crate::Error::reason).
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Task {
    /// For a refusal.
    pub fn resource(id: TaskId) -> Resource {
        Resource::Task(id.to_string())
    }
}

/// Which tasks are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<TaskState>,
    /// Of this kind.
    pub kind: Option<TaskKind>,
}
