//! The order of system calls, and what becomes of a resumable object when the kernel refuses one.

use super::{open, resumable};
use crate::{
    local::{
        files,
        strace::{Call, named, the, trace},
    },
    support::{begin_resumable, key, kind, noise, read},
};
use coffer_domain::{
    driver::{Driver as _, ErrorKind, WriteOptions},
    id::UploadId,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

fn place() -> PathBuf {
    std::env::var_os("COFFER_TEST_PLACE").expect("set by the test that runs this one").into()
}

/// Faults are counted per thread: with one blocking thread, over all.
fn run(child: impl Future<Output = ()>) {
    std::fs::create_dir_all(place().join(".coffer/staging")).unwrap();
    std::fs::create_dir(place().join("aa")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(child);
}

/// A call in the trace that tells how far the child has come.
fn mark(what: &str) {
    assert!(rustix::fs::unlink(format!("/nowhere/{what}")).is_err());
}

fn traced(child: &str, faults: &[&str]) -> Option<(Vec<Call>, TempDir)> {
    let root = TempDir::new().unwrap();
    let calls = trace(&format!("local::resume::order::{child}"), root.path(), faults)?;
    Some((calls, root))
}

#[test]
#[ignore = "run under strace by another test"]
fn child_checkpoints_and_finishes() {
    run(async {
        let driver = open(&place()).await;
        let options = WriteOptions { declared_size: Some(9_000_000), is_resumable: true };
        let mut writer = driver.begin(UploadId::new(), &key("aa/object"), options).await.unwrap();
        for name in ["first", "second"] {
            for n in 0..4 {
                writer.write(vec![noise(1_000_000, n)].into()).await.unwrap();
            }
            writer.checkpoint().await.unwrap();
            mark(name);
        }
        assert_eq!(writer.finish().await.unwrap().size, 8_000_000);
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_takes_back() {
    run(async {
        let driver = open(&place()).await;
        let (upload, key) = (UploadId::new(), key("aa/object"));
        let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
        writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
        writer.finish().await.unwrap();
        mark("published");
        let writer = driver.resume(upload, &key, 50_000, resumable()).await.unwrap();
        mark("resumed");
        assert_eq!(writer.finish().await.unwrap().size, 50_000);
        assert_eq!(read(&driver, &key).await.unwrap(), noise(100_000, 1)[..50_000]);
        assert_eq!(files(&place()), ["aa/object"]);
    });
}

#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_checkpoint() {
    run(async {
        let driver = open(&place()).await;
        let (upload, key) = (UploadId::new(), key("aa/object"));
        let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
        writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
        // The second is asked for before the first has failed: the kernel would tell it nothing.
        let (first, second) = (writer.checkpoint(), writer.checkpoint());
        let (first, second) = (first.await.err().unwrap(), second.await);
        assert_eq!((first.kind, first.operation), (ErrorKind::Unavailable, "checkpoint"));
        assert_eq!(kind(second), Some(ErrorKind::Other));
        assert_eq!(kind(writer.checkpoint().await), Some(ErrorKind::Other));
        mark("failed");
        assert_eq!(kind(writer.finish().await), Some(ErrorKind::Other));
        assert_eq!(files(&place()), [format!(".coffer/staging/{upload}")]);
        drop(driver.resume(upload, &key, 0, resumable()).await.unwrap());
    });
}

/// The name is not durable, so it is not given; what is staged stays as it was.
#[test]
#[ignore = "run under strace by another test"]
fn child_fails_to_finish_and_goes_on() {
    run(async {
        let driver = open(&place()).await;
        let (upload, key) = (UploadId::new(), key("aa/object"));
        let mut writer = begin_resumable(&driver, upload, &key).await.unwrap();
        writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
        let failure = writer.finish().await.err().unwrap();
        assert_eq!((failure.kind, failure.operation), (ErrorKind::Unavailable, "finish"));
        assert_eq!(files(&place()), [format!(".coffer/staging/{upload}")]);
        let writer = driver.resume(upload, &key, 100_000, resumable()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().size, 100_000);
        assert_eq!(files(&place()), ["aa/object"]);
    });
}

/// Descriptors of this process that lead to the file.
fn open_times(file: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter(|entry| std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|at| at == file))
        .count()
}

/// The resume has opened the file when its writer publishes it, and waits for the lock until that one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run under strace by another test"]
async fn child_resumes_while_it_is_published() {
    let driver = std::sync::Arc::new(open(&place()).await);
    let (upload, key) = (UploadId::new(), key("object"));
    let mut writer = begin_resumable(&*driver, upload, &key).await.unwrap();
    writer.write(vec![noise(100_000, 1)].into()).await.unwrap();
    let resuming = {
        let (driver, key) = (driver.clone(), key.clone());
        tokio::spawn(async move { kind(driver.resume(upload, &key, 0, resumable()).await) })
    };
    // It has opened the file; its flock is held back for longer than the finish takes.
    while open_times(&super::staged_at(&place(), upload)) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(writer.finish().await.unwrap().size, 100_000);
    assert_eq!(resuming.await.unwrap(), Some(ErrorKind::Unavailable));
    assert_eq!(read(&*driver, &key).await.unwrap(), noise(100_000, 1));
}

/// That each call had ended before the next one began.
fn assert_in_order(calls: &[&Call]) {
    assert!(calls.windows(2).all(|pair| pair[0].ended < pair[1].began), "{calls:#?}");
}

fn between<'a>(calls: &'a [Call], from: usize, to: usize, name: &str) -> Vec<&'a Call> {
    named(calls, name).into_iter().filter(|call| call.began > from && call.ended < to).collect()
}

fn the_mark<'a>(calls: &'a [Call], what: &str) -> &'a Call {
    calls
        .iter()
        .find(|call| call.arguments.contains(&format!("/nowhere/{what}")))
        .expect("the child has come there")
}

