//! A process that is killed while it writes, and another that goes on.

use super::{open, resumable};
use crate::support::{key, noise, read};
use bytes::Bytes;
use coffer_domain::{driver::Driver as _, id::UploadId, path::Key};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const BATCH: usize = 64 * 1024;
const EVERY: usize = 16;

fn object() -> Key {
    key("aa/object")
}

fn upload() -> UploadId {
    "018f0000-0000-7000-8000-000000000001".parse().unwrap()
}

/// The same in every process, and longer than any of them gets.
fn content() -> Bytes {
    noise(256 * 1024 * 1024, 1)
}

fn recorded(root: &Path) -> Vec<usize> {
    let text = fs::read_to_string(root.join("recorded")).unwrap_or_default();
    // The kill may have cut the last line.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
}

/// Goes on from the last checkpoint that was recorded, records those it makes, and never finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run and killed by another test"]
async fn child_writes_until_it_is_killed() {
    let place =
        PathBuf::from(std::env::var_os("COFFER_TEST_PLACE").expect("set by the test that runs this one"));
    let driver = open(&place.join("root")).await;
    let content = content();
    let start = recorded(&place).pop().unwrap_or_default();
    let mut writer = driver.resume(upload(), &object(), start as u64, resumable()).await.unwrap();
    let mut log = fs::File::options().create(true).append(true).open(place.join("recorded")).unwrap();
    for (n, at) in (start..content.len()).step_by(BATCH).enumerate() {
        writer.write(vec![content.slice(at..at + BATCH)].into()).await.unwrap();
        if n % EVERY == EVERY - 1 {
            writer.checkpoint().await.unwrap();
            writeln!(log, "{}", at + BATCH).unwrap();
        }
    }
}

struct Killed(Child);

impl Killed {
    fn start(place: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "local::resume::crash::child_writes_until_it_is_killed", "--ignored"])
            .env("COFFER_TEST_PLACE", place)
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_was_recorded_before_a_kill_is_there_after_it() {
    let place = TempDir::new().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let content = content();
    for round in 1..=4 {
        let before = recorded(place.path()).len();
        let mut child = Killed::start(place.path());
        while recorded(place.path()).len() < before + round * 2 {
            assert!(!child.has_ended(), "the child has failed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(child);
        let size = recorded(place.path()).pop().unwrap();
        // A look between two of the child: what it recorded is there, and equal.
        let driver = open(&root).await;
        drop(driver.resume(upload(), &object(), size as u64, resumable()).await.unwrap());
        let staged = fs::read(super::staged_at(&root, upload())).unwrap();
        assert!(staged == content[..size], "{size}");
    }
    let driver = open(&root).await;
    let size = recorded(place.path()).pop().unwrap();
    let mut writer = driver.resume(upload(), &object(), size as u64, resumable()).await.unwrap();
    let end = (size + 1_000_001).min(content.len());
    writer.write(vec![content.slice(size..end)].into()).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().size, end as u64);
    assert!(read(&driver, &object()).await.unwrap() == content[..end]);
    assert_eq!(super::files(&root), ["aa/object"]);
}
