use super::*;
use crate::edge::Pace;

fn pace() -> Progress {
    Progress::new(Pace { stall_timeout: Duration::from_secs(30), min_rate: 0 })
}

fn later(seconds: i64) -> Timestamp {
    now() + chrono::TimeDelta::seconds(seconds)
}

fn silent() -> impl Stream<Item = Result<WriteFileRequest, Status>> + Send + 'static {
    futures_util::stream::pending()
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_stalls() {
    let mut messages = Messages::new(silent(), pace(), later(3_600));
    let begun = tokio::time::Instant::now();
    assert!(matches!(messages.next().await, Err(Stop::Refused(Error::Stalled { seconds: 30 }))));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_while_the_client_is_silent() {
    let mut messages = Messages::new(silent(), pace(), later(5));
    let expired = Error::Unauthenticated(Unauthenticated::Expired).reason();
    assert!(matches!(messages.next().await, Err(Stop::Refused(error)) if error.reason() == expired));
}

#[tokio::test]
async fn messages_pass_until_the_token_has_expired() {
    let stream = || tokio_stream::iter([Ok(WriteFileRequest::default()), Err(Status::internal("garbage"))]);
    let mut messages = Messages::new(stream(), pace(), later(60));
    assert!(matches!(messages.next().await, Ok(Some(_))));
    assert!(matches!(messages.next().await, Err(Stop::Unreadable(status)) if status.message() == "garbage"));
    assert!(matches!(messages.next().await, Ok(None)));
    let expired = |stop| matches!(stop, Stop::Refused(Error::Unauthenticated(Unauthenticated::Expired)));
    let mut late = Messages::new(stream(), pace(), later(-1));
    assert!(expired(late.next().await.unwrap_err()));
    assert!(expired(late.arrived().unwrap_err()));
}

#[tokio::test]
async fn what_has_arrived_is_told_from_what_may_come() {
    let mut quiet = Messages::new(silent(), pace(), later(60));
    assert!(matches!(quiet.arrived(), Ok(None)));
    let mut ended = Messages::new(tokio_stream::iter([Ok(WriteFileRequest::default())]), pace(), later(60));
    assert!(matches!(ended.arrived(), Ok(Some(Some(_)))));
    assert!(matches!(ended.arrived(), Ok(Some(None))));
}

#[tokio::test]
async fn a_stream_that_broke_off_is_a_client_that_left() {
    let broken = tokio_stream::iter([Err::<WriteFileRequest, _>(Status::from_error(Box::new(Gone)))]);
    let mut messages = Messages::new(broken, pace(), later(60));
    assert!(matches!(messages.next().await, Err(Stop::Refused(Error::ClientLeft))));
}

#[test]
fn both_rpcs_say_the_same() {
    let data = Some(ChecksummedData { content: "abc".into(), crc32c: Some(7) });
    let write = |first_message| WriteFileRequest {
        first_message,
        write_offset: 3,
        data: data.clone(),
        finish: true,
        sha256: "x".into(),
    };
    let bidi = |first_message| BidiWriteFileRequest {
        first_message,
        write_offset: 3,
        data: data.clone(),
        finish: true,
        sha256: "x".into(),
    };
    let expected =
        |first| Message { first, write_offset: 3, data: data.clone(), finish: true, sha256: "x".into() };
    assert_eq!(Message::from(write(None)), expected(None));
    assert_eq!(Message::from(bidi(None)), expected(None));
    let spec = v1::UploadSpec { path: "a".into(), ..v1::UploadSpec::default() };
    let of_spec = || expected(Some(First::Spec(Box::new(spec.clone()))));
    assert_eq!(Message::from(write(Some(write_file_request::FirstMessage::Spec(spec.clone())))), of_spec());
    assert_eq!(
        Message::from(bidi(Some(bidi_write_file_request::FirstMessage::Spec(spec.clone())))),
        of_spec()
    );
    let of_id = || expected(Some(First::Upload("u".into())));
    assert_eq!(Message::from(write(Some(write_file_request::FirstMessage::UploadId("u".into())))), of_id());
    assert_eq!(
        Message::from(bidi(Some(bidi_write_file_request::FirstMessage::UploadId("u".into())))),
        of_id()
    );
}
