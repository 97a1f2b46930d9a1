//! Opening a volume's directory, and losing it.

use super::open;
use crate::support::{begin, fresh_key, key, kind, noise, read, write};
use coffer_domain::{
    driver::{Driver as _, ErrorKind},
    id::UploadId,
    path::Key,
};
use coffer_drivers::local::{Config, Local};
use std::{fs, os::unix::fs::symlink, path::PathBuf};
use tempfile::TempDir;

async fn opening(root: PathBuf) -> Option<ErrorKind> {
    kind(Local::open(Config { root, ..Config::default() }).await)
}

#[tokio::test]
async fn only_an_existing_directory_is_opened() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("file"), "").unwrap();
    symlink(at("real"), at("link")).unwrap();
    assert_eq!(opening(at("real")).await, None);
    assert_eq!(opening(at("missing")).await, Some(ErrorKind::NotOnThisNode));
    assert_eq!(opening(at("missing/below")).await, Some(ErrorKind::NotOnThisNode));
    assert_eq!(opening(at("link")).await, Some(ErrorKind::Denied));
    assert_eq!(opening(at("file")).await, Some(ErrorKind::Denied));
    assert_eq!(opening("relative/path".into()).await, Some(ErrorKind::Other));
}

#[tokio::test]
async fn a_root_that_was_replaced_is_not_used() {
    let place = TempDir::new().unwrap();
    let (root, moved) = (place.path().join("root"), place.path().join("moved"));
    fs::create_dir(&root).unwrap();
    let driver = open(&root).await;
    let key = fresh_key();
    write(&driver, &key, &noise(10, 1)).await.unwrap();
    let writer = begin(&driver, &fresh_key()).await.unwrap();
    fs::rename(&root, &moved).unwrap();

    // Gone, then a symlink to where it went, then an empty directory: an unmounted disk.
    let gone = Some(ErrorKind::NotOnThisNode);
    assert_eq!(kind(driver.stat(&key).await), gone);
    symlink(&moved, &root).unwrap();
    assert_eq!(kind(driver.stat(&key).await), gone);
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    assert_eq!(kind(driver.stat(&key).await), gone);
    assert_eq!(kind(read(&driver, &key).await), gone);
    assert_eq!(kind(driver.delete(&key).await), gone);
    assert_eq!(kind(driver.list("", None, 10).await), gone);
    assert_eq!(kind(driver.put(&Key::marker(), noise(1, 1)).await), gone);
    assert_eq!(kind(driver.sweep(UploadId::new()).await), gone);
    assert_eq!(kind(begin(&driver, &fresh_key()).await), gone);
    assert_eq!(kind(writer.finish().await), gone);
    assert_eq!(super::files(&root), [""; 0]);
    assert_eq!(super::files(&moved), [key.as_str()]);

    fs::remove_dir(&root).unwrap();
    fs::rename(&moved, &root).unwrap();
    assert_eq!(read(&driver, &key).await.unwrap(), noise(10, 1));
}

#[tokio::test]
async fn a_prefix_is_a_place_of_its_own() {
    let place = TempDir::new().unwrap();
    let config = |prefix: &str| Config {
        root: place.path().to_owned(),
        prefix: prefix.to_owned(),
        ..Config::default()
    };
    let one = Local::open(config("tenants/one/")).await.unwrap();
    let two = Local::open(config("tenants/two/")).await.unwrap();
    write(&one, &key("a"), &noise(10, 1)).await.unwrap();
    one.put(&Key::marker(), noise(10, 2)).await.unwrap();
    assert_eq!(super::files(place.path()), ["tenants/one/.coffer/volume.json", "tenants/one/a"]);
    assert_eq!(two.stat(&key("a")).await.unwrap(), None);
    assert_eq!(two.list("", None, 10).await.unwrap(), []);
    assert_eq!(one.list("", None, 10).await.unwrap()[0].key, key("a"));
}

#[tokio::test]
async fn a_key_below_an_object_is_refused_as_taken() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    write(&driver, &key("a/b"), &noise(10, 1)).await.unwrap();
    assert_eq!(kind(begin(&driver, &key("a/b/c")).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(begin(&driver, &key("a/b/c/d")).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(write(&driver, &key("a"), &noise(10, 1)).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(super::files(place.path()), ["a/b"]);
}

#[tokio::test]
async fn a_segment_longer_than_a_file_name_is_unsupported() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let key = key(&"x".repeat(256));
    assert_eq!(kind(write(&driver, &key, &noise(1, 1)).await), Some(ErrorKind::Unsupported));
    assert_eq!(super::files(place.path()), [""; 0]);
}
