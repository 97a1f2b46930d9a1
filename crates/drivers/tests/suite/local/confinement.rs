//! Nothing outside the root is read or changed, whatever is made of the directories below it.

use super::{files, open};
use crate::support::{all_keys, begin, key, kind, noise, read, write};
use coffer_domain::{
    driver::{Driver as _, ErrorKind},
    path::Key,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tempfile::TempDir;

const CANARY: &[u8] = b"not ours";

/// A root, and beside it a directory that must stay as it is.
struct Scene {
    place: TempDir,
    before: Vec<(PathBuf, i64, i64, i64, i64, u64)>,
}

impl Scene {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        let scene = Self { place, before: Vec::new() };
        fs::create_dir_all(scene.root().join("aa/bb")).unwrap();
        fs::create_dir(scene.outside()).unwrap();
        for name in ["object", "canary"] {
            fs::write(scene.outside().join(name), CANARY).unwrap();
        }
        let before = scene.look();
        Self { before, ..scene }
    }

    fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.place.path().join("outside")
    }

    /// Names and times of change: of the directory, which changes with every name, and of what is in it.
    fn look(&self) -> Vec<(PathBuf, i64, i64, i64, i64, u64)> {
        let entries = fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.chain([self.outside()]).collect();
        paths.sort();
        let look = |path: PathBuf| {
            let meta = fs::symlink_metadata(&path).unwrap();
            (path, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.nlink())
        };
        paths.into_iter().map(look).collect()
    }

    fn assert_untouched(&self) {
        assert_eq!(self.look(), self.before);
        assert!(
            ["object", "canary"].iter().all(|name| fs::read(self.outside().join(name)).unwrap() == CANARY)
        );
    }
}

#[test]
fn hostile_keys_cannot_be_made() {
    for text in
        ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\\..\\b", "a\0b", "a\nb"]
    {
        assert!(Key::parse(text).is_err(), "{text:?}");
    }
}

#[tokio::test]
async fn a_directory_that_became_a_symlink_is_refused() {
    let scene = Scene::new();
    let driver = open(&scene.root()).await;
    let at = key("aa/bb/object");
    write(&driver, &at, &noise(1000, 1)).await.unwrap();
    let late = begin(&driver, &key("aa/bb/late")).await.unwrap();
    fs::rename(scene.root().join("aa/bb"), scene.root().join("aa/was")).unwrap();

    // Out by an absolute way, out by a relative one, and to another place below the root.
    for target in [scene.outside(), "../../outside".into(), "was".into()] {
        let link = scene.root().join("aa/bb");
        symlink(&target, &link).unwrap();
        let denied = Some(ErrorKind::Denied);
        assert_eq!(kind(read(&driver, &at).await), denied);
        assert_eq!(kind(driver.stat(&at).await), denied);
        assert_eq!(kind(driver.delete(&at).await), denied);
        assert_eq!(kind(begin(&driver, &key("aa/bb/new")).await), denied);
        assert_eq!(kind(begin(&driver, &key("aa/bb/deeper/new")).await), denied);
        assert_eq!(kind(driver.put(&key("aa/bb/new"), noise(1, 1)).await), denied);
        assert_eq!(kind(driver.list("aa/bb/", None, 10).await), denied);
        assert_eq!(all_keys(&driver, "", 10).await, ["aa/was/object"]);
        fs::remove_file(link).unwrap();
    }
    symlink(scene.outside(), scene.root().join("aa/bb")).unwrap();
    assert_eq!(kind(late.finish().await), Some(ErrorKind::Denied));
    assert_eq!(files(&scene.root().join("aa/was")), ["object"]);
    scene.assert_untouched();
}

