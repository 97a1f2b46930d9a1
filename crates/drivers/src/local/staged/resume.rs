//! Staged files that outlive their writer: found again, taken back from their key, locked against a second writer.

use super::{Progress, Staged};
use crate::local::{
    client::{Location, Root, create, identity, size},
    error::Failure,
    names,
};
use coffer_domain::{driver::ErrorKind, id::UploadId};
use rustix::{
    fd::OwnedFd,
    fs::{FallocateFlags, FlockOperation},
    io::{Errno, retry_on_intr},
};
use std::sync::Arc;

/// A file that nobody else writes, and its length.
struct Locked {
    file: OwnedFd,
    length: u64,
}

impl Staged {
    /// A resumable file without bytes. One that is there is what an earlier try of the same upload left: it is taken over.
    pub(in crate::local) fn create_resumable(
        root: &Arc<Root>,
        upload: UploadId,
        target: Location,
        declared_size: Option<u64>,
    ) -> Result<(Self, Progress), Failure> {
        let name = root.staged(&upload.to_string());
        let staging = root.make_directory(&name.directory)?;
        let locked = match staged(root, &name, &target)? {
            Some(locked) => locked,
            None => new(root, &staging, &name)?,
        };
        let mut staged = Self::of(root, locked, name, target);
        // On failure it has no bytes that could be gone on with.
        let progress = staged.cut(0, declared_size).inspect_err(|_| staged.discard())?;
        Ok((staged, progress))
    }

    /// The resumable file of an upload with its first `size` bytes, wherever a crash left it.
    pub(in crate::local) fn resume(
        root: &Arc<Root>,
        upload: UploadId,
        target: Location,
        size: u64,
        declared_size: Option<u64>,
    ) -> Result<(Self, Progress), Failure> {
        let name = root.staged(&upload.to_string());
        let staging = root.make_directory(&name.directory)?;
        let locked = match staged(root, &name, &target)? {
            Some(locked) => locked.with(size)?,
            None => match lock_existing(root, &target)? {
                Some(locked) => {
                    let locked = locked.with(size)?;
                    take_back(root, &target, &staging, &name)?;
                    locked
                }
                None => {
                    check_absent(root, &name)?;
                    match size {
                        0 => new(root, &staging, &name)?,
                        _ => return Err(Failure::new(ErrorKind::NotFound, "nothing is staged or published")),
                    }
                }
            },
        };
        let mut staged = Self::of(root, locked, name, target);
        let progress = staged.cut(size, declared_size)?;
        Ok((staged, progress))
    }

    fn of(root: &Arc<Root>, locked: Locked, name: Location, target: Location) -> Self {
        let (root, file) = (Arc::clone(root), locked.file.into());
        Self { root, file, name: Some(name), target, allocated: 0, is_resumable: true }
    }

    /// Cuts the file to `size` and allocates the rest of what is declared without making it longer: its length has to be that of
    /// what was written.
    fn cut(&mut self, size: u64, declared_size: Option<u64>) -> Result<Progress, Failure> {
        retry_on_intr(|| rustix::fs::ftruncate(&*self.file, size))?;
        self.allocate(FallocateFlags::KEEP_SIZE, size, declared_size)?;
        Ok(Progress { written: size, started: size })
    }
}

impl Locked {
    /// This, if it has `size` bytes.
    fn with(self, size: u64) -> Result<Self, Failure> {
        if self.length < size {
            return Err(Failure::new(ErrorKind::NotFound, "the file has less bytes than were made durable"));
        }
        Ok(self)
    }
}

/// The staged file, if there is one, with no other name: where renaming is linking and unlinking, a crash between the two leaves the
/// name of the key as well, and what is written would change what is read there.
fn staged(root: &Root, name: &Location, target: &Location) -> Result<Option<Locked>, Failure> {
    let Some(locked) = lock_existing(root, name)? else { return Ok(None) };
    match root.look(target) {
        Ok(stat) if identity(&stat) == identity(&rustix::fs::fstat(&locked.file)?) => {
            names::remove(root, target)?;
        }
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(Some(locked))
}

/// Refuses if there is a staged file after all: between a look at its name and one at the key another writer may have taken it back.
fn check_absent(root: &Root, name: &Location) -> Result<(), Failure> {
    match root.look(name) {
        Ok(stat) if size(&stat).is_some() => Err(busy("another writer has just taken the object back")),
        Ok(_) => Err(foreign()),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives a published object its staged name back, durably.
fn take_back(root: &Root, target: &Location, staging: &OwnedFd, name: &Location) -> Result<(), Failure> {
    let directory = root.open_directory(&target.directory)?;
    names::rename(&directory, &target.name, staging, &name.name)?;
    // The new name first: a power cut between the two leaves both, never none.
    root.syncs.sync(staging)?;
    Ok(root.syncs.sync(&directory)?)
}

fn new(root: &Root, staging: &OwnedFd, name: &Location) -> Result<Locked, Failure> {
    match create(staging, &name.name) {
        Ok(file) => lock(root, file, name),
        Err(Errno::EXIST) => Err(busy("another writer has just begun")),
        Err(errno) => Err(errno.into()),
    }
}

fn lock_existing(root: &Root, at: &Location) -> Result<Option<Locked>, Failure> {
    match root.open_to_write(at) {
        Ok(file) => lock(root, file, at).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Locks the file for as long as it is open, on all nodes that share the file system.
fn lock(root: &Root, file: OwnedFd, at: &Location) -> Result<Locked, Failure> {
    let stat = rustix::fs::fstat(&file)?;
    if size(&stat).is_none() {
        return Err(foreign());
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Err(busy("another writer has the file")),
        Err(errno) => return Err(errno.into()),
    }
    // Between the open and the lock another writer may have published it, and it may be committed. Names are given only under the lock.
    match root.look(at) {
        Ok(found) if identity(&found) == identity(&stat) => {}
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
            return Err(busy("another writer has just moved the file"));
        }
        Err(errno) => return Err(errno.into()),
    }
    let length = size(&rustix::fs::fstat(&file)?).unwrap_or_default();
    Ok(Locked { file, length })
}

fn busy(reason: &'static str) -> Failure {
    Failure::new(ErrorKind::Unavailable, reason)
}

fn foreign() -> Failure {
    Failure::new(ErrorKind::Denied, "what stands at the name is no regular file")
}
