use super::{
    faulty,
    faulty::Fault::{Fails, Hangs},
};
use crate::support::{
    all_keys, begin, begin_resumable, fresh_key, kind, noise, resumable, resume_when_free, write,
};
use coffer_domain::{
    driver::{Driver as _, ErrorKind, NativeVersion, PieceSize},
    id::UploadId,
    path::Key,
};
use coffer_drivers::wrap::{Guarded, MOST_LISTED, MOST_PUT_BYTES};
use futures_util::FutureExt as _;

const UNSUPPORTED: Option<ErrorKind> = Some(ErrorKind::Unsupported);

#[tokio::test]
async fn what_a_driver_cannot_do_does_not_reach_it() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let key = fresh_key();
    write(&guarded, &key, &noise(100, 1)).await.unwrap();
    assert!(guarded.read(&key, 1..2, PieceSize::default()).await.is_ok());
    assert_eq!(guarded.list("", None, 1).await.unwrap().len(), 1);
    inner.capabilities.lock().unwrap().list = false;
    inner.capabilities.lock().unwrap().range_read = false;
    inner.capabilities.lock().unwrap().copy = false;
    inner.capabilities.lock().unwrap().link = false;
    inner.calls();
    assert_eq!(kind(guarded.copy(UploadId::new(), &key, &fresh_key()).await), UNSUPPORTED);
    assert_eq!(kind(guarded.link(&key, &fresh_key(), &[]).await), UNSUPPORTED);
    assert_eq!(kind(guarded.unlink(&fresh_key(), &[]).await), UNSUPPORTED);
    assert_eq!(kind(guarded.list("", None, 1).await), UNSUPPORTED);
    assert_eq!(kind(guarded.read(&key, 1..2, PieceSize::default()).await), UNSUPPORTED);
    // The driver is on a disk, which keeps none.
    let version: NativeVersion = "1".parse().unwrap();
    let read = |at| guarded.read_version(&key, &version, at..2, PieceSize::default());
    assert_eq!(kind(read(0).await), UNSUPPORTED);
    assert_eq!(kind(guarded.stat_version(&key, &version).await), UNSUPPORTED);
    assert_eq!(kind(guarded.delete_version(&key, &version).await), UNSUPPORTED);
    inner.capabilities.lock().unwrap().versions = true;
    assert_eq!(kind(read(1).await), UNSUPPORTED, "not from there");
    assert_eq!(inner.calls(), [""; 0]);
    assert_eq!(kind(read(0).await), UNSUPPORTED);
    assert_eq!(inner.calls(), ["read_version"], "the driver itself refuses");
    assert!(
        guarded.read(&key, 0..2, PieceSize::default()).await.is_ok(),
        "from the beginning every driver reads"
    );
}

#[tokio::test]
async fn a_key_is_not_chosen_at_the_end_where_that_cannot_be() {
    let (inner, _place) = faulty().await;
    inner.capabilities.lock().unwrap().rename = false;
    let guarded = Guarded::new(inner.clone());
    let writer = begin(&guarded, &fresh_key()).await.unwrap();
    inner.calls();
    assert_eq!(kind(writer.finish_at(&fresh_key()).await), UNSUPPORTED);
    assert_eq!(inner.calls(), [""; 0]);
}

#[tokio::test]
async fn arguments_outside_their_limits_do_not_reach_a_driver() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    for limit in [0, MOST_LISTED + 1] {
        assert_eq!(kind(guarded.list("", None, limit).await), UNSUPPORTED);
    }
    assert_eq!(kind(guarded.put(&Key::marker(), noise(MOST_PUT_BYTES + 1, 1)).await), UNSUPPORTED);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let reversed = 2..1;
    assert_eq!(kind(guarded.read(&fresh_key(), reversed, PieceSize::default()).await), UNSUPPORTED);
    assert_eq!(inner.calls(), [""; 0]);
    assert!(guarded.list("", None, MOST_LISTED).await.is_ok());
    assert!(guarded.put(&Key::marker(), noise(MOST_PUT_BYTES, 1)).await.is_ok());
}

