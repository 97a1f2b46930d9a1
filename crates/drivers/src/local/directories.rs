//! Makes directories so that what is later published in them is not lost with them.

use super::{
    client::{Root, open_directory},
    error::Failure,
};
use coffer_domain::driver::ErrorKind;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Mode},
    io::Errno,
};
use std::{
    collections::HashSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);

/// Directories that one thread has made and not yet synced. Others that find one wait: a file in a directory that a power cut
/// takes away would be taken with it.
#[derive(Debug, Default)]
pub(super) struct BeingMade {
    paths: Mutex<HashSet<String>>,
    changed: Condvar,
}

impl Root {
    /// The directory at `path`, made if missing, as are its ancestors. It is durable, and so is the way to it.
    pub(super) fn make_directory(&self, path: &str) -> Result<OwnedFd, Failure> {
        match self.open_directory(path) {
            Ok(directory) => {
                self.being_made.wait_for(path);
                Ok(directory)
            }
            Err(Errno::NOENT) => {
                let mut directory = self.open_directory(".")?;
                for (at, name) in way(path) {
                    directory = self.make_one(&directory, at, name)?;
                }
                Ok(directory)
            }
            Err(errno) => Err(refusal(errno)),
        }
    }

    fn make_one(&self, parent: &OwnedFd, path: &str, name: &str) -> Result<OwnedFd, Failure> {
        match open_directory(parent, name) {
            Err(Errno::NOENT) => {}
            Ok(directory) => {
                self.being_made.wait_for(path);
                return Ok(directory);
            }
            Err(errno) => return Err(refusal(errno)),
        }
        let _making = self.being_made.begin(path);
        match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
            Ok(()) => self.syncs.sync(parent).inspect_err(|_| {
                // Whoever finds the directory takes it for durable. That it cannot be removed means that it is in use.
                let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            })?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        open_directory(parent, name).map_err(refusal)
    }
}

impl BeingMade {
    fn wait_for(&self, path: &str) {
        let mut paths = self.lock();
        while !paths.is_empty() && way(path).any(|(at, _)| paths.contains(at)) {
            paths = self.changed.wait(paths).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin<'a>(&'a self, path: &'a str) -> Making<'a> {
        let mut paths = self.lock();
        while !paths.insert(path.to_owned()) {
            paths = self.changed.wait(paths).unwrap_or_else(PoisonError::into_inner);
        }
        Making { being_made: self, path }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One directory being made, until dropped.
struct Making<'a> {
    being_made: &'a BeingMade,
    path: &'a str,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.being_made.lock().remove(self.path);
        self.being_made.changed.notify_all();
    }
}

/// `a/b/c` as `(a, a)`, `(a/b, b)`, `(a/b/c, c)`; nothing for `.`.
fn way(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    ends.map(move |end| &path[..end])
        .filter(|at| *at != ".")
        .map(|at| (at, at.rsplit('/').next().unwrap_or(at)))
}

fn refusal(errno: Errno) -> Failure {
    match errno {
        Errno::NOTDIR => {
            Failure::new(ErrorKind::AlreadyExists, "an object stands where a directory of the key would be")
        }
        _ => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::way;

    #[test]
    fn the_way_to_a_directory_names_every_ancestor() {
        assert_eq!(way("a/b/c").collect::<Vec<_>>(), [("a", "a"), ("a/b", "b"), ("a/b/c", "c")]);
        assert_eq!(way(".").count(), 0);
    }
}