const STAGING: &str = "/.coffer/staging>";
const STAGED: &str = "/.coffer/staging/";

#[test]
fn a_checkpoint_is_answered_when_bytes_and_name_are_durable() {
    let Some((calls, _root)) = traced("child_checkpoints_and_finishes", &[]) else { return };
    let (first, second) = (the_mark(&calls, "first"), the_mark(&calls, "second"));
    let data = named(&calls, "fdatasync");
    assert_eq!(data.len(), 2);
    assert!(data.iter().all(|sync| sync.arguments.contains(STAGED) && sync.result == "0"));
    let name = between(&calls, 0, second.began, "fsync")
        .into_iter()
        .filter(|sync| sync.arguments.ends_with(STAGING))
        .collect::<Vec<_>>();
    assert_eq!(name.len(), 1, "the name is made durable once");
    let writes = named(&calls, "pwritev");
    assert_eq!(writes.len(), 8);
    assert_in_order(&[writes[3], data[0], name[0], first, writes[4], writes[7], data[1], second]);
    assert_eq!(between(&calls, 0, second.ended, "renameat2").len() + named(&calls, "linkat").len(), 0);

    // Both directories: the new name must be there after a power cut, the old one not.
    let syncs = between(&calls, second.ended, usize::MAX, "fsync");
    let rename = the(&calls, "renameat2", "\"object\"");
    assert!(rename.arguments.contains("RENAME_NOREPLACE"));
    assert_eq!(syncs.len(), 3);
    assert!(syncs[0].arguments.contains(STAGED) && syncs[2].arguments.ends_with(STAGING));
    assert!(syncs[1].arguments.ends_with("/aa>"));
    assert_in_order(&[the(&calls, "ftruncate", "8000000"), syncs[0], rename, syncs[1], syncs[2]]);
    assert!(the(&calls, "fallocate", "9000000").arguments.contains("FALLOC_FL_KEEP_SIZE"));
}

#[test]
fn what_is_taken_back_is_staged_durably_before_it_is_cut() {
    for fault in [None, Some("renameat2:error=EINVAL")] {
        let Some((calls, _root)) = traced("child_takes_back", fault.as_slice()) else { return };
        let (published, resumed) = (the_mark(&calls, "published"), the_mark(&calls, "resumed"));
        let within = |name| between(&calls, published.ended, resumed.began, name);
        let renames = within("renameat2").len();
        let named = if fault.is_some() { within("linkat") } else { within("renameat2") };
        let syncs = within("fsync");
        assert_eq!((renames, named.len(), syncs.len(), within("ftruncate").len()), (1, 1, 2, 1));
        assert!(syncs[0].arguments.ends_with(STAGING) && syncs[1].arguments.ends_with("/aa>"));
        assert_in_order(&[within("flock")[0], named[0], syncs[0], syncs[1], within("ftruncate")[0]]);
    }
}

#[test]
fn a_file_that_could_not_be_synced_is_not_synced_again_nor_published() {
    let faults = ["fdatasync:error=EIO:when=1"];
    let Some((calls, _root)) = traced("child_fails_to_checkpoint", &faults) else { return };
    assert_eq!(named(&calls, "fdatasync").len(), 1);
    let failed = the_mark(&calls, "failed").ended;
    assert_eq!(between(&calls, 0, failed, "fsync").len(), 0);
    assert!(named(&calls, "fsync").iter().all(|sync| !sync.arguments.contains(STAGED)));
    assert_eq!(named(&calls, "renameat2").len(), 0);
}

#[test]
fn a_name_that_could_not_be_made_durable_fails_the_checkpoint() {
    let faults = ["fsync:error=EIO:when=1"];
    let Some((calls, _root)) = traced("child_fails_to_checkpoint", &faults) else { return };
    let failed = the_mark(&calls, "failed").ended;
    assert_eq!(
        (between(&calls, 0, failed, "fdatasync").len(), between(&calls, 0, failed, "fsync").len()),
        (1, 1)
    );
    assert_eq!(named(&calls, "renameat2").len(), 0);
}

#[test]
fn a_failed_finish_leaves_a_resumable_object_staged() {
    // The file, the directory of the key, that of staged files.
    for when in 1..=3 {
        let fault = format!("fsync:error=EIO:when={when}");
        let Some((calls, _root)) = traced("child_fails_to_finish_and_goes_on", &[&fault]) else { return };
        let injected = calls.iter().filter(|call| call.result.contains("INJECTED")).count();
        assert_eq!(injected, 1);
        // There and back, and there again.
        assert_eq!(named(&calls, "renameat2").len(), if when == 1 { 1 } else { 3 });
    }
}

#[test]
fn who_comes_late_does_not_cut_what_was_published() {
    let faults = ["flock:delay_enter=3000000"];
    let Some((calls, _root)) = traced("child_resumes_while_it_is_published", &faults) else { return };
    let (rename, locks) = (the(&calls, "renameat2", "\"object\""), named(&calls, "flock"));
    assert_eq!(locks.len(), 2);
    assert!(
        locks[1].began < rename.began && rename.ended < locks[1].ended && locks[1].result.starts_with("0 "),
        "{calls:#?}"
    );
    assert_eq!(named(&calls, "ftruncate").len(), 1, "that of the begin");
}
