//! Connections that are lost in mid-transfer, at random places: the content is the same in the end.
//!
//! `COFFER_CUTS` says how many places are tried, of each kind.

use super::{Fault, Proxy, assert_kind, impatient, open_http, open_s3, open_sftp};
use crate::{
    servers,
    support::{fresh_key, noise, read, resumable, resume_when_free},
};
use bytes::Bytes;
use coffer_domain::{
    driver::{Driver, ErrorKind, WriteOptions},
    id::UploadId,
};
use coffer_drivers::{http, s3};
use coffer_test_servers::{Kind, Server};
use std::sync::Arc;

const MIB: usize = 1024 * 1024;

pub(super) fn cuts() -> u64 {
    std::env::var("COFFER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(5)
}

/// A number below `end` that is another each time.
pub(super) fn random(end: u64) -> u64 {
    (uuid::Uuid::new_v4().as_u128() as u64) % end
}

/// A driver on the other side of a proxy.
struct Rig {
    driver: Arc<dyn Driver>,
    proxy: Proxy,
    _server: Arc<Server>,
}

async fn rig(kind: Kind) -> Option<Rig> {
    let server = kind.shared()?;
    let proxy = Proxy::start(server.address()).await;
    let driver = match kind {
        Kind::RcloneS3 | Kind::Minio => {
            let config = servers::s3_config(&proxy.url(), &server.place());
            open_s3(s3::Config { part_bytes: s3::LEAST_PART_BYTES, ..config }).await
        }
        Kind::RcloneWebdav | Kind::ApacheDav | Kind::Nginx => {
            let config = servers::http_config(kind, &proxy.url(), &server.place());
            open_http(http::Config { part_bytes: 2 * MIB as u64, ..config }).await
        }
        Kind::OpenSsh | Kind::RcloneSftp => {
            open_sftp(servers::sftp_config(&server, proxy.address(), &server.place())).await
        }
        Kind::Vsftpd | Kind::VsftpdExplicit | Kind::VsftpdImplicit | Kind::Proftpd => {
            panic!("connections of FTP need a proxy that knows of them")
        }
    };
    Some(Rig { driver: driver.unwrap(), proxy, _server: server })
}

/// Writes a resumable object as the service does: a checkpoint now and then, and after a failure from the last one on. Answers how often
/// it had to go on.
pub(super) async fn upload(driver: &dyn Driver, content: &Bytes) -> (coffer_domain::path::Key, u64) {
    let (upload, key) = (UploadId::new(), fresh_key());
    let (mut recorded, mut resumed) = (0, 0);
    let mut writer = loop {
        match driver.begin(upload, &key, resumable()).await {
            Ok(writer) => break writer,
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure:?}"),
        }
    };
    loop {
        let outcome = async {
            for at in (recorded..content.len()).step_by(MIB) {
                let end = content.len().min(at + MIB);
                writer.write(vec![content.slice(at..end)].into()).await?;
                if (end / MIB).is_multiple_of(3) {
                    writer.checkpoint().await?;
                    recorded = end;
                }
            }
            writer.finish().await
        };
        match outcome.await {
            Ok(published) => {
                assert_eq!(published.size, content.len() as u64);
                return (key, resumed);
            }
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure:?}"),
        }
        resumed += 1;
        assert!(resumed < 20);
        writer = resume_when_free(driver, upload, &key, recorded as u64).await;
    }
}

