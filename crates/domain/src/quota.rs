//! Quotas: limits and exact usage, in six dimensions at once.

use crate::{
    id::{UserId, VolumeId},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes and files a quota without limits can count.
const MAX_BYTES: u64 = i64::MAX as u64;
const MAX_FILES: u64 = i32::MAX as u64;

/// Names one quota. The order is that in which rows are locked, everywhere: two who lock in different orders would sooner or later
/// wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuotaKey {
    /// All of a volume.
    Volume(VolumeId),
    /// A user on a volume.
    UserOnVolume(UserId, VolumeId),
    /// An app on a volume.
    AppOnVolume(String, VolumeId),
    /// A user, everywhere.
    User {
        /// Tenant of the user.
        organisation: String,
        /// The user.
        user: UserId,
    },
    /// An organisation.
    Organisation(String),
    /// A project of an organisation.
    Project {
        /// Tenant of the project.
        organisation: String,
        /// The project.
        project: String,
    },
}

impl fmt::Display for QuotaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "volume:{volume}"),
            Self::UserOnVolume(user, volume) => write!(f, "user:{user}@volume:{volume}"),
            Self::AppOnVolume(app, volume) => write!(f, "app:{app}@volume:{volume}"),
            Self::User { user, .. } => write!(f, "user:{user}"),
            Self::Organisation(organisation) => write!(f, "organisation:{organisation}"),
            Self::Project { project, .. } => write!(f, "project:{project}"),
        }
    }
}

impl crate::file::Payer {
    /// Every quota this payer is charged on, in the order of [`QuotaKey`].
    pub fn quotas(&self) -> Vec<QuotaKey> {
        let mut keys = vec![QuotaKey::Volume(self.volume)];
        keys.extend(self.user.map(|user| QuotaKey::UserOnVolume(user, self.volume)));
        keys.extend(self.app.clone().map(|app| QuotaKey::AppOnVolume(app, self.volume)));
        keys.extend(self.user.map(|user| QuotaKey::User { organisation: self.organisation.clone(), user }));
        if !self.organisation.is_empty() {
            keys.push(QuotaKey::Organisation(self.organisation.clone()));
        }
        keys.extend(
            self.project
                .clone()
                .map(|project| QuotaKey::Project { organisation: self.organisation.clone(), project }),
        );
        keys
    }
}

/// A limit and its usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Which.
    pub key: QuotaKey,
    /// Bytes and files allowed, taken and reserved.
    pub usage: Usage,
    /// Last change; `None`: never used or limited.
    pub updated_at: Option<Timestamp>,
}

/// Limits and usage of one quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Most bytes.
    pub limit_bytes: Option<u64>,
    /// Bytes of all versions.
    pub used_bytes: u64,
    /// Bytes taken by unfinished uploads.
    pub reserved_bytes: u64,
    /// Most files.
    pub limit_files: Option<u64>,
    /// Files not purged.
    pub used_files: u64,
    /// Files taken by unfinished uploads.
    pub reserved_files: u64,
    /// Largest single file, in bytes.
    pub max_file_bytes: Option<u64>,
}

/// What an unfinished upload holds in each of its payer's quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hold {
    /// Bytes.
    pub bytes: u64,
    /// Files: 1 for a new one.
    pub files: u64,
}

/// What a commit adds and gives back, or a reservation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge {
    /// Bytes added.
    pub add_bytes: u64,
    /// Bytes given back.
    pub free_bytes: u64,
    /// Files added.
    pub add_files: u64,
    /// Files given back.
    pub free_files: u64,
    /// Size of the single file this makes, for the limit on that.
    pub file_bytes: u64,
}

impl Charge {
    /// What is added and not covered by what is held already: that much has to fit.
    pub fn beyond(self, held: Hold) -> Self {
        let rest = |add: u64, free: u64, held: u64| add.saturating_sub(free).saturating_sub(held);
        Self {
            add_bytes: rest(self.add_bytes, self.free_bytes, held.bytes),
            free_bytes: 0,
            add_files: rest(self.add_files, self.free_files, held.files),
            free_files: 0,
            file_bytes: self.file_bytes,
        }
    }
}

impl Usage {
    /// What is in the way of a charge; nothing if it fits. Giving back always fits: only growth is refused.
    pub fn exhausted(&self, key: &QuotaKey, charge: Charge) -> Vec<Exhausted> {
        let is_over = |limit: u64, taken: u64, add: u64, free: u64| {
            add > free && taken.saturating_add(add - free) > limit
        };
        let mut found = Vec::new();
        let mut check = |dimension, limit: u64, used: u64, reserved: u64, add: u64, free| {
            if is_over(limit, used.saturating_add(reserved), add, free) {
                found.push(Exhausted { key: key.clone(), dimension, limit, used, reserved, requested: add });
            }
        };
        check(
            Dimension::Bytes,
            self.limit_bytes.unwrap_or(MAX_BYTES),
            self.used_bytes,
            self.reserved_bytes,
            charge.add_bytes,
            charge.free_bytes,
        );
        check(
            Dimension::Files,
            self.limit_files.unwrap_or(MAX_FILES),
            self.used_files,
            self.reserved_files,
            charge.add_files,
            charge.free_files,
        );
        if let Some(limit) = self.max_file_bytes.filter(|limit| charge.file_bytes > *limit) {
            found.push(Exhausted {
                key: key.clone(),
                dimension: Dimension::FileSize,
                limit,
                used: 0,
                reserved: 0,
                requested: charge.file_bytes,
            });
        }
        found
    }
}

