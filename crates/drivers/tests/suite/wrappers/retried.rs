use super::{
    faulty,
    faulty::Fault::{Fails, Hangs},
};
use crate::support::{begin, fresh_key, key, kind, noise, resumable, write};
use coffer_domain::{
    driver::{Driver, ErrorKind, PieceSize, WriteOptions},
    id::UploadId,
};
use coffer_drivers::wrap::{Limited, Limits, Retried, Retry};
use futures_util::StreamExt as _;
use std::{sync::Arc, time::Duration};

fn retry() -> Retry {
    Retry { tries: 4, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) }
}

#[tokio::test]
async fn what_may_be_done_twice_is_tried_again() {
    let (inner, _place) = faulty().await;
    let retried = Retried::new(inner.clone(), retry());
    let at = fresh_key();
    let trouble = [Fails(ErrorKind::Unavailable), Fails(ErrorKind::Timeout), Fails(ErrorKind::Unavailable)];
    inner.plan(trouble);
    assert_eq!(retried.stat(&at).await.unwrap(), None);
    assert_eq!(inner.calls(), ["stat"; 4]);
    inner.plan(trouble);
    retried.put(&at, noise(10, 1)).await.unwrap();
    assert_eq!(inner.calls(), ["put"; 4]);
    inner.plan(trouble);
    assert_eq!(retried.list("", None, 10).await.unwrap().len(), 1);
    assert_eq!(inner.calls(), ["list"; 4]);
    inner.plan(trouble);
    retried.delete(&at).await.unwrap();
    assert_eq!(inner.calls(), ["delete"; 4]);
    inner.plan(trouble);
    retried.sweep(UploadId::new()).await.unwrap();
    assert_eq!(inner.calls(), ["sweep"; 4]);
    // Once it is reached, the driver on a disk says that it has none.
    let (version, none) = ("1".parse().unwrap(), Some(ErrorKind::Unsupported));
    inner.plan(trouble);
    assert_eq!(kind(retried.stat_version(&at, &version).await), none);
    assert_eq!(inner.calls(), ["stat_version"; 4]);
    inner.plan(trouble);
    assert_eq!(kind(retried.delete_version(&at, &version).await), none);
    assert_eq!(inner.calls(), ["delete_version"; 4]);
}

#[tokio::test]
async fn the_last_failure_is_told_after_the_last_try() {
    let (inner, _place) = faulty().await;
    let retried = Retried::new(inner.clone(), retry());
    inner.plan(
        [ErrorKind::Unavailable, ErrorKind::Unavailable, ErrorKind::Unavailable, ErrorKind::Timeout]
            .map(Fails),
    );
    assert_eq!(kind(retried.stat(&fresh_key()).await), Some(ErrorKind::Timeout));
    assert_eq!(inner.calls(), ["stat"; 4]);
    let once = Retried::new(inner.clone(), Retry { tries: 1, ..retry() });
    inner.plan([Fails(ErrorKind::Unavailable)]);
    assert_eq!(kind(once.stat(&fresh_key()).await), Some(ErrorKind::Unavailable));
    assert_eq!(inner.calls(), ["stat"]);
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    let (inner, _place) = faulty().await;
    let retried = Retried::new(inner.clone(), retry());
    for refusal in [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Full,
        ErrorKind::Denied,
        ErrorKind::NotOnThisNode,
        ErrorKind::Unsupported,
        ErrorKind::BadAnswer,
        ErrorKind::Other,
    ] {
        inner.plan([Fails(refusal)]);
        assert_eq!(kind(retried.delete(&fresh_key()).await), Some(refusal));
        assert_eq!(inner.calls(), ["delete"]);
    }
}

#[tokio::test]
async fn bytes_are_never_asked_for_again() {
    let (inner, _place) = faulty().await;
    let retried = Retried::new(inner.clone(), retry());
    let unavailable = || inner.plan([Fails(ErrorKind::Unavailable)]);
    let expected = Some(ErrorKind::Unavailable);
    let at = key("large");
    write(&retried, &at, &noise(1_000_000, 1)).await.unwrap();
    inner.calls();

    unavailable();
    assert_eq!(kind(retried.begin(UploadId::new(), &at, WriteOptions::default()).await), expected);
    unavailable();
    assert_eq!(kind(retried.read(&at, 0..1, PieceSize::default()).await), expected);
    let mut pieces = retried.read(&at, 0..u64::MAX, PieceSize::default()).await.unwrap();
    unavailable();
    assert_eq!(kind(pieces.next().await.unwrap()), expected);
    assert_eq!(inner.calls(), ["begin", "read", "read", "piece"]);

    let mut writer = begin(&retried, &fresh_key()).await.unwrap();
    unavailable();
    assert_eq!(kind(writer.write(vec![noise(10, 1)].into()).await), expected);
    unavailable();
    assert_eq!(kind(writer.abort().await), expected);
    unavailable();
    let writer = begin(&retried, &fresh_key()).await;
    assert_eq!(kind(writer), expected);
    unavailable();
    assert_eq!(kind(retried.store(UploadId::new(), &fresh_key(), vec![noise(10, 1)]).await), expected);
    assert_eq!(inner.calls(), ["begin", "write", "abort", "begin", "store"]);
}

/// The writer before may be about to let go; but somebody waits.
#[tokio::test(start_paused = true)]
async fn resume_is_tried_again_for_a_short_time() {
    let (inner, _place) = faulty().await;
    let (upload, at) = (UploadId::new(), fresh_key());
    let resume = async |driver: &dyn Driver| kind(driver.resume(upload, &at, 0, resumable()).await);
    let retried = Retried::new(inner.clone(), Retry::default());
    inner.plan([Fails(ErrorKind::Unavailable); 3]);
    assert_eq!(resume(&retried).await, None);
    assert_eq!(inner.calls(), ["resume"; 4]);
    for refusal in [ErrorKind::Timeout, ErrorKind::NotFound] {
        inner.plan([Fails(refusal)]);
        assert_eq!(resume(&retried).await, Some(refusal));
        assert_eq!(inner.calls(), ["resume"]);
    }
    // Not let in for a while: that is told as it is, and not tried four times.
    let limits = Limits { concurrency: 1, operation: Duration::from_secs(20), ..Limits::default() };
    let limited = Arc::new(Limited::new(inner.clone(), limits));
    let retried = Retried::new(limited.clone(), Retry::default());
    inner.hold();
    let holding = tokio::spawn({
        let (limited, at) = (limited.clone(), at.clone());
        async move { kind(limited.stat(&at).await) }
    });
    while !inner.calls().contains(&"stat") {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(resume(&retried).await, Some(ErrorKind::Unavailable));
    assert_eq!(began.elapsed().as_secs(), 20);
    holding.await.unwrap();
}

/// Each try has a deadline of its own, because the limits are inside.
#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_is_followed_by_another() {
    let (inner, _place) = faulty().await;
    let limits = Limits { operation: Duration::from_secs(20), ..Limits::default() };
    let retried = Retried::new(Arc::new(Limited::new(inner.clone(), limits)), retry());
    inner.plan([Hangs, Hangs]);
    assert_eq!(retried.stat(&fresh_key()).await.unwrap(), None);
    assert_eq!(inner.calls(), ["stat"; 3]);
}
