use super::*;
use coffer_domain::{
    Error,
    error::FieldViolation,
    file::Metadata,
    id::{FileId, ObjectId, UserId, VersionId, VolumeId},
    path::{Key, StoragePath},
    time::now,
    volume::Provider,
};
use coffer_proto::v1::{FileReference, file_reference::By};
use prost_types::{FieldMask, Struct, Value, value::Kind};

fn reference(id: FileId) -> Option<FileReference> {
    Some(FileReference { by: Some(By::Id(id.to_string())) })
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn converted<T>(convert: impl FnOnce(&mut Fields) -> Option<T>) -> Result<T, Vec<String>> {
    let mut fields = Fields::default();
    let value = convert(&mut fields);
    fields.finish(value).map_err(|error| match error {
        Error::Invalid(violations) => {
            violations.into_iter().map(|FieldViolation { field, .. }| field).collect()
        }
        other => panic!("{other}"),
    })
}

#[test]
fn an_update_changes_what_its_mask_names_and_no_more() {
    let id = FileId::new();
    let message = UpdateFileRequest {
        file: reference(id),
        changes: Some(FileChanges {
            path: "a/b".into(),
            filename: "b".into(),
            tags: vec!["t".into()],
            status: v1::FileStatus::Archived.into(),
            ..FileChanges::default()
        }),
        update_mask: mask(&["path", "tags", "custom_metadata", "is_public", "status"]),
        if_etag: "7".into(),
        request_id: String::new(),
    };
    let converted_update = converted(|fields| update(message, fields)).unwrap();
    let changes = Changes {
        path: Some("a/b".into()),
        tags: Some(vec!["t".into()]),
        custom_metadata: Some(Metadata::new()),
        is_public: Some(false),
        is_archived: Some(true),
        ..Changes::default()
    };
    assert_eq!(converted_update, Update { file: FileRef::Id(id), changes, if_etag: Some("7".into()) });
}

#[test]
fn a_bad_update_tells_every_bad_field() {
    let nan = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
    let message = UpdateFileRequest {
        file: None,
        changes: Some(FileChanges {
            classification: 99,
            custom_metadata: Some(Struct { fields: [("a".to_owned(), nan)].into() }),
            status: v1::FileStatus::Deleted.into(),
            ..FileChanges::default()
        }),
        update_mask: mask(&["classification", "custom_metadata", "status"]),
        ..UpdateFileRequest::default()
    };
    let bad = converted(|fields| update(message.clone(), fields)).unwrap_err();
    assert_eq!(bad, ["file", "changes.classification", "changes.custom_metadata", "changes.status"]);
    for paths in [vec![], vec!["*"], vec!["owner_user_id"], vec!["tags", "tags"]] {
        let message = UpdateFileRequest {
            file: reference(FileId::new()),
            update_mask: mask(&paths),
            ..message.clone()
        };
        assert_eq!(
            converted(|fields| update(message, fields)),
            Err(vec!["update_mask".to_owned()]),
            "{paths:?}"
        );
    }
}

#[test]
fn unspecified_values_cannot_be_set() {
    let message = UpdateFileRequest {
        file: reference(FileId::new()),
        update_mask: mask(&["classification", "status"]),
        ..UpdateFileRequest::default()
    };
    let bad = converted(|fields| update(message, fields)).unwrap_err();
    assert_eq!(bad, ["changes.classification", "changes.status"]);
}

#[test]
fn a_filter_is_read_and_its_bad_fields_told() {
    let owner = UserId::new();
    let message = ListFilesRequest {
        order: FileOrder::Size.into(),
        descending: true,
        volume: "main".into(),
        path_prefix: "a/".into(),
        owner_user_id: owner.to_string(),
        app_id: "scanner".into(),
        deleted: true,
        ..ListFilesRequest::default()
    };
    let read = converted(|fields| filter(message, fields)).unwrap();
    assert_eq!(
        (read.owner, read.order, read.is_descending, read.is_deleted),
        (Some(owner), Order::Size, true, true)
    );
    assert_eq!((read.path_prefix.as_deref(), read.app.as_deref()), (Some("a/"), Some("scanner")));
    assert_eq!(converted(|fields| filter(ListFilesRequest::default(), fields)), Ok(Filter::default()));
    let bad = ListFilesRequest {
        order: 99,
        volume: "name;DROP TABLE".into(),
        path_prefix: "\0".into(),
        owner_user_id: "ann".into(),
        app_id: "a b".into(),
        ..ListFilesRequest::default()
    };
    let bad = converted(|fields| filter(bad, fields)).unwrap_err();
    assert_eq!(bad, ["order", "volume", "path_prefix", "owner_user_id", "app_id"]);
}

fn file() -> File {
    File {
        id: FileId::new(),
        file_id: "scan:1".into(),
        volume: VolumeId::new(),
        owner: Owner { namespace: Namespace::Users, user: Some(UserId::new()), app: Some("scanner".into()) },
        organisation: "clinic".into(),
        project: Some("study".into()),
        path: StoragePath::stored("a/b.txt".into()),
        original_name: "b.txt".into(),
        description: Description {
            filename: "b.txt".into(),
            mime_type: "text/plain".into(),
            encoding: "gzip".into(),
            classification: Classification::Restricted,
            tags: vec!["t".into()],
            custom_metadata: Metadata::from_iter([("k".to_owned(), 1.into())]),
        },
        content: Content {
            version: VersionId::new(),
            number: 3,
            object: ObjectId::new(),
            key: Key::parse("aa/bb").unwrap(),
            size: 5,
            sha256: "ab".repeat(32).parse().unwrap(),
            crc32c: 7,
        },
        status: Status::Archived,
        is_public: true,
        provider: Provider::Local,
        created_by: Some(UserId::new()),
        updated_by: None,
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
        purged_at: None,
        last_accessed_at: Some(now()),
        access_count: 2,
        revision: 9,
    }
}

#[test]
fn whoever_may_administer_a_file_sees_all_of_its_description() {
    let file = file();
    let seen = to_file(file.clone(), FileAccess::Own);
    assert_eq!(seen, to_file(file.clone(), FileAccess::Administer));
    assert_eq!((seen.id, seen.version, seen.size_bytes, seen.crc32c), (file.id.to_string(), 3, 5, 7));
    assert_eq!(
        (
            v1::Classification::try_from(seen.classification).unwrap(),
            v1::FileStatus::try_from(seen.status).unwrap()
        ),
        (v1::Classification::Restricted, v1::FileStatus::Archived)
    );
    assert_eq!((seen.etag, seen.updated_by), ("9".to_owned(), String::new()));
    assert_eq!(seen.sha256, "ab".repeat(32));
}

#[test]
fn the_public_sees_the_contents_description_and_nothing_else() {
    let file = file();
    for access in [FileAccess::Public, FileAccess::Hidden] {
        let expected = v1::File {
            id: file.id.to_string(),
            filename: "b.txt".into(),
            mime_type: "text/plain".into(),
            size_bytes: 5,
            sha256: "ab".repeat(32),
            crc32c: 7,
            ..v1::File::default()
        };
        assert_eq!(to_file(file.clone(), access), expected);
    }
}
