//! What the tests of drivers share.

use bytes::Bytes;
use coffer_domain::{
    driver::{Driver, Error, ErrorKind, Listed, PieceSize, Result, WriteOptions, Writer},
    id::{UploadId, VersionId},
    path::Key,
};
use futures_util::TryStreamExt as _;

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).expect("a test's key is valid")
}

pub(crate) fn fresh_key() -> Key {
    Key::of_version(VersionId::new())
}

/// Bytes that differ everywhere, so that a piece at the wrong place shows: a xorshift generator.
pub(crate) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut words = Vec::with_capacity(length + 8);
    while words.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.extend_from_slice(&state.to_le_bytes());
    }
    words.truncate(length);
    words.into()
}

pub(crate) async fn begin(driver: &dyn Driver, key: &Key) -> Result<Box<dyn Writer>> {
    driver.begin(UploadId::new(), key, WriteOptions::default()).await
}

pub(crate) fn resumable() -> WriteOptions {
    WriteOptions { is_resumable: true, ..WriteOptions::default() }
}

pub(crate) async fn begin_resumable(
    driver: &dyn Driver,
    upload: UploadId,
    key: &Key,
) -> Result<Box<dyn Writer>> {
    driver.begin(upload, key, resumable()).await
}

/// Goes on as soon as what was given up no longer has the object.
pub(crate) async fn resume_when_free(
    driver: &dyn Driver,
    upload: UploadId,
    key: &Key,
    size: u64,
) -> Box<dyn Writer> {
    loop {
        match driver.resume(upload, key, size, resumable()).await {
            Err(failure) if failure.kind == ErrorKind::Unavailable => tokio::task::yield_now().await,
            resumed => return resumed.expect("what is staged is there"),
        }
    }
}

pub(crate) async fn write(driver: &dyn Driver, key: &Key, content: &Bytes) -> Result<u64> {
    let mut writer = begin(driver, key).await?;
    for at in (0..content.len()).step_by(1024 * 1024) {
        let batch = content.slice(at..content.len().min(at + 1024 * 1024));
        let half = batch.len() / 2;
        writer.write(vec![batch.slice(..half), batch.slice(half..)].into()).await?;
    }
    writer.finish().await.map(|published| published.size)
}

pub(crate) async fn read(driver: &dyn Driver, key: &Key) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = driver.read(key, 0..u64::MAX, PieceSize::default()).await?.try_collect().await?;
    Ok(pieces.concat())
}

/// All keys below `prefix`, in pages of `limit`.
pub(crate) async fn all_keys(driver: &dyn Driver, prefix: &str, limit: usize) -> Vec<String> {
    let mut found: Vec<Listed> = Vec::new();
    loop {
        let after = found.last().map(|last| last.key.clone());
        let page = driver.list(prefix, after.as_ref(), limit).await.expect("the driver can list");
        assert!(page.len() <= limit);
        if page.is_empty() {
            return found.into_iter().map(|listed| listed.key.to_string()).collect();
        }
        found.extend(page);
    }
}

pub(crate) fn kind<T>(result: std::result::Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|failure| failure.kind)
}

/// Whether a missing means (a program, a right) fails the test or only ends it. Says so in any case.
pub(crate) fn is_missing(what: &str) {
    let required = std::env::var_os("COFFER_REQUIRE_BACKENDS").is_some_and(|value| value == "1");
    assert!(!required, "{what} is required by COFFER_REQUIRE_BACKENDS=1");
    eprintln!("ignored: {what} is missing");
}
