//! Promises of the port where a backend keeps versions.

use crate::support::{all_keys, fresh_key, key, kind, noise, read, write};
use bytes::Bytes;
use coffer_domain::{
    driver::{Driver, ErrorKind, NativeVersion, PieceSize, Published},
    id::UploadId,
    path::Key,
};
use futures_util::TryStreamExt as _;
use std::ops::Range;

async fn store(driver: &dyn Driver, upload: UploadId, key: &Key, content: &Bytes) -> NativeVersion {
    let stored = driver.store(upload, key, vec![content.clone()]).await.unwrap();
    assert_eq!(stored.size, content.len() as u64);
    stored.version.expect("a backend that keeps versions names them")
}

async fn part(
    driver: &dyn Driver,
    key: &Key,
    version: &NativeVersion,
    range: Range<u64>,
) -> Result<Vec<u8>, Option<ErrorKind>> {
    let pieces = driver.read_version(key, version, range, PieceSize::default()).await;
    let pieces = pieces.map_err(|failure| Some(failure.kind))?;
    let pieces: Vec<Bytes> = pieces.try_collect().await.map_err(|failure| Some(failure.kind))?;
    Ok(pieces.concat())
}

/// Two versions of one object, which its upload alone may make: a small one, and one of several parts.
async fn two(driver: &dyn Driver, key: &Key) -> [(NativeVersion, Bytes); 2] {
    let (upload, first, second) = (UploadId::new(), noise(1_000, 1), noise(11_000_000, 2));
    let first_version = store(driver, upload, key, &first).await;
    let second_version = store(driver, upload, key, &second).await;
    assert_ne!(first_version, second_version);
    [(first_version, first), (second_version, second)]
}

pub(super) async fn each_version_is_read_by_its_id(driver: &dyn Driver) {
    requires!(driver, versions);
    let key = fresh_key();
    for (version, content) in two(driver, &key).await {
        assert!(part(driver, &key, &version, 0..u64::MAX).await.unwrap() == content);
        assert_eq!(part(driver, &key, &version, 10..20).await.unwrap(), content[10..20]);
        let end = content.len() as u64;
        assert_eq!(
            part(driver, &key, &version, end - 5..end + 5).await.unwrap(),
            content[content.len() - 5..]
        );
        assert_eq!(part(driver, &key, &version, end..end + 5).await.unwrap(), b"");
        assert_eq!(part(driver, &key, &version, 7..7).await.unwrap(), b"");
        let stat = driver.stat_version(&key, &version).await.unwrap().unwrap();
        assert_eq!(stat.size, end);
    }
    assert!(read(driver, &key).await.unwrap() == noise(11_000_000, 2), "the newest is the object");
}

pub(super) async fn what_was_deleted_is_there_as_a_version(driver: &dyn Driver) {
    requires!(driver, versions);
    let (key, content) = (fresh_key(), noise(5_000, 3));
    let version = store(driver, UploadId::new(), &key, &content).await;
    for _ in 0..2 {
        driver.delete(&key).await.unwrap();
        assert_eq!(driver.stat(&key).await.unwrap(), None);
        assert_eq!(kind(read(driver, &key).await), Some(ErrorKind::NotFound));
        assert_eq!(all_keys(driver, "", 10).await, [""; 0]);
    }
    assert_eq!(part(driver, &key, &version, 0..u64::MAX).await.unwrap(), content);
    driver.delete_version(&key, &version).await.unwrap();
    assert_eq!(part(driver, &key, &version, 0..u64::MAX).await, Err(Some(ErrorKind::NotFound)));
    assert_eq!(driver.stat(&key).await.unwrap(), None);
}

pub(super) async fn one_version_is_removed_and_the_other_stays(driver: &dyn Driver) {
    requires!(driver, versions);
    for is_first_removed in [true, false] {
        let key = fresh_key();
        let [first, second] = two(driver, &key).await;
        let (gone, stays) = if is_first_removed { (&first, &second) } else { (&second, &first) };
        for _ in 0..2 {
            driver.delete_version(&key, &gone.0).await.unwrap();
            assert_eq!(driver.stat_version(&key, &gone.0).await.unwrap(), None);
            assert_eq!(part(driver, &key, &gone.0, 0..9).await, Err(Some(ErrorKind::NotFound)));
            assert_eq!(part(driver, &key, &gone.0, 4..4).await, Err(Some(ErrorKind::NotFound)));
            assert!(part(driver, &key, &stays.0, 0..u64::MAX).await.unwrap() == stays.1);
        }
        // What stays is the object, whether or not it was before.
        assert!(read(driver, &key).await.unwrap() == stays.1);
    }
}

pub(super) async fn a_version_that_is_none_is_not_found(driver: &dyn Driver) {
    requires!(driver, versions);
    let (here, other) = (fresh_key(), fresh_key());
    let version = store(driver, UploadId::new(), &here, &noise(100, 1)).await;
    let foreign = store(driver, UploadId::new(), &other, &noise(100, 2)).await;
    for absent in [foreign.as_str(), "no-version-of-this-server", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"] {
        let absent: NativeVersion = absent.parse().unwrap();
        assert_eq!(part(driver, &here, &absent, 0..9).await, Err(Some(ErrorKind::NotFound)), "{absent}");
        assert_eq!(driver.stat_version(&here, &absent).await.unwrap(), None, "{absent}");
        driver.delete_version(&here, &absent).await.unwrap();
    }
    assert_eq!(part(driver, &here, &version, 0..9).await.unwrap(), noise(100, 1)[..9]);
    assert_eq!(part(driver, &key("never/here"), &version, 0..9).await, Err(Some(ErrorKind::NotFound)));
}

pub(super) async fn without_the_capability_there_are_no_versions(driver: &dyn Driver) {
    if driver.capabilities().versions {
        return;
    }
    let key = fresh_key();
    assert_eq!(write(driver, &key, &noise(100, 1)).await.unwrap(), 100);
    let stored = driver.store(UploadId::new(), &fresh_key(), vec![noise(10, 1)]).await.unwrap();
    assert_eq!(stored, Published { size: 10, version: None });
    let version: NativeVersion = "null".parse().unwrap();
    let unsupported = Some(ErrorKind::Unsupported);
    assert_eq!(part(driver, &key, &version, 0..9).await, Err(unsupported));
    assert_eq!(kind(driver.stat_version(&key, &version).await), unsupported);
    assert_eq!(kind(driver.delete_version(&key, &version).await), unsupported);
    assert_eq!(read(driver, &key).await.unwrap(), noise(100, 1), "a version is not the object");
}
