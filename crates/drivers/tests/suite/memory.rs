//! What writers keep in memory: bytes that know how many of them are alive.

use crate::{
    servers,
    support::{fresh_key, noise, read},
};
use bytes::Bytes;
use coffer_domain::{
    budget::Budget,
    driver::{Driver, WriteOptions, Writer},
    id::UploadId,
    path::Key,
};
use coffer_drivers::{
    http::{self, Http},
    s3::{self, LEAST_PART_BYTES, S3},
};
use coffer_test_servers::{Kind, Server};
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::timeout;

const MIB: usize = 1024 * 1024;
const PART: usize = LEAST_PART_BYTES as usize;
/// What is handed to a writer at a time.
const STEP: usize = 256 * 1024;
const WRITERS: usize = 12;
/// Three parts can be reserved.
const BUDGET: usize = 6 * PART;
/// The budget, and for each writer the least that it has in any case and what it is being handed.
const MOST: usize = BUDGET + WRITERS * (128 * 1024 + STEP);

/// Bytes that are alive, and the most there were.
#[derive(Debug, Default)]
struct Alive {
    now: AtomicUsize,
    peak: AtomicUsize,
}

struct Counted {
    bytes: Bytes,
    alive: Arc<Alive>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.now.fetch_sub(self.bytes.len(), SeqCst);
    }
}

impl Alive {
    fn bytes(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let now = self.now.fetch_add(bytes.len(), SeqCst) + bytes.len();
        self.peak.fetch_max(now, SeqCst);
        Bytes::from_owner(Counted { bytes, alive: Arc::clone(self) })
    }

    async fn write(self: &Arc<Self>, writer: &mut dyn Writer, content: &[u8]) {
        for step in content.chunks(STEP) {
            writer.write(vec![self.bytes(Bytes::copy_from_slice(step))].into()).await.unwrap();
        }
    }
}

async fn begin(
    driver: &dyn Driver,
    declared_size: Option<u64>,
    is_resumable: bool,
) -> (Key, Box<dyn Writer>) {
    let key = fresh_key();
    let options = WriteOptions { declared_size, is_resumable };
    let writer = driver.begin(UploadId::new(), &key, options).await.unwrap();
    (key, writer)
}

async fn s3() -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = Kind::RcloneS3.shared()?;
    let config = servers::s3_config(&server.url(), &server.place());
    let config = s3::Config { part_bytes: LEAST_PART_BYTES, budget: Budget::new(BUDGET), ..config };
    Some((Arc::new(S3::open(config).await.unwrap()), server))
}

async fn webdav() -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = Kind::ApacheDav.shared()?;
    let config = servers::http_config(Kind::ApacheDav, &server.url(), &server.place());
    let config = http::Config { part_bytes: LEAST_PART_BYTES, budget: Budget::new(BUDGET), ..config };
    Some((Arc::new(Http::open(config).await.unwrap()), server))
}

/// Writers at once, of known and unknown size, resumable and not: all end, and no more is in memory than may be.
async fn many_writers_share(driver: Arc<dyn Driver>) {
    let (alive, content) = (Arc::new(Alive::default()), noise(3 * PART + 12_345, 1));
    let writers = join_all((0..WRITERS).map(|n| {
        let (driver, alive, content) = (&driver, &alive, &content);
        async move {
            let declared = (n % 2 == 0).then_some(content.len() as u64);
            let (key, mut writer) = begin(&**driver, declared, n % 3 == 0).await;
            alive.write(&mut *writer, content).await;
            assert_eq!(writer.finish().await.unwrap().size, content.len() as u64);
            key
        }
    }));
    let keys = timeout(Duration::from_secs(240), writers).await.expect("nobody waits for ever");
    let (peak, now) = (alive.peak.load(SeqCst), alive.now.load(SeqCst));
    println!("{} MiB at most", peak / MIB);
    assert!(peak <= MOST, "{peak} of {MOST}");
    assert_eq!(now, 0, "nothing is kept");
    for key in keys {
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
}

/// Writers that have taken all there is and then stall: others go on without.
async fn stalled_writers_block_nobody(driver: Arc<dyn Driver>) {
    let (alive, content) = (Arc::new(Alive::default()), noise(2 * PART + 999, 2));
    let half = PART / 2;
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let (key, mut writer) = begin(&*driver, None, true).await;
        alive.write(&mut *writer, &content[..half]).await;
        stalled.push((key, writer));
    }
    let others = join_all((3..WRITERS).map(|n| {
        let (driver, alive, content) = (&driver, &alive, &content);
        async move {
            let (key, mut writer) = begin(&**driver, None, n % 2 == 0).await;
            alive.write(&mut *writer, content).await;
            writer.finish().await.unwrap();
            key
        }
    }));
    let mut keys = timeout(Duration::from_secs(120), others).await.expect("nobody waits for ever");
    for (key, mut writer) in stalled {
        alive.write(&mut *writer, &content[half..]).await;
        writer.finish().await.unwrap();
        keys.push(key);
    }
    let (peak, now) = (alive.peak.load(SeqCst), alive.now.load(SeqCst));
    println!("{} MiB at most", peak / MIB);
    assert!(peak <= MOST, "{peak} of {MOST}");
    assert_eq!((keys.len(), now), (WRITERS, 0));
    for key in keys {
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_to_s3_share_a_budget() {
    if let Some((driver, _server)) = s3().await {
        many_writers_share(driver).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_to_webdav_share_a_budget() {
    if let Some((driver, _server)) = webdav().await {
        many_writers_share(driver).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_to_s3_that_stall_block_nobody() {
    if let Some((driver, _server)) = s3().await {
        stalled_writers_block_nobody(driver).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_to_webdav_that_stall_block_nobody() {
    if let Some((driver, _server)) = webdav().await {
        stalled_writers_block_nobody(driver).await;
    }
}
