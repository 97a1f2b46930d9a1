//! Bytes on their way from a file.

use super::{pool::Lease, session::Transfer};
use crate::{remote::Failure, wire};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, runtime::Handle, time::timeout};

/// Most bytes of a piece.
const PIECE: usize = 256 * 1024;
/// What is left of a buffer before there is a new one.
const LEAST: usize = 32 * 1024;
/// How long a connection may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A file that is being read, in a session of its own.
pub(super) struct Download {
    /// `None` when it is over.
    transfer: Option<(Lease, Transfer)>,
    left: u64,
    buffer: BytesMut,
    /// Whether its last byte is the file's.
    is_to_the_end: bool,
}

impl Download {
    pub(super) fn new(session: Lease, transfer: Transfer, left: u64, is_to_the_end: bool) -> Self {
        Self { transfer: Some((session, transfer)), left, buffer: BytesMut::new(), is_to_the_end }
    }

    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        stream::unfold(self, |mut download| async move {
            let piece = download.next().await?;
            Some((piece, download))
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let Self { transfer, buffer, left, .. } = self;
        let (session, from) = transfer.as_mut()?;
        if buffer.capacity() < LEAST {
            buffer.reserve(PIECE);
        }
        let failure = match timeout(session.patience.piece, from.read_buf(buffer)).await {
            Ok(Ok(0)) => wire::Failure::Broken("it ended early".to_owned()),
            Ok(Ok(_)) => {
                let mut piece = buffer.split().freeze();
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                if *left == 0 {
                    self.close();
                }
                return Some(Ok(piece));
            }
            Ok(Err(error)) => super::error::of_connection(&error),
            Err(_elapsed) => wire::Failure::Silent("the next piece"),
        };
        *transfer = None;
        Some(Err(failure.into()))
    }

    /// Ends it beside whatever else is done, so that the session can be used again.
    fn close(&mut self) {
        let (Some((session, transfer)), Ok(runtime)) = (self.transfer.take(), Handle::try_current()) else {
            return;
        };
        let is_whole = self.left == 0 && self.is_to_the_end;
        runtime.spawn(async move {
            // A session that is not done in time is closed.
            let _ = timeout(FAREWELL, settle(session, transfer, is_whole)).await;
        });
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.close();
    }
}

async fn settle(mut session: Lease, mut transfer: Transfer, is_whole: bool) {
    let mut more = [0; 1];
    // One that is left early is refused in many words, or two: what comes next must be an answer to what is asked next.
    if is_whole && matches!(transfer.read(&mut more).await, Ok(0)) {
        let _ = session.end(transfer).await;
    } else {
        let _ = session.end(transfer).await;
        if !session.is_spoiled() {
            let _ = session.noop().await;
        }
    }
}
