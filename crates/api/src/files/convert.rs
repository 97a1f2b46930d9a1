//! Files between the wire and the domain.

use crate::fields::{Fields, all_or_none, non_empty, to_i64, to_provider, to_struct, to_text, to_time};
use coffer_domain::{
    caller::FileAccess,
    file::{
        Changes, Classification, Content, Description, File, FileRef, Filter, Namespace, Order, Owner, Status,
    },
};
use coffer_proto::v1::{self, FileChanges, FileOrder, ListFilesRequest, UpdateFileRequest};

/// What UpdateFile can change.
const CHANGEABLE: [&str; 9] = [
    "path",
    "filename",
    "mime_type",
    "encoding",
    "classification",
    "tags",
    "custom_metadata",
    "is_public",
    "status",
];

/// Most fields of a mask.
const MAX_MASK_PATHS: usize = 16;

/// An update of a description.
#[derive(Debug, PartialEq)]
pub(super) struct Update {
    pub(super) file: FileRef,
    pub(super) changes: Changes,
    pub(super) if_etag: Option<String>,
}

pub(super) fn update(message: UpdateFileRequest, fields: &mut Fields) -> Option<Update> {
    let UpdateFileRequest { file, changes, update_mask, if_etag, request_id: _ } = message;
    let file = fields.file("file", file);
    let mask = fields.mask(update_mask, &CHANGEABLE, MAX_MASK_PATHS);
    let changes = masked(changes.unwrap_or_default(), &mask?, fields);
    Some(Update { file: file?, changes: changes?, if_etag: non_empty(if_etag) })
}

/// The changes that the mask names. Whether a field may be empty is the domain's to say.
fn masked(changes: FileChanges, mask: &[String], fields: &mut Fields) -> Option<Changes> {
    let FileChanges {
        path,
        filename,
        mime_type,
        encoding,
        classification,
        tags,
        custom_metadata,
        is_public,
        status,
    } = changes;
    let is_named = |field: &str| mask.iter().any(|named| named == field);
    let class = is_named("classification").then(|| {
        let field = "changes.classification";
        let class = fields.optional_enum(field, classification, to_domain_classification)?;
        fields.take(field, class.ok_or("must be one of its values"))
    });
    let metadata = is_named("custom_metadata")
        .then(|| fields.metadata("changes.custom_metadata", custom_metadata.unwrap_or_default()));
    let archived = is_named("status").then(|| {
        let field = "changes.status";
        let status = fields.optional_enum(field, status, |status| match status {
            v1::FileStatus::Active => Some(false),
            v1::FileStatus::Archived => Some(true),
            v1::FileStatus::Unspecified | v1::FileStatus::Deleted | v1::FileStatus::Corrupted => None,
        })?;
        fields.take(field, status.ok_or("must be ACTIVE or ARCHIVED"))
    });
    Some(Changes {
        path: is_named("path").then_some(path),
        filename: is_named("filename").then_some(filename),
        mime_type: is_named("mime_type").then_some(mime_type),
        encoding: is_named("encoding").then_some(encoding),
        classification: all_or_none(class)?,
        tags: is_named("tags").then_some(tags),
        custom_metadata: all_or_none(metadata)?,
        is_public: is_named("is_public").then_some(is_public),
        is_archived: all_or_none(archived)?,
    })
}

pub(super) fn filter(message: ListFilesRequest, fields: &mut Fields) -> Option<Filter> {
    let ListFilesRequest {
        page_size: _,
        page_token: _,
        skip: _,
        order,
        descending,
        volume,
        path_prefix,
        owner_user_id,
        app_id,
        deleted,
    } = message;
    let order = fields.optional_enum("order", order, |order| match order {
        FileOrder::Unspecified => None,
        FileOrder::Created => Some(Order::Created),
        FileOrder::Updated => Some(Order::Updated),
        FileOrder::Name => Some(Order::Name),
        FileOrder::Size => Some(Order::Size),
    });
    let volume = fields.optional_volume("volume", &volume);
    let path_prefix = fields.path_prefix("path_prefix", path_prefix);
    let owner = fields.optional_id("owner_user_id", &owner_user_id);
    let app = fields.optional_identifier("app_id", app_id);
    Some(Filter {
        volume: volume?,
        path_prefix: non_empty(path_prefix?),
        owner: owner?,
        app: app?,
        is_deleted: deleted,
        order: order?.unwrap_or_default(),
        is_descending: descending,
    })
}

