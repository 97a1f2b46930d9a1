//! Streams of content.

use super::open;
use crate::support::{fresh_key, key, kind, noise, read, write};
use bytes::Bytes;
use coffer_domain::driver::{Driver as _, ErrorKind, PieceSize};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;

/// Whether this process has the file open.
fn is_open(file: &Path) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).any(|target| target == file)
}

#[tokio::test]
async fn content_stays_readable_while_it_is_deleted() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, content) = (fresh_key(), noise(20_000_000, 1));
    write(&driver, &key, &content).await.unwrap();
    let mut pieces = driver.read(&key, 0..u64::MAX, PieceSize::default()).await.unwrap();
    let first = pieces.next().await.unwrap().unwrap();
    driver.delete(&key).await.unwrap();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
    let rest: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert!(content.starts_with(&first) && rest.concat() == content[first.len()..]);
}

#[tokio::test]
async fn dropping_the_stream_closes_the_file() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let key = fresh_key();
    write(&driver, &key, &noise(20_000_000, 1)).await.unwrap();
    let file = place.path().canonicalize().unwrap().join(key.as_str());
    let mut pieces = driver.read(&key, 0..u64::MAX, PieceSize::default()).await.unwrap();
    pieces.next().await.unwrap().unwrap();
    assert!(is_open(&file));
    drop(pieces);
    // A piece that was being read ahead may hold it a moment longer.
    let closed = async {
        while is_open(&file) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("nothing goes on reading");
}

#[tokio::test]
async fn a_file_cut_short_ends_the_stream_early() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let (key, content) = (fresh_key(), noise(3_000_000, 1));
    write(&driver, &key, &content).await.unwrap();
    let mut pieces = driver.read(&key, 0..u64::MAX, PieceSize::default()).await.unwrap();
    let first = pieces.next().await.unwrap().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(place.path().join(key.as_str()))
        .unwrap()
        .set_len(1_000_000)
        .unwrap();
    let rest: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert!(first.len() + rest.concat().len() < content.len());
    assert_eq!(read(&driver, &key).await.unwrap(), content[..1_000_000]);
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_object() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path().join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let pipe = key("pipe");
    let reading = tokio::time::timeout(Duration::from_secs(10), read(&driver, &pipe)).await;
    // Lets go whoever does wait, so that the test fails and does not hang.
    let _other_end = fs::OpenOptions::new().read(true).write(true).open(place.path().join("pipe")).unwrap();
    assert_eq!(
        kind(reading.expect("opening a pipe does not wait for its writer")),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(driver.stat(&pipe).await.unwrap(), None);
    assert_eq!(driver.list("", None, 10).await.unwrap(), []);
}
