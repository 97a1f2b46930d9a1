//! Copies by the kernel, and what becomes of them when it refuses.

use super::{files, open_with, strace};
use crate::support::{key, kind, noise, read, write};
use coffer_domain::{
    driver::{Driver as _, ErrorKind},
    id::UploadId,
};
use coffer_drivers::local::Staging;
use std::path::PathBuf;
use strace::{Call, named, trace};
use tempfile::TempDir;

const SIZE: usize = 9_000_001;

fn place() -> PathBuf {
    std::env::var_os("COFFER_TEST_PLACE").expect("set by the test that runs this one").into()
}

async fn copies(staging: Staging) {
    let (driver, content) = (open_with(&place(), staging).await, noise(SIZE, 1));
    let (from, to) = (key("aa/from"), key("bb/to"));
    write(&driver, &from, &content).await.unwrap();
    assert_eq!(driver.copy(UploadId::new(), &from, &to).await.unwrap().size, SIZE as u64);
    assert!(read(&driver, &to).await.unwrap() == content);
    assert_eq!(files(&place()), ["aa/from", "bb/to"]);
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_copies_unnamed() {
    copies(Staging::Unnamed).await;
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_copies_named() {
    copies(Staging::Named).await;
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_fails_to_copy() {
    for staging in [Staging::Unnamed, Staging::Named] {
        let driver = open_with(&place(), staging).await;
        let from = key("aa/from");
        if driver.stat(&from).await.unwrap().is_none() {
            write(&driver, &from, &noise(SIZE, 1)).await.unwrap();
        }
        let copied = driver.copy(UploadId::new(), &from, &key("bb/to")).await;
        assert_eq!(kind(copied), Some(ErrorKind::Full));
        assert_eq!(files(&place()), ["aa/from"]);
    }
}

fn traced(child: &str, faults: &[&str]) -> Option<Vec<Call>> {
    let root = TempDir::new().unwrap();
    trace(&format!("local::copy::{child}"), root.path(), faults)
}

#[test]
fn a_copy_is_made_by_the_kernel_and_durable_before_it_has_its_name() {
    for (child, naming) in [("child_copies_unnamed", "linkat"), ("child_copies_named", "renameat2")] {
        let Some(calls) = traced(child, &[]) else { return };
        let copied = named(&calls, "copy_file_range");
        assert!(!copied.is_empty(), "{calls:#?}");
        let last = copied.last().unwrap().ended;
        assert!(!named(&calls, "pwritev").iter().any(|call| call.began > copied[0].began), "{calls:#?}");
        let published = *named(&calls, naming).last().unwrap();
        let syncs = named(&calls, "fsync");
        assert!(syncs.iter().any(|sync| sync.began > last && sync.ended < published.began), "{calls:#?}");
        assert!(syncs.iter().any(|sync| sync.began > published.ended), "{calls:#?}");
    }
}

#[test]
fn where_the_kernel_cannot_copy_bytes_are_read_and_written() {
    for errno in ["EXDEV", "EINVAL", "ENOSYS", "EOPNOTSUPP"] {
        let fault = format!("copy_file_range:error={errno}");
        let Some(calls) = traced("child_copies_unnamed", &[&fault]) else { return };
        let [refused] = named(&calls, "copy_file_range")[..] else { panic!("it is asked once: {calls:#?}") };
        assert!(named(&calls, "pwritev").iter().any(|call| call.began > refused.ended), "{errno}");
    }
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let _ = traced("child_fails_to_copy", &["copy_file_range:error=ENOSPC"]);
}

#[test]
fn interrupted_copies_lose_nothing() {
    let faults = ["copy_file_range:error=EINTR:when=1"];
    let Some(calls) = traced("child_copies_unnamed", &faults) else { return };
    assert!(named(&calls, "copy_file_range").len() > 1);
}
