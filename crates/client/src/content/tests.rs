//! What a reader refuses, played by streams of messages.

use super::*;
use futures_util::stream;
use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

pub(crate) type Message = Result<v1::ReadFileResponse, Status>;

const STALL: Duration = Duration::from_secs(1);
const BODY: &[u8] = b"the quick brown fox";

/// The first message of an answer.
pub(crate) fn promise(size_bytes: i64, sha256: &str, offset: i64, length: i64) -> Message {
    let file = v1::File {
        id: "0199f3a0-1b2c-7d3e-8f40-112233445566".to_owned(),
        filename: "fox.txt".to_owned(),
        size_bytes,
        sha256: sha256.to_owned(),
        ..Default::default()
    };
    let metadata = Some(v1::ReadMetadata { file: Some(file), offset, length });
    Ok(v1::ReadFileResponse { metadata, ..Default::default() })
}

/// A message with data and its right checksum.
pub(crate) fn piece(read_offset: i64, content: &'static [u8]) -> Message {
    let data = v1::ChecksummedData { content: content.into(), crc32c: Some(crc32c::crc32c(content)) };
    Ok(v1::ReadFileResponse { metadata: None, read_offset, data: Some(data) })
}

/// The promise of a whole content.
pub(crate) fn whole(body: &[u8]) -> Message {
    let size = i64::try_from(body.len()).unwrap();
    promise(size, &HEXLOWER.encode(&Sha256::digest(body)), 0, size)
}

/// The requests that were made.
type Asked = Arc<Mutex<Vec<v1::ReadFileRequest>>>;

/// A service that answers with these streams, one after the other, and then is away.
fn service(streams: Vec<Messages>) -> (Open, Asked) {
    let (streams, asked) = (Mutex::new(VecDeque::from(streams)), Asked::default());
    let log = Arc::clone(&asked);
    let open = move |request| {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let next = streams.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let answer = next.ok_or_else(|| Error::Lost("nobody is there".to_owned()));
        Box::pin(async { answer }) as BoxFuture<'static, Result<Messages>>
    };
    (Box::new(open), asked)
}

/// A content whose service breaks for good where the messages end with a failure.
pub(crate) async fn content(
    messages: impl futures_util::Stream<Item = Message> + Send + 'static,
    (offset, length): (i64, i64),
    stall: Duration,
) -> Result<Content> {
    let (open, _) = service(vec![messages.boxed()]);
    let timeouts = Timeouts { stall, retry: Duration::ZERO, ..Timeouts::default() };
    let request = v1::ReadFileRequest { offset, length, ..Default::default() };
    Content::begin(request, open, &timeouts).await
}

async fn read_range(messages: Vec<Message>, range: (i64, i64)) -> Result<Vec<u8>> {
    let mut content = content(stream::iter(messages), range, STALL).await?;
    let mut all = Vec::new();
    while let Some(chunk) = content.next_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(content.progress().done_bytes, all.len() as u64);
    Ok(all)
}

async fn read_whole(messages: Vec<Message>) -> Result<Vec<u8>> {
    read_range(messages, (0, 0)).await
}

fn corruption<T: std::fmt::Debug>(outcome: Result<T>) -> Corruption {
    match outcome {
        Err(Error::Corrupted(corruption)) => corruption,
        other => panic!("no corruption: {other:?}"),
    }
}

#[tokio::test]
async fn right_contents_come_through() {
    let body = read_whole(vec![whole(BODY), piece(0, &BODY[..4]), piece(4, b""), piece(4, &BODY[4..])]).await;
    assert_eq!(body.unwrap(), BODY);
    assert_eq!(read_whole(vec![whole(b"")]).await.unwrap(), b"");
    let size = i64::try_from(BODY.len()).unwrap();
    let tail = vec![promise(size, "unknown", size - 3, 3), piece(size - 3, b"fox")];
    assert_eq!(read_range(tail, (-3, 0)).await.unwrap(), b"fox");
}

