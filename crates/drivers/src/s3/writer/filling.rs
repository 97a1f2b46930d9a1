//! How parts are filled.
//!
//! The first of a part's bytes are kept in a share of the budget; for more of them a reservation for the whole part is waited for,
//! which goes with the part until it is stored. A writer that does not get one in time, or that fills its part slowly while others
//! wait, puts what it has as a piece and goes on so to the end of the part. That is then sent from the pieces, which are read as it is
//! sent. So nobody has to wait for memory that another holds.

use super::{
    super::{
        bucket::Bucket,
        integrity::Summing,
        multipart::{Multipart, Part},
        part::{PartContent, staged as read_staged},
        staged::{self, Record},
    },
    Awaited, Writer,
};
use crate::remote::{Failure, Piece, cover, room::PATIENCE};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use futures_util::{FutureExt as _, TryStreamExt as _, future::try_join_all};
use std::{mem, ops::Range, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;

/// Parts of one writer that are under way at a time.
const PARTS_AT_A_TIME: usize = 4;
/// Pieces within one part after which the next one has all of what is in memory of it: going on reads few.
const MOST_PIECES: usize = 16;
/// After so many objects were staged a writer waits for memory however long it takes: sweeping them has limits too.
const MOST_NAMES: usize = 20_000;

impl Writer {
    /// Appends bytes, and sends the parts that are full.
    pub(super) async fn append(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.buffer.push(piece);
        loop {
            let size = self.layout.size(self.parts.len() + 1);
            // The last part goes with the end, so that an object of just one part is put at once.
            if self.written() - self.part_start > size {
                self.send(size).await?;
            } else {
                return self.fit(size).await;
            }
        }
    }

    /// Sees to it that what is in the buffer may be there.
    async fn fit(&mut self, size: u64) -> Result<(), Failure> {
        if self.room.is_overdue() {
            return self.spill().await;
        }
        if self.buffer.len() <= self.room.bytes() {
            return Ok(());
        }
        // What is declared is only a hint.
        let left = self.options.declared_size.map(|declared| declared.saturating_sub(self.part_start));
        let wanted = left.filter(|left| *left > self.buffer.len()).map_or(size, |left| left.min(size));
        let patience = if self.names.len() > MOST_NAMES { Duration::MAX } else { PATIENCE };
        if self.spilled.is_none() && self.room.reserve(wanted, patience).await {
            return Ok(());
        }
        self.spill().await
    }

    /// Puts what is in memory of the next part as a piece, and forgets it.
    async fn spill(&mut self) -> Result<(), Failure> {
        if let Some(durable) = self.begin_checkpoint() {
            durable.await?;
        }
        let end = self.written();
        let summing = match self.spilled.take() {
            Some((_, summing)) => summing,
            None => self.bucket.integrity.begin(),
        };
        let bytes = self.buffer.take(self.buffer.len());
        self.spilled = Some((end, summing.with(bytes).await));
        self.room.shrink(true);
        Ok(())
    }

    /// Goes on behind pieces that hold everything up to `end`: what is in full parts is sent, and of the rest the sum is made.
    pub(in super::super) async fn take_up(&mut self, end: u64) -> Result<(), Failure> {
        if cover(&self.pieces, self.part_start, end).is_none() {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "pieces that were there are not"));
        }
        loop {
            let size = self.layout.size(self.parts.len() + 1);
            let is_full = end - self.part_start > size;
            let until = if is_full { self.part_start + size } else { end };
            if until > self.part_start {
                let summing = self.sum(self.part_start..until).await?;
                self.spilled = Some((until, summing));
            }
            self.kept = until;
            if !is_full {
                self.to_read = cover(&self.pieces, self.part_start, end).map_or(0, |pieces| pieces.len());
                return Ok(());
            }
            self.send(size).await?;
        }
    }

    /// The sum of bytes that are in pieces.
    async fn sum(&self, range: Range<u64>) -> Result<Summing, Failure> {
        let (mut summing, mut read) = (self.bucket.integrity.begin(), 0);
        let mut bytes = read_staged(&self.bucket.client, self.staged_pieces(range.clone())?);
        while let Some(piece) = bytes.try_next().await? {
            read += piece.len() as u64;
            summing = summing.with(vec![piece]).await;
        }
        match read == range.end - range.start {
            true => Ok(summing),
            false => Err(Failure::wrong(ErrorKind::BadAnswer, "a piece is shorter than its name says")),
        }
    }

    /// Which objects have these bytes of the next part, and where.
    fn staged_pieces(&self, range: Range<u64>) -> Result<Vec<(String, Range<u64>)>, Failure> {
        let pieces = cover(&self.pieces, range.start, range.end)
            .ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "pieces that were put are missing"))?;
        let client = &self.bucket.client;
        let found = pieces.into_iter().map(|(piece, range)| {
            let start = piece.range.start;
            (staged::piece_name(client, self.upload, piece), range.start - start..range.end - start)
        });
        Ok(found.collect())
    }

    /// Sends the next part, which has this size.
    pub(super) async fn send(&mut self, size: u64) -> Result<(), Failure> {
        let multipart = match &self.multipart {
            Some(multipart) => Arc::clone(multipart),
            None => self.begin_multipart().await?,
        };
        for part in self.parts.iter().rev().skip(PARTS_AT_A_TIME - 1).take(PARTS_AT_A_TIME) {
            part.clone().await?;
        }
        let number = self.parts.len() as i64 + 1;
        let left = self.part_start + size - self.buffer_start();
        let bytes = self.buffer.take(left);
        let reserved = self.room.reserved();
        let bucket = Arc::clone(&self.bucket);
        let is_spilled = self.spilled.is_some();
        let content = match self.spilled.take() {
            None => None,
            Some((end, summing)) => {
                let pieces = self.staged_pieces(self.part_start..end)?;
                let sum = summing.with(bytes.clone()).await.end();
                Some(PartContent::Staged { pieces, tail: bytes.clone(), size, sum })
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _held_until_it_ends = reserved;
            let content = match content {
                Some(content) => content,
                None => PartContent::Here(bucket.integrity.parcel(bytes).await),
            };
            bucket.client.send(&multipart, number, &content).await
        }));
        let part = async move {
            task.await.unwrap_or_else(|_| Err(Failure::wrong(ErrorKind::Unavailable, "the service stops")))
        };
        let part = part.boxed().shared();
        self.parts.push(part.clone());
        self.part_start += size;
        (self.kept, self.to_read) = (self.kept.max(self.part_start), 0);
        self.pieces.retain(|piece| piece.range.end > self.part_start);
        self.room.shrink(false);
        if is_spilled {
            // What comes after it finds no more memory than this had.
            part.await?;
        }
        Ok(())
    }

    async fn begin_multipart(&mut self) -> Result<Arc<Multipart>, Failure> {
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
    pub(super) fn begin_checkpoint(&mut self) -> Option<Awaited<()>> {
        let is_open = |part: &&Awaited<Part>| !matches!(part.peek(), Some(Ok(_)));
        let parts: Vec<_> = self.parts.iter().filter(is_open).cloned().collect();
        let before = self.last.take().filter(|before| !matches!(before.peek(), Some(Ok(()))));
        let end = self.written();
        let piece = (self.kept < end).then(|| self.next_piece(end));
        if parts.is_empty() && before.is_none() && piece.is_none() {
            return None;
        }
        let (bucket, reserved) = (Arc::clone(&self.bucket), self.room.reserved());
        let work = async move {
            let _held_until_it_ends = reserved;
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

    /// The name and the bytes of a piece up to `end`.
    fn next_piece(&mut self, end: u64) -> (String, Vec<Bytes>) {
        let start = self.buffer_start();
        self.to_read += 1;
        if self.to_read > MOST_PIECES {
            (self.kept, self.to_read) = (start, 1);
        }
        let range = self.kept.max(start)..end;
        let bytes = self.buffer.from(range.start - start);
        let piece = Piece { generation: self.generation, begin: self.begin, range };
        let name = staged::piece_name(&self.bucket.client, self.upload, &piece);
        self.names.push(name.clone());
        self.pieces.push(piece);
        self.kept = end;
        (name, bytes)
    }

    /// Forgets what is under way.
    pub(super) fn give_up(&mut self) -> bool {
        // Parts under way would be refused, or stored for nobody.
        self.parts.clear();
        self.last = None;
        !mem::take(&mut self.names).is_empty()
    }
}
