//! Reads an object, one piece ahead of whoever takes them.

use super::{
    client::Root,
    content::Content,
    error::Failure,
    jobs::{Jobs, settle},
};
use bytes::Bytes;
use coffer_domain::{
    driver::{ByteStream, PieceSize, Result},
    path::Key,
};
use futures_util::stream;
use rustix::{buffer::spare_capacity, fd::OwnedFd, io::retry_on_intr};
use std::{ops::Range, sync::Arc};
use tokio_util::task::AbortOnDropHandle;

/// Opens the object and reads its first piece in the same job.
pub(super) async fn read(
    root: Arc<Root>,
    jobs: Jobs,
    key: Key,
    range: Range<u64>,
    size: PieceSize,
) -> Result<ByteStream> {
    let (at, first_bytes) = (root.location(&key), size.get());
    let open = move || {
        root.check()?;
        let (file, length) = root.open_object(&at)?;
        let left = range.start..range.end.min(length);
        let first = read_piece(&file, &left, first_bytes)?;
        Ok((Arc::new(Content::from(file)), left, first))
    };
    let (file, left, first) = jobs.run("read", Some(&key), open).await?;
    let reader = Reader { jobs, key, size, file, left, next: Next::Here(first) };
    Ok(Box::pin(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.take().await?.map(|piece| (piece, reader)))
    })))
}

/// The rest of an object.
struct Reader {
    jobs: Jobs,
    key: Key,
    size: PieceSize,
    file: Arc<Content>,
    /// What is left after the pieces that were taken.
    left: Range<u64>,
    next: Next,
}

/// The piece at the beginning of what is left.
enum Next {
    Here(Bytes),
    BeingRead(AbortOnDropHandle<std::result::Result<Bytes, Failure>>),
    /// There was no room for one more job.
    NotBegun,
}

impl Reader {
    async fn take(&mut self) -> Result<Option<Bytes>> {
        let piece = match std::mem::replace(&mut self.next, Next::NotBegun) {
            Next::Here(piece) => piece,
            Next::BeingRead(job) => settle(job.await, "read", Some(&self.key))?,
            Next::NotBegun if self.left.is_empty() => return Ok(None),
            Next::NotBegun => self.jobs.run("read", Some(&self.key), self.job()).await?,
        };
        if piece.is_empty() {
            return Ok(None);
        }
        self.left.start += piece.len() as u64;
        if !self.left.is_empty() {
            self.next = self.jobs.try_begin(self.job()).map_or(Next::NotBegun, Next::BeingRead);
        }
        Ok(Some(piece))
    }

    fn job(&self) -> impl FnOnce() -> std::result::Result<Bytes, Failure> + Send + 'static {
        let (file, left, bytes) = (Arc::clone(&self.file), self.left.clone(), self.size.get());
        move || read_piece(&file, &left, bytes)
    }
}

/// The first piece of `left`; shorter only where the file ends.
fn read_piece(file: &OwnedFd, left: &Range<u64>, bytes: usize) -> std::result::Result<Bytes, Failure> {
    let wanted = left.end.saturating_sub(left.start).min(bytes as u64) as usize;
    let mut piece = Vec::with_capacity(wanted);
    while piece.len() < wanted {
        let at = left.start + piece.len() as u64;
        if retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut piece), at))? == 0 {
            break;
        }
    }
    Ok(piece.into())
}
