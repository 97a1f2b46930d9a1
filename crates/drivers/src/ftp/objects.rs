//! Single objects: put, look, read, remove, rename.

use super::{
    client::Client,
    download::Download,
    error::{denied, is_of_the_name},
    lines::Is,
    session::{Session, To},
    upload::Upload,
};
use crate::remote::{
    Failure, insist,
    reading::{Fetched, Source},
};
use bytes::Bytes;
use chrono::SubsecRound as _;
use coffer_domain::{
    driver::{ErrorKind, Stat},
    time::now,
};
use futures_util::{StreamExt as _, stream};
use std::{ops::Range, sync::Arc};

impl Client {
    /// What is known of an object; `None` if there is none.
    pub(super) async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        let path = self.path(name);
        let look = || async {
            let mut session = self.lease().await?;
            let Some((size, changed_at)) = look(&mut session, &path).await? else { return Ok(None) };
            let changed_at = match changed_at {
                Some(changed_at) => changed_at,
                None if session.offers.mdtm => match session.modified(&path).await {
                    Ok(changed_at) => changed_at,
                    // It is a folder, of which some servers tell a size, or is gone meanwhile.
                    Err(failure) if failure.is_absent() => return Ok(None),
                    Err(failure) => return Err(failure),
                },
                // Old servers need not tell when.
                None => now().trunc_subsecs(0),
            };
            Ok(Some(Stat { size, changed_at }))
        };
        insist(look).await
    }

    /// The size of a file, as its bytes are; `None` if there is none.
    pub(super) async fn size(&self, name: &str) -> Result<Option<u64>, Failure> {
        let path = self.path(name);
        present(insist(|| async { self.lease().await?.size(&path).await }).await)
    }

    /// Puts an object, in place of what is there, and looks how much of it the server has.
    pub(super) async fn put(&self, name: &str, pieces: &[Bytes]) -> Result<(), Failure> {
        let attempt = || insist(|| self.put_once(name, pieces));
        match attempt().await {
            Err(failure) if is_of_the_name(&failure) => {
                self.make_parents(name).await?;
                // Some servers let nobody write to a file that is there.
                self.remove(name).await?;
                attempt().await.map_err(denied)
            }
            outcome => outcome,
        }
    }

    async fn put_once(&self, name: &str, pieces: &[Bytes]) -> Result<(), Failure> {
        let mut upload = Upload::open(self, name, To::Anew).await?;
        for piece in pieces {
            upload.write(piece).await?;
        }
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        match upload.end().await? {
            found if found == size => Ok(()),
            _ => Err(less()),
        }
    }

    /// Removes an object. An absent one is a success, and so is a folder, which is none.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        match insist(|| async { self.lease().await?.remove(&path).await }).await {
            Err(failure) if is_of_the_name(&failure) && self.stat(name).await?.is_none() => Ok(()),
            outcome => outcome.map_err(denied),
        }
    }

    /// Gives an object another name, at which nothing is. `size` is its size: a rename whose answer was lost is known by it.
    pub(super) async fn rename(&self, from: &str, to: &str, size: u64) -> Result<(), Failure> {
        let (source, target) = (self.path(from), self.path(to));
        let attempt = || insist(|| async { self.lease().await?.rename(&source, &target).await });
        let Err(failure) = self.within(to, attempt).await else { return Ok(()) };
        // The try before may have done it.
        let is_done = failure.status().is_some()
            && self.size(from).await?.is_none()
            && self.size(to).await? == Some(size);
        if is_done { Ok(()) } else { Err(failure) }
    }
}

/// What servers lack that answer well.
pub(super) fn less() -> Failure {
    Failure::wrong(ErrorKind::Unavailable, "less was stored than was sent, or more")
}

/// Size and date of a file, the date only where one answer has both; `None` if there is no file.
async fn look(
    session: &mut Session,
    path: &str,
) -> Result<Option<(u64, Option<coffer_domain::time::Timestamp>)>, Failure> {
    if !session.offers.mlst {
        return Ok(present(session.size(path).await)?.map(|size| (size, None)));
    }
    match present(session.facts(path).await)?.map(|line| line.is) {
        Some(Is::File { size, changed_at }) => Ok(Some((size, changed_at))),
        Some(Is::Folder | Is::Nothing) | None => Ok(None),
    }
}

fn present<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// An object's content.
pub(super) struct Content {
    pub(super) client: Arc<Client>,
    pub(super) name: String,
}

impl Source for Content {
    async fn fetch(&self, range: Range<u64>, _: Option<String>) -> Result<Fetched, Failure> {
        let path = self.client.path(&self.name);
        let mut session = self.client.lease().await?;
        let Some((size, changed_at)) = look(&mut session, &path).await? else {
            return Err(Failure::wrong(ErrorKind::NotFound, "there is no object"));
        };
        // What a stream goes on with is the same as long as these are.
        let etag = Some(format!("{size} {changed_at:?}"));
        if range.start >= size {
            return Ok(Fetched { etag, end: size, body: stream::empty().boxed() });
        }
        let end = size.min(range.end);
        let transfer = match session.download(&path, range.start).await {
            // It was there a moment ago.
            Err(failure) if failure.is_absent() => return Err(denied(failure)),
            outcome => outcome?,
        };
        let download = Download::new(session, transfer, end - range.start, end == size);
        Ok(Fetched { etag, end, body: download.stream().boxed() })
    }

    async fn exists(&self) -> Result<bool, Failure> {
        Ok(self.client.stat(&self.name).await?.is_some())
    }
}