#[tokio::test]
async fn wrong_bytes_are_noticed() {
    let Ok(mut flipped) = piece(0, &BODY[..4]) else { unreachable!() };
    flipped.data.as_mut().unwrap().content = b"thE ".as_slice().into();
    let crc = read_whole(vec![whole(BODY), Ok(flipped.clone()), piece(4, &BODY[4..])]).await;
    assert_eq!(corruption(crc), Corruption::Crc32c { offset: 0 });

    // Wrong bytes without a checksum of their own are found by the one over all.
    flipped.data.as_mut().unwrap().crc32c = None;
    let sha256 = read_whole(vec![whole(BODY), Ok(flipped), piece(4, &BODY[4..])]).await;
    assert!(matches!(corruption(sha256), Corruption::Sha256 { .. }));
}

#[tokio::test]
async fn missing_doubled_and_surplus_bytes_are_noticed() {
    let gap = read_whole(vec![whole(BODY), piece(0, &BODY[..4]), piece(5, &BODY[5..])]).await;
    assert_eq!(corruption(gap), Corruption::Gap { expected: 4, found: 5 });
    let again = read_whole(vec![whole(BODY), piece(0, &BODY[..4]), piece(0, &BODY[..4])]).await;
    assert_eq!(corruption(again), Corruption::Gap { expected: 4, found: 0 });
    let negative = read_whole(vec![whole(BODY), piece(-1, BODY)]).await;
    assert_eq!(corruption(negative), Corruption::Gap { expected: 0, found: -1 });
    let short = read_whole(vec![whole(BODY), piece(0, &BODY[..4])]).await;
    assert_eq!(corruption(short), Corruption::Short { expected_bytes: 19, received_bytes: 4 });
    let long = read_whole(vec![whole(&BODY[..4]), piece(0, BODY)]).await;
    assert_eq!(corruption(long), Corruption::Long { expected_bytes: 4 });
}

