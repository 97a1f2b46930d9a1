//! The way to an object: folder by folder, since SFTP follows every symlink on it.

use super::{client::Session, files::Found};
use crate::remote::Failure;
use coffer_domain::driver::ErrorKind;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long what was seen of a folder is believed: whoever may put a symlink in its place may do so right after any look.
const BELIEF: Duration = Duration::from_secs(10);
/// Most folders that are remembered.
const MOST: usize = 4_096;

/// Where the folders of a path lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// All of them are folders.
    Clear,
    /// One is missing or a file, so that nothing is below it.
    Nowhere,
    /// One is a symlink, or what nobody knows.
    Elsewhere,
}

/// Folders that were seen.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashMap<String, Instant>>);

impl Folders {
    /// Looks at the folders of a path, from the one behind the first `root` bytes on.
    pub(super) async fn way(&self, session: &mut Session, root: usize, path: &str) -> Result<Way, Failure> {
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at >= root) {
            let folder = &path[..at];
            if self.has(folder) {
                continue;
            }
            match session.look(folder).await? {
                Some(Found::Folder) => self.add(folder),
                Some(Found::File { .. }) | None => return Ok(Way::Nowhere),
                Some(Found::Other) => return Ok(Way::Elsewhere),
            }
        }
        Ok(Way::Clear)
    }

    /// Fails if something would be written elsewhere. What is missing is made.
    pub(super) async fn expect(&self, session: &mut Session, root: usize, path: &str) -> Result<(), Failure> {
        match self.way(session, root, path).await? {
            Way::Clear | Way::Nowhere => Ok(()),
            Way::Elsewhere => Err(Failure::wrong(ErrorKind::Denied, "a symlink is in the way")),
        }
    }

    fn has(&self, folder: &str) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(folder).is_some_and(|since| since.elapsed() < BELIEF)
    }

    fn add(&self, folder: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(folder.to_owned(), Instant::now());
    }
}
