use super::*;
use coffer_domain::{
    Error,
    file::Payer,
    file::{Classification, FileRef},
    id::{FileId, UploadId, VersionId, VolumeId},
    path::Key,
    time::now,
};
use coffer_proto::v1::{FileReference, file_reference::By};
use prost_types::{Struct, Value, value::Kind};

fn bad_fields(spec: v1::UploadSpec) -> Vec<String> {
    let mut fields = Fields::default();
    let converted = upload_spec(spec, Some(None), &mut fields);
    match fields.finish(converted) {
        Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn file(id: &str) -> Option<FileReference> {
    Some(FileReference { by: Some(By::Id(id.to_owned())) })
}

#[test]
fn what_is_not_said_is_not_changed() {
    let mut fields = Fields::default();
    let spec = upload_spec(v1::UploadSpec::default(), Some(None), &mut fields);
    let spec = fields.finish(spec).unwrap();
    assert_eq!(spec.changes, Changes::default());
    assert_eq!((spec.volume, spec.path, spec.file, spec.size, spec.sha256), (None, None, None, None, None));
}

#[test]
fn what_is_said_arrives() {
    let id = FileId::new();
    let spec = v1::UploadSpec {
        file: file(&id.to_string()),
        filename: "a".into(),
        classification: v1::Classification::Confidential.into(),
        tags: vec!["t".into()],
        is_public: true,
        size_bytes: Some(0),
        sha256: "ab".repeat(32),
        create_only: true,
        if_etag: "3".into(),
        ..v1::UploadSpec::default()
    };
    let mut fields = Fields::default();
    let spec = upload_spec(spec, Some(None), &mut fields);
    let spec = fields.finish(spec).unwrap();
    assert_eq!((spec.file, spec.size, spec.create_only), (Some(FileRef::Id(id)), Some(0), true));
    let changes = Changes {
        filename: Some("a".into()),
        classification: Some(Classification::Confidential),
        tags: Some(vec!["t".into()]),
        is_public: Some(true),
        ..Changes::default()
    };
    assert_eq!(spec.changes, changes);
}

#[test]
fn every_bad_field_is_told() {
    let nan = Value { kind: Some(Kind::NumberValue(f64::INFINITY)) };
    let spec = v1::UploadSpec {
        volume: "No".into(),
        path: "a".into(),
        file: file("x"),
        classification: 99,
        custom_metadata: Some(Struct { fields: [("a".to_owned(), nan)].into() }),
        project_id: "a b".into(),
        size_bytes: Some(-1),
        sha256: "AB".repeat(32),
        ..v1::UploadSpec::default()
    };
    let expected = [
        "spec.volume",
        "spec.path",
        "spec.file.id",
        "spec.classification",
        "spec.custom_metadata",
        "spec.project_id",
        "spec.size_bytes",
        "spec.sha256",
    ];
    assert_eq!(bad_fields(spec), expected);
}

#[test]
fn checksums_are_lowercase_hexadecimal_of_32_bytes() {
    for sha256 in ["ab".repeat(31), "ab".repeat(33), "AB".repeat(32), "zz".repeat(32), "md5:x".to_owned()] {
        assert_eq!(bad_fields(v1::UploadSpec { sha256, ..v1::UploadSpec::default() }), ["spec.sha256"]);
    }
}

#[test]
fn reads_are_of_a_version_from_an_offset() {
    let id = FileId::new();
    let read = |version, offset, length| {
        let mut fields = Fields::default();
        let spec =
            read_spec(ReadFileRequest { file: file(&id.to_string()), version, offset, length }, &mut fields);
        fields.finish(spec)
    };
    let spec = |version, offset, length| ReadSpec { file: FileRef::Id(id), version, offset, length };
    assert_eq!(read(0, -10, 0).unwrap(), spec(None, -10, 0));
    assert_eq!(
        read(i32::MAX, i64::MAX, i64::MAX).unwrap(),
        spec(Some(2_147_483_647), i64::MAX, 9_223_372_036_854_775_807)
    );
    assert!(matches!(read(-1, 0, -1), Err(Error::Invalid(violations)) if violations.len() == 2));
}

#[test]
fn uploads_are_listed_by_state_and_path() {
    let list = |state, path: &str| {
        let message = ListUploadsRequest { state, path: path.into(), ..ListUploadsRequest::default() };
        let mut fields = Fields::default();
        let filter = upload_filter(message, &mut fields);
        fields.finish(filter)
    };
    assert_eq!(list(0, "").unwrap(), Filter::default());
    let states = [State::Open, State::Finishing, State::Committed, State::Aborted, State::Expired];
    for (number, state) in (1..).zip(states) {
        assert_eq!(list(number, "a/b").unwrap(), Filter { state: Some(state), path: Some("a/b".into()) });
    }
    let bad = list(99, "a\0b").unwrap_err();
    assert!(matches!(bad, Error::Invalid(violations) if violations.len() == 2));
}

#[test]
fn an_upload_is_shown_as_it_was_asked_for() {
    let at = now();
    let (volume, id) = (VolumeId::new(), UploadId::new());
    let spec = UploadSpec {
        path: Some("a/b".into()),
        changes: Changes { filename: Some("b.txt".into()), ..Changes::default() },
        ..UploadSpec::default()
    };
    let upload = |state, spec: &UploadSpec| Upload {
        id,
        state,
        epoch: 2,
        volume,
        key: Key::parse("k").unwrap(),
        version: VersionId::new(),
        file: None,
        payer: Payer { volume, user: None, app: None, organisation: "clinic".into(), project: None },
        scope: "s".into(),
        request: None,
        spec: serde_json::to_value(spec).unwrap(),
        declared_size: Some(9),
        persisted_size: 4,
        state_at_persisted: None,
        held: Hold { bytes: 5, files: 1 },
        created_at: at,
        updated_at: at,
        expires_at: at,
    };
    let expected = v1::Upload {
        id: id.to_string(),
        state: UploadState::Open.into(),
        volume_id: volume.to_string(),
        path: "a/b".into(),
        filename: "b.txt".into(),
        file_id: String::new(),
        size_bytes: Some(9),
        persisted_size: 4,
        reserved_bytes: 5,
        create_time: Some(to_time(at)),
        update_time: Some(to_time(at)),
        expire_time: Some(to_time(at)),
    };
    assert_eq!(to_upload(upload(State::Open, &spec)), expected);
    let bare = to_upload(upload(State::Committed, &UploadSpec::default()));
    assert_eq!((bare.path.as_str(), bare.filename.as_str(), bare.expire_time), ("", "", None));
    assert_eq!(bare.state(), UploadState::Committed);
}
