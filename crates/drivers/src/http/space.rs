//! A volume's place on a server, and what the server turned out to be.

use super::{
    client::{Ask, Client},
    objects::Content,
};
use crate::remote::{Failure, Holds, insist, reading};
use bytes::Bytes;
use coffer_domain::{budget::Budget, driver::ErrorKind, id::UploadId, path::STAGING};
use futures_util::TryStreamExt as _;
use std::sync::Arc;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP with WebDAV.
    Dav,
    /// HTTP alone.
    Plain,
}

/// A place, and what all writers to it share.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) client: Client,
    pub(super) protocol: Protocol,
    pub(super) part_bytes: u64,
    /// Of the process.
    pub(super) budget: Budget,
    /// Whether the server answers with the range that it is asked for.
    pub(super) reads_ranges: bool,
    /// Uploads that have a writer.
    pub(super) holds: Holds,
}

impl Space {
    /// Finds out what the server is, with an object that is put, read and removed.
    pub(super) async fn open(
        client: Client,
        part_bytes: u64,
        budget: Budget,
        by_query: bool,
    ) -> Result<Arc<Self>, Failure> {
        let protocol = match by_query {
            // An address that is a query is no folder.
            true => Protocol::Plain,
            false => client.protocol().await?,
        };
        let holds = Holds::default();
        let mut space = Self { client, protocol, part_bytes, budget, reads_ranges: false, holds };
        let name = space.client.below(&format!(".coffer/check/{}", uuid::Uuid::new_v4()));
        let content =
            Bytes::from_static(b"what a server keeps of an object it gives back, all of it or a part");
        let size = content.len();
        space.put(&name, vec![content.clone()]).await?;
        let space_to_read = Arc::new(space);
        let read = |range| {
            let content = Content { space: Arc::clone(&space_to_read), name: name.clone() };
            async move {
                let mut pieces = reading::read(content, range).await?;
                let mut read = Vec::new();
                // A server may have more to say than it was given.
                while read.len() <= size
                    && let Some(piece) = pieces.try_next().await?
                {
                    read.extend_from_slice(&piece);
                }
                Ok::<_, Failure>(read)
            }
        };
        let whole = read(0..u64::MAX).await;
        let part = read(10..20).await;
        let removed = space_to_read.remove(&name).await;
        if whole? != content {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "an object that was put reads as another"));
        }
        removed?;
        let reads_ranges = match part {
            Ok(part) => part == content[10..20],
            Err(failure) if failure.kind() == ErrorKind::Unsupported => false,
            Err(failure) => return Err(failure),
        };
        space = Arc::into_inner(space_to_read).expect("its readers are gone");
        space.reads_ranges = reads_ranges;
        Ok(Arc::new(space))
    }

    /// The folder of what an upload has staged.
    pub(super) fn folder(&self, upload: UploadId) -> String {
        self.client.below(&format!("{STAGING}{upload}/"))
    }

    /// Removes everything that an upload has staged.
    pub(super) async fn sweep(&self, upload: UploadId) -> Result<(), Failure> {
        match self.protocol {
            Protocol::Dav => self.client.remove_folder(&self.folder(upload)).await,
            // Nothing is ever staged.
            Protocol::Plain => Ok(()),
        }
    }
}

impl Client {
    async fn protocol(&self) -> Result<Protocol, Failure> {
        match insist(|| self.ask(Ask::new("OPTIONS", ""))).await {
            Ok(answer) if answer.headers().contains_key("dav") => Ok(Protocol::Dav),
            Ok(_) => Ok(Protocol::Plain),
            // A server that has not heard of OPTIONS has not heard of WebDAV.
            Err(failure) if matches!(failure.status(), Some(400 | 404 | 405 | 501)) => Ok(Protocol::Plain),
            Err(failure) => Err(failure),
        }
    }
}
