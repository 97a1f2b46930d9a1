//! Folders: what is in them, and making them when they are needed.

use super::{
    client::Client,
    error::{denied, is_of_the_name},
    lines::{Is, Line},
    session::Session,
};
use crate::remote::{Failure, insist};
use coffer_domain::driver::ErrorKind;

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name in the volume's place; that of a folder ends with a slash.
    pub(super) name: String,
    pub(super) is: Is,
}

impl Client {
    /// What is in a folder, in no order; `None` if it is not there, or cannot be looked into.
    pub(super) async fn folder(&self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let path = self.path(folder);
        let found = insist(|| async { self.lease().await?.list(&path).await }).await?;
        let entry = |line: Line| {
            let Line { name, is } = line;
            let slash = if is == Is::Folder { "/" } else { "" };
            Entry { name: format!("{folder}{name}{slash}"), is }
        };
        Ok(found.map(|lines| lines.into_iter().map(entry).collect()))
    }

    /// Fails unless a folder that could not be listed is not there: servers have one word for that and for a folder they do not let us see.
    pub(super) async fn expect_absent(&self, folder: &str) -> Result<(), Failure> {
        let mut folder = folder;
        loop {
            let Some(own) = folder.strip_suffix('/') else {
                self.expect_root().await?;
                return Err(Failure::wrong(ErrorKind::Denied, "the volume's folder may not be looked into"));
            };
            let parent = own.rfind('/').map_or("", |at| &own[..=at]);
            match self.folder(parent).await? {
                Some(found) if found.iter().any(|entry| entry.name == folder) => {
                    return Err(Failure::wrong(ErrorKind::Denied, "a folder that may not be looked into"));
                }
                Some(_) => return Ok(()),
                None => folder = parent,
            }
        }
    }

    /// Makes the folders that a name is in.
    pub(super) async fn make_parents(&self, name: &str) -> Result<(), Failure> {
        let folders: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
        insist(|| async {
            let mut session = self.lease().await?;
            // Most are there: from the innermost outwards until one is, then back.
            let mut there = folders.len();
            while there > 0 && !session.enter(&self.path(folders[there - 1])).await? {
                there -= 1;
            }
            if there == 0 && !session.enter(&self.path("")).await? {
                return Err(Failure::wrong(ErrorKind::Unavailable, "the volume's folder is not there"));
            }
            for folder in &folders[there..] {
                make(&mut session, &self.path(folder)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Does what needs the folders of `name`, and makes them if it fails for want of them.
    pub(super) async fn within<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        name: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        match attempt().await {
            Err(failure) if is_of_the_name(&failure) => {
                self.make_parents(name).await?;
                attempt().await.map_err(denied)
            }
            outcome => outcome,
        }
    }

    /// Removes a folder of files, and the files. An absent one is a success.
    pub(super) async fn remove_folder(&self, folder: &str) -> Result<(), Failure> {
        let Some(found) = self.folder(folder).await? else { return Ok(()) };
        for entry in found {
            match entry.is {
                Is::File { .. } => self.remove(&entry.name).await?,
                Is::Folder | Is::Nothing => {}
            }
        }
        let path = self.path(folder);
        match insist(|| async { self.lease().await?.remove_folder(&path).await }).await {
            // Another has removed it at the same moment.
            Err(failure) if failure.is_absent() && self.folder(folder).await?.is_none() => Ok(()),
            outcome => outcome.map_err(denied),
        }
    }
}

/// Makes a folder. One that somebody else has just made is a success.
async fn make(session: &mut Session, path: &str) -> Result<(), Failure> {
    match session.make_folder(path).await {
        Err(failure) if failure.status().is_some() && !failure.kind().is_retryable() => {
            if session.enter(path).await? { Ok(()) } else { Err(denied(failure)) }
        }
        outcome => outcome,
    }
}
