//! A file that appears under its name only when it is complete.

use crate::{Error, Result};
use rustix::{
    fs::{CWD, OFlags, RenameFlags},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// What is added to the name while bytes gather.
const SUFFIX: &str = ".part";
/// Longest file name of common file systems, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// How often a part file that another download has just published or removed is opened again.
const OPEN_ATTEMPTS: u32 = 10;

/// `NAME.part`, locked, and removed when dropped unless it was published as `NAME`.
///
/// The name is always the same, so that what a killed process left behind is reused and not added to; the lock keeps two
/// downloads from writing to one part file.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    path: PathBuf,
    destination: PathBuf,
    replace: bool,
    is_published: bool,
}

impl PartFile {
    /// Makes an empty part file. Blocks.
    ///
    /// # Errors
    /// [`Error::Destination`] if the destination exists and is no regular file (a device or a directory is not to be
    /// replaced), [`Error::Exists`] if it exists and may not be replaced, [`Error::Busy`], [`Error::Io`].
    pub(super) fn create(destination: &Path, replace: bool) -> Result<Self> {
        let destination = resolve(destination, replace)?;
        let path = part_path(&destination)?;
        for _ in 0..OPEN_ATTEMPTS {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&path)
                .map_err(Error::io(format!("cannot create {}", path.display())))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Busy(destination)),
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io(format!("cannot lock {}", path.display()))(error));
                }
            }
            if is_still_at(&file, &path).map_err(Error::io(format!("cannot look at {}", path.display())))? {
                let part = Self { file, path, destination, replace, is_published: false };
                part.file.set_len(0).map_err(Error::io(format!("cannot empty {}", part.path.display())))?;
                return Ok(part);
            }
        }
        Err(Error::Busy(destination))
    }

    /// Makes the bytes durable and gives them their name. Blocks.
    ///
    /// # Errors
    /// [`Error::Exists`] if the destination has appeared meanwhile and may not be replaced, [`Error::Io`].
    pub(super) fn publish(mut self) -> Result<()> {
        let shown = self.destination.display();
        self.file.sync_all().map_err(Error::io(format!("cannot write {}", self.path.display())))?;
        if self.replace {
            fs::rename(&self.path, &self.destination).map_err(Error::io(format!("cannot write {shown}")))?;
        } else {
            rename_without_replacing(&self.path, &self.destination)?;
        }
        self.is_published = true;
        // Without this the name could be lost in a power failure, not the bytes.
        File::open(parent(&self.destination))
            .and_then(|directory| directory.sync_all())
            .map_err(Error::io(format!("cannot make {shown} durable")))
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "cannot remove {}", self.path.display());
        }
    }
}

/// The path that will be written: the target of symbolic links, and nothing but a regular file or a free name.
fn resolve(destination: &Path, replace: bool) -> Result<PathBuf> {
    let shown = destination.display();
    let metadata = match fs::metadata(destination) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(destination.to_owned()),
        Err(error) => return Err(Error::io(format!("cannot look at {shown}"))(error)),
    };
    if !metadata.is_file() {
        return Err(Error::Destination(format!("{shown} is no regular file: it would have to be replaced")));
    }
    if !replace {
        return Err(Error::Exists(destination.to_owned()));
    }
    fs::canonicalize(destination).map_err(Error::io(format!("cannot look at {shown}")))
}

fn part_path(destination: &Path) -> Result<PathBuf> {
    let Some(name) = destination.file_name() else {
        return Err(Error::Destination(format!("{} names no file", destination.display())));
    };
    // A name of full length is cut. Two long names that share a part file are kept apart by its lock.
    let mut part = name.to_string_lossy().into_owned();
    part.truncate(part.floor_char_boundary(MAX_NAME_BYTES - SUFFIX.len()));
    part.push_str(SUFFIX);
    Ok(destination.with_file_name(part))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The path still leads to the open file: the one who had the lock before may have renamed or removed it.
fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino()) && open.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::Exists(to.to_owned())),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let text =
                "this file system cannot make a file without replacing one: name the destination in full";
            Err(Error::Destination(text.to_owned()))
        }
        Err(errno) => Err(Error::io(format!("cannot write {}", to.display()))(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn bytes_take_their_name_when_published() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        let mut part = PartFile::create(&path, false).unwrap();
        part.write_all(b"hello").unwrap();
        assert_eq!(names(directory.path()), ["a.txt.part"]);
        part.publish().unwrap();
        assert_eq!(names(directory.path()), ["a.txt"]);
        assert_eq!(fs::read(&path).unwrap(), b"hello");
    }

    #[test]
    fn dropped_parts_vanish_and_leave_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let mut part = PartFile::create(&path, true).unwrap();
        part.write_all(b"new").unwrap();
        drop(part);
        assert_eq!(names(directory.path()), ["a.txt"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn files_are_replaced_only_where_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        let late = PartFile::create(&path, false).unwrap();
        fs::write(&path, "old").unwrap();
        assert!(matches!(late.publish(), Err(Error::Exists(_))));
        assert!(matches!(PartFile::create(&path, false), Err(Error::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut part = PartFile::create(&path, true).unwrap();
        part.write_all(b"new").unwrap();
        part.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["a.txt"]);
    }

    #[test]
    fn what_a_killed_process_left_is_reused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        fs::write(directory.path().join("a.txt.part"), "much longer leftovers").unwrap();
        let mut part = PartFile::create(&path, false).unwrap();
        part.write_all(b"new").unwrap();
        part.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn two_downloads_do_not_share_a_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        let first = PartFile::create(&path, true).unwrap();
        assert!(matches!(PartFile::create(&path, true), Err(Error::Busy(_))));
        drop(first);
        PartFile::create(&path, true).unwrap();
    }

    #[test]
    fn links_are_followed_at_the_destination_and_refused_at_the_part() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        PartFile::create(&link, true).unwrap().publish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"");

        fs::write(&target, "precious").unwrap();
        symlink(&target, directory.path().join("b.part")).unwrap();
        assert!(matches!(PartFile::create(&directory.path().join("b"), true), Err(Error::Io { .. })));
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/null"), directory.path(), Path::new("/")] {
            let refused = PartFile::create(path, true);
            assert!(matches!(refused, Err(Error::Destination(_))), "{}: {refused:?}", path.display());
        }
    }

    #[test]
    fn names_of_full_length_have_a_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ü".repeat(127));
        let mut part = PartFile::create(&path, false).unwrap();
        part.write_all(b"x").unwrap();
        part.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }
}
