//! One function per promise of the port to objects that outlive their writer.

use crate::support::{
    all_keys, begin, begin_resumable, fresh_key, kind, noise, read, resumable, resume_when_free, write,
};
use bytes::Bytes;
use coffer_domain::{
    driver::{Driver, ErrorKind, Result, WriteOptions, Writer},
    id::UploadId,
    path::Key,
};
use futures_util::{FutureExt as _, future::join_all};
use std::time::Duration;

/// Ends the test of a driver that cannot resume: begin has to say so.
macro_rules! requires_resume {
    ($driver:expr) => {
        if !$driver.capabilities().resume {
            let refusal = begin_resumable($driver, UploadId::new(), &fresh_key()).await;
            assert_eq!(kind(refusal), Some(ErrorKind::Unsupported));
            return super::report::lacks("resume");
        }
    };
}

async fn resume(driver: &dyn Driver, upload: UploadId, key: &Key, size: usize) -> Result<Box<dyn Writer>> {
    driver.resume(upload, key, size as u64, resumable()).await
}

async fn append(writer: &mut Box<dyn Writer>, content: &Bytes) {
    writer.write(vec![content.clone()].into()).await.unwrap();
}

async fn assert_finished(driver: &dyn Driver, writer: Box<dyn Writer>, key: &Key, content: &[u8]) {
    assert_eq!(driver.stat(key).await.unwrap(), None, "nothing is visible before finish");
    assert_eq!(writer.finish().await.unwrap().size, content.len() as u64);
    assert!(read(driver, key).await.unwrap() == content);
    assert_eq!(staged(driver).await, 0, "nothing is left staged");
}

async fn staged(driver: &dyn Driver) -> usize {
    match driver.capabilities().list {
        true => all_keys(driver, ".coffer/", 100).await.len(),
        false => 0,
    }
}

pub(super) async fn what_a_checkpoint_made_durable_is_gone_on_with(driver: &dyn Driver) {
    requires_resume!(driver);
    const LENGTH: usize = 700_000;
    let content = noise(LENGTH, 1);
    for cut in [0, 1, 511, 4095, 4096, 4097, 65_536, 262_143, 262_144, 524_289, LENGTH - 1, LENGTH] {
        let (key, upload) = (fresh_key(), UploadId::new());
        let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
        append(&mut writer, &content.slice(..cut)).await;
        writer.checkpoint().await.unwrap();
        drop(writer);
        let mut writer = resume(driver, upload, &key, cut).await.unwrap();
        append(&mut writer, &content.slice(cut..)).await;
        assert_finished(driver, writer, &key, &content).await;
    }
}

pub(super) async fn what_was_written_after_the_checkpoint_is_cut_off(driver: &dyn Driver) {
    requires_resume!(driver);
    let (content, other) = (noise(300_000, 1), noise(400_000, 2));
    for (durable, rest) in [(0, 10), (1, 299_999), (100_000, 0), (100_000, 1), (299_999, 1), (300_000, 0)] {
        let (key, upload) = (fresh_key(), UploadId::new());
        let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
        append(&mut writer, &content.slice(..durable)).await;
        writer.checkpoint().await.unwrap();
        append(&mut writer, &other).await;
        drop(writer);
        let mut writer = resume(driver, upload, &key, durable).await.unwrap();
        append(&mut writer, &content.slice(durable..durable + rest)).await;
        assert_finished(driver, writer, &key, &content[..durable + rest]).await;
    }
}

