//! A volume's place on a server, and what the server turned out to be.

use super::{
    client::Client,
    ends::Ends,
    objects::{Content, less},
    session::To,
    sums::Sum,
    upload::Upload,
};
use crate::remote::{Failure, Holds, insist, reading};
use bytes::Bytes;
use coffer_domain::{budget::Budget, driver::ErrorKind, id::UploadId, path::STAGING};
use futures_util::TryStreamExt as _;
use std::{ops::Range, sync::Arc};

/// A place, and what all writers to it share.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) client: Arc<Client>,
    /// Of the process.
    pub(super) budget: Budget,
    /// Whether the server reads from a byte on.
    pub(super) reads_ranges: bool,
    /// Whether it goes on with a file at its end.
    pub(super) appends: bool,
    /// Whether it goes on with a file at any byte.
    pub(super) overwrites: bool,
    /// Whether what it tells of a folder can be understood.
    pub(super) lists: bool,
    /// The sum of files that it tells.
    pub(super) sum: Option<Sum>,
    /// Uploads that have a writer.
    pub(super) holds: Holds,
    /// What dropped writers have left under way.
    pub(super) ends: Ends,
}

impl Space {
    /// Finds out what the server can do, with an object that is put, gone on with, listed, read and removed.
    pub(super) async fn open(client: Client, budget: Budget) -> Result<Arc<Self>, Failure> {
        let client = Arc::new(client);
        let name = client.below(&format!(".coffer/check/{}", uuid::Uuid::new_v4()));
        let probe = Probe { client: &client, name: &name };
        let tried = probe.run().await;
        let removed = client.remove(&name).await;
        let Found { reads_ranges, appends, overwrites, lists } = tried?;
        removed?;
        let sum = client.lease().await?.offers.sum;
        let (holds, ends) = (Holds::default(), Ends::default());
        Ok(Arc::new(Self { client, budget, reads_ranges, appends, overwrites, lists, sum, holds, ends }))
    }

    /// What an upload that is not resumable is staged as.
    pub(super) fn single(&self, upload: UploadId) -> String {
        self.client.below(&format!("{STAGING}{upload}"))
    }

    /// The folder of what a resumable upload has staged.
    pub(super) fn folder(&self, upload: UploadId) -> String {
        self.client.below(&format!("{STAGING}{upload}/"))
    }

    /// Removes everything that an upload has staged.
    pub(super) async fn sweep(&self, upload: UploadId) -> Result<(), Failure> {
        self.ends.wait(upload).await?;
        self.client.remove(&self.single(upload)).await?;
        self.client.remove_folder(&self.folder(upload)).await
    }

    /// The content of what is staged or published.
    pub(super) fn content(&self, name: &str) -> Content {
        Content { client: Arc::clone(&self.client), name: name.to_owned() }
    }
}

/// What a probe found out.
struct Found {
    reads_ranges: bool,
    appends: bool,
    overwrites: bool,
    lists: bool,
}

/// An object that shows what a server can do.
struct Probe<'a> {
    client: &'a Arc<Client>,
    name: &'a str,
}

/// Its content, and from where on another is put first.
const CONTENT: &[u8] = b"what a server keeps of a file it gives back, all of it or a part";
const WRONG_FROM: usize = 50;

impl Probe<'_> {
    async fn run(&self) -> Result<Found, Failure> {
        let overwrites = self.overwrites().await?;
        let appends = self.appends().await?;
        if !appends {
            self.client.put(self.name, &[Bytes::from_static(CONTENT)]).await?;
        }
        if self.read(0..u64::MAX).await? != CONTENT {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "an object that was put reads as another"));
        }
        let reads_ranges = match self.read(10..20).await {
            Ok(part) => part == CONTENT[10..20],
            Err(failure) if is_refusal(&failure) => false,
            Err(failure) => return Err(failure),
        };
        Ok(Found { reads_ranges, appends, overwrites, lists: self.lists().await? })
    }

    /// Whether a part of a file can be replaced.
    async fn overwrites(&self) -> Result<bool, Failure> {
        let mut wrong = CONTENT.to_vec();
        wrong[WRONG_FROM..].fill(b'?');
        self.client.put(self.name, &[wrong.into()]).await?;
        let rest = &CONTENT[WRONG_FROM..];
        Ok(self.goes_on(To::At(WRONG_FROM as u64), rest).await? && self.read(0..u64::MAX).await? == CONTENT)
    }

    /// Whether a file can be gone on with.
    async fn appends(&self) -> Result<bool, Failure> {
        let (first, rest) = CONTENT.split_at(WRONG_FROM);
        self.client.put(self.name, &[Bytes::from_static(first)]).await?;
        Ok(self.goes_on(To::End, rest).await? && self.read(0..u64::MAX).await? == CONTENT)
    }

    async fn goes_on(&self, to: To, rest: &[u8]) -> Result<bool, Failure> {
        let opened = insist(|| Upload::open(self.client, self.name, to)).await;
        let outcome = match opened {
            Ok(mut upload) => match upload.write(rest).await {
                Ok(()) => upload.end().await,
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(size) => Ok(size == CONTENT.len() as u64),
            Err(failure) if is_refusal(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        let content = Content { client: Arc::clone(self.client), name: self.name.to_owned() };
        let mut pieces = reading::read(content, range).await?;
        let mut read = Vec::new();
        // A server may have more to say than it was given.
        while read.len() <= CONTENT.len()
            && let Some(piece) = pieces.try_next().await?
        {
            read.extend_from_slice(&piece);
        }
        Ok(read)
    }

    /// Whether it is found where it is.
    async fn lists(&self) -> Result<bool, Failure> {
        let folder = self.name.rfind('/').map_or("", |at| &self.name[..=at]);
        let listed = match self.client.folder(folder).await {
            Ok(found) => found.unwrap_or_default(),
            Err(failure) if is_refusal(&failure) || failure.kind() == ErrorKind::BadAnswer => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let size = self.client.size(self.name).await?.ok_or_else(less)?;
        Ok(listed.iter().any(|entry| {
            entry.name == self.name
                && matches!(entry.is, super::lines::Is::File { size: told, .. } if told == size)
        }))
    }
}

/// Whether a server will not do something, and not only just now.
fn is_refusal(failure: &Failure) -> bool {
    failure.status().is_some_and(|status| status >= 500 || status == 451)
}