#[tokio::test]
async fn answers_outside_the_contract_are_refused() {
    let bad = [
        vec![],
        vec![piece(0, BODY)],
        vec![Ok(v1::ReadFileResponse { metadata: Some(v1::ReadMetadata::default()), ..Default::default() })],
        vec![whole(BODY), whole(BODY)],
        vec![whole(BODY), Ok(v1::ReadFileResponse::default())],
        vec![promise(19, "", 4, 15), piece(4, &BODY[4..])],
        vec![promise(-1, "", 0, -1)],
    ];
    for messages in bad {
        let outcome = read_whole(messages.clone()).await;
        assert!(matches!(outcome, Err(Error::Protocol(_))), "{messages:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn refusals_in_mid_stream_are_told() {
    let broken = vec![whole(BODY), piece(0, &BODY[..4]), Err(Status::data_loss("rotten"))];
    let outcome = read_whole(broken).await;
    assert!(matches!(&outcome, Err(Error::Refused(why)) if why.message == "rotten"), "{outcome:?}");
    // All bytes are there, but the service takes them back.
    let taken_back = read_whole(vec![whole(BODY), piece(0, BODY), Err(Status::data_loss("rotten"))]).await;
    assert!(matches!(taken_back, Err(Error::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_read() {
    let messages = stream::iter([whole(BODY)]).chain(stream::once(pending()));
    let mut content = content(messages, (0, 0), STALL).await.unwrap();
    let outcome = content.next_chunk().await;
    assert!(matches!(outcome, Err(Error::TimedOut { after: STALL, .. })), "{outcome:?}");
}

#[test]
fn ranges_as_the_contract_has_them() {
    let cases = [
        ((0, 0), (0, 10)),
        ((3, 0), (3, 7)),
        ((3, 2), (3, 2)),
        ((3, 100), (3, 7)),
        ((10, 0), (10, 0)),
        ((-4, 0), (6, 4)),
        ((-4, 1), (6, 1)),
        ((-100, 0), (0, 10)),
        ((i64::MIN, i64::MAX), (0, 10)),
    ];
    for (asked, expected) in cases {
        assert_eq!(expected_range(10, asked), expected, "{asked:?}");
    }
}

/// The connection breaks.
fn cut() -> Message {
    let mut status = Status::unknown("transport error");
    status.set_source(Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    Err(status)
}

/// Reads all from a service that breaks off its streams; answers the requests too.
async fn read_on(
    request: v1::ReadFileRequest,
    streams: Vec<Vec<Message>>,
) -> (Result<Vec<u8>>, Vec<v1::ReadFileRequest>) {
    let (open, asked) = service(streams.into_iter().map(|messages| stream::iter(messages).boxed()).collect());
    let timeouts = Timeouts { stall: STALL, retry: Duration::from_secs(5), ..Timeouts::default() };
    let read = async {
        let mut content = Content::begin(request, open, &timeouts).await?;
        let mut all = Vec::new();
        while let Some(chunk) = content.next_chunk().await? {
            all.extend_from_slice(&chunk);
        }
        assert_eq!(content.progress().attempts as usize, asked.lock().unwrap().len());
        Ok(all)
    };
    let outcome = read.await;
    let asked = asked.lock().unwrap().clone();
    (outcome, asked)
}

/// As the service promises `from` on of [`BODY`], in this version.
fn rest_of_version(from: i64, version: i32) -> Message {
    let size = i64::try_from(BODY.len()).unwrap();
    promise(size, &HEXLOWER.encode(&Sha256::digest(BODY)), from, size - from).map(|mut message| {
        message.metadata.as_mut().unwrap().file.as_mut().unwrap().version = version;
        message
    })
}

#[tokio::test(start_paused = true)]
async fn a_broken_read_goes_on_with_the_same_version() {
    let streams = vec![
        vec![cut()],
        vec![rest_of_version(0, 3), piece(0, &BODY[..4]), cut()],
        vec![Err(Status::unavailable("restarting"))],
        vec![rest_of_version(4, 3), piece(4, &BODY[4..9]), Err(Status::unavailable("restarting"))],
        // All is there when it breaks for the last time.
        vec![rest_of_version(9, 3), piece(9, &BODY[9..]), cut()],
    ];
    let by_path =
        v1::ReadFileRequest { file: Some(crate::file_by_path("main", "fox.txt")), ..Default::default() };
    let (body, asked) = read_on(by_path.clone(), streams).await;
    assert_eq!(body.unwrap(), BODY);
    let by_id = |offset, length| v1::ReadFileRequest {
        file: Some(crate::file_by_id("0199f3a0-1b2c-7d3e-8f40-112233445566".parse().unwrap())),
        version: 3,
        offset,
        length,
    };
    assert_eq!(asked, [by_path.clone(), by_path, by_id(4, 15), by_id(4, 15), by_id(9, 10)]);
}

#[tokio::test(start_paused = true)]
async fn bytes_of_another_version_are_never_mixed_in() {
    let begun = || vec![rest_of_version(0, 3), piece(0, &BODY[..4]), cut()];
    let gone = Err(Status::not_found("no such version"));
    let too_short = promise(3, "", 3, 0);
    for answer in [rest_of_version(4, 4), gone] {
        let (outcome, asked) = read_on(Default::default(), vec![begun(), vec![answer]]).await;
        assert!(matches!(outcome, Err(Error::VersionGone { version: 3, received_bytes: 4 })), "{outcome:?}");
        assert_eq!(asked.len(), 2);
    }
    let (outcome, _) = read_on(Default::default(), vec![begun(), vec![too_short]]).await;
    assert!(matches!(outcome, Err(Error::Protocol(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_gets_no_further_ends() {
    let (outcome, asked) =
        read_on(Default::default(), vec![vec![whole(BODY), piece(0, &BODY[..4]), cut()]]).await;
    assert!(matches!(outcome, Err(Error::Lost(_))), "{outcome:?}");
    assert!(asked.len() > 3, "{}", asked.len());
    // Refusals of another kind are told at once.
    let refused = vec![vec![whole(BODY), piece(0, &BODY[..4]), Err(Status::unauthenticated("expired"))]];
    let (outcome, asked) = read_on(Default::default(), refused).await;
    assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
    assert_eq!(asked.len(), 1);
}
