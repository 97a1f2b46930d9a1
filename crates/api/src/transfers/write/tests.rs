use super::*;
use bytes::Bytes;
use coffer_domain::{caller::Roles, time::now};

fn principal() -> Principal {
    Principal {
        user: None,
        app: Some("scanner".into()),
        organisation: "clinic".into(),
        projects: Vec::new(),
        roles: Roles::default(),
        expires_at: now(),
    }
}

fn message(write_offset: i64, content: &'static str) -> WriteFileRequest {
    let data = ChecksummedData { content: Bytes::from_static(content.as_bytes()), crc32c: None };
    WriteFileRequest { write_offset, data: Some(data), ..WriteFileRequest::default() }
}

fn bad_fields(error: Error) -> Vec<String> {
    match error {
        Error::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn first(message: WriteFileRequest) -> Result<(coffer_domain::service::UploadSpec, Part), Error> {
    let mut fields = Fields::default();
    let (spec, part) = first_message(message, &principal(), &mut fields);
    fields.finish(spec.zip(part))
}

#[test]
fn the_first_message_has_the_spec_and_may_be_the_last() {
    let spec = UploadSpec { filename: "a".into(), ..UploadSpec::default() };
    let whole =
        WriteFileRequest { first_message: Some(FirstMessage::Spec(spec)), finish: true, ..message(0, "abc") };
    let (spec, part) = first(whole).unwrap();
    assert_eq!(spec.changes.filename.as_deref(), Some("a"));
    assert_eq!(part.finish, Some(None));
    assert_eq!(part.data.unwrap().1.content, "abc");
    assert_eq!(bad_fields(first(message(-1, "abc")).unwrap_err()), ["spec", "write_offset"]);
}

#[test]
fn later_messages_have_no_spec() {
    let spec = FirstMessage::Spec(UploadSpec::default());
    let again =
        WriteFileRequest { first_message: Some(spec), write_offset: -3, ..WriteFileRequest::default() };
    assert_eq!(bad_fields(later_message(again).unwrap_err()), ["spec", "write_offset"]);
    assert_eq!(later_message(message(3, "x")).unwrap().data.unwrap().0, 3);
}

#[test]
fn the_checksum_goes_with_the_end() {
    let sha256 = "ab".repeat(32);
    let early = WriteFileRequest { sha256: sha256.clone(), ..WriteFileRequest::default() };
    assert_eq!(bad_fields(later_message(early.clone()).unwrap_err()), ["sha256"]);
    let last = later_message(WriteFileRequest { finish: true, ..early.clone() }).unwrap();
    assert_eq!(last.finish, Some(Some(sha256.parse().unwrap())));
    let upper = WriteFileRequest { finish: true, sha256: sha256.to_uppercase(), ..early };
    assert_eq!(bad_fields(later_message(upper).unwrap_err()), ["sha256"]);
}

#[test]
fn request_ids_are_bound_to_caller_method_and_content() {
    let id = uuid::Uuid::now_v7().to_string();
    let read = |spec: &UploadSpec, principal: &Principal| {
        let mut fields = Fields::default();
        let request = request_id(&mut fields, principal, WRITE_FILE, &spec.request_id, spec);
        fields.finish(request)
    };
    let spec = UploadSpec { request_id: id.clone(), path: "a".into(), ..UploadSpec::default() };
    let request = read(&spec, &principal()).unwrap().unwrap();
    assert_eq!(read(&spec, &principal()).unwrap(), Some(request.clone()));
    assert_eq!((request.method, request.id.to_string()), ("WriteFile", id));
    let other = read(&UploadSpec { path: "b".into(), ..spec.clone() }, &principal()).unwrap().unwrap();
    assert_ne!(other.fingerprint, request.fingerprint);
    let stranger = Principal { organisation: "bank".into(), ..principal() };
    assert_ne!(read(&spec, &stranger).unwrap().unwrap().scope, request.scope);
    assert_eq!(read(&UploadSpec::default(), &principal()).unwrap(), None);
    for bad in ["x".to_owned(), "x".repeat(10 * 1024), uuid::Uuid::nil().to_string()] {
        let spec = UploadSpec { request_id: bad, ..UploadSpec::default() };
        assert_eq!(bad_fields(read(&spec, &principal()).unwrap_err()), ["spec.request_id"]);
    }
}

mod messages {
    use super::*;
    use crate::transfers::write::messages::{Messages, Stop};
    use coffer_domain::error::Unauthenticated;
    use std::time::Duration;

    const STALL: Duration = Duration::from_secs(30);

    fn later(seconds: i64) -> coffer_domain::time::Timestamp {
        now() + chrono::TimeDelta::seconds(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_stalls() {
        let mut messages = Messages::new(futures_util::stream::pending(), STALL, later(3_600));
        let begun = tokio::time::Instant::now();
        assert!(matches!(messages.next().await, Err(Stop::Refused(Error::Stalled { seconds: 30 }))));
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_while_the_client_is_silent() {
        let mut messages = Messages::new(futures_util::stream::pending(), STALL, later(5));
        let expired = Error::Unauthenticated(Unauthenticated::Expired).reason();
        assert!(matches!(messages.next().await, Err(Stop::Refused(error)) if error.reason() == expired));
    }

    #[tokio::test]
    async fn messages_pass_until_the_token_has_expired() {
        let stream = || tokio_stream::iter([Ok(message(0, "a")), Err(Status::cancelled("gone"))]);
        let mut messages = Messages::new(stream(), STALL, later(60));
        assert!(matches!(messages.next().await, Ok(Some(_))));
        assert!(matches!(messages.next().await, Err(Stop::Broken(_))));
        assert!(matches!(messages.next().await, Ok(None)));
        let mut late = Messages::new(stream(), STALL, later(-1));
        assert!(matches!(
            late.next().await,
            Err(Stop::Refused(Error::Unauthenticated(Unauthenticated::Expired)))
        ));
    }
}
