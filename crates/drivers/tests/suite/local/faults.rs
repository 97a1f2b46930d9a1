//! What becomes of an object when the kernel refuses. The faults are injected by strace, which counts calls per thread; so
//! these children have one blocking thread.

use super::{files, open_with, strace};
use crate::support::{begin, key, kind, noise, read, write};
use coffer_domain::driver::{Driver as _, ErrorKind, WriteOptions};
use coffer_drivers::local::Staging;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{path::PathBuf, time::Duration};
use strace::{Call, named, trace};
use tempfile::TempDir;

fn place() -> PathBuf {
    std::env::var_os("COFFER_TEST_PLACE").expect("set by the test that runs this one").into()
}

/// On a directory that has the shard `aa`.
fn run(child: impl Future<Output = ()>) {
    std::fs::create_dir(place().join("aa")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(child);
}

async fn fails_to_publish(staging: Staging) {
    let driver = open_with(&place(), staging).await;
    let failure = write(&driver, &key("aa/object"), &noise(100_000, 1)).await.err().unwrap();
    assert_eq!((failure.kind, failure.operation), (ErrorKind::Unavailable, "finish"));
    assert_eq!(files(&place()), [""; 0]);
}

async fn publishes(staging: Staging) {
    let driver = open_with(&place(), staging).await;
    let options = WriteOptions { declared_size: Some(9 * 1024 * 1024), ..WriteOptions::default() };
    let mut writer =
        driver.begin(coffer_domain::id::UploadId::new(), &key("aa/object"), options).await.unwrap();
    for _ in 0..9 {
        writer.write(vec![noise(1024 * 1024, 1)].into()).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().size, 9 * 1024 * 1024);
    assert_eq!(read(&driver, &key("aa/object")).await.unwrap().len(), 9 * 1024 * 1024);
    assert_eq!(kind(write(&driver, &key("aa/object"), &noise(10, 1)).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(files(&place()), ["aa/object"]);
}

#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_publish_unnamed() {
    run(fails_to_publish(Staging::Unnamed));
}

#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_publish_named() {
    run(async {
        std::fs::create_dir_all(place().join(".coffer/staging")).unwrap();
        fails_to_publish(Staging::Named).await;
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_publishes_unnamed() {
    run(publishes(Staging::Unnamed));
}

#[test]
#[ignore = "run under strace by another test"]
fn child_publishes_named() {
    run(publishes(Staging::Named));
}

#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_make_a_directory() {
    run(async {
        let driver = open_with(&place(), Staging::Unnamed).await;
        assert_eq!(kind(begin(&driver, &key("aa/bb/object")).await), Some(ErrorKind::Unavailable));
        assert!(!place().join("aa/bb").exists(), "whoever found it would take it for durable");
        assert_eq!(write(&driver, &key("aa/bb/object"), &noise(10, 1)).await.unwrap(), 10);
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_delete_then_deletes() {
    run(async {
        std::fs::write(place().join("aa/object"), "").unwrap();
        let driver = open_with(&place(), Staging::Unnamed).await;
        assert_eq!(kind(driver.delete(&key("aa/object")).await), Some(ErrorKind::Unavailable));
        driver.delete(&key("aa/object")).await.unwrap();
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_gives_up_a_finish() {
    run(async {
        let driver = open_with(&place(), Staging::Unnamed).await;
        let writer = begin(&driver, &key("aa/object")).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(500), writer.finish()).await.is_err());
        // There is one blocking thread: this look comes after the finish.
        assert_eq!(driver.stat(&key("aa/object")).await.unwrap(), None);
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_loses_its_directory_while_it_publishes() {
    run(async {
        let (shard, other) = (place().join("aa"), place().join("other"));
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("object"), "not ours").unwrap();
        let driver = open_with(&place(), Staging::Unnamed).await;
        let writer = begin(&driver, &key("aa/object")).await.unwrap();
        let finishing = tokio::spawn(writer.finish());
        while !shard.join("object").exists() {
            tokio::task::yield_now().await;
        }
        // The name is there, its directory not yet synced.
        renameat_with(CWD, &shard, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        assert_eq!(kind(finishing.await.unwrap()), Some(ErrorKind::Denied));
        assert_eq!(files(&place()), ["aa/object"]);
        assert_eq!(std::fs::read(shard.join("object")).unwrap(), b"not ours");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run under strace by another test"]
async fn child_publishes_two_in_a_new_directory() {
    let driver = open_with(&place(), Staging::Unnamed).await;
    let (one, two, content) = (key("new/one"), key("new/two"), noise(10, 1));
    let (one, two) = tokio::join!(write(&driver, &one, &content), write(&driver, &two, &content));
    assert_eq!((one.unwrap(), two.unwrap()), (10, 10));
}

fn traced(child: &str, faults: &[&str]) -> Option<Vec<Call>> {
    let root = TempDir::new().unwrap();
    trace(&format!("local::faults::{child}"), root.path(), faults)
}

fn injected<'a>(calls: &'a [Call], name: &str) -> Vec<&'a Call> {
    named(calls, name).into_iter().filter(|call| call.result.contains("INJECTED")).collect()
}

#[test]
fn a_file_that_cannot_be_synced_is_not_published_nor_synced_again() {
    for child in ["child_fails_to_publish_unnamed", "child_fails_to_publish_named"] {
        let Some(calls) = traced(child, &["fsync:error=EIO:when=1"]) else { return };
        let failed = injected(&calls, "fsync")[0];
        let again =
            named(&calls, "fsync").into_iter().filter(|call| call.arguments == failed.arguments).count();
        assert_eq!(again, 1, "fsync after a failed one would lie");
        assert_eq!(named(&calls, "linkat").len() + named(&calls, "renameat2").len(), 0);
    }
}

#[test]
fn a_name_that_cannot_be_made_durable_is_taken_back() {
    for (child, naming) in
        [("child_fails_to_publish_unnamed", "linkat"), ("child_fails_to_publish_named", "renameat2")]
    {
        let Some(calls) = traced(child, &["fsync:error=EIO:when=2"]) else { return };
        assert_eq!(named(&calls, naming).len(), 1);
        assert_eq!(injected(&calls, "fsync").len(), 1);
        assert!(
            named(&calls, "unlinkat")
                .iter()
                .any(|call| call.arguments.contains("\"object\"") && call.result == "0")
        );
    }
}

#[test]
fn a_directory_that_cannot_be_made_durable_is_removed() {
    let Some(calls) = traced("child_fails_to_make_a_directory", &["fsync:error=EIO:when=1"]) else { return };
    assert_eq!(injected(&calls, "fsync").len(), 1);
}

/// Whoever finds a directory that another thread has just made must not publish in it before it is durable.
#[test]
fn nobody_publishes_in_a_directory_that_is_not_durable_yet() {
    let faults = ["fsync:delay_enter=300000:when=1"];
    let Some(calls) = traced("child_publishes_two_in_a_new_directory", &faults) else { return };
    // The second thread may come to its own mkdirat, and is told that the directory exists.
    let made = named(&calls, "mkdirat").into_iter().find(|call| call.result == "0").unwrap();
    let durable = named(&calls, "fsync")[0];
    let published = named(&calls, "linkat");
    assert!(made.ended < durable.began && published.len() == 2, "{calls:#?}");
    assert!(published.iter().all(|link| link.began > durable.ended), "{calls:#?}");
    let unnamed = named(&calls, "openat2").into_iter().filter(|call| call.arguments.contains("O_TMPFILE"));
    assert!(
        unnamed.clone().count() == 2 && unnamed.into_iter().all(|open| open.began > durable.ended),
        "{calls:#?}"
    );
}

#[test]
fn a_finish_that_nobody_waits_for_publishes_nothing() {
    let Some(calls) = traced("child_gives_up_a_finish", &["fsync:delay_enter=2000000:when=1"]) else {
        return;
    };
    assert_eq!((named(&calls, "fsync").len(), named(&calls, "linkat").len()), (1, 0));
}

#[test]
fn an_object_that_its_key_no_longer_leads_to_is_not_promised() {
    let Some(calls) =
        traced("child_loses_its_directory_while_it_publishes", &["fsync:delay_enter=2000000:when=2"])
    else {
        return;
    };
    assert_eq!(named(&calls, "linkat").len(), 1);
}

#[test]
fn a_delete_that_failed_after_its_unlink_is_synced_by_the_next() {
    let Some(calls) = traced("child_fails_to_delete_then_deletes", &["fsync:error=EIO:when=1"]) else {
        return;
    };
    let syncs: Vec<_> = named(&calls, "fsync").into_iter().map(|call| call.result == "0").collect();
    assert_eq!(syncs, [false, true]);
}

#[test]
fn without_unnamed_files_a_name_is_used() {
    // The third openat2 of a thread: after the root's check and the shard.
    for errno in ["EOPNOTSUPP", "EISDIR", "ENOENT"] {
        let fault = format!("openat2:error={errno}:when=3");
        let Some(calls) = traced("child_publishes_unnamed", &[&fault]) else { return };
        assert!(injected(&calls, "openat2")[0].arguments.contains("O_TMPFILE"));
        assert_eq!(named(&calls, "renameat2").len(), 1);
    }
}

#[test]
fn without_a_rename_that_spares_others_a_link_is_used() {
    let Some(calls) = traced("child_publishes_named", &["renameat2:error=EINVAL"]) else { return };
    assert_eq!(injected(&calls, "renameat2").len(), 2);
    let links: Vec<_> = named(&calls, "linkat").into_iter().map(|call| call.result == "0").collect();
    assert_eq!(links, [true, false], "the second object finds the key taken");
}

#[test]
fn without_allocation_and_early_writeback_it_is_only_slower() {
    let faults = ["fallocate:error=EOPNOTSUPP", "sync_file_range:error=ENOSYS"];
    let Some(calls) = traced("child_publishes_unnamed", &faults) else { return };
    assert_eq!((injected(&calls, "fallocate").len(), injected(&calls, "sync_file_range").len()), (1, 1));
}

#[test]
fn interrupted_writes_lose_nothing() {
    let Some(calls) = traced("child_publishes_unnamed", &["pwritev:error=EINTR:when=1+3"]) else { return };
    assert!(injected(&calls, "pwritev").len() > 2);
}
