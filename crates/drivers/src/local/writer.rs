//! Writes an object: staged, synced, then published under its key.

use super::{
    client::{Location, Root, create, create_unnamed, identity, size},
    config::Staging,
    content::Content,
    error::Failure,
    jobs::Jobs,
    writeback,
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{self, Batch, ErrorKind},
    id::UploadId,
    path::Key,
};
use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{AtFlags, CWD, FallocateFlags, RenameFlags},
    io::{Errno, retry_on_intr},
};
use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most pieces the kernel takes in one call (IOV_MAX).
const MOST_PIECES: usize = 1024;

/// An object being written.
pub(super) struct Writer {
    jobs: Jobs,
    key: Key,
    staged: Arc<Staged>,
    progress: Progress,
}

/// How far an object is written.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    /// Up to here the kernel was told to write to the disk.
    started: u64,
}

impl Writer {
    pub(super) fn new(jobs: Jobs, key: Key, staged: Staged) -> Self {
        Self { jobs, key, staged: Arc::new(staged), progress: Progress::default() }
    }
}

#[async_trait]
impl driver::Writer for Writer {
    async fn write(&mut self, batch: Batch) -> driver::Result<()> {
        let (staged, progress) = (Arc::clone(&self.staged), self.progress);
        let job = move || staged.append(&batch.encode(), progress);
        self.progress = self.jobs.run("write", Some(&self.key), job).await?;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> driver::Result<u64> {
        let Self { jobs, key, staged, progress } = *self;
        let wanted = Arc::new(AtomicBool::new(true));
        // Whoever stops waiting will take the object for not written; then it should not appear.
        let _waiting = Waiting(Arc::clone(&wanted));
        let job = move || staged.publish(progress.written, &wanted).inspect_err(|_| staged.discard());
        jobs.run("finish", Some(&key), job).await
    }

    async fn abort(self: Box<Self>) -> driver::Result<()> {
        let Self { jobs, key, staged, .. } = *self;
        jobs.run("abort", Some(&key), move || staged.remove()).await
    }
}

/// Lowers the flag when dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A file that is not an object yet.
#[derive(Debug)]
pub(super) struct Staged {
    root: Arc<Root>,
    file: Content,
    /// The name it has, if it has one.
    name: Option<Location>,
    target: Location,
    /// Bytes the file has although they may not be written yet.
    allocated: u64,
}

impl Staged {
    pub(super) fn create(
        root: &Arc<Root>,
        staging: Staging,
        upload: UploadId,
        target: Location,
        declared_size: Option<u64>,
    ) -> Result<Self, Failure> {
        let unnamed = match staging {
            Staging::Unnamed => unnamed(root, &target)?,
            Staging::Named => None,
        };
        let (file, name) = match unnamed {
            Some(file) => (file, None),
            None => {
                let name = root.staged(&upload.to_string());
                (create(&root.make_directory(&name.directory)?, &name.name)?, Some(name))
            }
        };
        let mut staged = Self { root: Arc::clone(root), file: file.into(), name, target, allocated: 0 };
        if let Some(bytes @ 1..) = declared_size {
            match retry_on_intr(|| rustix::fs::fallocate(&*staged.file, FallocateFlags::empty(), 0, bytes)) {
                Ok(()) => staged.allocated = bytes,
                Err(Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    staged.discard();
                    return Err(errno.into());
                }
            }
        }
        Ok(staged)
    }

    fn append(&self, pieces: &[Bytes], mut progress: Progress) -> Result<Progress, Failure> {
        progress.written = write_all(&self.file, pieces, progress.written)?;
        if progress.written - progress.started >= writeback::EVERY_BYTES {
            writeback::start(&self.file, progress.started, progress.written)?;
            progress.started = progress.written;
        }
        Ok(progress)
    }

    /// The order is the promise: bytes on the disk, then the name, then the name on the disk. Answers the object's size.
    fn publish(&self, written: u64, wanted: &AtomicBool) -> Result<u64, Failure> {
        if self.allocated > written {
            retry_on_intr(|| rustix::fs::ftruncate(&*self.file, written))?;
        }
        // Never tried again: after a failure the kernel takes the pages for clean, and a second fsync would lie.
        rustix::fs::fsync(&*self.file)?;
        self.root.check()?;
        // Opened by its path again: the one of the beginning may have been moved since, and the key would not lead to it.
        let directory = self.root.make_directory(&self.target.directory)?;
        if !wanted.load(Ordering::Relaxed) {
            return Err(Failure::new(ErrorKind::Other, "nobody waits for the end any more"));
        }
        self.give_name(&directory)?;
        let published =
            rustix::fs::fsync(&directory).map_err(Failure::from).and_then(|()| self.published_size());
        published.inspect_err(|_| {
            // The name is ours, since giving it never replaces one. The failure that is told is the first.
            let _ = rustix::fs::unlinkat(&directory, self.target.name.as_str(), AtFlags::empty());
        })
    }

