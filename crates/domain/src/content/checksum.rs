//! The CRC-32C of a content from those of its pieces, so that no byte is looked at twice.
//!
//! A CRC is the remainder of a polynomial: putting `n` bytes after a content multiplies its remainder by x^8n. That power is found once per length of
//! a piece, and most pieces are as long as the one before.

/// The polynomial of CRC-32C, the lowest power in the highest bit, as in all of this file.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// The CRC-32C of pieces, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checksum {
    value: u32,
    /// Length of the last piece in bytes, and what putting as many after a content multiplies by.
    last: (u64, u32),
}

impl Default for Checksum {
    /// Of nothing.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Checksum {
    /// Of what came so far.
    pub(crate) fn new(value: u32) -> Self {
        Self { value, last: (0, ONE) }
    }

    /// Of all that came.
    pub(crate) fn value(self) -> u32 {
        self.value
    }

    /// Puts a piece of `bytes` bytes, whose own is `crc32c`, after what came.
    pub(crate) fn append(&mut self, crc32c: u32, bytes: u64) {
        if self.last.0 != bytes {
            self.last = (bytes, shift(bytes));
        }
        self.value = multiply(self.last.1, self.value) ^ crc32c;
    }
}

/// x^8n modulo the polynomial, by squaring.
fn shift(bytes: u64) -> u32 {
    let (mut result, mut power, mut left) = (ONE, ONE >> 8, bytes);
    while left > 0 {
        if left & 1 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    result
}

/// The product of two polynomials modulo that of CRC-32C.
fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted) = (0, b);
    for power in (0..u32::BITS).rev() {
        // Without branches: the bits are as good as random.
        product ^= shifted & 0_u32.wrapping_sub(a >> power & 1);
        shifted = shifted >> 1 ^ POLYNOMIAL & 0_u32.wrapping_sub(shifted & 1);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_content_has_the_checksum_its_pieces_make(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 0..12),
            repeated in 0_usize..4,
        ) {
            let (mut checksum, mut content) = (Checksum::new(0), Vec::new());
            for piece in &pieces {
                for _ in 0..=repeated {
                    checksum.append(crc32c::crc32c(piece), piece.len() as u64);
                    content.extend_from_slice(piece);
                }
            }
            prop_assert_eq!(checksum.value(), crc32c::crc32c(&content));
        }
    }

    #[test]
    fn lengths_may_be_large() {
        let zeros = vec![0; 3 << 20];
        let mut checksum = Checksum::new(crc32c::crc32c(b"begin"));
        for _ in 0..2 {
            checksum.append(crc32c::crc32c(&zeros), zeros.len() as u64);
        }
        let expected = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(b"begin"), &zeros), &zeros);
        assert_eq!(checksum.value(), expected);
    }
}
