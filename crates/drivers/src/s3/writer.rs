//! An object being written: parts as they fill, the rest with the end.
//!
//! A small object is one PUT. A larger one is a multipart upload, begun with its first part. A checkpoint waits for the parts and puts
//! what is in none as a piece of its own; so each byte is sent once more at most, unless checkpoints are many within one part.

use super::{
    bucket::Bucket,
    multipart::{Layout, Multipart, Part},
    staged::{self, Record},
};
use crate::{
    error::error,
    remote::{Buffer, Failure, Hold, Piece, next_generation},
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_domain::{
    driver::{self, Batch, ErrorKind, Result, WriteOptions},
    id::UploadId,
    path::Key,
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready, try_join_all},
};
use std::{mem, sync::Arc};
use tokio_util::task::AbortOnDropHandle;

/// Parts of one writer that are under way at a time.
const PARTS_AT_A_TIME: usize = 4;
/// Pieces within one part after which the next one has all of that part: going on reads no more than these.
const MOST_PIECES: usize = 16;

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
    /// Where the buffer, and so the next part, begins.
    part_start: u64,
    /// Up to where bytes are in parts or pieces, or will be when what was begun succeeds; and pieces within the next part.
    kept: u64,
    pieces: usize,
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
            part_start: 0,
            kept: 0,
            pieces: 0,
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

    /// Takes over what is stored already.
    pub(super) fn go_on(
        &mut self,
        multipart: Option<(Multipart, Layout)>,
        parts: Vec<Part>,
        end: u64,
        names: Vec<String>,
    ) {
        if let Some((multipart, layout)) = multipart {
            (self.multipart, self.layout) = (Some(Arc::new(multipart)), layout);
        }
        self.parts = parts.into_iter().map(|part| ready(Ok(part)).boxed().shared()).collect();
        (self.part_start, self.kept, self.names) = (end, end, names);
    }

    /// Where the next byte goes.
    pub(super) fn written(&self) -> u64 {
        self.part_start + self.buffer.len()
    }

    /// Where the part begins that is not full yet.
    pub(super) fn part_start(&self) -> u64 {
        self.part_start
    }

    /// All that was written is in parts or pieces, this many of the latter.
    pub(super) fn count_pieces(&mut self, pieces: usize) {
        (self.kept, self.pieces) = (self.written(), pieces);
    }

    /// Waits for all parts that are under way.
    pub(super) async fn settle(&self) -> std::result::Result<(), Failure> {
        try_join_all(self.parts.iter().cloned()).await.map(|_| ())
    }

    /// Appends bytes, and sends the parts that are full.
    pub(super) async fn append(&mut self, piece: Bytes) -> std::result::Result<(), Failure> {
        self.buffer.push(piece);
        loop {
            let size = self.layout.size(self.parts.len() + 1);
            // The last part goes with the end, so that an object of just one part is put at once.
            if self.buffer.len() <= size {
                return Ok(());
            }
            self.send(size).await?;
        }
    }

    /// Sends the next part.
    async fn send(&mut self, size: u64) -> std::result::Result<(), Failure> {
        let multipart = match &self.multipart {
            Some(multipart) => Arc::clone(multipart),
            None => self.begin_multipart().await?,
        };
        for part in self.parts.iter().rev().skip(PARTS_AT_A_TIME - 1).take(PARTS_AT_A_TIME) {
            part.clone().await?;
        }
        let permit = self.bucket.enter(size).await;
        let pieces = self.buffer.take(size);
        self.part_start += size;
        (self.kept, self.pieces) = (self.kept.max(self.part_start), 0);
        let number = self.parts.len() as i64 + 1;
        let bucket = Arc::clone(&self.bucket);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _held_until_it_ends = permit;
            let parcel = bucket.integrity.parcel(pieces).await;
            bucket.client.send(&multipart, number, &parcel).await
        }));
        let part = async move {
            task.await.unwrap_or_else(|_| Err(Failure::wrong(ErrorKind::Unavailable, "the service stops")))
        };
        self.parts.push(part.boxed().shared());
        Ok(())
    }

    async fn begin_multipart(&mut self) -> std::result::Result<Arc<Multipart>, Failure> {
        let Bucket { client, integrity, .. } = &*self.bucket;
        let name = staged::record_name(client, self.upload);
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        let mut record = Record { key: self.key.clone(), id: String::new(), layout: self.layout };
        staged::note(&self.bucket, self.upload, &record).await?;
        let multipart = client.create(&client.name(&self.key), self.upload, *integrity).await?;
        record.id.clone_from(&multipart.id);
        staged::note(&self.bucket, self.upload, &record).await?;
        let multipart = Arc::new(multipart);
        self.multipart = Some(Arc::clone(&multipart));
        Ok(multipart)
    }

    /// What makes durable all that was written before; `None` if it is.
    fn begin_checkpoint(&mut self) -> Option<Awaited<()>> {
        let is_open = |part: &&Awaited<Part>| !matches!(part.peek(), Some(Ok(_)));
        let parts: Vec<_> = self.parts.iter().filter(is_open).cloned().collect();
        let before = self.last.take().filter(|before| !matches!(before.peek(), Some(Ok(()))));
        let end = self.written();
        let piece = (self.kept < end).then(|| {
            self.pieces += 1;
            if self.pieces > MOST_PIECES {
                (self.kept, self.pieces) = (self.part_start, 1);
            }
            let range = self.kept.max(self.part_start)..end;
            let from = range.start - self.part_start;
            let piece = Piece { generation: self.generation, begin: self.begin, range };
            let name = staged::piece_name(&self.bucket.client, self.upload, &piece);
            self.names.push(name.clone());
            self.kept = end;
            (name, self.buffer.from(from))
        });
        if parts.is_empty() && before.is_none() && piece.is_none() {
            return None;
        }
        let bucket = Arc::clone(&self.bucket);
        let work = async move {
            if let Some(before) = before {
                before.await?;
            }
            try_join_all(parts).await?;
            if let Some((name, pieces)) = piece {
                let parcel = bucket.integrity.parcel(pieces).await;
                bucket.client.put(&name, &parcel, None).await?;
            }
            Ok(())
        };
        let work = work.boxed().shared();
        self.last = Some(work.clone());
        Some(work)
    }

    /// Publishes the object; answers its size.
    async fn publish(&mut self) -> std::result::Result<u64, Failure> {
        let client = Arc::clone(&self.bucket.client);
        let name = client.name(&self.key);
        // Nothing on S3 keeps a key from being replaced, so this is a look before and no promise.
        if client.head(&name).await?.is_some_and(|head| !head.is_of(self.upload)) {
            return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
        }
        let size = self.written();
        if self.multipart.is_none() {
            let rest = self.buffer.take(self.buffer.len());
            let parcel = self.bucket.integrity.parcel(rest).await;
            client.put(&name, &parcel, Some(self.upload)).await?;
        } else {
            self.complete(size, &name).await?;
        }
        match client.head(&name).await? {
            Some(head) => Ok(head.size),
            None => Err(Failure::wrong(ErrorKind::BadAnswer, "what was published is not there")),
        }
    }

    async fn complete(&mut self, size: u64, name: &str) -> std::result::Result<(), Failure> {
        let rest = self.buffer.len();
        if rest > 0 || self.parts.is_empty() {
            self.send(rest).await?;
        }
        let parts = try_join_all(self.parts.iter().cloned()).await?;
        let multipart = self.multipart.as_ref().expect("a part was sent");
        let client = &self.bucket.client;
        match client.complete(multipart, &parts).await {
            // The answer to an earlier try was lost, or the upload was.
            Err(failure) if failure.is_absent() => match client.head(name).await? {
                Some(head) if head.may_be_of(self.upload) && head.size == size => Ok(()),
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

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let size = self.publish().await.map_err(|failure| lost(failure).at("finish", Some(&self.key)))?;
        self.tidy().await;
        Ok(size)
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // Parts under way would be refused, or stored for nobody.
        self.parts.clear();
        self.last = None;
        if self.names.is_empty() {
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
