//! What is in the directory, seen from outside the driver.

use super::{files, open_with};
use crate::support::{fresh_key, key, kind, noise, write};
use coffer_domain::{
    driver::{Batch, Driver as _, ErrorKind, WriteOptions},
    id::UploadId,
};
use coffer_drivers::local::Staging;
use tempfile::TempDir;

#[tokio::test]
async fn a_file_without_a_name_is_never_seen() {
    let place = TempDir::new().unwrap();
    let driver = open_with(place.path(), Staging::Unnamed).await;
    let options = WriteOptions { declared_size: Some(2_000_000), ..WriteOptions::default() };
    let mut writer = driver.begin(UploadId::new(), &fresh_key(), options).await.unwrap();
    assert_eq!(files(place.path()), [""; 0]);
    writer.write(vec![noise(1_000_000, 1)].into()).await.unwrap();
    assert_eq!(files(place.path()), [""; 0]);
    drop(writer);
    assert_eq!(files(place.path()), [""; 0]);
}

#[tokio::test]
async fn a_named_file_is_where_sweep_looks_for_it() {
    let place = TempDir::new().unwrap();
    let driver = open_with(place.path(), Staging::Named).await;
    let (upload, key) = (UploadId::new(), fresh_key());
    let staged = [format!(".coffer/staging/{upload}")];
    let mut writer = driver.begin(upload, &key, WriteOptions::default()).await.unwrap();
    writer.write(vec![noise(1000, 1)].into()).await.unwrap();
    assert_eq!(files(place.path()), staged);
    // A second writer of the upload would publish the bytes of the first.
    assert_eq!(
        kind(driver.begin(upload, &key, WriteOptions::default()).await),
        Some(ErrorKind::AlreadyExists)
    );
    assert_eq!(files(place.path()), staged);
    writer.abort().await.unwrap();
    assert_eq!(files(place.path()), [""; 0]);

    let mut writer = driver.begin(upload, &key, WriteOptions::default()).await.unwrap();
    writer.write(vec![noise(1000, 1)].into()).await.unwrap();
    drop(writer);
    assert_eq!(files(place.path()), staged);
    driver.sweep(upload).await.unwrap();
    assert_eq!(files(place.path()), [""; 0]);

    // Swept while it is written, as after its lease ended: nothing appears.
    let mut writer = driver.begin(upload, &key, WriteOptions::default()).await.unwrap();
    writer.write(vec![noise(1000, 1)].into()).await.unwrap();
    driver.sweep(upload).await.unwrap();
    assert_eq!(kind(writer.finish().await), Some(ErrorKind::NotFound));
    assert_eq!(files(place.path()), [""; 0]);
}

#[tokio::test]
async fn a_taken_key_leaves_only_what_was_there() {
    for staging in [Staging::Unnamed, Staging::Named] {
        let place = TempDir::new().unwrap();
        let driver = open_with(place.path(), staging).await;
        let key = fresh_key();
        write(&driver, &key, &noise(1000, 1)).await.unwrap();
        assert_eq!(kind(write(&driver, &key, &noise(1000, 2)).await), Some(ErrorKind::AlreadyExists));
        assert_eq!(files(place.path()), [key.as_str()]);
        assert_eq!(std::fs::read(place.path().join(key.as_str())).unwrap(), noise(1000, 1));
    }
}

#[tokio::test]
async fn a_put_that_fails_leaves_nothing() {
    let place = TempDir::new().unwrap();
    let driver = open_with(place.path(), Staging::Unnamed).await;
    write(&driver, &key("a/b"), &noise(10, 1)).await.unwrap();
    for taken in ["a", "a/b/c"] {
        assert_eq!(kind(driver.put(&key(taken), noise(10, 2)).await), Some(ErrorKind::AlreadyExists));
        assert_eq!(files(place.path()), ["a/b"]);
    }
}

#[tokio::test]
async fn a_batch_that_panics_is_an_error() {
    let place = TempDir::new().unwrap();
    let driver = open_with(place.path(), Staging::Unnamed).await;
    let mut writer = driver.begin(UploadId::new(), &fresh_key(), WriteOptions::default()).await.unwrap();
    let failure =
        writer.write(Batch::new(|| panic!("a panic that belongs to the test"))).await.err().unwrap();
    assert_eq!((failure.kind, failure.operation), (ErrorKind::Other, "write"));
    writer.abort().await.unwrap();
    assert_eq!(files(place.path()), [""; 0]);
}