async fn uploads_survive(kind: Kind) {
    let Some(Rig { driver, proxy, _server }) = rig(kind).await else { return };
    let content = noise(12 * MIB + 345, 1);
    for _ in 0..cuts() {
        proxy.plan((0..4).map(|_| Fault::CutRequest(1 + random(6 * MIB as u64))));
        let (key, _) = upload(&*driver, &content).await;
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
    assert!(proxy.cuts() >= cuts(), "{} connections were cut", proxy.cuts());
}

async fn reads_survive(kind: Kind) {
    let Some(Rig { driver, proxy, _server }) = rig(kind).await else { return };
    let (key, content) = (fresh_key(), noise(6 * MIB + 7, 2));
    driver.store(UploadId::new(), &key, vec![content.clone()]).await.unwrap();
    for _ in 0..cuts() {
        proxy.plan((0..3).map(|_| Fault::CutAnswer(300 * 1024 + random(4 * MIB as u64))));
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
    assert!(proxy.cuts() >= cuts(), "{} connections were cut", proxy.cuts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_s3_survive_cuts() {
    uploads_survive(Kind::RcloneS3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_minio_survive_cuts() {
    uploads_survive(Kind::Minio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_webdav_survive_cuts() {
    uploads_survive(Kind::ApacheDav).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_rclones_webdav_survive_cuts() {
    uploads_survive(Kind::RcloneWebdav).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_openssh_survive_cuts() {
    uploads_survive(Kind::OpenSsh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_rclones_sftp_survive_cuts() {
    uploads_survive(Kind::RcloneSftp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_openssh_survive_cuts() {
    reads_survive(Kind::OpenSsh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_rclones_sftp_survive_cuts() {
    reads_survive(Kind::RcloneSftp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_s3_survive_cuts() {
    reads_survive(Kind::RcloneS3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_minio_survive_cuts() {
    reads_survive(Kind::Minio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_webdav_survive_cuts() {
    reads_survive(Kind::ApacheDav).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_plain_http_survive_cuts() {
    reads_survive(Kind::Nginx).await;
}

/// Sums travel with the bytes: MinIO looks at CRC-32C, rclone at MD5. What was damaged is refused, and sent again. rclone may then have
/// forgotten that it was getting parts: nothing is stored, and whoever writes is told to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_on_its_way_to_s3_is_not_stored() {
    for (kind, sum) in [(Kind::Minio, "Crc32c"), (Kind::RcloneS3, "Md5")] {
        let Some(Rig { driver, proxy, _server }) = rig(kind).await else { continue };
        assert!(format!("{driver:?}").contains(&format!("integrity: {sum}")), "{driver:?}");
        // In a single PUT, and in the first part of several.
        for (size, at) in [(200_000, 100_000), (12 * MIB, 3 * MIB as u64)] {
            let (key, content, before) = (fresh_key(), noise(size, at), proxy.cuts());
            // Not each connection carries so much; and a part is sent four times at most.
            proxy.plan([Fault::Damage(at); 3]);
            let stored = driver.store(UploadId::new(), &key, vec![content.clone()]).await;
            assert!(proxy.cuts() > before, "{kind:?}: a byte was changed");
            match stored {
                Err(failure) if kind == Kind::RcloneS3 && size > 8 * MIB => {
                    assert_eq!(failure.kind, ErrorKind::BadAnswer, "{failure:?}");
                    assert_eq!(driver.stat(&key).await.unwrap(), None);
                }
                stored => {
                    assert_eq!(stored.unwrap().size, size as u64);
                    assert!(read(&*driver, &key).await.unwrap() == content, "{kind:?}");
                }
            }
        }
    }
}

/// A body that is given up must not pass for a whole one, which a chunked one that just ends would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_in_the_middle_is_not_published() {
    let Some(Rig { driver, proxy: _proxy, _server }) = rig(Kind::Nginx).await else { return };
    for is_aborted in [false, true] {
        let key = fresh_key();
        let mut writer = driver.begin(UploadId::new(), &key, WriteOptions::default()).await.unwrap();
        for n in 0..5 {
            writer.write(vec![noise(MIB, n)].into()).await.unwrap();
        }
        if is_aborted {
            writer.abort().await.unwrap();
        } else {
            drop(writer);
        }
        assert_eq!(driver.stat(&key).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_given_up() {
    for kind in [Kind::RcloneS3, Kind::Minio] {
        let Some(server) = kind.shared() else { continue };
        let proxy = Proxy::start(server.address()).await;
        let config = servers::s3_config(&proxy.url(), &server.place());
        let driver = open_s3(s3::Config { wire: impatient(), ..config }).await.unwrap();
        proxy.plan([Fault::Stall(100); 64]);
        let stored = driver.store(UploadId::new(), &fresh_key(), vec![noise(200_000, 1)]).await;
        assert_kind(stored, ErrorKind::Timeout, "an upload");
        proxy.plan([Fault::Stall(100); 64]);
        assert_kind(driver.list("", None, 1).await, ErrorKind::Timeout, "a listing");
    }
}
