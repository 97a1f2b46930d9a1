//! An object being written: parts as they fill, the rest with the end.
//!
//! A small object is one PUT. A larger one is a multipart upload, begun with its first part. A checkpoint waits for the parts and puts
//! what is in none as a piece of its own; so each byte is sent once more at most, unless checkpoints are many within one part or memory
//! is short: see `filling`.

mod filling;

use super::{
    bucket::Bucket,
    integrity::Summing,
    multipart::{Layout, Multipart, Part},
    staged,
};
use crate::{
    error::error,
    remote::{Buffer, Failure, Hold, Piece, Room, next_generation},
};
use async_trait::async_trait;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, NativeVersion, Published, Result, WriteOptions},
    id::UploadId,
    path::Key,
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready, try_join_all},
};
use std::{mem, sync::Arc};

/// What several wait for.
type Awaited<T> = Shared<BoxFuture<'static, std::result::Result<T, Failure>>>;

/// An object being written.
pub(super) struct Writer {
    bucket: Arc<Bucket>,
    upload: UploadId,
    key: Key,
    options: WriteOptions,
    hold: Option<Hold>,
    layout: Layout,
    multipart: Option<Arc<Multipart>>,
    parts: Vec<Awaited<Part>>,
    buffer: Buffer,
    room: Room,
    /// Where the next part begins.
    part_start: u64,
    /// The sum of its bytes that are in pieces and nowhere else, if there are such: the buffer begins behind them.
    spilled: Option<(u64, Summing)>,
    /// Up to where bytes are in parts or pieces, or will be when what was begun succeeds.
    kept: u64,
    /// Pieces that hold bytes of the next part, and how many a writer that goes on would read.
    pieces: Vec<Piece>,
    to_read: usize,
    /// The checkpoint before.
    last: Option<Awaited<()>>,
    /// What its pieces are known by.
    generation: u64,
    begin: u64,
    /// Names of what was put below the upload's folder.
    names: Vec<String>,
}

impl Writer {
    pub(super) fn new(
        bucket: Arc<Bucket>,
        upload: UploadId,
        key: Key,
        options: WriteOptions,
        hold: Option<Hold>,
    ) -> Self {
        let layout = Layout::new(bucket.part_bytes, options.declared_size);
        let room = Room::new(&bucket.budget, options.declared_size);
        Self {
            bucket,
            upload,
            key,
            options,
            hold,
            layout,
            multipart: None,
            parts: Vec::new(),
            buffer: Buffer::default(),
            room,
            part_start: 0,
            spilled: None,
            kept: 0,
            pieces: Vec::new(),
            to_read: 0,
            last: None,
            generation: next_generation(&[]),
            begin: 0,
            names: Vec::new(),
        }
    }

    /// Follows other writers of the upload, from this byte on.
    pub(super) fn follow(&mut self, generation: u64, begin: u64) {
        (self.generation, self.begin) = (generation, begin);
    }

    /// Takes over what is stored already: parts up to `end`, and pieces.
    pub(super) fn go_on(
        &mut self,
        multipart: Option<(Multipart, Layout)>,
        parts: Vec<Part>,
        end: u64,
        staged: staged::Staged,
    ) {
        if let Some((multipart, layout)) = multipart {
            (self.multipart, self.layout) = (Some(Arc::new(multipart)), layout);
        }
        self.parts = parts.into_iter().map(|part| ready(Ok(part)).boxed().shared()).collect();
        (self.part_start, self.kept) = (end, end);
        (self.names, self.pieces) = (staged.names, staged.pieces);
    }

    /// Where the buffer begins.
    fn buffer_start(&self) -> u64 {
        self.spilled.as_ref().map_or(self.part_start, |(end, _)| *end)
    }

    /// Where the next byte goes.
    fn written(&self) -> u64 {
        self.buffer_start() + self.buffer.len()
    }

