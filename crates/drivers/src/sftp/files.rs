//! What takes several operations of one session: looks, folders, names that move.

use super::{
    client::{Mode, Session},
    error::{ABSENT, FAILED},
};
use crate::remote::Failure;
use async_ssh2_lite::ssh2::{FileStat, FileType};
use coffer_domain::driver::{ErrorKind, Stat};

/// Something on the server. A symlink is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A regular file, of this size in bytes, changed at this second.
    File { size: Option<u64>, changed: Option<u64> },
    /// A folder.
    Folder,
    /// What is neither: nobody's object, and in the way.
    Other,
}

impl From<FileStat> for Found {
    fn from(stat: FileStat) -> Self {
        match stat.file_type() {
            FileType::RegularFile => Self::File { size: stat.size, changed: stat.mtime },
            FileType::Directory => Self::Folder,
            _ => Self::Other,
        }
    }
}

impl Found {
    /// Size and age of a file; `None` for anything else.
    pub(super) fn object(&self) -> Result<Option<Stat>, Failure> {
        let Self::File { size, changed } = self else { return Ok(None) };
        let changed_at = changed
            .and_then(|seconds| i64::try_from(seconds).ok())
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
        match (*size, changed_at) {
            (Some(size), Some(changed_at)) => Ok(Some(Stat { size, changed_at })),
            _ => Err(Failure::wrong(ErrorKind::BadAnswer, "a file without a size or a date")),
        }
    }
}

/// Whether it may be that a folder is missing, a name is taken, or what is above is no folder: servers differ in what they say.
fn may_be_the_name(failure: &Failure) -> bool {
    matches!(failure.status(), Some(ABSENT | 3 | FAILED | 10 | 11 | 19))
}

impl Session {
    /// What is at a path; `None` if nothing is.
    pub(super) async fn look(&mut self, path: &str) -> Result<Option<Found>, Failure> {
        match self.lstat(path).await {
            Ok(stat) => Ok(Some(stat.into())),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Size and age of the object at a path; `None` if there is none.
    pub(super) async fn object(&mut self, path: &str) -> Result<Option<Stat>, Failure> {
        self.look(path).await?.map_or(Ok(None), |found| found.object())
    }

    /// Makes the folders of the volume that a path is in.
    pub(super) async fn make_parents(&mut self, path: &str) -> Result<(), Failure> {
        let root = self.root;
        let mut folders: Vec<&str> =
            path.match_indices('/').filter(|(at, _)| *at >= root).map(|(at, _)| &path[..at]).collect();
        // Most are there: from the innermost outwards until one is, then back.
        let mut missing = Vec::new();
        while let Some(folder) = folders.pop() {
            match self.look(folder).await? {
                Some(Found::Folder) => break,
                // A symlink within the volume is nobody's folder.
                Some(_) => {
                    return Err(Failure::wrong(ErrorKind::AlreadyExists, "what is no folder is in the way"));
                }
                None => missing.push(folder),
            }
        }
        while let Some(folder) = missing.pop() {
            match self.make_folder(folder).await {
                Err(failure)
                    // Another may have made it meanwhile.
                    if !(may_be_the_name(&failure) && self.look(folder).await? == Some(Found::Folder)) =>
                {
                    return Err(failure);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens a file to write it from its beginning, and makes its folders if they are missing.
    pub(super) async fn create(&mut self, path: &str) -> Result<(), Failure> {
        match self.open(path, Mode::Create).await {
            Err(failure) if may_be_the_name(&failure) => {
                self.make_parents(path).await?;
                self.open(path, Mode::Create).await
            }
            outcome => outcome,
        }
    }

    /// Gives an object another name, at which there must be nothing, and makes its folders if they are missing.
    pub(super) async fn move_to(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            match self.rename(from, to).await {
                Err(failure) if may_be_the_name(&failure) => {
                    if self.look(to).await?.is_some() {
                        return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
                    }
                    if tries == 1 {
                        return Err(failure);
                    }
                    self.make_parents(to).await?;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether a move that nobody told the end of has been done.
    pub(super) async fn is_moved(&mut self, from: &str, to: &str, size: u64) -> Result<bool, Failure> {
        Ok(self.look(from).await?.is_none() && self.object(to).await?.is_some_and(|stat| stat.size == size))
    }

    /// Removes the object at a path. One that is absent is a success, and so is what is no object: it stays.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), Failure> {
        if !matches!(self.look(path).await?, Some(Found::File { .. })) {
            return Ok(());
        }
        match self.unlink(path).await {
            Err(failure) if failure.is_absent() => Ok(()),
            Err(failure) if may_be_the_name(&failure) && self.look(path).await?.is_none() => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes a small file, and looks at it.
    pub(super) async fn write_whole(
        &mut self,
        path: &str,
        content: &[u8],
        syncs: bool,
    ) -> Result<(), Failure> {
        self.create(path).await?;
        self.write_at(0, content).await?;
        if syncs {
            self.sync().await?;
        }
        self.close().await?;
        match self.object(path).await? {
            Some(stat) if stat.size == content.len() as u64 => Ok(()),
            _ => Err(Failure::wrong(ErrorKind::Unavailable, "less was stored than was sent")),
        }
    }

    /// Whether two names are of one file: a server that gives a file another name may do so in two steps, and be stopped between them. The time
    /// of the first is changed, which changes nothing else; the second tells.
    pub(super) async fn is_one_file(&mut self, ours: &str, other: &str) -> Result<bool, Failure> {
        let (Some(Found::File { size, changed: Some(changed) }), Some(there)) =
            (self.look(ours).await?, self.look(other).await?)
        else {
            return Ok(false);
        };
        if there != (Found::File { size, changed: Some(changed) }) {
            return Ok(false);
        }
        let another = changed.saturating_sub(1);
        self.touch(ours, another).await?;
        Ok(self.look(other).await? == Some(Found::File { size, changed: Some(another) }))
    }
}