    fn give_name(&self, directory: &OwnedFd) -> Result<(), Failure> {
        let target = self.target.name.as_str();
        let Some(name) = &self.name else {
            let this = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            return Ok(rustix::fs::linkat(CWD, this.as_str(), directory, target, AtFlags::SYMLINK_FOLLOW)?);
        };
        let staging = self.root.open_directory(&name.directory)?;
        match rustix::fs::renameat_with(
            &staging,
            name.name.as_str(),
            directory,
            target,
            RenameFlags::NOREPLACE,
        ) {
            // NFS, for one, cannot rename without replacing. It can link, and two names of one file harm nobody.
            Err(Errno::INVAL) => {
                rustix::fs::linkat(&staging, name.name.as_str(), directory, target, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(&staging, name.name.as_str(), AtFlags::empty())?)
            }
            result => Ok(result?),
        }
    }

    /// Bytes of the object that is found at the key, which has to be this file.
    fn published_size(&self) -> Result<u64, Failure> {
        let (ours, found) = (rustix::fs::fstat(&*self.file)?, self.root.look(&self.target)?);
        if identity(&ours) != identity(&found) {
            return Err(Failure::new(
                ErrorKind::Denied,
                "the key's directory was replaced while the object was published",
            ));
        }
        Ok(size(&found).unwrap_or_default())
    }

    /// Removes the name it is staged under, as far as that is possible. What stays is for [`sweep`].
    fn discard(&self) {
        let _ = self.remove();
    }

    fn remove(&self) -> Result<(), Failure> {
        match &self.name {
            Some(name) => remove(&self.root, name),
            None => Ok(()),
        }
    }
}

/// Removes what an upload that is over has left.
pub(super) fn sweep(root: &Root, upload: UploadId) -> Result<(), Failure> {
    remove(root, &root.staged(&upload.to_string()))
}

/// Removes a name durably. One that is not there may have been removed by a call that failed after it: the directory is synced
/// all the same.
pub(super) fn remove(root: &Root, at: &Location) -> Result<(), Failure> {
    let directory = match root.open_directory(&at.directory) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match rustix::fs::unlinkat(&directory, at.name.as_str(), AtFlags::empty()) {
        // A directory is no object.
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(rustix::fs::fsync(&directory)?)
}

/// Writes a small object at once, in place of what is there.
pub(super) fn put(root: &Root, target: &Location, content: &Bytes) -> Result<(), Failure> {
    // Named as an upload that nobody knows: what a crash leaves of it is swept like any other.
    let name = root.staged(&UploadId::new().to_string());
    let staging = root.make_directory(&name.directory)?;
    let file = create(&staging, &name.name)?;
    let result = replace(root, target, &staging, &name.name, &file, content);
    if result.is_err() {
        let _ = rustix::fs::unlinkat(&staging, name.name.as_str(), AtFlags::empty());
    }
    result
}

fn replace(
    root: &Root,
    target: &Location,
    staging: &OwnedFd,
    name: &str,
    file: &OwnedFd,
    content: &Bytes,
) -> Result<(), Failure> {
    write_all(file, std::slice::from_ref(content), 0)?;
    rustix::fs::fsync(file)?;
    let directory = root.make_directory(&target.directory)?;
    rustix::fs::renameat(staging, name, &directory, target.name.as_str())?;
    Ok(rustix::fs::fsync(&directory)?)
}

/// A file without a name in the directory of the key; `None` where the file system has none.
fn unnamed(root: &Root, target: &Location) -> Result<Option<OwnedFd>, Failure> {
    match create_unnamed(&root.make_directory(&target.directory)?) {
        Ok(file) => Ok(Some(file)),
        // NFS, FUSE and old overlays say EOPNOTSUPP; a file system that does not know the flag sees the open of a directory for
        // writing; ENOENT is also a directory that was removed since.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes the pieces one after the other from `offset` on. Answers where they end.
fn write_all(file: &OwnedFd, pieces: &[Bytes], mut offset: u64) -> Result<u64, Failure> {
    let mut slices: Vec<_> =
        pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let now = &left[..left.len().min(MOST_PIECES)];
        let written = retry_on_intr(|| rustix::io::pwritev(file, now, offset))?;
        if written == 0 {
            return Err(Failure::new(ErrorKind::Other, "the file takes no more bytes"));
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(offset)
}