#[tokio::test]
async fn a_symlink_is_no_object() {
    let scene = Scene::new();
    let driver = open(&scene.root()).await;
    let (at, link) = (key("aa/bb/object"), scene.root().join("aa/bb/object"));
    symlink(scene.outside().join("object"), &link).unwrap();
    assert_eq!(kind(read(&driver, &at).await), Some(ErrorKind::Denied));
    assert_eq!(kind(driver.stat(&at).await), Some(ErrorKind::Denied));
    assert_eq!(kind(write(&driver, &at, &noise(10, 1)).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(all_keys(&driver, "", 10).await, [""; 0]);
    // What is named by the key is the link, not what it leads to.
    driver.put(&at, noise(10, 2)).await.unwrap();
    assert_eq!(fs::read(&link).unwrap(), noise(10, 2));
    fs::remove_file(&link).unwrap();
    symlink(scene.outside().join("object"), &link).unwrap();
    driver.delete(&at).await.unwrap();
    assert!(fs::symlink_metadata(&link).is_err());
    scene.assert_untouched();
}

#[tokio::test]
async fn a_symlink_as_prefix_is_refused() {
    let scene = Scene::new();
    symlink(scene.outside(), scene.root().join("tenant")).unwrap();
    let config =
        coffer_drivers::local::Config { root: scene.root(), prefix: "tenant/".into(), ..Default::default() };
    let driver = coffer_drivers::local::Local::open(config).await.unwrap();
    assert_eq!(kind(driver.stat(&key("object")).await), Some(ErrorKind::Denied));
    assert_eq!(kind(write(&driver, &key("new"), &noise(1, 1)).await), Some(ErrorKind::Denied));
    assert_eq!(kind(driver.list("", None, 10).await), Some(ErrorKind::Denied));
    scene.assert_untouched();
}

/// Another process exchanges the directory for a symlink to outside, as fast as it can, while every operation runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanging_directories_under_running_operations_leads_nowhere() {
    const ROUNDS: u64 = 3_000;
    let scene = Scene::new();
    let driver = open(&scene.root()).await;
    let ours = noise(1000, 1);
    write(&driver, &key("aa/bb/object"), &ours).await.unwrap();
    let swapper = Swapper::start(&scene.root().join("aa"), &scene.outside());

    let (mut refused, mut done, mut published) = (0, 0, Vec::new());
    let mut count = |failure: Option<ErrorKind>| match failure {
        None => done += 1,
        Some(ErrorKind::Denied) => refused += 1,
        Some(other) => panic!("{other:?}"),
    };
    for round in 0..ROUNDS {
        let content = read(&driver, &key("aa/bb/object")).await;
        assert!(content.as_ref().map_or(true, |content| *content == ours));
        count(kind(content));
        let found =
            driver.list("aa/", None, 10_000).await.map(|found| found.into_iter().map(|listed| listed.key));
        assert!(
            found.as_ref().map_or(true, |found| found.clone().all(|key| !key.as_str().ends_with("canary")))
        );
        count(kind(found));
        let size = driver.stat(&key("aa/bb/object")).await.map(|stat| stat.unwrap().size);
        assert!(size.as_ref().map_or(true, |size| *size == 1000));
        count(kind(size));
        count(kind(driver.delete(&key("aa/bb/canary")).await));
        // Publishing costs two syncs: less often.
        if round % 10 == 0 {
            let fresh = key(&format!("aa/bb/{round}"));
            let outcome = write(&driver, &fresh, &ours).await;
            if outcome.is_ok() {
                published.push(format!("bb/{round}"));
            }
            count(kind(outcome));
            count(kind(driver.put(&key("aa/bb/put"), ours.clone()).await));
        }
    }
    let swaps = swapper.stop();
    assert!(swaps >= ROUNDS, "{swaps} exchanges are too few to prove anything");
    assert!(refused > 50 && done > 50, "{refused} refused, {done} done");
    scene.assert_untouched();
    let mut kept: Vec<_> =
        files(&scene.root().join("aa")).into_iter().filter(|file| !file.ends_with("put")).collect();
    kept.retain(|file| file.starts_with("bb/") && file != "bb/object");
    published.sort();
    assert_eq!(kept, published, "what was promised is there, what was refused is not");
}

/// Exchanges `bb` and a symlink until stopped; then `bb` is the directory.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Swapper {
    fn start(parent: &Path, outside: &Path) -> Self {
        let (directory, link) = (parent.join("bb"), parent.join("link"));
        symlink(outside, &link).unwrap();
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) || counter.load(Ordering::Relaxed) % 2 == 1 {
                renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
            }
            fs::remove_file(link).unwrap();
        });
        Self { stop, swaps, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}
