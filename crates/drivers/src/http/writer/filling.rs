//! What comes of bytes as they come: they wait, become a piece, or go on as a body.

use super::{
    super::{client::Ask, space::Protocol},
    Awaited, Writer,
};
use crate::{
    remote::{Failure, Piece, room::PATIENCE},
    wire,
};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use futures_util::{FutureExt as _, stream};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Pieces since the last whole part after which the next one has all since then.
const MOST_PIECES: usize = 16;
/// After so many pieces a writer waits for memory however long it takes: their folder is listed whole.
const MOST_STAGED: usize = 20_000;
/// Bytes of a body that are gathered before they go on.
const STEP: u64 = 64 * 1024;

/// A PUT whose body comes as it is written.
pub(super) struct Sending {
    pub(super) body: mpsc::Sender<Next>,
    pub(super) task: AbortOnDropHandle<Result<(), Failure>>,
}

/// What comes next of a body. One that ends without saying so has broken, and must not be taken for whole.
pub(super) enum Next {
    Piece(Bytes),
    End,
}

impl Writer {
    pub(super) async fn append(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.buffer.push(piece);
        if self.may_wait().await {
            return Ok(());
        }
        if !self.options.is_resumable {
            self.send_buffer().await?;
            self.room.shrink(false);
            return Ok(());
        }
        let size = self.buffer.len();
        let range = self.start..self.start + size;
        let is_short = size <= self.space.part_bytes;
        let content = self.buffer.take(size);
        let name = self.note_piece(range);
        (self.start, self.count) = (self.start + size, 0);
        self.kept = self.start;
        self.space.put(&name, content).await?;
        self.room.shrink(is_short);
        Ok(())
    }

    /// Whether what is in the buffer may stay there for now.
    async fn may_wait(&mut self) -> bool {
        let (has, most) = (self.buffer.len(), self.space.part_bytes);
        if self.sending.is_some() {
            return has < STEP;
        }
        if has > most || self.room.is_overdue() {
            return false;
        }
        if has <= self.room.bytes() {
            return true;
        }
        // What is declared is only a hint.
        let left = self.options.declared_size.map(|declared| declared.saturating_sub(self.start));
        let wanted = left.filter(|left| *left > has).map_or(most, |left| left.min(most));
        let patience = match self.options.is_resumable {
            true if self.pieces.len() > MOST_STAGED => Duration::MAX,
            true => PATIENCE,
            // It needs no memory to go on.
            false => Duration::ZERO,
        };
        self.room.reserve(wanted, patience).await
    }

    fn note_piece(&mut self, range: std::ops::Range<u64>) -> String {
        let piece = Piece { generation: self.generation, begin: self.begin, range };
        let name = self.piece_name(&piece);
        self.pieces.push(piece);
        self.is_staged = true;
        name
    }

    /// Sends what is in the buffer as the next of a body.
    pub(super) async fn send_buffer(&mut self) -> Result<(), Failure> {
        if self.sending.is_none() {
            self.sending = Some(self.begin_to_send().await?);
        }
        let size = self.buffer.len();
        let sending = self.sending.as_mut().expect("it was just begun");
        for piece in self.buffer.take(size) {
            if sending.body.send(Next::Piece(piece)).await.is_err() {
                // The server has answered before the end.
                return Err(match (&mut sending.task).await {
                    Ok(Err(failure)) => failure,
                    _ => Failure::wrong(ErrorKind::BadAnswer, "it was answered before its end"),
                });
            }
        }
        self.start += size;
        Ok(())
    }

    async fn begin_to_send(&mut self) -> Result<Sending, Failure> {
        let name = match self.space.protocol {
            Protocol::Dav => {
                let name = self.staged_name();
                self.is_staged = true;
                // Its bytes come once, so nothing may be missing.
                self.space.client.make_parents(&name).await?;
                name
            }
            Protocol::Plain => self.space.client.name(&self.key),
        };
        let (body, coming) = mpsc::channel(2);
        let pieces = stream::unfold(Some(coming), |left| async move {
            let mut coming: mpsc::Receiver<Next> = left?;
            match coming.recv().await {
                Some(Next::Piece(piece)) => Some((Ok(piece), Some(coming))),
                Some(Next::End) => None,
                None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
            }
        });
        let space = Arc::clone(&self.space);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            space.client.tell(Ask::new("PUT", &name).stream(wire::of_stream(pieces))).await
        }));
        Ok(Sending { body, task })
    }

    /// What makes durable all that was written before; `None` if it is.
    pub(super) fn begin_checkpoint(&mut self) -> Option<Awaited> {
        let before = self.last.take().filter(|before| !matches!(before.peek(), Some(Ok(()))));
        let end = self.written();
        let piece = (self.kept < end).then(|| {
            self.count += 1;
            if self.count > MOST_PIECES {
                (self.kept, self.count) = (self.start, 1);
            }
            let content = self.buffer.from(self.kept - self.start);
            let name = self.note_piece(self.kept..end);
            self.kept = end;
            (name, content)
        });
        if before.is_none() && piece.is_none() {
            return None;
        }
        let (space, reserved) = (Arc::clone(&self.space), self.room.reserved());
        let work = async move {
            let _held_until_it_ends = reserved;
            if let Some(before) = before {
                before.await?;
            }
            match piece {
                Some((name, content)) => space.put(&name, content).await,
                None => Ok(()),
            }
        };
        let work = work.boxed().shared();
        self.last = Some(work.clone());
        Some(work)
    }
}
