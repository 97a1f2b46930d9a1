//! Quotas as rows of four tables, found by their keys.

use coffer_domain::quota::{Quota, QuotaKey, Usage};
use coffer_domain::time::Timestamp;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use uuid::Uuid;

/// What every quota has, whichever table it is in.
#[derive(Debug, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = Nullable<BigInt>)]
    limit_bytes: Option<i64>,
    #[diesel(sql_type = BigInt)]
    used_bytes: i64,
    #[diesel(sql_type = BigInt)]
    reserved_bytes: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    limit_files: Option<i64>,
    #[diesel(sql_type = BigInt)]
    used_files: i64,
    #[diesel(sql_type = BigInt)]
    reserved_files: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_file_bytes: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: Timestamp,
}

impl Row {
    pub(super) fn usage(&self) -> Usage {
        // Every one has a CHECK that it is not negative.
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Usage {
            limit_bytes: self.limit_bytes.map(number),
            used_bytes: number(self.used_bytes),
            reserved_bytes: number(self.reserved_bytes),
            limit_files: self.limit_files.map(number),
            used_files: number(self.used_files),
            reserved_files: number(self.reserved_files),
            max_file_bytes: self.max_file_bytes.map(number),
        }
    }

    pub(super) fn quota(&self, key: QuotaKey) -> Quota {
        Quota { key, usage: self.usage(), updated_at: Some(self.updated_at) }
    }
}

/// The columns of [`Row`] in the tables that count for a volume, and in the one that counts for an entity.
macro_rules! columns {
    (volume) => {
        "quota_limit AS limit_bytes, quota_used AS used_bytes, quota_reserved AS reserved_bytes,
         NULL::bigint AS limit_files, 0::bigint AS used_files, 0::bigint AS reserved_files,
         NULL::bigint AS max_file_bytes, updated_at"
    };
    (entity) => {
        "CASE WHEN is_active THEN max_storage_bytes END AS limit_bytes,
         used_storage_bytes AS used_bytes, reserved_storage_bytes AS reserved_bytes,
         CASE WHEN is_active THEN max_files END::bigint AS limit_files, used_files::bigint AS used_files,
         reserved_files::bigint AS reserved_files,
         CASE WHEN is_active THEN max_file_size_bytes END AS max_file_bytes, updated_at"
    };
}
pub(super) use columns;

/// Where a quota's row is.
pub(super) enum Place<'k> {
    /// `storage_volumes`.
    Volume(Uuid),
    /// `user_quotas`.
    UserOnVolume(Uuid, Uuid),
    /// `app_quotas`.
    AppOnVolume(&'k str, Uuid),
    /// `storage_quotas`.
    Entity { kind: &'static str, organisation: &'k str, id: String, user: Option<Uuid> },
}

pub(super) fn place(key: &QuotaKey) -> Place<'_> {
    match key {
        QuotaKey::Volume(volume) => Place::Volume(volume.uuid()),
        QuotaKey::UserOnVolume(user, volume) => Place::UserOnVolume(user.uuid(), volume.uuid()),
        QuotaKey::AppOnVolume(app, volume) => Place::AppOnVolume(app, volume.uuid()),
        QuotaKey::User { organisation, user } => {
            Place::Entity { kind: "user", organisation, id: user.to_string(), user: Some(user.uuid()) }
        }
        QuotaKey::Organisation(organisation) => {
            Place::Entity { kind: "organization", organisation, id: organisation.clone(), user: None }
        }
        QuotaKey::Project { organisation, project } => {
            Place::Entity { kind: "project", organisation, id: project.clone(), user: None }
        }
    }
}

/// Keys by the tables of their rows, column by column. `n` is the place of each among all.
#[derive(Default)]
pub(super) struct Places<'k> {
    pub(super) volumes: OnVolumes,
    pub(super) users: Users,
    pub(super) apps: Apps<'k>,
    pub(super) entities: Entities<'k>,
}

/// Keys of rows of `storage_volumes`.
#[derive(Default)]
pub(super) struct OnVolumes {
    pub(super) n: Vec<i32>,
    pub(super) volume: Vec<Uuid>,
}

/// Keys of rows of `user_quotas`.
#[derive(Default)]
pub(super) struct Users {
    pub(super) n: Vec<i32>,
    pub(super) user: Vec<Uuid>,
    pub(super) volume: Vec<Uuid>,
}

/// Keys of rows of `app_quotas`.
#[derive(Default)]
pub(super) struct Apps<'k> {
    pub(super) n: Vec<i32>,
    pub(super) app: Vec<&'k str>,
    pub(super) volume: Vec<Uuid>,
}

/// Keys of rows of `storage_quotas`.
#[derive(Default)]
pub(super) struct Entities<'k> {
    pub(super) n: Vec<i32>,
    pub(super) kind: Vec<&'static str>,
    pub(super) organisation: Vec<&'k str>,
    pub(super) id: Vec<String>,
    pub(super) user: Vec<Option<Uuid>>,
}

impl<'k> Places<'k> {
    pub(super) fn of(keys: impl IntoIterator<Item = &'k QuotaKey>) -> Self {
        let mut places = Self::default();
        for (n, key) in (0..).zip(keys) {
            match place(key) {
                Place::Volume(volume) => {
                    places.volumes.n.push(n);
                    places.volumes.volume.push(volume);
                }
                Place::UserOnVolume(user, volume) => {
                    places.users.n.push(n);
                    places.users.user.push(user);
                    places.users.volume.push(volume);
                }
                Place::AppOnVolume(app, volume) => {
                    places.apps.n.push(n);
                    places.apps.app.push(app);
                    places.apps.volume.push(volume);
                }
                Place::Entity { kind, organisation, id, user } => {
                    places.entities.n.push(n);
                    places.entities.kind.push(kind);
                    places.entities.organisation.push(organisation);
                    places.entities.id.push(id);
                    places.entities.user.push(user);
                }
            }
        }
        places
    }
}
