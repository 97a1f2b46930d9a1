//! Bytes that wait for their part to be full.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces smaller than this are put together, so that a part has thousands and not millions.
const SMALL: usize = 16 * 1024;

/// Bytes in order.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
    len: u64,
}

impl Buffer {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        self.len += piece.len() as u64;
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
            if self.small.len() >= SMALL {
                self.seal();
            }
        } else {
            self.seal();
            self.pieces.push_back(piece);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    /// Takes the first `wanted` bytes, of which there are as many.
    pub(crate) fn take(&mut self, wanted: u64) -> Vec<Bytes> {
        self.seal();
        let (mut taken, mut left) = (Vec::new(), wanted);
        while let Some(mut piece) = self.pieces.pop_front() {
            if piece.len() as u64 > left {
                // It fits: it is less than a piece.
                taken.push(piece.split_to(left as usize));
                self.pieces.push_front(piece);
                left = 0;
            } else {
                left -= piece.len() as u64;
                taken.push(piece);
            }
            if left == 0 {
                break;
            }
        }
        self.len -= wanted - left;
        taken.retain(|piece| !piece.is_empty());
        taken
    }

    /// What is there from `start` on, without taking it.
    pub(crate) fn from(&mut self, start: u64) -> Vec<Bytes> {
        self.seal();
        let (mut found, mut skip) = (Vec::new(), start);
        for piece in &self.pieces {
            let size = piece.len() as u64;
            if skip >= size {
                skip -= size;
            } else {
                found.push(piece.slice(skip as usize..));
                skip = 0;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_what_is_left_are_what_was_pushed() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
        let mut buffer = Buffer::default();
        let mut at = 0;
        for size in [1, 0, 40_000, 5, 15_999, 16_000, 100_000, 3].into_iter().cycle() {
            let end = content.len().min(at + size);
            buffer.push(Bytes::copy_from_slice(&content[at..end]));
            at = end;
            if at == content.len() {
                break;
            }
        }
        assert_eq!(buffer.len(), 200_000);
        assert_eq!(buffer.from(0).concat(), content);
        assert_eq!(buffer.from(123_456).concat(), content[123_456..]);
        assert_eq!(buffer.take(77_777).concat(), content[..77_777]);
        assert_eq!(buffer.take(0).concat(), b"");
        assert_eq!((buffer.len(), buffer.from(0).concat().as_slice()), (122_223, &content[77_777..]));
        assert_eq!(buffer.take(122_223).concat(), content[77_777..]);
        assert_eq!(buffer.len(), 0);
    }
}
