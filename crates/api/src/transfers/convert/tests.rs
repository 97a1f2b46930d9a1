use super::*;
use coffer_domain::{
    Error,
    file::{Classification, FileRef},
    id::FileId,
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
