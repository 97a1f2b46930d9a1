//! Further names of objects, for programs that look for files at paths.

use super::{
    client::{Location, Root, identity, size},
    error::Failure,
    names,
};
use coffer_domain::{driver::ErrorKind, id::UploadId};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType},
    io::Errno,
};

/// Gives the object at `from` the name `at` as well, durably. What is there goes if it is the object at one of `before`, or an empty
/// directory.
pub(super) fn link(root: &Root, from: &Location, at: &Location, before: &[Location]) -> Result<(), Failure> {
    let object = root.look(from)?;
    if size(&object).is_none() {
        return Err(Errno::NOENT.into());
    }
    let source = root.open_directory(&from.directory)?;
    let directory = root.make_directory(&at.directory)?;
    match root.look(at) {
        Ok(found) if identity(&found) == identity(&object) => {}
        Ok(found) if is_one_of(root, &found, before)? => replace(root, &source, from, &directory, at)?,
        Ok(found) => {
            if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
                return Err(taken("something else is at the path"));
            }
            // Empty, as a delete leaves it; nobody makes a directory for an object that is to be where this one is.
            match rustix::fs::unlinkat(&directory, at.name.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => name(&source, from, &directory, at)?,
                Err(_) => return Err(taken("a directory is at the path")),
            }
        }
        Err(Errno::NOENT) => name(&source, from, &directory, at)?,
        Err(errno) => return Err(errno.into()),
    }
    root.syncs.sync(&directory)?;
    match root.look(at) {
        Ok(found) if identity(&found) == identity(&object) => Ok(()),
        _ => {
            Err(Failure::new(ErrorKind::Unavailable, "the path was changed while it was given to the object"))
        }
    }
}

/// Removes the name `at`, durably, if it is one of an object at one of `of`.
pub(super) fn unlink(root: &Root, at: &Location, of: &[Location]) -> Result<(), Failure> {
    match root.look(at) {
        Ok(found) if !is_one_of(root, &found, of)? => Ok(()),
        // The try before may have removed the name and then failed.
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => names::remove(root, at),
        Err(errno) => Err(errno.into()),
    }
}

fn is_one_of(root: &Root, found: &rustix::fs::Stat, keys: &[Location]) -> Result<bool, Failure> {
    for key in keys {
        match root.look(key) {
            Ok(stat) if identity(&stat) == identity(found) => return Ok(true),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// A name that is free.
fn name(source: &OwnedFd, from: &Location, directory: &OwnedFd, at: &Location) -> Result<(), Failure> {
    let empty = AtFlags::empty();
    Ok(rustix::fs::linkat(source, from.name.as_str(), directory, at.name.as_str(), empty)?)
}

/// A name that another object has: at no moment nobody has it.
fn replace(
    root: &Root,
    source: &OwnedFd,
    from: &Location,
    directory: &OwnedFd,
    at: &Location,
) -> Result<(), Failure> {
    // Named as an upload that nobody knows: what a crash leaves of it is swept like any other.
    let staged = root.staged(&UploadId::new().to_string());
    let staging = root.make_directory(&staged.directory)?;
    name(source, from, &staging, &staged)?;
    let renamed = rustix::fs::renameat(&staging, staged.name.as_str(), directory, at.name.as_str());
    // Still there if that failed, or if another has just given the object the name: then nothing was renamed.
    match rustix::fs::unlinkat(&staging, staged.name.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(renamed?),
        Err(errno) => Err(errno.into()),
    }
}

fn taken(reason: &'static str) -> Failure {
    Failure::new(ErrorKind::AlreadyExists, reason)
}
