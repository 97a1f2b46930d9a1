//! Staged files that outlive their writer, as the kernel and other processes see them.

mod crash;
mod order;

use super::{files, open, open_with};
use crate::support::{begin_resumable, fresh_key, key, kind, noise, read, resumable};
use coffer_domain::{
    driver::{Driver, ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use coffer_drivers::local::Staging;
use rustix::{
    fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat},
    io::Errno,
};
use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn staged_at(root: &Path, upload: UploadId) -> PathBuf {
    root.join(format!(".coffer/staging/{upload}"))
}

/// A staged file of 100,000 bytes whose writer is gone.
async fn leave_staged(driver: &dyn Driver, upload: UploadId, key: &Key) {
    let mut writer = begin_resumable(driver, upload, key).await.unwrap();
    writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
    writer.checkpoint().await.unwrap();
}

#[tokio::test]
async fn a_resumable_file_is_named_and_locked_as_long_as_it_is_written() {
    for staging in [Staging::Unnamed, Staging::Named] {
        let place = TempDir::new().unwrap();
        let driver = open_with(place.path(), staging).await;
        let (key, upload) = (fresh_key(), UploadId::new());
        let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
        assert_eq!(files(place.path()), [format!(".coffer/staging/{upload}")]);
        let other_node = File::open(staged_at(place.path(), upload)).unwrap();
        let lock = || flock(&other_node, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(lock(), Err(Errno::AGAIN));
        writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
        writer.checkpoint().await.unwrap();
        assert_eq!(lock(), Err(Errno::AGAIN));
        drop(writer);
        assert_eq!(lock(), Ok(()));

        // Now another node has it.
        for size in [0, 50_000] {
            let resumed = driver.resume(upload, &key, size, resumable()).await;
            assert_eq!(kind(resumed), Some(ErrorKind::Unavailable));
        }
        assert_eq!(kind(begin_resumable(&driver, upload, &key).await), Some(ErrorKind::Unavailable));
        assert_eq!(fs::read(staged_at(place.path(), upload)).unwrap(), noise(100_000, 1), "nothing is cut");
        drop(other_node);
        let writer = driver.resume(upload, &key, 100_000, resumable()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().size, 100_000);
        assert_eq!(files(place.path()), [key.as_str()]);
        let published = File::open(place.path().join(key.as_str())).unwrap();
        assert_eq!(flock(&published, FlockOperation::NonBlockingLockExclusive), Ok(()));
        let taken_back = driver.resume(upload, &key, 100_000, resumable()).await;
        assert_eq!(kind(taken_back), Some(ErrorKind::Unavailable), "it is locked at its key as well");
    }
}

#[tokio::test]
async fn a_symlink_at_the_staged_name_is_refused() {
    let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let driver = open(place.path()).await;
    let (key, upload) = (fresh_key(), UploadId::new());
    leave_staged(&driver, UploadId::new(), &key).await;
    let canary = outside.path().join("canary");
    fs::write(&canary, noise(200_000, 2)).unwrap();
    let denied = Some(ErrorKind::Denied);
    for target in [canary.clone(), outside.path().join("new")] {
        let link = staged_at(place.path(), upload);
        symlink(&target, &link).unwrap();
        for size in [0, 100_000] {
            assert_eq!(kind(driver.resume(upload, &key, size, resumable()).await), denied);
        }
        assert_eq!(kind(begin_resumable(&driver, upload, &key).await), denied);
        fs::remove_file(link).unwrap();
    }
    // At the key, from where it would be taken back.
    let link = place.path().join("object");
    symlink(&canary, &link).unwrap();
    assert_eq!(kind(driver.resume(upload, &self::key("object"), 0, resumable()).await), denied);
    // The whole directory of staged files.
    let staging = place.path().join(".coffer/staging");
    fs::rename(&staging, place.path().join("was")).unwrap();
    symlink(outside.path(), &staging).unwrap();
    assert_eq!(kind(driver.resume(upload, &key, 0, resumable()).await), denied);
    assert_eq!(kind(begin_resumable(&driver, upload, &key).await), denied);
    assert_eq!(files(outside.path()), ["canary"]);
    assert_eq!(fs::read(canary).unwrap(), noise(200_000, 2));
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_written() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, upload) = (fresh_key(), UploadId::new());
    leave_staged(&driver, UploadId::new(), &key).await;
    let at = staged_at(place.path(), upload);
    mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(kind(driver.resume(upload, &key, 0, resumable()).await), Some(ErrorKind::Denied));
    fs::remove_file(&at).unwrap();
    fs::create_dir(&at).unwrap();
    for size in [0, 1] {
        assert_eq!(kind(driver.resume(upload, &key, size, resumable()).await), Some(ErrorKind::Denied));
    }
    assert!(at.is_dir());
}

/// As a crash leaves it between the link and the unlink that are a rename elsewhere.
#[tokio::test]
async fn of_two_names_the_staged_one_is_kept() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, upload, content) = (key("object"), UploadId::new(), noise(100_000, 1));
    leave_staged(&driver, upload, &key).await;
    let (staged, published) = (staged_at(place.path(), upload), place.path().join("object"));
    let both = || fs::hard_link(&staged, &published).unwrap();

    both();
    let mut writer = driver.resume(upload, &key, 60_000, resumable()).await.unwrap();
    assert_eq!(files(place.path()), [format!(".coffer/staging/{upload}")]);
    writer.write(vec![content.slice(60_000..)].into()).await.unwrap();
    writer.checkpoint().await.unwrap();
    drop(writer);
    both();
    driver.delete(&key).await.unwrap();
    assert_eq!(fs::read(&staged).unwrap(), content, "a delete of the key leaves what is staged");
    both();
    driver.sweep(upload).await.unwrap();
    assert_eq!(files(place.path()), ["object"], "a sweep leaves what is published");
    assert_eq!(read(&driver, &key).await.unwrap(), content);

    fs::hard_link(&published, &staged).unwrap();
    drop(begin_resumable(&driver, upload, &key).await.unwrap());
    assert_eq!(fs::metadata(&staged).unwrap().len(), 0);
    assert!(!published.exists());
}

