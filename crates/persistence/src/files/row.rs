//! Files as rows, and back.

use coffer_domain::file::{Changes, Content, Description, File, Owner, Payer, Sha256Sum};
use coffer_domain::id::{FileId, ObjectId, UserId, VersionId, VolumeId};
use coffer_domain::path::{Key, StoragePath};
use coffer_domain::time::Timestamp;
use diesel::pg::Pg;
use diesel::prelude::{AsChangeset, Queryable, Selectable};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::schema::{storage_file_versions, storage_files, storage_objects};

/// What of a file's row is read.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = storage_files, check_for_backend(Pg))]
pub(crate) struct FileRow {
    pub(crate) id: Uuid,
    volume_id: Uuid,
    organisation_id: String,
    project_id: Option<String>,
    namespace: String,
    user_id: Option<Uuid>,
    app_id: Option<String>,
    file_id: String,
    pub(crate) filename: String,
    original_name: String,
    storage_path: String,
    pub(crate) path_nfc: String,
    pub(crate) mime_type: String,
    encoding: Option<String>,
    provider: String,
    data_classification: String,
    is_public: bool,
    tags: Value,
    custom_metadata: Value,
    pub(crate) version_number: i32,
    pub(crate) revision: i64,
    pub(crate) status: String,
    access_count: i32,
    last_accessed_at: Option<Timestamp>,
    created_by: Option<Uuid>,
    updated_by: Option<Uuid>,
    created_at: Timestamp,
    updated_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    pub(crate) purged_at: Option<Timestamp>,
}

/// What of a version's row is read.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = storage_file_versions, check_for_backend(Pg))]
pub(crate) struct VersionRow {
    id: Uuid,
    version_number: i32,
}

/// What of an object's row is read.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = storage_objects, check_for_backend(Pg))]
pub(crate) struct ObjectRow {
    id: Uuid,
    key: String,
    size_bytes: i64,
    sha256: Vec<u8>,
    crc32c: i64,
}

/// A file with a content of it.
pub(crate) type Rows = (FileRow, VersionRow, ObjectRow);

/// What changes of a file's row; `None` leaves a column as it is, `Some(None)` empties it.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = storage_files)]
pub(crate) struct FileUpdate {
    pub(crate) storage_path: Option<String>,
    pub(crate) path_nfc: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) mime_type: Option<String>,
    pub(crate) encoding: Option<Option<String>>,
    pub(crate) data_classification: Option<&'static str>,
    pub(crate) is_public: Option<bool>,
    pub(crate) tags: Option<Value>,
    pub(crate) custom_metadata: Option<Value>,
    pub(crate) revision: Option<i64>,
    pub(crate) status: Option<&'static str>,
    pub(crate) updated_by: Option<Option<Uuid>>,
    pub(crate) deleted_by: Option<Option<Uuid>>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) deleted_at: Option<Option<Timestamp>>,
}

impl FileUpdate {
    /// The next revision of `row`, changed now by `by`.
    pub(crate) fn of(row: &FileRow, by: Option<UserId>, at: Timestamp) -> Self {
        Self {
            revision: Some(row.revision.saturating_add(1)),
            updated_by: Some(by.map(Uuid::from)),
            updated_at: Some(at),
            ..Self::default()
        }
    }

    /// With the description changed. Archiving is left to the caller, who knows the status.
    pub(crate) fn describe(mut self, changes: &Changes) -> Self {
        let Changes {
            path,
            filename,
            mime_type,
            encoding,
            classification,
            tags,
            custom_metadata,
            is_public,
            is_archived: _,
        } = changes;
        if let Some(path) = path {
            self = self.at_path(&StoragePath::stored(path.clone()));
        }
        self.filename.clone_from(filename);
        self.mime_type.clone_from(mime_type);
        self.encoding = encoding.clone().map(|text| (!text.is_empty()).then_some(text));
        self.data_classification = classification.map(|c| c.as_str());
        self.tags = tags.as_ref().map(|tags| Value::from(tags.clone()));
        self.custom_metadata = custom_metadata.clone().map(Value::Object);
        self.is_public = *is_public;
        self
    }

    /// At another place.
    pub(crate) fn at_path(mut self, path: &StoragePath) -> Self {
        self.storage_path = Some(path.as_str().to_owned());
        self.path_nfc = Some(path.nfc());
        self
    }
}

impl FileRow {
    /// Who pays for its versions.
    pub(crate) fn payer(&self) -> Payer {
        Payer {
            volume: self.volume_id.into(),
            user: self.user_id.map(UserId::from),
            app: self.app_id.clone(),
            organisation: self.organisation_id.clone(),
            project: self.project_id.clone(),
        }
    }

    /// Its tenant.
    pub(crate) fn organisation(&self) -> &str {
        &self.organisation_id
    }
}

/// The file of its rows.
pub(crate) fn file((row, version, object): Rows) -> Step<File> {
    let content = content((version, object))?;
    with_content(row, content)
}

/// The file of its row, with a content that has become or becomes its current one.
pub(crate) fn with_content(row: FileRow, content: Content) -> Step<File> {
    Ok(File {
        id: FileId::from(row.id),
        file_id: row.file_id,
        volume: VolumeId::from(row.volume_id),
        owner: Owner {
            namespace: row.namespace.parse().map_err(unreadable)?,
            user: row.user_id.map(UserId::from),
            app: row.app_id,
        },
        organisation: row.organisation_id,
        project: row.project_id,
        path: StoragePath::stored(row.storage_path),
        original_name: row.original_name,
        description: Description {
            filename: row.filename,
            mime_type: row.mime_type,
            encoding: row.encoding.unwrap_or_default(),
            classification: row.data_classification.parse().map_err(unreadable)?,
            tags: serde_json::from_value(row.tags).map_err(unreadable)?,
            custom_metadata: serde_json::from_value(row.custom_metadata).map_err(unreadable)?,
        },
        content,
        status: row.status.parse().map_err(unreadable)?,
        is_public: row.is_public,
        provider: row.provider.parse().map_err(unreadable)?,
        created_by: row.created_by.map(UserId::from),
        updated_by: row.updated_by.map(UserId::from),
        created_at: row.created_at,
        updated_at: row.updated_at,
        deleted_at: row.deleted_at,
        purged_at: row.purged_at,
        last_accessed_at: row.last_accessed_at,
        access_count: u64::try_from(row.access_count).map_err(unreadable)?,
        revision: u64::try_from(row.revision).map_err(unreadable)?,
    })
}

/// The content of its rows.
pub(crate) fn content((version, object): (VersionRow, ObjectRow)) -> Step<Content> {
    let sha256 =
        <[u8; 32]>::try_from(object.sha256).map_err(|_| unreadable("a SHA-256 of another length"))?;
    Ok(Content {
        version: VersionId::from(version.id),
        number: u32::try_from(version.version_number).map_err(unreadable)?,
        object: ObjectId::from(object.id),
        key: Key::parse(object.key).map_err(unreadable)?,
        size: u64::try_from(object.size_bytes).map_err(unreadable)?,
        sha256: Sha256Sum(sha256),
        crc32c: u32::try_from(object.crc32c).map_err(unreadable)?,
    })
}
