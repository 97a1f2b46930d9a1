//! A file that is not an object yet: staged, synced, then published under its key.

mod copy;
mod resume;

use super::{
    client::{Location, Root, create, create_unnamed, identity, size},
    config::Staging,
    content::Content,
    error::Failure,
    names, writeback,
};
use bytes::Bytes;
use coffer_domain::{driver::ErrorKind, id::UploadId, path::Key};
use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{AtFlags, CWD, FallocateFlags},
    io::{Errno, retry_on_intr},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A file that is not an object yet.
#[derive(Debug)]
pub(super) struct Staged {
    root: Arc<Root>,
    file: Content,
    /// The name it has, if it has one.
    name: Option<Location>,
    target: Location,
    /// Bytes the file has on the disk although they may not be written yet.
    allocated: u64,
    /// Whether it outlives its writer. Then the file is locked as long as it is open.
    is_resumable: bool,
}

/// How far an object is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    written: u64,
    /// Up to here the kernel was told to write to the disk.
    started: u64,
}

/// What is known of a file's way to the disk.
#[derive(Debug, Default)]
pub(super) struct Durability {
    has_failed: bool,
    is_name_durable: bool,
    is_published: bool,
}

impl Durability {
    /// Never tried again: after a failure the kernel takes the pages for clean, and a second sync would lie.
    fn sync(&mut self, sync: impl FnOnce() -> rustix::io::Result<()>) -> Result<(), Failure> {
        if self.has_failed {
            return Err(Failure::new(ErrorKind::Other, "an earlier sync of this file failed"));
        }
        self.has_failed = true;
        sync()?;
        self.has_failed = false;
        Ok(())
    }
}

impl Staged {
    /// A new file that ends with its writer.
    pub(super) fn create(
        root: &Arc<Root>,
        staging: Staging,
        upload: UploadId,
        target: Location,
        declared_size: Option<u64>,
    ) -> Result<(Self, Progress), Failure> {
        let (mut staged, _) = Self::create_in(root, staging, upload, target)?;
        let allocated = staged.allocate(FallocateFlags::empty(), 0, declared_size);
        allocated.inspect_err(|_| staged.discard())?;
        Ok((staged, Progress::default()))
    }

    /// An object whose bytes are all here. Answers its size.
    pub(super) fn store(
        root: &Arc<Root>,
        staging: Staging,
        upload: UploadId,
        target: Location,
        content: &[Bytes],
        wanted: &AtomicBool,
    ) -> Result<u64, Failure> {
        let (staged, directory) = Self::create_in(root, staging, upload, target)?;
        let progress = staged.append(content, Progress::default()).inspect_err(|_| staged.discard())?;
        staged.finish_in(directory, &staged.target, progress, wanted, &mut Durability::default())
    }

    /// With the directory of the key, if the file is in it.
    fn create_in(
        root: &Arc<Root>,
        staging: Staging,
        upload: UploadId,
        target: Location,
    ) -> Result<(Self, Option<OwnedFd>), Failure> {
        let directory = match staging {
            Staging::Unnamed => Some(root.make_directory(&target.directory)?),
            Staging::Named => None,
        };
        let unnamed = directory.as_ref().map_or(Ok(None), unnamed)?;
        let (file, name) = match unnamed {
            Some(file) => (file, None),
            None => {
                let name = root.staged(&upload.to_string());
                (create(&root.make_directory(&name.directory)?, &name.name)?, Some(name))
            }
        };
        let root = Arc::clone(root);
        let staged = Self { root, file: file.into(), name, target, allocated: 0, is_resumable: false };
        let directory = directory.filter(|_| staged.name.is_none());
        Ok((staged, directory))
    }

    /// Where a key is in the volume of this file.
    pub(super) fn location(&self, key: &Key) -> Location {
        self.root.location(key)
    }

    pub(super) fn is_resumable(&self) -> bool {
        self.is_resumable
    }

