//! The order of system calls, which is what survives a power cut.

use super::{open_with, strace};
use crate::support::{key, noise};
use coffer_domain::{
    driver::{Driver as _, WriteOptions},
    id::UploadId,
};
use coffer_drivers::local::Staging;
use std::path::PathBuf;
use strace::{Call, named, the, trace};
use tempfile::TempDir;

fn place() -> PathBuf {
    std::env::var_os("COFFER_TEST_PLACE").expect("set by the test that runs this one").into()
}

async fn publish(staging: Staging) {
    let driver = open_with(&place(), staging).await;
    let options = WriteOptions { declared_size: Some(20_000_000), ..WriteOptions::default() };
    let mut writer = driver.begin(UploadId::new(), &key("aa/bb/object"), options).await.unwrap();
    for n in 0..17 {
        writer.write(vec![noise(1024 * 1024, n)].into()).await.unwrap();
    }
    writer.finish().await.unwrap();
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_publishes_unnamed() {
    publish(Staging::Unnamed).await;
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_publishes_named() {
    publish(Staging::Named).await;
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_stores() {
    let driver = open_with(&place(), Staging::Unnamed).await;
    for name in ["first", "second"] {
        let content = vec![noise(2_000, 1), noise(2_000, 2)];
        driver.store(UploadId::new(), &key(&format!("aa/{name}")), content).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "run under strace by another test"]
async fn child_puts_and_deletes() {
    let driver = open_with(&place(), Staging::Unnamed).await;
    driver.put(&key("aa/object"), noise(10, 1)).await.unwrap();
    driver.delete(&key("aa/object")).await.unwrap();
    driver.delete(&key("aa/object")).await.unwrap();
}

/// That each call had ended before the next one began.
fn assert_in_order(calls: &[&Call]) {
    assert!(calls.iter().all(|call| call.result == "0"), "{calls:#?}");
    assert!(calls.windows(2).all(|pair| pair[0].ended < pair[1].began), "{calls:#?}");
}

fn root() -> TempDir {
    tempfile::Builder::new().prefix("root").tempdir().unwrap()
}

#[test]
fn new_directories_are_durable_before_what_is_in_them() {
    let root = root();
    let path = root.path().to_str().unwrap();
    let Some(calls) = trace("local::order::child_publishes_unnamed", root.path(), &[]) else { return };
    assert_in_order(&[
        the(&calls, "mkdirat", "\"aa\""),
        the(&calls, "fsync", &format!("<{path}>")),
        the(&calls, "mkdirat", "\"bb\""),
        the(&calls, "fsync", &format!("<{path}/aa>")),
        the(&calls, "linkat", "\"object\""),
    ]);
}

#[test]
fn bytes_are_durable_before_the_name_and_the_name_before_the_answer() {
    let root = root();
    let Some(calls) = trace("local::order::child_publishes_unnamed", root.path(), &[]) else { return };
    assert_in_order(&[
        the(&calls, "ftruncate", "17825792"),
        the(&calls, "fsync", "/aa/bb/#"),
        the(&calls, "linkat", "\"object\""),
        the(&calls, "fsync", "/aa/bb>"),
    ]);
    let writes = named(&calls, "pwritev");
    assert_eq!(writes.len(), 17);
    assert!(writes.iter().all(|write| write.ended < the(&calls, "ftruncate", "").began));
    assert_eq!(named(&calls, "sync_file_range").len(), 2, "after 8 and 16 of 17 MiB");
    assert_eq!(named(&calls, "fallocate").len(), 1);
}

#[test]
fn what_is_stored_at_once_costs_two_syncs_and_keeps_the_order() {
    let root = root();
    let Some(calls) = trace("local::order::child_stores", root.path(), &[]) else { return };
    let first = the(&calls, "linkat", "\"first\"").ended;
    let second: Vec<_> = calls.iter().filter(|call| call.began > first).collect();
    let after_folder = second.iter().position(|call| call.name == "fsync").unwrap() + 1;
    let second = &second[after_folder..];
    let names: Vec<_> = second.iter().map(|call| call.name.as_str()).collect();
    // A look at what has become of the first; then the folder, a file without a name, its bytes, and the same look.
    assert_eq!(names, ["openat2", "openat2", "openat2", "pwritev", "fsync", "linkat", "fsync", "openat2"]);
    assert_in_order(&[the(&calls, "mkdirat", "\"aa\""), the(&calls, "linkat", "\"first\"")]);
    assert!(second[4].arguments.contains("/aa/#") && second[6].arguments.ends_with("/aa>"));
    assert_in_order(&second[4..7]);
    assert!(second[3].result.starts_with("4000") && second[3].ended < second[4].began);
}

#[test]
fn a_named_file_is_renamed_without_replacing() {
    let root = root();
    let Some(calls) = trace("local::order::child_publishes_named", root.path(), &[]) else { return };
    let rename = the(&calls, "renameat2", "\"object\"");
    assert!(rename.arguments.contains("RENAME_NOREPLACE"));
    let staged =
        calls.iter().find(|call| call.name == "fsync" && call.arguments.contains("/.coffer/staging/"));
    assert_in_order(&[staged.expect("the staged file is synced"), rename, the(&calls, "fsync", "/aa/bb>")]);
    assert_eq!(named(&calls, "linkat").len(), 0);
}

#[test]
fn put_and_delete_are_durable() {
    let root = root();
    let Some(calls) = trace("local::order::child_puts_and_deletes", root.path(), &[]) else { return };
    let syncs: Vec<_> =
        named(&calls, "fsync").into_iter().filter(|call| call.arguments.ends_with("/aa>")).collect();
    let staged =
        calls.iter().find(|call| call.name == "fsync" && call.arguments.contains("/.coffer/staging/"));
    let removals = named(&calls, "unlinkat");
    let (rename, staged) =
        (the(&calls, "renameat", "\"object\""), staged.expect("the staged file is synced"));
    assert_eq!((syncs.len(), removals.len()), (3, 2));
    assert_in_order(&[staged, rename, syncs[0], removals[0], syncs[1]]);
    // The second delete finds nothing. The first may have been cut off after its unlink, so it syncs again.
    assert!(
        removals[1].result.contains("ENOENT") && removals[1].ended < syncs[2].began && syncs[2].result == "0"
    );
}