#[tokio::test]
async fn a_writer_that_failed_is_not_finished() {
    let (inner, place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let key = fresh_key();
    let mut writer = begin(&guarded, &key).await.unwrap();
    writer.write(vec![noise(10, 1)].into()).await.unwrap();
    inner.plan([Fails(ErrorKind::Full)]);
    assert_eq!(kind(writer.write(vec![noise(10, 2)].into()).await), Some(ErrorKind::Full));
    inner.calls();
    assert_eq!(kind(writer.write(vec![noise(10, 3)].into()).await), Some(ErrorKind::Other));
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::Other));
    assert_eq!(inner.calls(), ["abort"]);
    assert_eq!(guarded.stat(&key).await.unwrap(), None);
    assert!(all_keys(&guarded, ".coffer/", 10).await.is_empty());
    drop(place);
}

#[tokio::test]
async fn a_writer_whose_write_was_given_up_is_not_finished() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let mut writer = begin(&guarded, &fresh_key()).await.unwrap();
    inner.plan([Hangs]);
    assert!(writer.write(vec![noise(10, 1)].into()).now_or_never().is_none());
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::Other));
}

#[tokio::test]
async fn what_cannot_be_resumed_is_not_begun() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let (upload, key) = (UploadId::new(), fresh_key());
    drop(begin_resumable(&guarded, upload, &key).await.unwrap());
    drop(guarded.resume(upload, &key, 0, resumable()).await.unwrap());
    inner.capabilities.lock().unwrap().resume = false;
    inner.calls();
    assert_eq!(kind(begin_resumable(&guarded, upload, &key).await), UNSUPPORTED);
    assert_eq!(kind(guarded.resume(upload, &key, 0, resumable()).await), UNSUPPORTED);
    assert_eq!(inner.calls(), [""; 0]);
    let mut writer = begin(&guarded, &key).await.unwrap();
    assert_eq!(kind(writer.checkpoint().await), UNSUPPORTED);
    assert_eq!(writer.finish().await.unwrap().size, 0);
    assert_eq!(inner.calls(), ["begin", "finish"]);
}

/// Neither written nor finished, and what is staged is kept for the next writer.
#[tokio::test]
async fn a_writer_whose_checkpoint_failed_is_broken() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let (upload, key, other) = (UploadId::new(), fresh_key(), Some(ErrorKind::Other));
    let mut writer = begin_resumable(&guarded, upload, &key).await.unwrap();
    writer.write(vec![noise(10, 1)].into()).await.unwrap();
    writer.checkpoint().await.unwrap();
    inner.plan([Fails(ErrorKind::Unavailable)]);
    assert_eq!(kind(writer.checkpoint().await), Some(ErrorKind::Unavailable));
    inner.calls();
    assert_eq!(kind(writer.write(vec![noise(10, 2)].into()).await), other);
    assert_eq!(kind(writer.checkpoint().await), other);
    assert_eq!(kind(writer.finish().await), other);
    assert_eq!(inner.calls(), [""; 0]);
    let mut writer = resume_when_free(&guarded, upload, &key, 10).await;

    // A write that succeeds beside it mends nothing.
    let checkpoint = writer.checkpoint();
    inner.hold();
    let fails = async {
        inner.plan([Fails(ErrorKind::Full)]);
        let failed = checkpoint.await;
        inner.let_go();
        failed
    };
    let (written, failed) = tokio::join!(writer.write(vec![noise(10, 2)].into()), fails);
    assert_eq!((kind(failed), kind(written)), (Some(ErrorKind::Full), None));
    assert_eq!(kind(writer.finish().await), other);
    assert_eq!(guarded.stat(&key).await.unwrap(), None);
    let writer = resume_when_free(&guarded, upload, &key, 10).await;
    assert_eq!(writer.finish().await.unwrap().size, 10);
}

#[tokio::test]
async fn a_checkpoint_that_is_not_awaited_keeps_its_writer_from_being_finished() {
    let (inner, _place) = faulty().await;
    let guarded = Guarded::new(inner.clone());
    let (upload, key) = (UploadId::new(), fresh_key());
    for is_given_up in [false, true] {
        let mut writer = resume_when_free(&guarded, upload, &key, 0).await;
        let checkpoint = writer.checkpoint();
        let kept = (!is_given_up).then_some(checkpoint);
        inner.calls();
        assert_eq!(kind(writer.finish().await), Some(ErrorKind::Other));
        assert_eq!(inner.calls(), [""; 0]);
        drop(kept);
    }
    let mut writer = resume_when_free(&guarded, upload, &key, 0).await;
    drop(writer.checkpoint());
    writer.abort().await.unwrap();
    assert!(all_keys(&guarded, ".coffer/", 10).await.is_empty(), "given up is what it may be");
}
