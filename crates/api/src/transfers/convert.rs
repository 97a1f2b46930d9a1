//! Transfers between the wire and the domain.

use crate::{
    fields::{Fields, non_empty, to_i64, to_text, to_time},
    files::to_domain_classification,
};
use coffer_domain::{
    file::Changes,
    quota::Hold,
    request::Request,
    service::{ReadSpec, UploadSpec},
    upload::{Filter, State, Upload},
};
use coffer_proto::v1::{self, ListUploadsRequest, ReadFileRequest, UploadState};

/// What is to be stored. `request`: what was read from the spec's `request_id`.
pub(super) fn upload_spec(
    spec: v1::UploadSpec,
    request: Option<Option<Request>>,
    fields: &mut Fields,
) -> Option<UploadSpec> {
    let v1::UploadSpec {
        volume,
        path,
        file,
        filename,
        file_id,
        mime_type,
        encoding,
        classification,
        tags,
        custom_metadata,
        is_public,
        project_id,
        size_bytes,
        sha256,
        create_only,
        if_etag,
        change_description,
        request_id: _,
    } = spec;
    let volume = fields.optional_volume("spec.volume", &volume);
    if file.is_some() && !path.is_empty() {
        fields.refuse("spec.path", "must be empty where file names what gets a new version");
    }
    let file = match file {
        Some(file) => fields.file("spec.file", Some(file)).map(Some),
        None => Some(None),
    };
    let class = fields.optional_enum("spec.classification", classification, to_domain_classification);
    let custom_metadata = match custom_metadata {
        Some(object) => fields.metadata("spec.custom_metadata", object).map(Some),
        None => Some(None),
    };
    let project = fields.optional_identifier("spec.project_id", project_id);
    let size = fields.optional_count("spec.size_bytes", size_bytes);
    let sha256 = fields.optional_sha256("spec.sha256", &sha256);
    let changes = Changes {
        path: None,
        filename: non_empty(filename),
        mime_type: non_empty(mime_type),
        encoding: non_empty(encoding),
        classification: class?,
        tags: (!tags.is_empty()).then_some(tags),
        custom_metadata: custom_metadata?,
        // A bool cannot be left out, so false says nothing: a new version leaves a public file public.
        is_public: is_public.then_some(true),
        is_archived: None,
    };
    Some(UploadSpec {
        volume: volume?,
        path: non_empty(path),
        file: file?,
        file_id: non_empty(file_id),
        changes,
        project: project?,
        size: size?,
        sha256: sha256?,
        create_only,
        if_etag: non_empty(if_etag),
        change_description,
        request: request?,
    })
}

pub(super) fn upload_filter(message: ListUploadsRequest, fields: &mut Fields) -> Option<Filter> {
    let ListUploadsRequest { page_size: _, page_token: _, state, path, own_only: _ } = message;
    let state = fields.optional_enum("state", state, |state| match state {
        UploadState::Unspecified => None,
        UploadState::Open => Some(State::Open),
        UploadState::Finishing => Some(State::Finishing),
        UploadState::Committed => Some(State::Committed),
        UploadState::Aborted => Some(State::Aborted),
        UploadState::Expired => Some(State::Expired),
    });
    let path = fields.path_prefix("path", path);
    Some(Filter { state: state?, path: non_empty(path?) })
}

pub(super) fn to_upload(upload: Upload) -> v1::Upload {
    let Upload {
        id,
        state,
        epoch: _,
        volume,
        key: _,
        version: _,
        file,
        payer: _,
        scope: _,
        request: _,
        spec,
        declared_size,
        persisted_size,
        state_at_persisted: _,
        held: Hold { bytes, files: _ },
        created_at,
        updated_at,
        expires_at,
    } = upload;
    let said = |pointer: &str| {
        spec.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    v1::Upload {
        id: id.to_string(),
        state: match state {
            State::Open => UploadState::Open,
            State::Finishing => UploadState::Finishing,
            State::Committed => UploadState::Committed,
            State::Aborted => UploadState::Aborted,
            State::Expired => UploadState::Expired,
        }
        .into(),
        volume_id: volume.to_string(),
        path: said("/path"),
        filename: said("/changes/filename"),
        file_id: to_text(file),
        size_bytes: declared_size.map(to_i64),
        persisted_size: to_i64(persisted_size),
        reserved_bytes: to_i64(bytes),
        create_time: Some(to_time(created_at)),
        update_time: Some(to_time(updated_at)),
        expire_time: (state == State::Open).then(|| to_time(expires_at)),
    }
}

pub(super) fn read_spec(message: ReadFileRequest, fields: &mut Fields) -> Option<ReadSpec> {
    let ReadFileRequest { file, version, offset, length } = message;
    let file = fields.file("file", file);
    let version = fields.take("version", u32::try_from(version).map_err(|_| "must not be negative"));
    let length = fields.count("length", length);
    Some(ReadSpec {
        file: file?,
        version: version.map(|number| (number > 0).then_some(number))?,
        offset,
        length: length?,
    })
}

#[cfg(test)]
mod tests;
