use super::*;
use crate::edge::admission::{Admission, Limits};
use http_body::Frame;
use http_body_util::StreamBody;
use std::{convert::Infallible, time::Duration};
use tokio::{sync::mpsc, time::Instant};

const MIB: usize = 1024 * 1024;

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

/// A body that gives what is sent to it.
fn body() -> (Sender, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Body::new(StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(receiver))))
}

fn framed(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(PREFIX_BYTES + length, 7);
    bytes
}

/// A body that has arrived in these parts.
fn arrived(parts: &[&[u8]]) -> Body {
    let (sender, body) = body();
    for part in parts {
        sender.send(Ok(Frame::data(Bytes::copy_from_slice(part)))).unwrap();
    }
    body
}

fn reading(budget: &Budget) -> Reading {
    let place = Admission::new(Limits::default()).arrive(None, Kind::Unary).unwrap();
    Reading { pace: Pace::default(), budget: budget.clone(), place }
}

async fn read(budget: &Budget, body: Body, is_known: bool) -> Result<Vec<u8>> {
    reading(budget).message(body, is_known).await.map(|(bytes, _)| bytes.to_vec())
}

#[tokio::test]
async fn a_message_is_whole_however_it_arrives_and_what_follows_is_left_out() {
    let budget = Budget::new(64 * MIB);
    let message = framed(100_000);
    for size in [1_000, 16 * 1024, 99_999, 200_000] {
        let parts: Vec<_> = message.chunks(size).collect();
        assert_eq!(read(&budget, arrived(&parts), true).await.unwrap(), message, "{size}");
    }
    let prefix: Vec<_> = message.chunks(2).collect();
    assert_eq!(read(&budget, arrived(&prefix), true).await.unwrap(), message);
    let second = framed(200);
    let bytes = read(&budget, arrived(&[&framed(10), &second, &second]), true).await.unwrap();
    assert_eq!(bytes, framed(10));
    assert_eq!(read(&budget, arrived(&[]), true).await.unwrap(), b"");
    assert_eq!(read(&budget, arrived(&[&message[..50]]), true).await.unwrap(), &message[..50], "cut short");
    assert_eq!(budget.left(), budget.total());
}

#[tokio::test]
async fn what_is_too_large_is_not_waited_for() {
    let (sender, body) = body();
    sender.send(Ok(Frame::data(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])))).unwrap();
    assert_eq!(read(&Budget::default(), body, true).await.unwrap(), [0, 0xff, 0xff, 0xff, 0xff]);
    assert!(sender.is_closed());
}

#[tokio::test]
async fn memory_is_had_before_it_is_used_and_kept_with_the_request() {
    let budget = Budget::new(16 * MIB);
    let request = http::Request::new(arrived(&[&framed(MIB)]));
    let request = reading(&budget).ready(Some("ann".to_owned()), request).await.unwrap();
    assert_eq!(budget.total() - budget.left(), PREFIX_BYTES + MIB);
    drop(request);
    assert_eq!(budget.left(), budget.total());
    let _taken = budget.take(0, 9 * MIB);
    let refused = read(&budget, arrived(&[&framed(MIB)]), true).await;
    assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
    assert!(read(&budget, arrived(&[&framed(SMALL_BYTES - PREFIX_BYTES)]), true).await.is_ok());
}

#[tokio::test]
async fn who_is_not_known_sends_little() {
    let budget = Budget::default();
    assert!(read(&budget, arrived(&[&framed(10_000)]), false).await.is_ok());
    let refused = read(&budget, arrived(&[&framed(20_000)]), false).await;
    assert!(matches!(refused, Err(Error::Unauthenticated(Unauthenticated::Missing))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_stalls() {
    let (sender, body) = body();
    let since = Instant::now();
    let trickle = tokio::spawn(async move {
        for byte in framed(1_000) {
            let _ = sender.send(Ok(Frame::data(Bytes::copy_from_slice(&[byte]))));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let outcome = read(&Budget::default(), body, true).await;
    assert!(matches!(outcome, Err(Error::Stalled { seconds: 30 })), "{outcome:?}");
    assert_eq!(since.elapsed(), Duration::from_secs(30));
    trickle.abort();
}

#[tokio::test]
async fn streams_go_through_as_they_are() {
    let place = Admission::new(Limits::default()).arrive(None, Kind::Upload).unwrap();
    let reading = Reading { pace: Pace::default(), budget: Budget::default(), place };
    let (sender, body) = body();
    let request = reading.ready(Some("ann".to_owned()), http::Request::new(body)).await.unwrap();
    sender.send(Ok(Frame::data(Bytes::from_static(b"later")))).unwrap();
    let frame = request.into_body().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "later");
}
