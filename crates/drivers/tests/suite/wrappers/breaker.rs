use super::{
    faulty,
    faulty::{
        Fault::{Fails, Hangs},
        Faulty,
    },
};
use crate::support::{begin, begin_resumable, fresh_key, kind, noise, resumable, write};
use coffer_domain::{
    driver::{Driver, ErrorKind, PieceSize},
    id::UploadId,
    path::Key,
};
use coffer_drivers::wrap::{Breaker, Breaks};
use futures_util::{StreamExt as _, future::join_all};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::{advance, sleep};

const AWAY: Option<ErrorKind> = Some(ErrorKind::Unavailable);
const SECOND: Duration = Duration::from_secs(1);

fn breaks() -> Breaks {
    Breaks { failures: 3, first_pause: SECOND, longest_pause: 3 * SECOND }
}

/// A breaker around a driver that misbehaves, which has just opened.
async fn open() -> (Breaker, Arc<Faulty>, TempDir, Key) {
    let (inner, place) = faulty().await;
    let (breaker, at) = (Breaker::new(inner.clone(), breaks()), fresh_key());
    inner.plan([Fails(ErrorKind::Unavailable), Fails(ErrorKind::Timeout), Fails(ErrorKind::Unavailable)]);
    for _ in 0..3 {
        assert!(breaker.stat(&at).await.is_err());
    }
    assert_eq!(inner.calls(), ["stat"; 3]);
    (breaker, inner, place, at)
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_left_alone_for_a_while() {
    let (breaker, inner, _place, at) = open().await;
    let failure = breaker.stat(&at).await.unwrap_err();
    assert_eq!((failure.kind, failure.operation), (ErrorKind::Unavailable, "stat"));
    assert_eq!(failure.key.as_deref(), Some(at.as_str()));
    let why = failure.source.unwrap().to_string();
    assert!(why.contains("has not answered since 20") && why.contains("asked again at 20"), "{why}");
    advance(SECOND - Duration::from_millis(1)).await;
    assert_eq!(kind(breaker.stat(&at).await), AWAY);
    assert_eq!(inner.calls(), [""; 0]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(breaker.stat(&at).await.unwrap(), None);
    write(&breaker, &at, &noise(10, 1)).await.unwrap();
    assert_eq!(inner.calls(), ["stat", "begin", "write", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_a_bound() {
    let (breaker, inner, _place, at) = open().await;
    for pause in [1, 2, 3, 3] {
        advance(pause * SECOND - Duration::from_millis(1)).await;
        assert_eq!(kind(breaker.stat(&at).await), AWAY);
        assert_eq!(inner.calls(), [""; 0], "before {pause} s");
        advance(Duration::from_millis(1)).await;
        inner.plan([Fails(ErrorKind::Timeout)]);
        assert_eq!(kind(breaker.stat(&at).await), Some(ErrorKind::Timeout));
        assert_eq!(inner.calls(), ["stat"]);
    }
    advance(3 * SECOND).await;
    breaker.stat(&at).await.unwrap();
    // As patient as at first.
    inner.plan([Fails(ErrorKind::Timeout); 3]);
    for _ in 0..3 {
        assert!(breaker.stat(&at).await.is_err());
    }
    assert_eq!(inner.calls().len(), 4);
    advance(SECOND).await;
    breaker.stat(&at).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_finds_out() {
    let (breaker, inner, _place, at) = open().await;
    advance(SECOND).await;
    inner.plan([Hangs]);
    let probe = async { tokio::time::timeout(SECOND, breaker.stat(&at)).await.is_err() };
    let others = async {
        tokio::task::yield_now().await;
        join_all((0..20).map(|_| breaker.stat(&at))).await
    };
    let (was_given_up, others) = tokio::join!(probe, others);
    assert!(was_given_up && others.into_iter().all(|other| kind(other) == AWAY));
    assert_eq!(inner.calls(), ["stat"]);
    breaker.stat(&at).await.unwrap();
    assert_eq!(inner.calls(), ["stat"], "one that is given up finds out nothing: the next does");
}

#[tokio::test(start_paused = true)]
async fn only_failures_in_a_row_count_and_refusals_are_answers() {
    let (inner, _place) = faulty().await;
    let (breaker, at) = (Breaker::new(inner.clone(), breaks()), fresh_key());
    let refusals =
        [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Full, ErrorKind::AlreadyExists, ErrorKind::Other];
    for refusal in refusals {
        inner.plan([Fails(ErrorKind::Timeout), Fails(ErrorKind::Timeout), Fails(refusal)]);
        for _ in 0..3 {
            assert!(breaker.stat(&at).await.is_err());
        }
    }
    assert_eq!(inner.calls(), ["stat"; 15]);
    for refusal in refusals {
        let (breaker, inner, _place, at) = open().await;
        advance(SECOND).await;
        inner.plan([Fails(refusal)]);
        assert_eq!(kind(breaker.stat(&at).await), Some(refusal));
        assert_eq!(breaker.stat(&at).await.unwrap(), None, "it has answered {refusal:?}");
    }
}

/// Whoever asks for an upload that another has is told `Unavailable`, as often as he asks.
#[tokio::test(start_paused = true)]
async fn an_upload_that_another_has_is_no_failure() {
    let (inner, _place) = faulty().await;
    let breaker = Breaker::new(inner.clone(), breaks());
    let (upload, at) = (UploadId::new(), fresh_key());
    let writer = begin_resumable(&breaker, upload, &at).await.unwrap();
    for _ in 0..10 {
        assert_eq!(kind(breaker.resume(upload, &at, 0, resumable()).await), AWAY);
    }
    assert_eq!(breaker.stat(&at).await.unwrap(), None);
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn every_operation_counts_and_every_one_is_refused() {
    let (breaker, inner, _place, at) = open().await;
    advance(SECOND).await;
    write(&breaker, &at, &noise(100, 1)).await.unwrap();
    let content = noise(10, 1);
    let mut writer = begin_resumable(&breaker, UploadId::new(), &fresh_key()).await.unwrap();
    let mut pieces = breaker.read(&at, 0..100, PieceSize::default()).await.unwrap();
    let leaving = begin(&breaker, &fresh_key()).await.unwrap();
    inner.calls();

    inner.plan([Fails(ErrorKind::Timeout); 3]);
    assert!(pieces.next().await.unwrap().is_err());
    assert!(writer.write(vec![content.clone()].into()).await.is_err());
    assert!(writer.checkpoint().await.is_err());
    assert_eq!(inner.calls(), ["piece", "write", "checkpoint"]);

    assert_eq!(kind(breaker.begin(UploadId::new(), &at, resumable()).await), AWAY);
    assert_eq!(kind(breaker.resume(UploadId::new(), &at, 0, resumable()).await), AWAY);
    assert_eq!(kind(breaker.store(UploadId::new(), &at, vec![content.clone()]).await), AWAY);
    assert_eq!(kind(breaker.read(&at, 0..1, PieceSize::default()).await), AWAY);
    assert_eq!(kind(breaker.stat(&at).await), AWAY);
    assert_eq!(kind(breaker.delete(&at).await), AWAY);
    assert_eq!(kind(breaker.list("", None, 1).await), AWAY);
    assert_eq!(kind(breaker.put(&at, content.clone()).await), AWAY);
    assert_eq!(kind(breaker.copy(UploadId::new(), &at, &fresh_key()).await), AWAY);
    assert_eq!(kind(breaker.link(&at, &fresh_key(), &[]).await), AWAY);
    assert_eq!(kind(breaker.unlink(&fresh_key(), &[]).await), AWAY);
    assert_eq!(kind(breaker.sweep(UploadId::new()).await), AWAY);
    assert_eq!(kind(writer.write(vec![content].into()).await), AWAY);
    assert_eq!(kind(writer.checkpoint().await), AWAY);
    assert_eq!(kind(writer.finish().await), AWAY);
    assert_eq!(inner.calls(), [""; 0]);
    leaving.abort().await.unwrap();
    assert_eq!(inner.calls(), ["abort"], "what can be cleared away is");
}

#[tokio::test(start_paused = true)]
async fn another_volume_has_a_breaker_of_its_own() {
    let (sick, inner, _place, at) = open().await;
    let (other, _other_place) = faulty().await;
    let well = Breaker::new(other, breaks());
    for _ in 0..10 {
        assert_eq!(kind(sick.stat(&at).await), AWAY);
        assert_eq!(well.stat(&at).await.unwrap(), None);
    }
    assert_eq!(inner.calls(), [""; 0]);
    sleep(SECOND).await;
    assert_eq!(sick.stat(&at).await.unwrap(), None);
}
