//! Single objects: put, look, read, remove.

use super::{
    client::{Ask, Client},
    space::{Protocol, Space},
};
use crate::{
    remote::{
        Failure, insist, moment,
        reading::{Fetched, Source, end_of_answer, range_header},
    },
    wire,
};
use bytes::Bytes;
use coffer_domain::{
    driver::{ErrorKind, Stat},
    time::now,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{
    Response,
    header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED},
};
use std::{ops::Range, sync::Arc};

impl Space {
    /// What is known of an object; `None` if there is none.
    pub(super) async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        match self.protocol {
            Protocol::Dav => self.client.dav_stat(name).await,
            Protocol::Plain => self.client.plain_stat(name).await,
        }
    }

    /// Puts an object, in place of what is there.
    pub(super) async fn put(&self, name: &str, pieces: Vec<Bytes>) -> Result<(), Failure> {
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let attempt = || {
            let body = wire::of_pieces(pieces.clone());
            self.client.tell(Ask::new("PUT", name).body(body, size))
        };
        match self.protocol {
            Protocol::Dav => self.client.within(name, || insist(attempt)).await,
            Protocol::Plain => insist(attempt).await,
        }
    }

    /// Removes an object if it is there: asked to remove a folder, servers remove all that is in it.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        if self.stat(name).await?.is_none() {
            return Ok(());
        }
        match insist(|| self.client.tell(Ask::new("DELETE", name))).await {
            Err(failure) if failure.is_absent() => Ok(()),
            outcome => outcome,
        }
    }
}

impl Client {
    async fn plain_stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        match insist(|| self.ask(Ask::new("HEAD", name))).await {
            Ok(answer) => {
                let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
                // Without WebDAV a server need not tell when.
                let changed_at = match header(LAST_MODIFIED).or_else(|| header(DATE)) {
                    Some(text) => moment(Some(text))?,
                    None => now(),
                };
                Ok(Some(Stat { size: length(&answer)?, changed_at }))
            }
            Err(failure) if failure.is_absent() || self.is_folder(&failure, name) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

fn length<B>(answer: &Response<B>) -> Result<u64, Failure> {
    let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "an answer without a length"))
}

/// An object's content.
pub(super) struct Content {
    pub(super) space: Arc<Space>,
    pub(super) name: String,
}

impl Source for Content {
    async fn fetch(&self, range: Range<u64>, etag: Option<String>) -> Result<Fetched, Failure> {
        let client = &self.space.client;
        let mut ask = Ask::new("GET", &self.name);
        if let Some(range) = range_header(&range) {
            ask = ask.header("range", range);
        }
        // A weak one does not say that two contents are the same byte for byte; some servers have it for a second only.
        if let Some(etag) = etag.filter(|etag| !etag.starts_with("W/")) {
            ask = ask.header("if-match", etag);
        }
        let answer = match client.ask(ask).await {
            Err(failure) if client.is_folder(&failure, &self.name) => {
                return Err(Failure::wrong(ErrorKind::NotFound, "a folder is there"));
            }
            // What servers say to who would read a folder.
            Err(failure) if matches!(failure.status(), Some(400 | 405)) && !self.exists().await? => {
                return Err(Failure::wrong(ErrorKind::NotFound, "a folder is there"));
            }
            outcome => outcome?,
        };
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let etag = header(ETAG).map(str::to_owned);
        // For a folder servers make a page.
        if self.space.protocol == Protocol::Dav && etag.is_none() && !self.exists().await? {
            return Err(Failure::wrong(ErrorKind::NotFound, "a folder is there"));
        }
        let end = end_of_answer(&range, length(&answer)?, header(CONTENT_RANGE))?;
        let body = client.wire.pieces(answer.into_body()).map_err(Failure::from).boxed();
        Ok(Fetched { etag, end, body })
    }

    async fn exists(&self) -> Result<bool, Failure> {
        Ok(self.space.stat(&self.name).await?.is_some())
    }
}