pub(super) async fn an_object_is_resumed_as_often_as_its_writer_is_lost(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(1_000_000, 3));
    drop(begin_resumable(driver, upload, &key).await.unwrap());
    for at in (0..1_000_000).step_by(50_000) {
        // Twice from the same place: the first is lost before its checkpoint.
        for is_lost in [true, false] {
            let mut writer = resume(driver, upload, &key, at).await.unwrap();
            append(&mut writer, &content.slice(at..at + 25_000)).await;
            append(&mut writer, &content.slice(at + 25_000..at + 50_000)).await;
            if !is_lost {
                writer.checkpoint().await.unwrap();
            }
        }
    }
    let writer = resume(driver, upload, &key, 1_000_000).await.unwrap();
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn writes_go_on_beside_a_checkpoint(driver: &dyn Driver) {
    requires_resume!(driver);
    const MEBIBYTE: usize = 1024 * 1024;
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(24 * MEBIBYTE, 4));
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    let mut durable = 0;
    for at in (0..24).step_by(4) {
        for n in at..at + 4 {
            append(&mut writer, &content.slice(n * MEBIBYTE..(n + 1) * MEBIBYTE)).await;
        }
        let checkpoint = writer.checkpoint();
        if at == 20 {
            checkpoint.await.unwrap();
            break;
        }
        let next = content.slice((at + 4) * MEBIBYTE..(at + 5) * MEBIBYTE);
        let (written, checked) = tokio::join!(writer.write(vec![next].into()), checkpoint);
        written.and(checked).unwrap();
        durable = (at + 4) * MEBIBYTE;
        // What was written beside it is not part of it: the writer goes on from where the checkpoint was.
        drop(writer);
        writer = resume(driver, upload, &key, durable).await.unwrap();
    }
    assert_eq!(durable, 20 * MEBIBYTE);
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn checkpoints_may_overlap_and_be_given_up(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(900_000, 5));
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    let mut checkpoints = Vec::new();
    for at in (0..600_000).step_by(100_000) {
        append(&mut writer, &content.slice(at..at + 100_000)).await;
        checkpoints.push(writer.checkpoint());
    }
    assert!(join_all(checkpoints).await.iter().all(Result::is_ok));
    append(&mut writer, &noise(100_000, 6)).await;
    let mut given_up = writer.checkpoint();
    assert!(given_up.as_mut().now_or_never().is_none_or(|result| result.is_ok()));
    drop((given_up, writer.checkpoint(), writer));
    // What it began may still have the object for a moment.
    let mut writer = resume_when_free(driver, upload, &key, 600_000).await;
    append(&mut writer, &content.slice(600_000..)).await;
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn a_published_object_is_taken_back(driver: &dyn Driver) {
    requires_resume!(driver);
    let content = noise(500_000, 7);
    for (published, kept) in [(500_000, 500_000), (300_000, 300_000), (300_000, 123_456), (1, 0), (0, 0)] {
        let (key, upload) = (fresh_key(), UploadId::new());
        let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
        append(&mut writer, &content.slice(..published)).await;
        assert_finished(driver, writer, &key, &content[..published]).await;
        let mut writer = resume(driver, upload, &key, kept).await.unwrap();
        append(&mut writer, &content.slice(kept..)).await;
        assert_finished(driver, writer, &key, &content).await;
    }
}

pub(super) async fn what_was_published_at_another_key_is_taken_back_from_there(driver: &dyn Driver) {
    requires_resume!(driver);
    requires!(driver, rename);
    let (upload, content) = (UploadId::new(), noise(500_000, 9));
    let (undecided, first, second) = (fresh_key(), fresh_key(), fresh_key());
    let mut writer = begin_resumable(driver, upload, &undecided).await.unwrap();
    append(&mut writer, &content.slice(..300_000)).await;
    assert_eq!(writer.finish_at(&first).await.unwrap().size, 300_000);
    let mut writer = resume(driver, upload, &first, 200_000).await.unwrap();
    assert_eq!(driver.stat(&first).await.unwrap(), None);
    append(&mut writer, &content.slice(200_000..)).await;
    assert_eq!(writer.finish_at(&second).await.unwrap().size, 500_000);
    assert_eq!(read(driver, &second).await.unwrap(), content);
    assert_eq!(driver.stat(&first).await.unwrap(), None);
    assert_eq!(staged(driver).await, 0);
}

pub(super) async fn less_than_was_asked_for_is_not_found_and_stays(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(100_000, 8));
    let not_found = Some(ErrorKind::NotFound);
    assert_eq!(kind(resume(driver, upload, &key, 1).await), not_found, "there is nothing");
    assert_eq!(staged(driver).await, 0);

    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &content).await;
    writer.checkpoint().await.unwrap();
    drop(writer);
    assert_eq!(kind(resume(driver, upload, &key, 100_001).await), not_found);
    let writer = resume(driver, upload, &key, 100_000).await.unwrap();
    assert_finished(driver, writer, &key, &content).await;

    assert_eq!(kind(resume(driver, upload, &key, 100_001).await), not_found);
    assert_eq!(read(driver, &key).await.unwrap(), content, "a published one stays published");
    let foreign = fresh_key();
    assert_eq!(kind(resume(driver, upload, &foreign, 1).await), not_found, "another key has nothing");
}

pub(super) async fn without_bytes_it_begins_anew(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(50_000, 9));
    let mut writer = resume(driver, upload, &key, 0).await.unwrap();
    append(&mut writer, &noise(70_000, 10)).await;
    drop(writer);
    let mut writer = resume(driver, upload, &key, 0).await.unwrap();
    append(&mut writer, &content).await;
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn a_begin_is_repeated_over_what_it_left(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(50_000, 11));
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &noise(70_000, 12)).await;
    assert_eq!(kind(begin_resumable(driver, upload, &key).await), Some(ErrorKind::Unavailable));
    drop(writer);
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &content).await;
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn while_one_writes_another_is_refused(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(200_000, 13));
    let mut first = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut first, &content.slice(..100_000)).await;
    first.checkpoint().await.unwrap();
    for size in [0, 50_000, 100_000] {
        let refusal = resume(driver, upload, &key, size).await.err().unwrap();
        assert_eq!((refusal.kind, refusal.operation), (ErrorKind::Unavailable, "resume"));
    }
    // The refused ones have changed nothing.
    append(&mut first, &content.slice(100_000..150_000)).await;
    first.checkpoint().await.unwrap();
    drop(first);
    let mut second = resume(driver, upload, &key, 150_000).await.unwrap();
    append(&mut second, &content.slice(150_000..)).await;
    assert_finished(driver, second, &key, &content).await;
}

