use super::{faulty, faulty::Fault::Hangs};
use crate::support::{begin, begin_resumable, fresh_key, key, kind, noise, resumable, write};
use coffer_domain::{
    driver::{Batch, Driver, ErrorKind, PieceSize, WriteOptions},
    id::UploadId,
};
use coffer_drivers::wrap::{Limited, Limits};
use futures_util::{StreamExt as _, future::join_all};
use std::{sync::Arc, time::Duration};

const TIMEOUT: Option<ErrorKind> = Some(ErrorKind::Timeout);
// The clock stands still while there is work, and leaps while all wait.
const NEVER: Duration = Duration::from_secs(1_000_000);
const SOON: Duration = Duration::from_secs(1);

fn never() -> Limits {
    Limits { concurrency: 100, operation: NEVER, piece: NEVER, write: NEVER, finish: NEVER }
}

#[tokio::test(start_paused = true)]
async fn every_operation_ends_in_time() {
    let (inner, _place) = faulty().await;
    let limited = Limited::new(inner.clone(), Limits { operation: SOON, ..never() });
    let at = fresh_key();
    inner.plan([Hangs; 8]);
    assert_eq!(kind(limited.begin(UploadId::new(), &at, WriteOptions::default()).await), TIMEOUT);
    assert_eq!(kind(limited.resume(UploadId::new(), &at, 0, resumable()).await), TIMEOUT);
    assert_eq!(kind(limited.read(&at, 0..1, PieceSize::default()).await), TIMEOUT);
    assert_eq!(kind(limited.stat(&at).await), TIMEOUT);
    assert_eq!(kind(limited.delete(&at).await), TIMEOUT);
    assert_eq!(kind(limited.list("", None, 1).await), TIMEOUT);
    assert_eq!(kind(limited.put(&at, noise(1, 1)).await), TIMEOUT);
    assert_eq!(kind(limited.sweep(UploadId::new()).await), TIMEOUT);
    assert_eq!(inner.calls(), ["begin", "resume", "read", "stat", "delete", "list", "put", "sweep"]);
    let failure = {
        inner.plan([Hangs]);
        limited.stat(&at).await.unwrap_err()
    };
    assert_eq!((failure.operation, failure.key.as_deref()), ("stat", Some(at.as_str())));
}

#[tokio::test(start_paused = true)]
async fn writing_finishing_and_each_piece_have_deadlines_of_their_own() {
    let (inner, _place) = faulty().await;
    let driver = |limits: Limits| Limited::new(inner.clone(), limits);
    let batch = || Batch::from(vec![noise(10, 1)]);

    let mut writer = begin(&driver(Limits { write: SOON, ..never() }), &fresh_key()).await.unwrap();
    inner.plan([Hangs]);
    assert_eq!(kind(writer.write(batch()).await), TIMEOUT);

    let mut writer = begin(&driver(Limits { finish: SOON, ..never() }), &fresh_key()).await.unwrap();
    writer.write(batch()).await.unwrap();
    inner.plan([Hangs]);
    assert_eq!(kind(writer.finish().await), TIMEOUT);

    inner.plan([Hangs]);
    let limited = driver(Limits { finish: SOON, ..never() });
    assert_eq!(kind(limited.store(UploadId::new(), &fresh_key(), vec![noise(10, 1)]).await), TIMEOUT);

    inner.plan([Hangs]);
    assert_eq!(kind(limited.copy(UploadId::new(), &fresh_key(), &fresh_key()).await), TIMEOUT);

    let mut writer = begin_resumable(&limited, UploadId::new(), &fresh_key()).await.unwrap();
    writer.write(batch()).await.unwrap();
    inner.plan([Hangs]);
    assert_eq!(kind(writer.checkpoint().await), TIMEOUT);

    let limited = driver(Limits { operation: SOON, ..never() });
    let writer = {
        let unlimited = driver(never());
        let at = key("large");
        write(&unlimited, &at, &noise(1_000_000, 1)).await.unwrap();
        begin(&limited, &fresh_key()).await.unwrap()
    };
    inner.plan([Hangs]);
    assert_eq!(kind(writer.abort().await), TIMEOUT);

    let mut pieces = driver(Limits { piece: SOON, ..never() })
        .read(&key("large"), 0..u64::MAX, PieceSize::default())
        .await
        .unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
    inner.plan([Hangs]);
    assert_eq!(kind(pieces.next().await.unwrap()), TIMEOUT);
    assert!(pieces.next().await.is_none(), "a stream that was late has ended");
}

#[tokio::test]
async fn no_more_calls_than_allowed_are_under_way() {
    let (inner, _place) = faulty().await;
    let limited = Arc::new(Limited::new(inner.clone(), Limits { concurrency: 3, ..never() }));
    let keys: Vec<_> = (0..40).map(|_| fresh_key()).collect();
    let content = noise(1000, 1);
    let results = join_all(keys.iter().map(|key| write(&*limited, key, &content))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(inner.peak(), 3, "three, and not one by one");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_in_time_is_told_that_it_is_busy() {
    let (inner, _place) = faulty().await;
    let limited =
        Arc::new(Limited::new(inner.clone(), Limits { concurrency: 1, operation: SOON, ..never() }));
    let mut writer = begin(&*limited, &fresh_key()).await.unwrap();
    inner.hold();
    let writing = tokio::spawn(async move { writer.write(vec![noise(10, 1)].into()).await });
    while !inner.calls().contains(&"write") {
        tokio::task::yield_now().await;
    }
    let failure = limited.stat(&fresh_key()).await.unwrap_err();
    assert_eq!((failure.kind, failure.operation), (ErrorKind::Unavailable, "stat"));
    assert_eq!(inner.calls(), [""; 0]);
    inner.let_go();
    writing.await.unwrap().unwrap();
    assert_eq!(limited.stat(&fresh_key()).await.unwrap(), None, "the permit came back");
}

/// Readers and writers that wait for their peers must not keep others out.
#[tokio::test(start_paused = true)]
async fn idle_streams_and_writers_hold_no_permit() {
    let (inner, _place) = faulty().await;
    let limited = Limited::new(inner.clone(), Limits { concurrency: 1, operation: SOON, ..never() });
    let at = key("large");
    write(&limited, &at, &noise(1_000_000, 1)).await.unwrap();
    let mut pieces = limited.read(&at, 0..u64::MAX, PieceSize::default()).await.unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
    let writer = begin(&limited, &fresh_key()).await.unwrap();
    assert_eq!(limited.stat(&at).await.unwrap().unwrap().size, 1_000_000);
    assert!(pieces.next().await.unwrap().is_ok());
    assert_eq!(writer.finish().await.unwrap().size, 0);
}