#[tokio::test]
async fn space_is_allocated_but_the_length_is_what_was_written() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, upload) = (fresh_key(), UploadId::new());
    let options = WriteOptions { declared_size: Some(8_000_000), is_resumable: true };
    let look = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.len(), meta.blocks() * 512)
    };
    let staged = staged_at(place.path(), upload);
    let mut writer = driver.begin(upload, &key, options).await.unwrap();
    assert!(matches!(look(&staged), (0, 8_000_000..)));
    writer.write(vec![noise(1_000_000, 1)].into()).await.unwrap();
    writer.checkpoint().await.unwrap();
    assert!(matches!(look(&staged), (1_000_000, 8_000_000..)));
    drop(writer);
    let writer = driver.resume(upload, &key, 900_000, options).await.unwrap();
    assert!(matches!(look(&staged), (900_000, 8_000_000..)));
    drop(writer);
    let writer = driver.resume(upload, &key, 900_000, resumable()).await.unwrap();
    assert!(matches!(look(&staged), (900_000, 900_000..1_000_000)), "what is no longer declared is free");
    drop(writer);
    let writer = driver.resume(upload, &key, 800_000, options).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().size, 800_000);
    let published = look(&place.path().join(key.as_str()));
    assert!(matches!(published, (800_000, 800_000..1_000_000)), "{published:?}");
}

#[tokio::test]
async fn a_checkpoint_of_what_cannot_be_found_again_fails() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, upload) = (fresh_key(), UploadId::new());
    let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
    writer.checkpoint().await.unwrap();
    driver.sweep(upload).await.unwrap();
    assert_eq!(kind(writer.checkpoint().await), Some(ErrorKind::NotFound));
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::NotFound));

    let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
    fs::rename(place.path().join(".coffer"), place.path().join("was")).unwrap();
    drop(begin_resumable(&driver, upload, &key).await.unwrap());
    assert_eq!(kind(writer.checkpoint().await), Some(ErrorKind::Denied), "another file is there now");
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::Denied));
    assert!(!place.path().join(key.as_str()).exists());
}

/// Without a wrapper that refuses it: the finish waits for the checkpoint.
#[tokio::test]
async fn a_checkpoint_that_nobody_awaits_harms_no_finish() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, upload, content) = (fresh_key(), UploadId::new(), noise(3_000_000, 1));
    let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
    let mut checkpoints = Vec::new();
    for at in (0..3_000_000).step_by(1_000_000) {
        writer.write(vec![content.slice(at..at + 1_000_000)].into()).await.unwrap();
        checkpoints.push(writer.checkpoint());
    }
    assert_eq!(writer.finish().await.unwrap().size, 3_000_000);
    assert_eq!(read(&driver, &key).await.unwrap(), content);
    for checkpoint in checkpoints {
        checkpoint.await.unwrap();
    }
    assert_eq!(files(place.path()), [key.as_str()]);
}
