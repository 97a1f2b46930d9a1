//! An object being written.
//!
//! A small one is kept in memory until its end, and sent at once. Of a larger one, what has come goes on as it comes, in a task that has a
//! session: into a file among what is staged, which the server goes on with as often as needed (`APPE`). A checkpoint ends a transfer and
//! looks how long the file is; the end does the same, and gives it its name.

mod sending;

use super::{
    objects::less,
    session::To,
    space::Space,
    sums::{Running, Sum},
    upload::Upload,
};
use crate::{
    error::error,
    remote::{Buffer, Failure, Hold, Room, insist, reading},
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, Published, Result, WriteOptions},
    id::UploadId,
    path::Key,
};
use futures_util::{
    TryStreamExt as _,
    future::{BoxFuture, ready},
};
use sending::Sending;
use std::sync::Arc;

/// Bytes that are gathered before they go on.
const STEP: u64 = 64 * 1024;

/// An object being written.
pub(super) struct Writer {
    space: Arc<Space>,
    upload: UploadId,
    key: Key,
    options: WriteOptions,
    hold: Option<Hold>,
    buffer: Buffer,
    room: Room,
    /// Where it is staged.
    staged: String,
    /// Where the buffer begins.
    start: u64,
    /// How long the staged file is, as far as is known: longer than what counts of it where another writer had written more.
    length: u64,
    /// The sum of all that counts of it, if the server tells sums and this writer began it.
    sum: Option<Running>,
    sending: Option<Sending>,
}

impl Writer {
    pub(super) fn new(
        space: Arc<Space>,
        upload: UploadId,
        key: Key,
        options: WriteOptions,
        hold: Option<Hold>,
        staged: String,
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
            staged,
            start: 0,
            length: 0,
            sum: None,
            sending: None,
        }
    }

    /// Goes on from the byte `start` of a staged file of this length.
    pub(super) fn follow(&mut self, start: u64, length: u64) {
        (self.start, self.length) = (start, length);
    }

    fn written(&self) -> u64 {
        self.start + self.buffer.len()
    }

    async fn append(&mut self, piece: Bytes) -> std::result::Result<(), Failure> {
        self.buffer.push(piece);
        let is_sending = self.sending.as_ref().is_some_and(|sending| !sending.is_settled());
        let most = if is_sending { STEP } else { self.room.bytes() };
        if self.buffer.len() <= most {
            return Ok(());
        }
        for piece in self.take() {
            self.sending().send(piece).await?;
        }
        Ok(())
    }

    /// What is in the buffer, to go on.
    fn take(&mut self) -> Vec<Bytes> {
        let size = self.buffer.len();
        // Begun where the buffer does.
        self.sending();
        self.start += size;
        self.buffer.take(size)
    }

    fn sending(&mut self) -> &mut Sending {
        let Self { space, upload, staged, start, length, sending, .. } = self;
        sending.get_or_insert_with(|| Sending::begin(space, *upload, staged, *start, *length))
    }

    /// Sends what is left; what there is then of the staged file has been looked at.
    async fn send_rest(&mut self) -> std::result::Result<(), Failure> {
        let is_empty = self.buffer.len() == 0;
        if self.sending.is_none() && self.start == 0 && (is_empty || !self.options.is_resumable) {
            // It is still here, so it can be sent again. Of one that is resumable nothing may come late.
            let pieces = self.buffer.from(0);
            self.space.client.put(&self.staged, &pieces).await?;
            self.length = self.buffer.len();
            self.sum = self.space.sum.map(Sum::begin);
            if let Some(sum) = &mut self.sum {
                pieces.iter().for_each(|piece| sum.add(piece));
            }
            return Ok(());
        }
        if self.sending.is_none() && is_empty {
            let found = self.space.client.size(&self.staged).await?;
            return if found == Some(self.length) { Ok(()) } else { Err(less()) };
        }
        for piece in self.take() {
            self.sending().send(piece).await?;
        }
        let there = self.sending().settle().await?;
        (self.length, self.sum) = (there.length, there.sum);
        Ok(())
    }

    /// Publishes the object; answers its size.
    async fn publish(&mut self, key: &Key) -> std::result::Result<u64, Failure> {
        let size = self.written();
        self.send_rest().await?;
        if self.length != size {
            self.cut(size).await?;
        }
        let (client, name) = (&self.space.client, self.space.client.name(key));
        if let (Some(sum), Some(running)) = (self.space.sum, self.sum.take()) {
            client.verify(&self.staged, sum, running, size).await?;
        }
        // Nothing keeps a key from being taken a moment later, so this is a look and no promise.
        if client.size(&name).await?.is_some() {
            return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
        }
        client.rename(&self.staged, &name, size).await?;
        Ok(size)
    }

    /// Copies what counts of the staged file: nothing in FTP makes one shorter.
    async fn cut(&mut self, size: u64) -> std::result::Result<(), Failure> {
        let whole = format!("{}whole", self.space.folder(self.upload));
        copy(&self.space, &self.staged, &whole, size).await?;
        (self.staged, self.length) = (whole, size);
        Ok(())
    }

    async fn conclude(mut self: Box<Self>, key: &Key) -> Result<Published> {
        let size = self.publish(key).await.map_err(|failure| lost(failure).at("finish", Some(key)))?;
        if self.options.is_resumable
            && let Err(problem) = self.clear().await
        {
            tracing::warn!(
                upload.id = %self.upload,
                problem = %problem,
                "what was staged of a published object could not be removed; sweeping the upload does"
            );
        }
        Ok(Published::unversioned(size))
    }

    /// Removes the folder that was staged in, as a rule empty.
    async fn clear(&mut self) -> std::result::Result<(), Failure> {
        self.sending = None;
        let folder = self.space.folder(self.upload);
        let path = self.space.client.path(&folder);
        let removed = match self.space.client.lease().await {
            Ok(mut session) => session.remove_folder(&path).await,
            Err(failure) => Err(failure),
        };
        match removed {
            Ok(()) => Ok(()),
            Err(_) => self.space.sweep(self.upload).await,
        }
    }
}

/// Puts the first bytes of a file into another.
pub(super) async fn copy(space: &Space, from: &str, to: &str, size: u64) -> std::result::Result<(), Failure> {
    let attempt = || async {
        let mut upload = Upload::open(&space.client, to, To::Anew).await?;
        let mut pieces = reading::read(space.content(from), 0..size).await?;
        while let Some(piece) = pieces.try_next().await? {
            upload.write(&piece).await?;
        }
        if upload.end().await? == size { Ok(()) } else { Err(less()) }
    };
    space.client.within(to, || insist(&attempt)).await
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
        if self.buffer.len() > 0 {
            for piece in self.take() {
                self.sending().send_at_once(piece);
            }
        }
        let settling = self.sending.as_ref().map(Sending::begin_to_settle);
        let hold = self.hold.clone();
        Box::pin(async move {
            let _held_until_it_ends = hold;
            match settling {
                Some(settling) => {
                    let settled = settling.await;
                    settled.map(|_| ()).map_err(|failure| lost(failure).at("checkpoint", Some(&key)))
                }
                None => Ok(()),
            }
        })
    }

    async fn finish(self: Box<Self>) -> Result<Published> {
        let key = self.key.clone();
        self.conclude(&key).await
    }

    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        self.conclude(key).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let was_sent = self.sending.take().is_some() || self.options.is_resumable;
        let removed = match was_sent {
            true => self.space.sweep(self.upload).await,
            false => Ok(()),
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
