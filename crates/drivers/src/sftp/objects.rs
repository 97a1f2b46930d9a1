//! Content as it is read.
//!
//! A task reads a piece ahead: it ends what it has begun when nobody wants it any more, so that its session stays of use, and gives the session back
//! while whoever reads is slow.

use super::{client::Mode, files::Found, pool::Lease, space::Space, way::Way};
use crate::remote::{
    Failure,
    reading::{Fetched, Source},
};
use bytes::Bytes;
use coffer_domain::driver::{ErrorKind, MAX_PIECE_BYTES, PieceSize};
use futures_util::{StreamExt as _, stream};
use std::{ops::Range, sync::Arc};
use tokio::sync::mpsc;

/// Least that is asked for at a time, whatever pieces are wanted.
const LEAST: usize = 32 * 1024;

/// An object's content.
pub(super) struct Content {
    pub(super) space: Arc<Space>,
    pub(super) path: String,
    pub(super) size: PieceSize,
}

impl Source for Content {
    async fn fetch(&self, range: Range<u64>, _etag: Option<String>) -> Result<Fetched, Failure> {
        let mut session = self.space.sessions.get().await?;
        let (end, etag) = open(&self.space, &mut session, &self.path).await?;
        let (pieces, taken) = mpsc::channel(1);
        let (space, path) = (Arc::clone(&self.space), self.path.clone());
        let reading = Reading { space, path, etag: etag.clone(), session: Some(session) };
        let range = range.start..range.end.min(end);
        tokio::spawn(reading.run(range, self.size.clone(), pieces));
        let body = stream::unfold(taken, |mut taken| async { Some((taken.recv().await?, taken)) });
        Ok(Fetched { etag: Some(etag), end, body: body.boxed() })
    }

    async fn exists(&self) -> Result<bool, Failure> {
        Ok(self.space.stat(&self.path).await?.is_some())
    }
}

/// Opens an object; answers its size, and what tells it from another that was put in its place.
async fn open(space: &Space, session: &mut Lease, path: &str) -> Result<(u64, String), Failure> {
    // A symlink is not followed, and a folder cannot be read.
    let found = match space.way(session, path).await? {
        Way::Clear => session.look(path).await?,
        Way::Nowhere | Way::Elsewhere => None,
    };
    match found {
        Some(Found::File { size: Some(size), changed }) => {
            session.open(path, Mode::Read).await?;
            Ok((size, format!("{size} {changed:?}")))
        }
        Some(Found::File { size: None, .. }) => {
            Err(Failure::wrong(ErrorKind::BadAnswer, "a file without a size"))
        }
        _ => Err(Failure::wrong(ErrorKind::NotFound, "there is no object")),
    }
}

struct Reading {
    space: Arc<Space>,
    path: String,
    etag: String,
    /// With the file open.
    session: Option<Lease>,
}

impl Reading {
    async fn run(mut self, range: Range<u64>, size: PieceSize, pieces: mpsc::Sender<Result<Bytes, Failure>>) {
        let mut at = range.start;
        while at < range.end {
            let Some(place) = self.place(&pieces).await else { break };
            match self.next(at, range.end, &size).await {
                Ok(piece) if piece.is_empty() => return,
                Ok(piece) => {
                    at += piece.len() as u64;
                    place.send(Ok(piece));
                }
                Err(failure) => {
                    // Whoever takes it asks for another session.
                    self.session = None;
                    place.send(Err(failure));
                    return;
                }
            }
        }
    }

    /// Waits until the next piece is wanted; `None` if none is.
    async fn place<'a>(
        &mut self,
        pieces: &'a mpsc::Sender<Result<Bytes, Failure>>,
    ) -> Option<mpsc::Permit<'a, Result<Bytes, Failure>>> {
        loop {
            tokio::select! {
                biased;
                place = pieces.reserve() => return place.ok(),
                () = self.space.sessions.wants_back(), if self.session.is_some() => self.session = None,
            }
        }
    }

    async fn next(&mut self, at: u64, end: u64, size: &PieceSize) -> Result<Bytes, Failure> {
        let session = match &mut self.session {
            Some(session) => session,
            None => {
                let mut session = self.space.sessions.get().await?;
                let (_, etag) = open(&self.space, &mut session, &self.path).await?;
                if etag != self.etag {
                    return Err(Failure::wrong(ErrorKind::BadAnswer, "the object was replaced"));
                }
                self.session.insert(session)
            }
        };
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let mut piece = vec![0; size.get().clamp(LEAST, MAX_PIECE_BYTES).min(left)];
        let read = session.read_at(at, &mut piece).await?;
        piece.truncate(read);
        Ok(piece.into())
    }
}
