//! What the kernel's error numbers mean to a caller.

use crate::error::error;
use coffer_domain::{
    driver::{Error, ErrorKind},
    path::Key,
};
use rustix::io::Errno;

/// A failure inside a job, which knows neither operation nor key.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, reason: &'static str) -> Self {
        Self { kind, source: reason.into() }
    }

    pub(super) fn at(self, operation: &'static str, key: Option<&Key>) -> Error {
        error(self.kind, operation, key, self.source)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { kind: kind(errno), source: std::io::Error::from(errno).into() }
    }
}

fn kind(errno: Errno) -> ErrorKind {
    match errno {
        // ENOTDIR: an object stands where a directory of the key would be, so there is nothing below it.
        Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
        // EISDIR: other objects' directory stands where the object would be.
        Errno::EXIST | Errno::ISDIR => ErrorKind::AlreadyExists,
        // EFBIG: larger than this file system's largest file.
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorKind::Full,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::Denied,
        // openat2 found a symlink (ELOOP) or a way out (EXDEV): somebody rearranged the directories below us.
        Errno::LOOP | Errno::XDEV => ErrorKind::Denied,
        // A disk that fails, or a network disk that is gone. It may come back; the bytes of this operation may not.
        Errno::IO | Errno::STALE | Errno::NODEV | Errno::NXIO | Errno::NOTCONN | Errno::HOSTDOWN => {
            ErrorKind::Unavailable
        }
        // This process, this machine or the server of a network disk (ENOLCK) is out of something that is given back soon.
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::BUSY | Errno::AGAIN | Errno::NOLCK => {
            ErrorKind::Unavailable
        }
        Errno::TIMEDOUT => ErrorKind::Timeout,
        // ENAMETOOLONG: a segment of over 255 bytes, which the key allows and the file system does not.
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::NAMETOOLONG => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}
