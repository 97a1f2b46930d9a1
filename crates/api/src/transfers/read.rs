//! `ReadFile`: from a reading's pieces to the stream's messages.
//!
//! A task reads ahead by one piece and hands over through a channel of one, so that it notices when the caller takes nothing. How the
//! stream ends goes a way of its own: a full channel must not keep a refusal from being told, and a stream never just ends.

use crate::{fields::to_i64, files::to_file, status::status};
use coffer_domain::{
    Error, Result,
    caller::FileAccess,
    error::Unauthenticated,
    file::File,
    service::{Piece, Reading},
    time::{Timestamp, now},
};
use coffer_proto::v1::{ChecksummedData, ReadFileResponse, ReadMetadata};
use futures_util::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::Status;
use tracing::Instrument as _;

/// What is pumped: a [`Reading`].
pub(super) trait Source: Send + 'static {
    /// File, first byte and number of bytes, told before the first piece.
    fn about(&self) -> (File, FileAccess, u64, u64);
    /// The next piece; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<Result<Piece>>> + Send;
    /// Ends the read and hands the error back.
    fn refuse(self, error: Error) -> impl Future<Output = Error> + Send;
}

impl Source for Reading {
    fn about(&self) -> (File, FileAccess, u64, u64) {
        (self.file.clone(), self.access, self.offset, self.length)
    }

    fn next(&mut self) -> impl Future<Output = Option<Result<Piece>>> + Send {
        Self::next(self)
    }

    fn refuse(self, error: Error) -> impl Future<Output = Error> + Send {
        Self::refuse(self, error)
    }
}

/// The stream of an answer. Dropping it ends the read.
#[derive(Debug)]
pub(crate) struct Pieces {
    messages: mpsc::Receiver<ReadFileResponse>,
    end: Option<oneshot::Receiver<Result<()>>>,
}

impl Pieces {
    /// Pumps `source` until its end, until the caller has taken nothing for `stall_timeout`, or until its token expires.
    pub(super) fn pump(source: impl Source, stall_timeout: Duration, expires_at: Option<Timestamp>) -> Self {
        let (sender, messages) = mpsc::channel(1);
        let (report, end) = oneshot::channel();
        let pump = Pump { sender, stall_timeout, expires_at };
        let work = async move {
            // Nobody listens any more where the caller has left.
            let _ = report.send(pump.run(source).await);
        };
        tokio::spawn(work.in_current_span());
        Self { messages, end: Some(end) }
    }
}

impl Stream for Pieces {
    type Item = std::result::Result<ReadFileResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = std::task::ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(end).poll(context));
        self.end = None;
        match outcome {
            Ok(Ok(())) => Poll::Ready(None),
            Ok(Err(error)) => Poll::Ready(Some(Err(status(&error)))),
            Err(lost) => Poll::Ready(Some(Err(status(&Error::internal("read a content", lost))))),
        }
    }
}

struct Pump {
    sender: mpsc::Sender<ReadFileResponse>,
    stall_timeout: Duration,
    expires_at: Option<Timestamp>,
}

impl Pump {
    async fn run(self, mut source: impl Source) -> Result<()> {
        let (file, access, offset, length) = source.about();
        let metadata = ReadMetadata {
            file: Some(to_file(file, access)),
            offset: to_i64(offset),
            length: to_i64(length),
        };
        let first = ReadFileResponse { metadata: Some(metadata), read_offset: to_i64(offset), data: None };
        let mut next = Some(Ok(first));
        while let Some(message) = next {
            // A failed read has said so to the trail itself.
            let message = message?;
            match self.send(message).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(source.refuse(error).await),
            }
            next = tokio::select! {
                piece = source.next() => piece.map(|piece| piece.map(to_message)),
                () = self.sender.closed() => return Ok(()),
            };
        }
        Ok(())
    }

    /// Hands a message over. `false`: the caller left.
    async fn send(&self, message: ReadFileResponse) -> Result<bool> {
        let lifetime = match self.expires_at {
            Some(at) => (at - now()).to_std().unwrap_or_default(),
            None => Duration::MAX,
        };
        let expired = Err(Error::Unauthenticated(Unauthenticated::Expired));
        if lifetime.is_zero() {
            return expired;
        }
        match timeout(lifetime.min(self.stall_timeout), self.sender.send(message)).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) if lifetime < self.stall_timeout => expired,
            Err(_) => Err(Error::Stalled { seconds: self.stall_timeout.as_secs() }),
        }
    }
}

fn to_message(piece: Piece) -> ReadFileResponse {
    let Piece { offset, bytes, crc32c } = piece;
    let data = ChecksummedData { content: bytes, crc32c: Some(crc32c) };
    ReadFileResponse { metadata: None, read_offset: to_i64(offset), data: Some(data) }
}

#[cfg(test)]
mod tests;
