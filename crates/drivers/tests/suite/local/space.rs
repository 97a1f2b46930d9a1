//! A disk that is full.

use super::{files, open_with};
use crate::support::{fresh_key, is_missing, key, kind, noise, read, write};
use bytes::Bytes;
use coffer_domain::{
    driver::{Driver as _, ErrorKind, WriteOptions},
    id::UploadId,
};
use coffer_drivers::local::Staging;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file system in memory of a few megabytes, unmounted at the end.
struct SmallDisk {
    at: PathBuf,
    _place: TempDir,
}

impl SmallDisk {
    fn new(options: &std::ffi::CStr) -> Option<Self> {
        let place = TempDir::new().unwrap();
        let at = place.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        match mount("tmpfs", &at, "tmpfs", MountFlags::NODEV | MountFlags::NOEXEC, options) {
            Ok(()) => Some(Self { at, _place: place }),
            Err(errno) => {
                is_missing(&format!("the right to mount a tmpfs ({errno})"));
                None
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.at).unwrap();
        disk.f_bfree * disk.f_bsize
    }
}

impl AsRef<Path> for SmallDisk {
    fn as_ref(&self) -> &Path {
        &self.at
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A descriptor may still be on its way to be closed on another thread.
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_keeps_nothing() {
    for staging in [Staging::Unnamed, Staging::Named] {
        let Some(disk) = SmallDisk::new(c"size=4m") else { return };
        let driver = open_with(disk.as_ref(), staging).await;
        let kept = fresh_key();
        write(&driver, &kept, &noise(100_000, 1)).await.unwrap();
        // The directory of staged files stays; so does its page.
        drop(driver.begin(UploadId::new(), &kept, WriteOptions::default()).await.unwrap().abort().await);
        let free = disk.free_bytes();

        let mut writer = driver.begin(UploadId::new(), &kept, WriteOptions::default()).await.unwrap();
        let mut written = 0;
        let failure = loop {
            match writer.write(vec![noise(1024 * 1024, 1)].into()).await {
                Ok(()) => written += 1,
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.kind, failure.operation, written), (ErrorKind::Full, "write", 3));
        writer.abort().await.unwrap();
        assert_eq!(files(disk.as_ref()), [kept.as_str()]);
        assert_eq!(disk.free_bytes(), free, "{staging:?}");
        assert_eq!(read(&driver, &kept).await.unwrap(), noise(100_000, 1));
    }
}

#[tokio::test]
async fn a_declared_size_that_does_not_fit_is_refused_at_once() {
    for staging in [Staging::Unnamed, Staging::Named] {
        let Some(disk) = SmallDisk::new(c"size=4m") else { return };
        let driver = open_with(disk.as_ref(), staging).await;
        write(&driver, &key("aa/bb/kept"), &noise(10, 1)).await.unwrap();
        for declared in [5_000_000, u64::MAX >> 2] {
            let options = WriteOptions { declared_size: Some(declared), ..WriteOptions::default() };
            let failure = driver.begin(UploadId::new(), &key("aa/bb/new"), options).await;
            assert_eq!(kind(failure), Some(ErrorKind::Full), "{declared}");
            assert_eq!(files(disk.as_ref()), ["aa/bb/kept"]);
        }
    }
}

#[tokio::test]
async fn no_room_for_a_directory_or_a_marker_is_full_too() {
    let Some(disk) = SmallDisk::new(c"size=1m,nr_inodes=4") else { return };
    let driver = open_with(disk.as_ref(), Staging::Unnamed).await;
    assert_eq!(kind(write(&driver, &key("a/b/c/d/e"), &noise(10, 1)).await), Some(ErrorKind::Full));
    assert_eq!(kind(driver.put(&key("f"), Bytes::from_static(b"{}")).await), Some(ErrorKind::Full));
    assert_eq!(files(disk.as_ref()), [""; 0]);
}
