use super::*;
use bytes::Bytes;
use coffer_domain::{caller::Roles, time::now};
use coffer_proto::v1;

fn principal() -> Principal {
    Principal {
        user: None,
        app: Some("scanner".into()),
        organisation: "clinic".into(),
        projects: Vec::new(),
        roles: Roles::default(),
        is_delegated: false,
        expires_at: now(),
    }
}

fn message(write_offset: i64, content: &'static str) -> Message {
    let data = ChecksummedData { content: Bytes::from_static(content.as_bytes()), crc32c: None };
    Message { write_offset, data: Some(data), ..Message::default() }
}

fn with_spec(spec: v1::UploadSpec) -> Option<First> {
    Some(First::Spec(Box::new(spec)))
}

fn bad_fields(error: Error) -> Vec<String> {
    match error {
        Error::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn first(message: Message) -> Result<(Target, Part), Error> {
    let mut fields = Fields::default();
    let (target, part) = first_message(message, &principal(), &mut fields);
    fields.finish(target.zip(part))
}

#[test]
fn the_first_message_has_the_spec_and_may_be_the_last() {
    let spec = v1::UploadSpec { filename: "a".into(), ..v1::UploadSpec::default() };
    let whole = Message { first: with_spec(spec), finish: true, ..message(0, "abc") };
    let (target, part) = first(whole).unwrap();
    let Target::New(spec) = target else { panic!("{target:?}") };
    assert_eq!(spec.changes.filename.as_deref(), Some("a"));
    assert_eq!(part.finish, Some(None));
    assert_eq!(part.data.unwrap().1.content, "abc");
    assert_eq!(bad_fields(first(message(-1, "abc")).unwrap_err()), ["spec", "write_offset"]);
}

#[test]
fn the_first_message_may_name_an_upload_that_was_started() {
    let id = UploadId::new();
    let named = |id: &str| Message { first: Some(First::Upload(id.to_owned())), ..message(7, "abc") };
    let (target, part) = first(named(&id.to_string())).unwrap();
    assert!(matches!(target, Target::Started(named) if named == id));
    assert_eq!(part.data.unwrap().0, 7);
    for bad in ["", "x", &"x".repeat(1_000_000), &uuid::Uuid::nil().to_string()] {
        assert_eq!(bad_fields(first(named(bad)).unwrap_err()), ["upload_id"], "{bad:.40}");
    }
}

#[test]
fn later_messages_have_neither() {
    let again = |first| Message { first, write_offset: -3, ..Message::default() };
    let spec = with_spec(v1::UploadSpec::default());
    assert_eq!(bad_fields(later_message(again(spec)).unwrap_err()), ["spec", "write_offset"]);
    let id = Some(First::Upload(UploadId::new().to_string()));
    assert_eq!(bad_fields(later_message(again(id)).unwrap_err()), ["upload_id", "write_offset"]);
    assert_eq!(later_message(message(3, "x")).unwrap().data.unwrap().0, 3);
}

#[test]
fn data_ends_below_2_to_the_63() {
    assert!(later_message(message(i64::MAX - 3, "abc")).is_ok());
    assert!(later_message(message(i64::MAX, "")).is_ok());
    for (offset, content) in [(i64::MAX - 2, "abc"), (i64::MAX, "a"), (-1, "a"), (i64::MIN, "")] {
        assert_eq!(bad_fields(later_message(message(offset, content)).unwrap_err()), ["write_offset"]);
    }
}

#[test]
fn the_checksum_goes_with_the_end() {
    let sha256 = "ab".repeat(32);
    let early = Message { sha256: sha256.clone(), ..Message::default() };
    assert_eq!(bad_fields(later_message(early.clone()).unwrap_err()), ["sha256"]);
    let last = later_message(Message { finish: true, ..early.clone() }).unwrap();
    assert_eq!(last.finish, Some(Some(sha256.parse().unwrap())));
    let upper = Message { finish: true, sha256: sha256.to_uppercase(), ..early };
    assert_eq!(bad_fields(later_message(upper).unwrap_err()), ["sha256"]);
}

#[test]
fn request_ids_are_bound_to_caller_method_and_content() {
    let id = uuid::Uuid::now_v7().to_string();
    let read = |spec: &v1::UploadSpec, principal: &Principal| {
        let mut fields = Fields::default();
        let request = request_id(&mut fields, principal, UPLOAD_METHOD, &spec.request_id, spec);
        fields.finish(request)
    };
    let spec = v1::UploadSpec { request_id: id.clone(), path: "a".into(), ..v1::UploadSpec::default() };
    let request = read(&spec, &principal()).unwrap().unwrap();
    assert_eq!(read(&spec, &principal()).unwrap(), Some(request.clone()));
    assert_eq!((request.method, request.id.to_string()), ("WriteFile", id));
    let other = read(&v1::UploadSpec { path: "b".into(), ..spec.clone() }, &principal()).unwrap().unwrap();
    assert_ne!(other.fingerprint, request.fingerprint);
    let stranger = Principal { organisation: "bank".into(), ..principal() };
    assert_ne!(read(&spec, &stranger).unwrap().unwrap().scope, request.scope);
    assert_eq!(read(&v1::UploadSpec::default(), &principal()).unwrap(), None);
    for bad in ["x".to_owned(), "x".repeat(10 * 1024), uuid::Uuid::nil().to_string()] {
        let spec = v1::UploadSpec { request_id: bad, ..v1::UploadSpec::default() };
        assert_eq!(bad_fields(read(&spec, &principal()).unwrap_err()), ["spec.request_id"]);
    }
}

mod any;
