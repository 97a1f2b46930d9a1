//! The root of a volume: the one way by which this driver reaches a file.

use super::{config::Config, directories::BeingMade, error::Failure, syncs::Syncs};
use coffer_domain::{
    driver::{ErrorKind, Stat},
    path::{Key, RESERVED},
    time::Timestamp,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags},
    io::{Errno, Result, retry_on_intr},
};
use std::path::PathBuf;

/// Nothing that is opened is outside the directory the path begins in, nor reached through a symlink.
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// The open root directory of a volume.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    /// Device and inode.
    identity: (u64, u64),
    path: PathBuf,
    prefix: String,
    /// Directories that exist and are not durable yet.
    pub(super) being_made: BeingMade,
    /// The only way by which a directory is synced.
    pub(super) syncs: Syncs,
}

/// Where an object is: a directory below the root, and a name in it.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) directory: String,
    pub(super) name: String,
}

impl Root {
    pub(super) fn open(config: &Config) -> std::result::Result<Self, Failure> {
        if !config.root.is_absolute() {
            return Err(Failure::new(
                ErrorKind::Other,
                "the root of a local volume must be an absolute path",
            ));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(CWD, &config.root, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                return Err(Failure::new(ErrorKind::NotOnThisNode, "the root directory does not exist"));
            }
            Err(Errno::NOTDIR) => {
                return Err(Failure::new(ErrorKind::Denied, "the root is a symlink, or no directory"));
            }
            Err(errno) => return Err(errno.into()),
        };
        let identity = identity(&rustix::fs::fstat(&directory)?);
        let (path, prefix) = (config.root.clone(), config.prefix.clone());
        let root = Self {
            directory,
            identity,
            path,
            prefix,
            being_made: BeingMade::default(),
            syncs: Syncs::default(),
        };
        // Linux before 5.6, or a sandbox that does not know openat2, shows here and not at the first upload.
        root.open_directory(".")?;
        Ok(root)
    }

    /// Whether the path still leads to the directory that was opened. If a disk was mounted over it since, or it was moved away, we
    /// would not find what is there, and what we write would not be found.
    pub(super) fn check(&self) -> std::result::Result<(), Failure> {
        match rustix::fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if identity(&stat) == self.identity => Ok(()),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Err(Failure::new(
                ErrorKind::NotOnThisNode,
                "the root's path leads to another directory than when it was opened",
            )),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn location(&self, key: &Key) -> Location {
        self.locate(key.as_str())
    }

    /// A file of the service's own in `.coffer/staging/`.
    pub(super) fn staged(&self, name: &str) -> Location {
        self.locate(&format!("{RESERVED}/staging/{name}"))
    }

    /// A directory below the volume's place; `""` is the place itself.
    pub(super) fn place(&self, directory: &str) -> String {
        let path = format!("{}{directory}", self.prefix);
        match path.trim_end_matches('/') {
            "" => ".".to_owned(),
            path => path.to_owned(),
        }
    }

    fn locate(&self, key: &str) -> Location {
        let (directory, name) = key.rsplit_once('/').unwrap_or(("", key));
        Location { directory: self.place(directory), name: name.to_owned() }
    }

    pub(super) fn open_directory(&self, path: &str) -> Result<OwnedFd> {
        open_directory(&self.directory, path)
    }

    /// Opens the object to read it. Anything but a regular file is no object.
    pub(super) fn open_object(&self, at: &Location) -> std::result::Result<(OwnedFd, u64), Failure> {
        // Without O_NONBLOCK the open of a named pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = open(&self.directory, &at.path(), flags)?;
        let stat = rustix::fs::fstat(&file)?;
        match size(&stat) {
            Some(size) => Ok((file, size)),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Opens what is there to write into it, whatever kind of file it is; never a symlink.
    pub(super) fn open_to_write(&self, at: &Location) -> Result<OwnedFd> {
        // To read as well, or the open of a named pipe would fail before its kind can be told.
        open(&self.directory, &at.path(), OFlags::RDWR | OFlags::NONBLOCK)
    }

    /// The object's inode, whatever kind of file it is; never a symlink.
    pub(super) fn look(&self, at: &Location) -> Result<rustix::fs::Stat> {
        rustix::fs::fstat(open(&self.directory, &at.path(), OFlags::PATH)?)
    }
}

impl Location {
    fn path(&self) -> String {
        format!("{}/{}", self.directory, self.name)
    }
}

pub(super) fn open_directory(from: impl AsFd, path: &str) -> Result<OwnedFd> {
    open(from, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// A file without a name in `directory`.
pub(super) fn create_unnamed(directory: &OwnedFd) -> Result<OwnedFd> {
    open_with(directory, ".", OFlags::WRONLY | OFlags::TMPFILE, FILE_MODE)
}

/// A new file `name` in `directory`.
pub(super) fn create(directory: &OwnedFd, name: &str) -> Result<OwnedFd> {
    open_with(directory, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, FILE_MODE)
}

fn open(from: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    open_with(from, path, flags, Mode::empty())
}

fn open_with(from: impl AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat2(from.as_fd(), path, flags | OFlags::CLOEXEC, mode, CONFINED))
}

/// What tells a file from all others.
pub(super) fn identity(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Bytes of a regular file; `None` for anything else.
pub(super) fn size(stat: &rustix::fs::Stat) -> Option<u64> {
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        .then(|| u64::try_from(stat.st_size).unwrap_or(0))
}

/// The port's view of a regular file; `None` for anything else.
///
/// Its age is the inode's (ctime): that also changes when the file gets its name, and nobody can set it back.
pub(super) fn describe(stat: &rustix::fs::Stat) -> Option<Stat> {
    let microseconds =
        stat.st_ctime.saturating_mul(1_000_000).saturating_add((stat.st_ctime_nsec / 1_000) as i64);
    Some(Stat {
        size: size(stat)?,
        changed_at: Timestamp::from_timestamp_micros(microseconds).unwrap_or_default(),
    })
}
