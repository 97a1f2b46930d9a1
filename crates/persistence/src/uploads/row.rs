//! Uploads as rows, and back.

use coffer_domain::content::SavedState;
use coffer_domain::file::Payer;
use coffer_domain::id::{FileId, RequestId, UploadId, UserId, VersionId, VolumeId};
use coffer_domain::path::Key;
use coffer_domain::quota::Hold;
use coffer_domain::request::{Request, UPLOAD_METHOD};
use coffer_domain::time::Timestamp;
use coffer_domain::upload::Upload;
use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::prelude::{Queryable, Selectable};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::schema::storage_uploads;

/// All of an upload's row that the domain knows.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = storage_uploads, check_for_backend(Pg))]
pub(super) struct Row {
    id: Uuid,
    pub(super) state: String,
    epoch: i64,
    volume_id: Uuid,
    key: String,
    version_id: Uuid,
    file_id: Option<Uuid>,
    user_id: Option<Uuid>,
    app_id: Option<String>,
    organisation_id: String,
    project_id: Option<String>,
    principal: String,
    request_id: Option<Uuid>,
    fingerprint: Option<Vec<u8>>,
    spec: Value,
    declared_size: Option<i64>,
    persisted_size: i64,
    hash_state: Option<Vec<u8>>,
    reserved_bytes: i64,
    reserved_files: i32,
    created_at: Timestamp,
    updated_at: Timestamp,
    expire_time: Timestamp,
}

impl Row {
    pub(super) fn into_upload(self) -> Step<Upload> {
        let number = |n: i64| u64::try_from(n).map_err(unreadable);
        let request = match (self.request_id, self.fingerprint) {
            (Some(id), Some(fingerprint)) => Some(Request {
                scope: self.principal.clone(),
                id: RequestId::from(id),
                method: UPLOAD_METHOD,
                fingerprint: fingerprint
                    .try_into()
                    .map_err(|_| unreadable("a fingerprint of another length"))?,
            }),
            _ => None,
        };
        Ok(Upload {
            id: UploadId::from(self.id),
            state: self.state.parse().map_err(unreadable)?,
            epoch: self.epoch,
            volume: VolumeId::from(self.volume_id),
            key: Key::parse(self.key).map_err(unreadable)?,
            version: VersionId::from(self.version_id),
            file: self.file_id.map(FileId::from),
            payer: Payer {
                volume: VolumeId::from(self.volume_id),
                user: self.user_id.map(UserId::from),
                app: self.app_id,
                organisation: self.organisation_id,
                project: self.project_id,
            },
            scope: self.principal,
            request,
            spec: self.spec,
            declared_size: self.declared_size.map(number).transpose()?,
            persisted_size: number(self.persisted_size)?,
            state_at_persisted: self.hash_state.map(SavedState::stored),
            held: hold(self.reserved_bytes, self.reserved_files)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
            expires_at: self.expire_time,
        })
    }
}

/// Who pays for an upload, and what it holds: the columns of [`holding`].
#[derive(Debug, QueryableByName)]
pub(super) struct HoldingRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    volume_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    user_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    app_id: Option<String>,
    #[diesel(sql_type = Text)]
    organisation_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    project_id: Option<String>,
    #[diesel(sql_type = BigInt)]
    reserved_bytes: i64,
    #[diesel(sql_type = Integer)]
    reserved_files: i32,
}

/// The columns of [`HoldingRow`], of the table or alias `$of`.
macro_rules! holding {
    ($of:literal) => {
        concat!(
            $of,
            ".id, ",
            $of,
            ".volume_id, ",
            $of,
            ".user_id, ",
            $of,
            ".app_id, ",
            $of,
            ".organisation_id, ",
            $of,
            ".project_id, ",
            $of,
            ".reserved_bytes, ",
            $of,
            ".reserved_files"
        )
    };
}
pub(super) use holding;

/// Whose quotas an upload holds, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) payer: Payer,
    pub(super) hold: Hold,
}

impl TryFrom<HoldingRow> for Holding {
    type Error = crate::error::Failure;

    fn try_from(row: HoldingRow) -> Step<Self> {
        let payer = Payer {
            volume: VolumeId::from(row.volume_id),
            user: row.user_id.map(UserId::from),
            app: row.app_id,
            organisation: row.organisation_id,
            project: row.project_id,
        };
        Ok(Self { payer, hold: hold(row.reserved_bytes, row.reserved_files)? })
    }
}

fn hold(bytes: i64, files: i32) -> Step<Hold> {
    Ok(Hold {
        bytes: u64::try_from(bytes).map_err(unreadable)?,
        files: u64::try_from(files).map_err(unreadable)?,
    })
}