pub(crate) fn to_domain_classification(class: v1::Classification) -> Option<Classification> {
    match class {
        v1::Classification::Unspecified => None,
        v1::Classification::Public => Some(Classification::Public),
        v1::Classification::Internal => Some(Classification::Internal),
        v1::Classification::Confidential => Some(Classification::Confidential),
        v1::Classification::Restricted => Some(Classification::Restricted),
    }
}

/// A file as somebody with `access` may see it.
pub(crate) fn to_file(file: File, access: FileAccess) -> v1::File {
    match access {
        FileAccess::Own | FileAccess::Administer => to_whole_file(file),
        FileAccess::Public | FileAccess::Hidden => to_public_file(to_whole_file(file)),
    }
}

/// What anybody may see of a public file.
fn to_public_file(file: v1::File) -> v1::File {
    let v1::File { id, filename, mime_type, size_bytes, sha256, crc32c, .. } = file;
    v1::File { id, filename, mime_type, size_bytes, sha256, crc32c, ..v1::File::default() }
}

fn to_whole_file(file: File) -> v1::File {
    let etag = file.etag();
    let File {
        id,
        file_id,
        volume,
        owner: Owner { namespace, user, app },
        organisation,
        project,
        path,
        original_name,
        description: Description { filename, mime_type, encoding, classification, tags, custom_metadata },
        content: Content { version: _, number, object: _, key: _, size, sha256, crc32c },
        status,
        is_public,
        provider,
        created_by,
        updated_by,
        created_at,
        updated_at,
        deleted_at,
        purged_at: _,
        last_accessed_at,
        access_count,
        revision: _,
    } = file;
    v1::File {
        id: id.to_string(),
        file_id,
        volume_id: volume.to_string(),
        namespace: match namespace {
            Namespace::Users => v1::Namespace::Users,
            Namespace::Apps => v1::Namespace::Apps,
        }
        .into(),
        owner_user_id: to_text(user),
        app_id: app.unwrap_or_default(),
        organisation_id: organisation,
        project_id: project.unwrap_or_default(),
        path: path.to_string(),
        filename,
        original_name,
        mime_type,
        encoding,
        size_bytes: to_i64(size),
        sha256: sha256.to_string(),
        crc32c,
        version: i32::try_from(number).unwrap_or(i32::MAX),
        classification: match classification {
            Classification::Public => v1::Classification::Public,
            Classification::Internal => v1::Classification::Internal,
            Classification::Confidential => v1::Classification::Confidential,
            Classification::Restricted => v1::Classification::Restricted,
        }
        .into(),
        tags,
        custom_metadata: Some(to_struct(custom_metadata)),
        is_public,
        status: match status {
            Status::Active => v1::FileStatus::Active,
            Status::Archived => v1::FileStatus::Archived,
            Status::Deleted => v1::FileStatus::Deleted,
            Status::Corrupted => v1::FileStatus::Corrupted,
        }
        .into(),
        provider: to_provider(provider).into(),
        // No codec but the identity is built.
        encrypted: false,
        created_by: to_text(created_by),
        updated_by: to_text(updated_by),
        create_time: Some(to_time(created_at)),
        update_time: Some(to_time(updated_at)),
        delete_time: deleted_at.map(to_time),
        last_access_time: last_accessed_at.map(to_time),
        access_count: to_i64(access_count),
        etag,
    }
}

#[cfg(test)]
mod tests;