/// What of a quota is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dimension {
    /// Bytes in all.
    Bytes,
    /// Number of files.
    Files,
    /// Bytes of a single file.
    FileSize,
}

/// One exhausted dimension, with all that a caller needs to see why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// The quota.
    pub key: QuotaKey,
    /// Of what.
    pub dimension: Dimension,
    /// What is allowed.
    pub limit: u64,
    /// What is taken.
    pub used: u64,
    /// What is reserved.
    pub reserved: u64,
    /// What was asked for.
    pub requested: u64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.dimension {
            Dimension::Bytes | Dimension::FileSize => "bytes",
            Dimension::Files => "files",
        };
        let Self { key, limit, used, reserved, requested, .. } = self;
        match self.dimension {
            Dimension::FileSize => {
                write!(f, "{key}: a single file may have {limit} bytes, {requested} requested")
            }
            _ => write!(
                f,
                "{key}: limit {limit} {unit}, {used} used, {reserved} reserved, {requested} requested"
            ),
        }
    }
}

/// A quota whose counter differs from what its rows add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which.
    pub key: QuotaKey,
    /// Bytes the counter says.
    pub counted_bytes: i64,
    /// Bytes the rows add up to.
    pub actual_bytes: i64,
    /// Files the counter says; 0 where files are not counted.
    pub counted_files: i64,
    /// Files the rows add up to; 0 where files are not counted.
    pub actual_files: i64,
    /// Reserved bytes the counter says.
    pub counted_reserved_bytes: i64,
    /// Bytes that unfinished uploads hold.
    pub actual_reserved_bytes: i64,
    /// Reserved files the counter says; 0 where files are not counted.
    pub counted_reserved_files: i64,
    /// Files that unfinished uploads hold; 0 where files are not counted.
    pub actual_reserved_files: i64,
}

/// What an operator sets; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most bytes.
    pub bytes: Option<u64>,
    /// Most files; of users, organisations and projects only.
    pub files: Option<u64>,
    /// Largest single file; of users, organisations and projects only.
    pub max_file_bytes: Option<u64>,
}

/// Kinds of quotas, in the order of [`QuotaKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`QuotaKey::Volume`].
    Volume,
    /// [`QuotaKey::UserOnVolume`].
    UserOnVolume,
    /// [`QuotaKey::AppOnVolume`].
    AppOnVolume,
    /// [`QuotaKey::User`].
    User,
    /// [`QuotaKey::Organisation`].
    Organisation,
    /// [`QuotaKey::Project`].
    Project,
}

/// Whose quotas a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of an organisation, of its users on volumes, of every volume and of apps on volumes.
    All {
        /// Tenant.
        organisation: String,
    },
    /// Those a caller is charged on.
    Own {
        /// Tenant.
        organisation: String,
        /// The user, if there is one.
        user: Option<UserId>,
        /// The app, if there is one.
        app: Option<String>,
        /// Projects.
        projects: Vec<String>,
    },
}

/// What a list of quotas shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// On this volume.
    pub volume: Option<VolumeId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> QuotaKey {
        QuotaKey::Organisation("clinic".into())
    }

    proptest! {
        #[test]
        fn what_fits_stays_within_the_limit(limit in 0u64..100, used in 0u64..150, reserved in 0u64..50, add in 0u64..100, free in 0u64..100) {
            let usage = Usage { limit_bytes: Some(limit), used_bytes: used, reserved_bytes: reserved, ..Usage::default() };
            let charge = Charge { add_bytes: add, free_bytes: free, ..Charge::default() };
            if usage.exhausted(&key(), charge).is_empty() {
                prop_assert!(add <= free || used + reserved + add - free <= limit);
            } else {
                prop_assert!(add > free && used + reserved + add - free > limit);
            }
        }
    }

    #[test]
    fn each_dimension_is_named() {
        let usage = Usage {
            limit_bytes: Some(10),
            used_bytes: 8,
            limit_files: Some(1),
            used_files: 1,
            max_file_bytes: Some(2),
            ..Usage::default()
        };
        let charge = Charge { add_bytes: 3, add_files: 1, file_bytes: 3, ..Charge::default() };
        let found = usage.exhausted(&key(), charge);
        assert_eq!(
            found.iter().map(|e| e.dimension).collect::<Vec<_>>(),
            [Dimension::Bytes, Dimension::Files, Dimension::FileSize]
        );
        assert_eq!(usage.exhausted(&key(), Charge { add_bytes: 2, file_bytes: 2, ..Charge::default() }), []);
    }

    #[test]
    fn counters_do_not_overflow() {
        let usage = Usage { reserved_bytes: 1, ..Usage::default() };
        let charge = |add_bytes| Charge { add_bytes, ..Charge::default() };
        assert_eq!(usage.exhausted(&key(), charge(MAX_BYTES - 1)), []);
        assert_eq!(usage.exhausted(&key(), charge(MAX_BYTES)).len(), 1);
    }

    #[test]
    fn what_is_held_covers_what_is_added() {
        let charge =
            Charge { add_bytes: 10, free_bytes: 3, add_files: 1, file_bytes: 10, ..Charge::default() };
        let rest = |bytes, files| {
            let rest = charge.beyond(Hold { bytes, files });
            (rest.add_bytes, rest.add_files, rest.file_bytes)
        };
        assert_eq!(rest(0, 0), (7, 1, 10));
        assert_eq!(rest(5, 1), (2, 0, 10));
        assert_eq!(rest(9, 1), (0, 0, 10));
    }
}
