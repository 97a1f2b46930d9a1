//! Lists objects in the byte order of their keys, directory by directory.

use super::{
    client::{Root, describe, open_directory},
    error::Failure,
};
use coffer_domain::{
    driver::Listed,
    path::{Key, RESERVED},
};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType},
    io::Errno,
};
use std::collections::BinaryHeap;

/// Most names of one directory that are held at a time; a larger one is read more than once.
const NAMES_AT_ONCE: usize = 4096;

/// Up to `limit` objects after `after` whose keys begin with `prefix`.
///
/// What is not ours is passed over: symlinks, devices, names that are not UTF-8 or cannot be in a key.
pub(super) fn list(
    root: &Root,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Listed>, Failure> {
    let after = after.map_or("", Key::as_str);
    let start = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
    if !start.is_empty() && Key::parse(&start[..start.len() - 1]).is_err() {
        return Ok(Vec::new());
    }
    let directory = match root.open_directory(&root.place(start)) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let reserved = format!("{RESERVED}/");
    let shows_reserved = prefix.starts_with(&reserved) || after.starts_with(&reserved);
    let mut walk =
        Walk { prefix, after, limit, hidden: (!shows_reserved).then_some(reserved), found: Vec::new() };
    walk.directory(&directory, start)?;
    Ok(walk.found)
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    /// The directory that is not shown.
    hidden: Option<String>,
    found: Vec<Listed>,
}

impl Walk<'_> {
    /// Adds what is in `directory`, whose path is `path`: empty, or ending with `/`.
    fn directory(&mut self, directory: &OwnedFd, path: &str) -> Result<(), Failure> {
        let mut done = String::new();
        while self.found.len() < self.limit {
            let entries = self.entries(directory, path, &done)?;
            for entry in &entries {
                if self.found.len() == self.limit {
                    return Ok(());
                }
                self.entry(directory, entry, &entry[path.len()..])?;
            }
            match entries.into_iter().next_back() {
                Some(last) => done = last,
                None => break,
            }
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, key: &str, name: &str) -> Result<(), Failure> {
        if let Some(name) = name.strip_suffix('/') {
            return match open_directory(directory, name) {
                Ok(below) => self.directory(&below, key),
                // Replaced since it was seen.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => describe(&stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        if let (Ok(key), Some(stat)) = (Key::parse(key), stat) {
            self.found.push(Listed { key, stat });
        }
        Ok(())
    }

    /// The first entries of a directory after `done` that can hold what is looked for, in order. Those of directories end
    /// with `/`, which makes their order that of the keys below them.
    fn entries(&self, directory: &OwnedFd, path: &str, done: &str) -> Result<Vec<String>, Failure> {
        let mut first = BinaryHeap::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let kind = match entry.file_type() {
                // Some file systems do not say it in the directory.
                FileType::Unknown => match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                kind => kind,
            };
            let key = match kind {
                FileType::RegularFile => format!("{path}{name}"),
                FileType::Directory if name != "." && name != ".." => format!("{path}{name}/"),
                _ => continue,
            };
            if key.as_str() > done && self.may_hold(&key) {
                first.push(key);
                if first.len() > NAMES_AT_ONCE {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec())
    }

    fn may_hold(&self, key: &str) -> bool {
        let is_directory = key.ends_with('/');
        let is_after = key > self.after || is_directory && self.after.starts_with(key);
        let is_within = key.starts_with(self.prefix) || is_directory && self.prefix.starts_with(key);
        // Of a large directory most names fall out before.
        is_after
            && is_within
            && self.hidden.as_deref() != Some(key)
            && Key::parse(key.trim_end_matches('/')).is_ok()
    }
}
