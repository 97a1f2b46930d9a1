//! What is taken of a stream's messages: the next bytes of a content, in order, and no more than there may be.

use super::{Codec, Piece, Pipeline, SavedState};
use crate::{Error, Result, error::CRC32C};
use bytes::Bytes;

/// Most bytes of data in one message.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Where the next byte of a content belongs, and what must be true of it.
#[derive(Debug)]
pub struct Arrival {
    received: u64,
    declared_size: Option<u64>,
    max_bytes: Option<u64>,
    repeated: Option<Repeated>,
}

/// The beginning of a content that is sent once more: has to be what was sent before.
#[derive(Debug)]
struct Repeated {
    pipeline: Pipeline,
    bytes: u64,
    expected: SavedState,
}

impl Arrival {
    /// A content of which `received` bytes are here, and which may have no more than `declared_size` and `max_bytes`.
    pub fn new(received: u64, declared_size: Option<u64>, max_bytes: Option<u64>) -> Self {
        Self { received, declared_size, max_bytes, repeated: None }
    }

    /// The same, where it is sent once more from its beginning: what is here already led to `expected`, and what is sent must do so as well.
    #[must_use]
    pub fn compared_with(self, expected: SavedState) -> Self {
        let repeated = Repeated { pipeline: Pipeline::new(Codec::Identity), bytes: 0, expected };
        Self { repeated: Some(repeated), ..self }
    }

    /// Where the next byte belongs.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes a message and answers what is new of it. `offset` may be earlier than what was received: the overlap is skipped.
    ///
    /// # Errors
    ///
    /// [`Error::MessageTooLarge`] and [`Error::ChecksumMismatch`] of the message alone, [`Error::OffsetGap`] if bytes are missing before
    /// it, [`Error::SizeMismatch`] and [`Error::FileTooLarge`] if it brings too many, [`Error::RequestIdReused`] if what was sent once
    /// more is another content. After an error nothing more can be taken.
    pub fn take(&mut self, offset: u64, mut bytes: Bytes, crc32c: Option<u32>) -> Result<Option<Piece>> {
        check_message(&bytes, crc32c)?;
        let Some(overlap) = self.received.checked_sub(offset) else {
            return Err(Error::OffsetGap { expected: self.received, offset });
        };
        if overlap > 0 {
            let known = bytes.split_to(usize::try_from(overlap).map_or(bytes.len(), |n| n.min(bytes.len())));
            self.repeat(offset, known)?;
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let received = self.received.saturating_add(bytes.len() as u64);
        if let Some(declared) = self.declared_size.filter(|declared| received > *declared) {
            return Err(Error::SizeMismatch { declared, received });
        }
        if let Some(limit) = self.max_bytes.filter(|limit| received > *limit) {
            return Err(Error::FileTooLarge { limit });
        }
        self.received = received;
        // What comes after it is no comparison with what led to it.
        self.repeated = None;
        Ok(Some(Piece { bytes, crc32c: crc32c.filter(|_| overlap == 0) }))
    }

    /// Compares what is sent once more with what was sent before, as long as it comes in order from the beginning.
    fn repeat(&mut self, offset: u64, known: Bytes) -> Result<()> {
        let Some(repeated) = &mut self.repeated else { return Ok(()) };
        if offset > repeated.bytes {
            self.repeated = None;
            return Ok(());
        }
        let again = usize::try_from(repeated.bytes - offset).unwrap_or(usize::MAX).min(known.len());
        let next = known.slice(again..);
        repeated.bytes += next.len() as u64;
        repeated.pipeline.encode(vec![next.into()]);
        if repeated.bytes < self.received {
            return Ok(());
        }
        let is_same = repeated.pipeline.save() == repeated.expected;
        self.repeated = None;
        if is_same { Ok(()) } else { Err(Error::RequestIdReused) }
    }
}

/// Refuses a message that is too large or was damaged on its way.
pub(crate) fn check_message(bytes: &Bytes, crc32c: Option<u32>) -> Result<()> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Error::MessageTooLarge { bytes: bytes.len(), limit: MAX_MESSAGE_BYTES });
    }
    let Some(expected) = crc32c else { return Ok(()) };
    let actual = crc32c::crc32c(bytes);
    if expected == actual {
        return Ok(());
    }
    Err(Error::ChecksumMismatch {
        algorithm: CRC32C,
        expected: format!("{expected:08x}"),
        actual: format!("{actual:08x}"),
    })
}
