//! What a bucket that keeps versions is left with.

use crate::{
    servers,
    support::{begin_resumable, fresh_key, noise, read, resume_when_free},
};
use coffer_domain::{
    driver::{Driver as _, NativeVersion, Published},
    id::UploadId,
};
use coffer_drivers::s3::{self, S3};
use coffer_test_servers::{Kind, Server};
use std::sync::Arc;

const MIB: usize = 1024 * 1024;

/// A bucket that keeps versions, behind parts of 5 MiB.
async fn versioned() -> Option<(S3, Arc<Server>, String)> {
    let server = Kind::Minio.shared()?;
    let bucket = server.place();
    servers::set_versioning(&server, &bucket, "Enabled").await;
    let config = servers::s3_config(&server.url(), &bucket);
    let driver = S3::open(s3::Config { part_bytes: s3::LEAST_PART_BYTES, ..config }).await.unwrap();
    Some((driver, server, bucket))
}

/// Nobody would ever remove versions of what was staged, or of an object that no row names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_leaves_the_version_that_it_answers_and_no_other() {
    let Some((driver, server, bucket)) = versioned().await else { return };
    let (upload, key, content) = (UploadId::new(), fresh_key(), noise(7 * MIB, 1));
    let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
    for at in (0..content.len()).step_by(MIB) {
        writer.write(vec![content.slice(at..at + MIB)].into()).await.unwrap();
        writer.checkpoint().await.unwrap();
    }
    drop(writer);
    let staged = servers::count_versions(&server, &bucket).await;
    assert!(staged > 7, "pieces, and a record that was written twice: {staged}");
    let mut versions: Vec<NativeVersion> = Vec::new();
    // Published, then taken back and published again.
    for _ in 0..2 {
        let writer = resume_when_free(&driver, upload, &key, content.len() as u64).await;
        let Published { size, version } = writer.finish().await.unwrap();
        assert_eq!(size, content.len() as u64);
        versions.push(version.unwrap());
        assert_eq!(servers::count_versions(&server, &bucket).await, 1);
        assert!(read(&driver, &key).await.unwrap() == content);
    }
    assert_ne!(versions[0], versions[1]);
    assert_eq!(driver.stat_version(&key, &versions[0]).await.unwrap(), None, "it was taken back");
    // Removed, it is marked so and stays; as a version it goes.
    driver.delete(&key).await.unwrap();
    assert_eq!(servers::count_versions(&server, &bucket).await, 2);
    driver.delete_version(&key, &versions[1]).await.unwrap();
    assert_eq!(servers::count_versions(&server, &bucket).await, 1);

    let (upload, key) = (UploadId::new(), fresh_key());
    for is_swept in [false, true] {
        let mut writer = resume_when_free(&driver, upload, &key, 0).await;
        for at in (0..content.len()).step_by(MIB) {
            writer.write(vec![content.slice(at..at + MIB)].into()).await.unwrap();
            writer.checkpoint().await.unwrap();
        }
        if is_swept {
            drop(writer);
            driver.sweep(upload).await.unwrap();
        } else {
            writer.abort().await.unwrap();
        }
        assert_eq!(servers::count_versions(&server, &bucket).await, 1, "nothing of what was given up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_makes_no_more_versions_is_one_without() {
    let Some((_, server, bucket)) = versioned().await else { return };
    servers::set_versioning(&server, &bucket, "Suspended").await;
    let driver = S3::open(servers::s3_config(&server.url(), &bucket)).await.unwrap();
    assert!(!driver.capabilities().versions);
    let (key, content) = (fresh_key(), noise(1_000, 1));
    let stored = driver.store(UploadId::new(), &key, vec![content.clone()]).await.unwrap();
    assert_eq!(stored, Published { size: 1_000, version: None });
    assert_eq!(read(&driver, &key).await.unwrap(), content);
    driver.delete(&key).await.unwrap();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
}
