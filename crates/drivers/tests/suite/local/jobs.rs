//! Where the work is done.

use super::open;
use crate::support::{begin, fresh_key, noise};
use coffer_domain::driver::{Batch, Driver as _};
use std::{
    sync::{Arc, Mutex, mpsc},
    thread::ThreadId,
    time::Duration,
};
use tempfile::TempDir;

#[tokio::test(flavor = "current_thread")]
async fn a_batch_is_encoded_off_the_async_threads() {
    let place = TempDir::new().unwrap();
    let driver = open(place.path()).await;
    let mut writer = begin(&driver, &fresh_key()).await.unwrap();
    let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    for n in 0..5 {
        let threads = Arc::clone(&threads);
        let encode = move || {
            threads.lock().unwrap().push(std::thread::current().id());
            vec![noise(10, n)]
        };
        writer.write(Batch::new(encode)).await.unwrap();
    }
    writer.finish().await.unwrap();
    let threads = threads.lock().unwrap();
    assert_eq!(threads.len(), 5);
    assert!(!threads.contains(&std::thread::current().id()));
}

/// A disk that hangs keeps 64 threads busy; what waits for them holds none of those that other volumes need.
#[tokio::test]
async fn a_volume_that_hangs_leaves_threads_to_others() {
    let (hung, healthy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (hung, healthy) = (Arc::new(open(hung.path()).await), open(healthy.path()).await);
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = tokio::task::JoinSet::new();
    let mut releases = Vec::new();
    for n in 0..64 {
        let mut writer = begin(&*hung, &fresh_key()).await.unwrap();
        let (release, released) = mpsc::channel::<()>();
        releases.push(release);
        let begun = begun.clone();
        writers.spawn(async move {
            let encode = move || {
                begun.send(()).unwrap();
                let _ = released.recv();
                vec![noise(10, n)]
            };
            writer.write(Batch::new(encode)).await.unwrap();
            writer.finish().await.unwrap()
        });
    }
    for _ in 0..64 {
        has_begun.recv().await.unwrap();
    }
    let waiting = tokio::time::timeout(Duration::from_millis(50), hung.stat(&fresh_key())).await;
    assert!(waiting.is_err(), "the 65th job of a volume waits");
    assert_eq!(healthy.stat(&fresh_key()).await.unwrap(), None);
    drop(releases);
    assert!(writers.join_all().await.into_iter().all(|stored| stored.size == 10));
    assert_eq!(hung.stat(&fresh_key()).await.unwrap(), None);
}