pub(super) async fn of_many_who_resume_one_wins(driver: &dyn Driver) {
    requires_resume!(driver);
    let content = noise(100_000, 14);
    for is_published in [false, true].repeat(3) {
        let (key, upload) = (fresh_key(), UploadId::new());
        let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
        append(&mut writer, &content).await;
        writer.checkpoint().await.unwrap();
        if is_published {
            writer.finish().await.unwrap();
        } else {
            drop(writer);
        }
        let (mut writers, refusals): (Vec<_>, Vec<_>) =
            join_all((0..8).map(|_| resume(driver, upload, &key, 100_000)))
                .await
                .into_iter()
                .partition(Result::is_ok);
        assert_eq!(writers.len(), 1);
        assert!(refusals.into_iter().all(|refusal| kind(refusal) == Some(ErrorKind::Unavailable)));
        assert_finished(driver, writers.remove(0).unwrap(), &key, &content).await;
    }
}

/// Space that is allocated for what is declared is no byte that was written.
pub(super) async fn a_declared_size_is_not_what_is_there(driver: &dyn Driver) {
    requires_resume!(driver);
    let content = noise(300_000, 15);
    for declared in [0, 1, 99_999, 100_000, 299_999, 300_000, 300_001, 5_000_000] {
        let (key, upload) = (fresh_key(), UploadId::new());
        let options = WriteOptions { declared_size: Some(declared), is_resumable: true };
        let mut writer = driver.begin(upload, &key, options).await.unwrap();
        append(&mut writer, &content.slice(..100_000)).await;
        writer.checkpoint().await.unwrap();
        drop(writer);
        let longer = driver.resume(upload, &key, 100_001, options).await;
        assert_eq!(kind(longer), Some(ErrorKind::NotFound), "{declared}");
        drop(driver.resume(upload, &key, 100_000, options).await.unwrap());
        let longer = driver.resume(upload, &key, 100_001, options).await;
        assert_eq!(kind(longer), Some(ErrorKind::NotFound), "{declared}, resumed");
        let mut writer = driver.resume(upload, &key, 100_000, options).await.unwrap();
        append(&mut writer, &content.slice(100_000..)).await;
        assert_finished(driver, writer, &key, &content).await;
    }
}

pub(super) async fn what_is_swept_is_gone(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, other) = (fresh_key(), UploadId::new(), UploadId::new());
    for upload in [upload, other] {
        let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
        append(&mut writer, &noise(1000, 16)).await;
        writer.checkpoint().await.unwrap();
    }
    for _ in 0..2 {
        driver.sweep(upload).await.unwrap();
        assert_eq!(kind(resume(driver, upload, &key, 1000).await), Some(ErrorKind::NotFound));
    }
    let writer = resume(driver, other, &key, 1000).await.unwrap();
    assert_finished(driver, writer, &key, &noise(1000, 16)).await;
    driver.sweep(other).await.unwrap();
    assert_eq!(read(driver, &key).await.unwrap(), noise(1000, 16), "what is published is not staged");
}

pub(super) async fn abort_leaves_nothing_to_resume(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload) = (fresh_key(), UploadId::new());
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &noise(1000, 17)).await;
    writer.checkpoint().await.unwrap();
    writer.abort().await.unwrap();
    assert_eq!(staged(driver).await, 0);
    assert_eq!(kind(resume(driver, upload, &key, 1000).await), Some(ErrorKind::NotFound));
}

/// What was made durable is lost by no failure of a finish, not even by one that cannot succeed.
pub(super) async fn a_refused_finish_keeps_what_is_staged(driver: &dyn Driver) {
    requires_resume!(driver);
    requires!(driver, create_only);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(1000, 18));
    write(driver, &key, &noise(10, 19)).await.unwrap();
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &content).await;
    writer.checkpoint().await.unwrap();
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::AlreadyExists));
    let writer = resume(driver, upload, &key, 1000).await.unwrap();
    assert_eq!(read(driver, &key).await.unwrap(), noise(10, 19), "what was at the key is not taken");
    driver.delete(&key).await.unwrap();
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn a_given_up_resume_has_either_happened_or_not(driver: &dyn Driver) {
    requires_resume!(driver);
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(100_000, 20));
    let mut writer = begin_resumable(driver, upload, &key).await.unwrap();
    append(&mut writer, &content).await;
    assert_finished(driver, writer, &key, &content).await;
    for n in 0..20 {
        let _ =
            tokio::time::timeout(Duration::from_micros(20 * n), resume(driver, upload, &key, 100_000)).await;
    }
    let writer = resume_when_free(driver, upload, &key, 100_000).await;
    assert_finished(driver, writer, &key, &content).await;
}

pub(super) async fn only_a_resumable_object_has_checkpoints(driver: &dyn Driver) {
    requires_resume!(driver);
    let key = fresh_key();
    let mut writer = begin(driver, &key).await.unwrap();
    append(&mut writer, &noise(10, 21)).await;
    assert_eq!(kind(writer.checkpoint().await), Some(ErrorKind::Unsupported));
    assert_finished(driver, writer, &key, &noise(10, 21)).await;
}