    /// Publishes the object.
    async fn publish(&mut self) -> std::result::Result<Published, Failure> {
        let client = Arc::clone(&self.bucket.client);
        let name = client.name(&self.key);
        // Nothing on S3 keeps a key from being replaced, so this is a look before and no promise.
        if client.head(&name).await?.is_some_and(|head| !head.is_of(self.upload)) {
            return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
        }
        let size = self.written();
        let version = if self.multipart.is_none() && self.spilled.is_none() {
            let rest = self.buffer.take(self.buffer.len());
            let parcel = self.bucket.integrity.parcel(rest).await;
            client.put(&name, &parcel, Some(self.upload)).await?
        } else {
            self.complete(size, &name).await?
        };
        match client.head_version(&name, version.as_ref()).await? {
            Some(head) => Ok(Published { size: head.size, version: version.or(head.version) }),
            None => Err(Failure::wrong(ErrorKind::BadAnswer, "what was published is not there")),
        }
    }

    async fn complete(
        &mut self,
        size: u64,
        name: &str,
    ) -> std::result::Result<Option<NativeVersion>, Failure> {
        let rest = self.written() - self.part_start;
        if rest > 0 || self.parts.is_empty() {
            self.send(rest).await?;
        }
        let parts = try_join_all(self.parts.iter().cloned()).await?;
        let multipart = self.multipart.as_ref().expect("a part was sent");
        let client = &self.bucket.client;
        match client.complete(multipart, &parts).await {
            // The answer to an earlier try was lost, or the upload was.
            Err(failure) if failure.is_absent() => match client.head(name).await? {
                Some(head) if head.may_be_of(self.upload) && head.size == size => Ok(head.version),
                _ => Err(Failure::wrong(ErrorKind::BadAnswer, "the parts are gone")),
            },
            // Somebody else's part has taken the place of ours, and nobody could tell them apart by looking.
            Err(failure) if failure.code() == "InvalidPart" => {
                client.abort(multipart).await?;
                Err(failure)
            }
            outcome => outcome,
        }
    }

    /// Removes what is not needed after the object was published.
    async fn tidy(&mut self) {
        let client = &self.bucket.client;
        if let Err(problem) = staged::remove(client, mem::take(&mut self.names)).await {
            tracing::warn!(
                upload.id = %self.upload,
                problem = %problem,
                "what was staged of a published object could not be removed; sweeping the upload does"
            );
        }
    }
}

#[async_trait]
impl driver::Writer for Writer {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let encoded = tokio::task::spawn_blocking(move || batch.encode()).await;
        let encoded =
            encoded.map_err(|stopped| error(ErrorKind::Unavailable, "write", Some(&self.key), stopped))?;
        for piece in encoded {
            self.append(piece).await.map_err(|failure| lost(failure).at("write", Some(&self.key)))?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>> {
        let key = self.key.clone();
        if !self.options.is_resumable {
            let reason = "an object that is not resumable has no checkpoints";
            return Box::pin(ready(Err(error(ErrorKind::Unsupported, "checkpoint", Some(&key), reason))));
        }
        let (work, hold) = (self.begin_checkpoint(), self.hold.clone());
        Box::pin(async move {
            let _held_until_it_ends = hold;
            match work {
                Some(work) => work.await.map_err(|failure| lost(failure).at("checkpoint", Some(&key))),
                None => Ok(()),
            }
        })
    }

    async fn finish(mut self: Box<Self>) -> Result<Published> {
        let published =
            self.publish().await.map_err(|failure| lost(failure).at("finish", Some(&self.key)))?;
        self.tidy().await;
        Ok(published)
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        if !self.give_up() {
            return Ok(());
        }
        let swept = staged::sweep(&self.bucket.client, self.upload).await;
        swept.map_err(|failure| failure.at("abort", Some(&self.key)))
    }
}

/// A multipart upload that is not found while it is written is no object that is absent.
fn lost(failure: Failure) -> Failure {
    if failure.is_absent() {
        Failure::wrong(ErrorKind::BadAnswer, "what was staged is gone")
    } else {
        failure
    }
}
