//! Reading again, and what stays of it in memory and in the digest.

use super::{replay::KEPT_BYTES, *};
use std::time::Duration;
use tokio::{
    io::{AsyncWriteExt as _, duplex},
    time::timeout,
};

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Reads from `offset` to the end.
async fn rest(source: &mut Source, mut offset: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let chunk = source.at(offset).await.unwrap();
        assert_eq!(chunk.crc32c, crc32c::crc32c(&chunk.content));
        offset += chunk.content.len() as u64;
        all.extend_from_slice(&chunk.content);
        if chunk.is_last {
            return all;
        }
    }
}

const LENGTH: usize = 3 * BEST_DATA_BYTES + 17;

/// The same bytes from a file and from a reader.
async fn sources(directory: &tempfile::TempDir) -> [Source; 2] {
    let path = directory.path().join("a.bin");
    fs::write(&path, body(LENGTH)).unwrap();
    [Source::open(&path).await.unwrap(), Source::stream(io::Cursor::new(body(LENGTH)))]
}

#[tokio::test]
async fn bytes_read_again_are_digested_once() {
    let directory = tempfile::tempdir().unwrap();
    for mut source in sources(&directory).await {
        source.at(0).await.unwrap();
        source.at(BEST_DATA_BYTES as u64).await.unwrap();
        for from in [0, 1, BEST_DATA_BYTES - 1, BEST_DATA_BYTES, BEST_DATA_BYTES + 100, LENGTH - 1, LENGTH] {
            assert!(rest(&mut source, from as u64).await == body(LENGTH)[from..], "{from}");
            assert_eq!(source.digest(), sha256(&body(LENGTH)), "{from}");
        }
    }
}

#[tokio::test]
async fn skipped_bytes_are_digested() {
    let directory = tempfile::tempdir().unwrap();
    for offset in [0, 1, BEST_DATA_BYTES + 5, LENGTH] {
        for mut source in sources(&directory).await {
            assert_eq!(source.skip_to(offset as u64).await.unwrap(), offset as u64);
            assert!(rest(&mut source, offset as u64).await == body(LENGTH)[offset..]);
            assert_eq!(source.digest(), sha256(&body(LENGTH)), "{offset}");
        }
    }
    for mut source in sources(&directory).await {
        assert_eq!(source.skip_to(u64::MAX).await.unwrap(), LENGTH as u64);
    }
}

#[tokio::test]
async fn streams_keep_what_was_not_forgotten() {
    let mut source = Source::stream(io::Cursor::new(body(LENGTH)));
    assert!(rest(&mut source, 0).await == body(LENGTH));
    let one = BEST_DATA_BYTES as u64;
    source.forget(one + 5);
    assert!(matches!(source.at(one - 1).await, Err(Error::Io { .. })));
    assert!(source.at(one).await.unwrap().content == body(LENGTH)[one as usize..2 * one as usize]);
    assert!(rest(&mut source, one + 5).await == body(LENGTH)[one as usize + 5..]);
    source.forget(LENGTH as u64);
    assert!(rest(&mut source, LENGTH as u64).await.is_empty());
    assert!(matches!(source.at(LENGTH as u64 + 1).await, Err(Error::Io { .. })));
}

#[tokio::test]
async fn streams_fill_up_and_can_be_let_go() {
    let mut source = Source::stream(tokio::io::repeat(7));
    let mut offset = 0;
    while !source.is_full(offset) {
        offset += source.at(offset).await.unwrap().content.len() as u64;
        assert!(offset <= KEPT_BYTES);
    }
    assert_eq!(offset, KEPT_BYTES);
    // What is kept can be read though there is no room for more.
    assert!(!source.is_full(offset - 1));
    source.let_go();
    assert!(!source.is_full(offset) && source.at(0).await.is_err());
    offset += source.at(offset).await.unwrap().content.len() as u64;
    assert!(source.is_full(offset));
    source.forget(offset);
    assert!(!source.is_full(offset));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_read_loses_nothing() {
    let (mut writer, reader) = duplex(1000);
    let mut source = Source::stream(reader);
    writer.write_all(b"one ").await.unwrap();
    assert!(timeout(Duration::from_millis(500), source.at(0)).await.is_err());
    writer.write_all(b"two").await.unwrap();
    drop(writer);
    assert_eq!(rest(&mut source, 0).await, b"one two");
    assert_eq!(source.digest(), sha256(b"one two"));
}
