//! An object being written.
//!
//! A small one is kept in memory until its end, and put at once. A larger one is a PUT whose body comes as it is written. With WebDAV both
//! are put among what is staged, looked at, and given their name; without it there is nothing to put them under but their key. A resumable
//! one, which needs WebDAV, is put in pieces; its end makes one of them. How large a small one and a piece may be says the memory that
//! there is.

mod filling;

use super::{
    client::Ask,
    objects::Content,
    space::{Protocol, Space},
};
use crate::{
    error::error,
    remote::{Buffer, Failure, Hold, Piece, Room, cover, insist, next_generation, reading},
    wire,
};
use async_trait::async_trait;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, Published, Result, WriteOptions},
    id::UploadId,
    path::Key,
};
use filling::{Next, Sending};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, Shared, ready},
    stream,
};
use std::{io, sync::Arc};

type Awaited = Shared<BoxFuture<'static, std::result::Result<(), Failure>>>;

/// An object being written.
pub(super) struct Writer {
    space: Arc<Space>,
    upload: UploadId,
    key: Key,
    options: WriteOptions,
    hold: Option<Hold>,
    buffer: Buffer,
    room: Room,
    /// Where the buffer begins.
    start: u64,
    /// A PUT under way, of one that is not resumable.
    sending: Option<Sending>,
    /// Up to where bytes are in pieces, or will be when what was begun succeeds; how many there are since `start`.
    kept: u64,
    count: usize,
    pieces: Vec<Piece>,
    generation: u64,
    begin: u64,
    /// The checkpoint before.
    last: Option<Awaited>,
    /// Whether there is a folder of what is staged.
    is_staged: bool,
}

impl Writer {
    pub(super) fn new(
        space: Arc<Space>,
        upload: UploadId,
        key: Key,
        options: WriteOptions,
        hold: Option<Hold>,
    ) -> Self {
        let room = Room::new(&space.budget, options.declared_size);
        Self {
            space,
            upload,
            key,
            options,
            hold,
            buffer: Buffer::default(),
            room,
            start: 0,
            sending: None,
            kept: 0,
            count: 0,
            pieces: Vec::new(),
            generation: next_generation(&[]),
            begin: 0,
            last: None,
            is_staged: false,
        }
    }

    /// Follows other writers of the upload, from the byte `begin` on.
    pub(super) fn follow(&mut self, generation: u64, begin: u64, pieces: Vec<Piece>) {
        self.is_staged = !pieces.is_empty();
        (self.generation, self.begin, self.pieces) = (generation, begin, pieces);
        (self.start, self.kept) = (begin, begin);
    }

    fn written(&self) -> u64 {
        self.start + self.buffer.len()
    }

    fn staged_name(&self) -> String {
        format!("{}whole", self.space.folder(self.upload))
    }

    fn piece_name(&self, piece: &Piece) -> String {
        format!("{}{piece}", self.space.folder(self.upload))
    }

    /// Publishes the object; answers its size.
    async fn publish(&mut self, key: &Key) -> std::result::Result<u64, Failure> {
        let name = self.space.client.name(key);
        if self.space.protocol == Protocol::Plain {
            return self.publish_plainly(&name).await;
        }
        let size = self.written();
        let staged = match self.options.is_resumable && self.start > 0 {
            true => self.assemble(size).await?,
            false => {
                let staged = self.staged_name();
                self.is_staged = true;
                self.send_whole(&staged).await?;
                staged
            }
        };
        // Such servers answer well and keep less.
        let found = self.space.stat(&staged).await?.map(|stat| stat.size);
        if found != Some(size) {
            return Err(Failure::wrong(ErrorKind::Unavailable, "less was stored than was sent"));
        }
        self.space.client.rename(&staged, &name, size).await?;
        Ok(size)
    }

    async fn publish_plainly(&mut self, name: &str) -> std::result::Result<u64, Failure> {
        // Nothing keeps a key from being replaced, so this is a look before and no promise.
        if self.sending.is_none() && self.space.stat(name).await?.is_some() {
            return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
        }
        self.send_whole(name).await?;
        let found = self.space.stat(name).await?;
        Ok(found.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "what was put is not there"))?.size)
    }

    /// Puts the whole object, or what is left of one that is being sent.
    async fn send_whole(&mut self, name: &str) -> std::result::Result<(), Failure> {
        if self.sending.is_none() {
            // Kept, so that a resumable one can be tried anew.
            return self.space.put(name, self.buffer.from(0)).await;
        }
        self.send_buffer().await?;
        let Some(Sending { body, task }) = self.sending.take() else { return Ok(()) };
        let _ = body.send(Next::End).await;
        task.await.unwrap_or_else(|_| Err(Failure::wrong(ErrorKind::Unavailable, "the service stops")))
    }

    /// Makes one object of the pieces; answers its name.
    async fn assemble(&mut self, size: u64) -> std::result::Result<String, Failure> {
        if let Some(checkpoint) = self.begin_checkpoint() {
            checkpoint.await?;
        }
        let parts: Vec<_> = cover(&self.pieces, 0, size)
            .ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "pieces that were put are missing"))?
            .into_iter()
            .map(|(piece, range)| (self.piece_name(piece), piece.range.clone(), range))
            .collect();
        if let [(name, has, _)] = parts.as_slice()
            && *has == (0..size)
        {
            return Ok(name.clone());
        }
        let staged = self.staged_name();
        let attempt = || {
            let (space, parts) = (Arc::clone(&self.space), parts.clone());
            let content = stream::iter(parts).then(move |(name, has, range)| {
                let content = Content { space: Arc::clone(&space), name };
                reading::read(content, range.start - has.start..range.end - has.start)
            });
            let body = wire::of_stream(content.try_flatten().map_err(io::Error::other).boxed());
            self.space.client.tell(Ask::new("PUT", &staged).body(body, size))
        };
        insist(attempt).await?;
        Ok(staged)
    }

    async fn conclude(mut self: Box<Self>, key: &Key) -> Result<Published> {
        let size = self.publish(key).await.map_err(|failure| lost(failure).at("finish", Some(key)))?;
        if self.is_staged
            && let Err(problem) = self.space.sweep(self.upload).await
        {
            tracing::warn!(
                upload.id = %self.upload,
                problem = %problem,
                "what was staged of a published object could not be removed; sweeping the upload does"
            );
        }
        Ok(Published::unversioned(size))
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

    async fn finish(self: Box<Self>) -> Result<Published> {
        let key = self.key.clone();
        self.conclude(&key).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        if self.space.protocol == Protocol::Plain {
            return Err(error(ErrorKind::Unsupported, "finish", Some(key), "nothing has another name here"));
        }
        self.conclude(key).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.last = None;
        let was_sent = self.sending.take().is_some();
        let removed = match self.space.protocol {
            Protocol::Dav if self.is_staged => self.space.sweep(self.upload).await,
            // Half of it may be there: some servers keep what has come.
            Protocol::Plain if was_sent => self.space.remove(&self.space.client.name(&self.key)).await,
            _ => Ok(()),
        };
        removed.map_err(|failure| failure.at("abort", Some(&self.key)))
    }
}

/// What is missing among what is staged is no object that is absent.
fn lost(failure: Failure) -> Failure {
    if failure.is_absent() {
        Failure::wrong(ErrorKind::BadAnswer, "what was staged is gone")
    } else {
        failure
    }
}