    /// Allocates what is declared after the first `from` bytes, where the file system can.
    fn allocate(
        &mut self,
        flags: FallocateFlags,
        from: u64,
        declared_size: Option<u64>,
    ) -> Result<(), Failure> {
        let Some(declared) = declared_size.filter(|declared| *declared > from) else { return Ok(()) };
        match retry_on_intr(|| rustix::fs::fallocate(&*self.file, flags, from, declared - from)) {
            Ok(()) => self.allocated = declared,
            Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    pub(super) fn append(&self, pieces: &[Bytes], mut progress: Progress) -> Result<Progress, Failure> {
        progress.written = writeback::write_all(&self.file, pieces, progress.written)?;
        let every =
            if self.is_resumable { writeback::EVERY_BYTES_BEFORE_CHECKPOINT } else { writeback::EVERY_BYTES };
        if progress.written - progress.started >= every {
            writeback::start(&self.file, progress.started, progress.written)?;
            progress.started = progress.written;
        }
        Ok(progress)
    }

    /// Makes what was written durable under the staged name. Writes may go on meanwhile.
    pub(super) fn checkpoint(&self, durability: &mut Durability) -> Result<(), Failure> {
        if durability.is_published {
            return Ok(());
        }
        let Some(name) = &self.name else {
            return Err(Failure::new(ErrorKind::Unsupported, "a file without a name ends with its writer"));
        };
        durability.sync(|| rustix::fs::fdatasync(&*self.file))?;
        self.root.check()?;
        if !durability.is_name_durable {
            let staging = self.root.open_directory(&name.directory)?;
            durability.sync(|| self.root.syncs.sync(&staging))?;
            durability.is_name_durable = true;
        }
        // What was swept, or moved with its directory, would not be found again.
        self.found_at(name).map(drop)
    }

    /// Publishes the object at its key, or at `target` if that is another, and answers its size. What fails is removed, unless it is resumable:
    /// then it stays for the next writer, under its staged name, or if that cannot be, under its key.
    pub(super) fn finish(
        &self,
        progress: Progress,
        target: Option<&Location>,
        wanted: &AtomicBool,
        durability: &mut Durability,
    ) -> Result<u64, Failure> {
        let target = target.unwrap_or(&self.target);
        self.finish_in(None, target, progress, wanted, durability)
    }

    /// The same in the key's `directory`, if that was opened just before.
    fn finish_in(
        &self,
        directory: Option<OwnedFd>,
        target: &Location,
        progress: Progress,
        wanted: &AtomicBool,
        durability: &mut Durability,
    ) -> Result<u64, Failure> {
        let published = self.publish(progress.written, directory, target, wanted, durability);
        let size = published.inspect_err(|_| {
            if !self.is_resumable {
                self.discard();
            }
        })?;
        durability.is_published = true;
        Ok(size)
    }

    /// The order is the promise: bytes on the disk, then the name, then the name on the disk.
    fn publish(
        &self,
        written: u64,
        directory: Option<OwnedFd>,
        target: &Location,
        wanted: &AtomicBool,
        durability: &mut Durability,
    ) -> Result<u64, Failure> {
        if self.allocated > written {
            retry_on_intr(|| rustix::fs::ftruncate(&*self.file, written))?;
        }
        durability.sync(|| rustix::fs::fsync(&*self.file))?;
        self.root.check()?;
        // Opened by its path again: the one of an earlier time may have been moved since, and the key would not lead to it.
        let directory = match directory {
            Some(directory) => directory,
            None => self.root.make_directory(&target.directory)?,
        };
        let staging = match &self.name {
            Some(name) => Some((self.root.open_directory(&name.directory)?, name.name.as_str())),
            None => None,
        };
        if !wanted.load(Ordering::Relaxed) {
            return Err(Failure::new(ErrorKind::Other, "nobody waits for the end any more"));
        }
        let new_name = target.name.as_str();
        match &staging {
            Some((staging, name)) => names::rename(staging, name, &directory, new_name)?,
            None => {
                let this = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, this.as_str(), &directory, new_name, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        // The new name first: a power cut between the two leaves both, never none.
        let synced = std::iter::once(&directory)
            .chain(staging.iter().map(|(staging, _)| staging))
            .try_for_each(|directory| durability.sync(|| self.root.syncs.sync(directory)));
        synced.and_then(|()| self.found_at(target)).inspect_err(|_| {
            // The name is ours, since giving it never replaces one. The failure that is told is the first.
            match &staging {
                Some((staging, name)) if self.is_resumable => {
                    let _ = names::rename(&directory, new_name, staging, name);
                }
                _ => {
                    let _ = rustix::fs::unlinkat(&directory, new_name, AtFlags::empty());
                }
            }
        })
    }

    /// Bytes of the file that is found there, which has to be this one.
    fn found_at(&self, at: &Location) -> Result<u64, Failure> {
        let (ours, found) = (rustix::fs::fstat(&*self.file)?, self.root.look(at)?);
        if identity(&ours) != identity(&found) {
            return Err(Failure::new(
                ErrorKind::Denied,
                "the file's directory was replaced while it was written or published",
            ));
        }
        Ok(size(&found).unwrap_or_default())
    }

    /// Removes the name it is staged under, as far as that is possible. What stays is for [`names::sweep`].
    fn discard(&self) {
        let _ = self.remove();
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        match &self.name {
            Some(name) => names::remove(&self.root, name),
            None => Ok(()),
        }
    }
}

/// A file without a name in `directory`; `None` where the file system has none.
fn unnamed(directory: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    match create_unnamed(directory) {
        Ok(file) => Ok(Some(file)),
        // NFS, FUSE and old overlays say EOPNOTSUPP; a file system that does not know the flag sees the open of a directory for
        // writing; ENOENT is also a directory that was removed since.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
