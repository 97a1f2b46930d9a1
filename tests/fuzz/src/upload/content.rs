//! Where a stream goes: the domain's own judgement of it, before a vector.

use super::{BEGUN, MAX_FILE_BYTES, may_go_on};
use bytes::Bytes;
use coffer_api::transfers::write::{Sink, Target};
use coffer_domain::{
    Error, Result,
    content::{Arrival, Codec, Piece, Pipeline},
    file::Sha256Sum,
    id::UploadId,
    service::Whole,
};
use std::{
    future,
    sync::{Arc, Mutex, PoisonError},
};

/// A content that is received.
pub(super) struct Content {
    arrival: Arrival,
    pipeline: Pipeline,
    taken: Arc<Mutex<Vec<u8>>>,
    size: Option<u64>,
    sha256: Option<Sha256Sum>,
    /// Something was refused: nothing more may come.
    is_over: bool,
}

impl Content {
    /// Of `target`, into `taken`. Where it `goes_on`, its beginning is there from before, if it can be.
    pub(super) fn new(target: &Target, goes_on: bool, taken: &Arc<Mutex<Vec<u8>>>) -> Self {
        let (size, sha256) = match target {
            Target::New(spec) => (spec.size, spec.sha256),
            Target::Started(_) => (None, None),
        };
        let begun = if goes_on && may_go_on(target) { BEGUN } else { &[] };
        let pipeline = Pipeline::new(Codec::Identity);
        pipeline.encode(vec![Bytes::from_static(begun).into()]);
        taken.lock().unwrap_or_else(PoisonError::into_inner).extend(begun);
        let mut arrival = Arrival::new(begun.len() as u64, size, Some(MAX_FILE_BYTES));
        if let (Target::New(_), false) = (target, begun.is_empty()) {
            arrival = arrival.compared_with(pipeline.save());
        }
        Self { arrival, pipeline, taken: taken.clone(), size, sha256, is_over: false }
    }

    /// Takes a content that is all there.
    pub(super) fn store(mut self, Whole { pieces, sha256 }: Whole) -> Result<()> {
        for Piece { bytes, crc32c } in pieces {
            self.take(self.arrival.received(), bytes, crc32c)?;
        }
        self.end(sha256)
    }

    fn take(&mut self, offset: u64, bytes: Bytes, crc32c: Option<u32>) -> Result<()> {
        assert!(!self.is_over, "a stream goes on that was refused");
        let piece = self.arrival.take(offset, bytes, crc32c).inspect_err(|_| self.is_over = true)?;
        if let Some(piece) = piece {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.extend_from_slice(&piece.bytes);
            assert_eq!(taken.len() as u64, self.arrival.received());
            self.pipeline.encode(vec![piece]);
        }
        Ok(())
    }

    fn end(self, sha256: Option<Sha256Sum>) -> Result<()> {
        assert!(!self.is_over, "a stream is finished that was refused");
        let stored = self.pipeline.stored();
        let again = Pipeline::new(Codec::Identity);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        again.encode(vec![Bytes::from(taken).into()]);
        assert_eq!(stored, again.stored(), "the checksums are those of what was taken, however it was cut");
        stored.check(self.size, [self.sha256, sha256])
    }
}

impl Sink for Content {
    type Done = ();

    fn id(&self) -> Option<UploadId> {
        None
    }

    async fn interrupted(&self) -> Error {
        future::pending().await
    }

    async fn write(&mut self, offset: u64, bytes: Bytes, crc32c: Option<u32>) -> Result<()> {
        self.take(offset, bytes, crc32c)
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn finish(self, sha256: Option<Sha256Sum>) -> Result<()> {
        self.end(sha256)
    }

    async fn refuse(self, error: Error) -> Error {
        error
    }
}
