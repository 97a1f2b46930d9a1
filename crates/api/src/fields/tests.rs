use super::*;
use coffer_domain::id::FileId;
use coffer_proto::v1::Classification;
use prost_types::{FieldMask, Timestamp as WireTime};

fn problems(convert: impl FnOnce(&mut Fields)) -> Vec<String> {
    let mut fields = Fields::default();
    convert(&mut fields);
    fields.0.into_iter().map(|violation| violation.field).collect()
}

fn reference(by: By) -> Option<FileReference> {
    Some(FileReference { by: Some(by) })
}

fn path(volume: &str, path: &str) -> Option<FileReference> {
    reference(By::Path(PathReference { volume: volume.to_owned(), path: path.to_owned() }))
}

#[test]
fn files_are_named_in_three_ways() {
    let id = FileId::new();
    let mut fields = Fields::default();
    assert_eq!(fields.file("file", reference(By::Id(id.to_string()))), Some(FileRef::Id(id)));
    assert_eq!(
        fields.file("file", reference(By::FileId("a:b/c".into()))),
        Some(FileRef::Name("a:b/c".into()))
    );
    let default = id.default_name();
    assert_eq!(fields.file("file", reference(By::FileId(default.clone()))), Some(FileRef::Name(default)));
    assert!(fields.file("file", path("", "a/b")).is_some());
    fields.finish(Some(())).unwrap();
}

#[test]
fn what_names_no_file_is_refused_by_its_field() {
    for (file, field) in [
        (None, "file"),
        (Some(FileReference { by: None }), "file"),
        (reference(By::Id(String::new())), "file.id"),
        (reference(By::Id("not-a-uuid".into())), "file.id"),
        (reference(By::Id("00000000-0000-0000-0000-000000000000".into())), "file.id"),
        (reference(By::Id("x".repeat(1 << 20))), "file.id"),
        (reference(By::FileId(String::new())), "file.file_id"),
        (reference(By::FileId("a\0b".into())), "file.file_id"),
        (reference(By::FileId("file_\0".into())), "file.file_id"),
        (reference(By::FileId("x".repeat(256))), "file.file_id"),
        (reference(By::FileId(format!("file_{}", "x".repeat(256)))), "file.file_id"),
        (path("No Volume", "a"), "file.path.volume"),
        (path("main", ""), "file.path.path"),
        (path("main", "a\0b"), "file.path.path"),
        (path("main", &"x".repeat(5_000)), "file.path.path"),
    ] {
        assert_eq!(
            problems(|fields| assert!(fields.file("file", file.clone()).is_none())),
            [field],
            "{file:.200?}"
        );
    }
    let trash = problems(|fields| assert!(fields.file_in_trash("file", path("", "a")).is_none()));
    assert_eq!(trash, ["file.path"]);
}

#[test]
fn every_bad_field_is_told() {
    let found = problems(|fields| {
        fields.file("file", path("No", "a\0"));
        fields.count("offset", -1);
        fields.optional_sha256("sha256", &"A".repeat(64));
    });
    assert_eq!(found, ["file.path.volume", "file.path.path", "offset", "sha256"]);
}

#[test]
fn times_have_limits() {
    let year_9999 = 253_402_300_799;
    let mut fields = Fields::default();
    let time = fields.optional_time("t", Some(WireTime { seconds: 1, nanos: 999_999_999 })).unwrap().unwrap();
    assert_eq!(to_time(time), WireTime { seconds: 1, nanos: 999_999_000 });
    assert!(fields.optional_time("t", Some(WireTime { seconds: year_9999, nanos: 0 })).is_some());
    for (seconds, nanos) in
        [(year_9999 + 1, 0), (-62_135_596_801, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)]
    {
        let time = Some(WireTime { seconds, nanos });
        assert_eq!(
            problems(|fields| assert!(fields.optional_time("t", time).is_none())),
            ["t"],
            "{seconds} {nanos}"
        );
    }
}

#[test]
fn masks_name_known_fields_once() {
    let mask =
        |paths: &[&str]| Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let check = |mask| Fields::default().mask(mask, &["path", "tags"], 2).is_some();
    assert!(check(mask(&["tags", "path"])));
    let ten_thousand: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    for bad in [
        None,
        mask(&[]),
        mask(&["*"]),
        mask(&["owner"]),
        mask(&["tags", "tags"]),
        Some(FieldMask { paths: ten_thousand }),
    ] {
        assert!(!check(bad));
    }
}

#[test]
fn unknown_enum_values_are_refused() {
    let found = problems(|fields| {
        assert!(fields.optional_enum("c", 99, |_: Classification| Some(())).is_none());
        assert_eq!(fields.optional_enum("c", 0, |_: Classification| None::<()>), Some(None));
    });
    assert_eq!(found, ["c"]);
}
