//! Names, given, taken and removed so that a power cut does not undo it.

use super::{
    client::{Location, Root, create},
    error::Failure,
    writeback,
};
use bytes::Bytes;
use coffer_domain::id::UploadId;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, RenameFlags},
    io::Errno,
};

/// Gives a file another name, which has to be free. Neither directory is synced.
pub(super) fn rename(from: &OwnedFd, name: &str, to: &OwnedFd, new_name: &str) -> Result<(), Failure> {
    match rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // NFS, for one, cannot rename without replacing. It can link, and two names of one file harm nobody.
        Err(Errno::INVAL) => {
            rustix::fs::linkat(from, name, to, new_name, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(from, name, AtFlags::empty())?)
        }
        result => Ok(result?),
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
    Ok(root.syncs.sync(&directory)?)
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
    writeback::write_all(file, std::slice::from_ref(content), 0)?;
    rustix::fs::fsync(file)?;
    let directory = root.make_directory(&target.directory)?;
    rustix::fs::renameat(staging, name, &directory, target.name.as_str())?;
    Ok(root.syncs.sync(&directory)?)
}
