//! Sums that travel with bytes, so that a server stores what was sent or nothing.

use bytes::Bytes;
use data_encoding::BASE64;
use md5::{Digest as _, Md5};

/// Which sum the endpoint looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integrity {
    /// CRC-32C, in S3's header for it: next to free.
    Crc32c,
    /// MD5, in HTTP's header: every endpoint looks at it.
    Md5,
}

/// Bytes with their sum.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) pieces: Vec<Bytes>,
    pub(super) size: u64,
    pub(super) sum: Sum,
}

/// A sum, as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    Crc32c(String),
    Md5(String),
}

impl Sum {
    /// The CRC-32C, if it is one.
    pub(super) fn crc32c(&self) -> Option<&str> {
        match self {
            Self::Crc32c(sum) => Some(sum),
            Self::Md5(_) => None,
        }
    }

    /// The header that tells it.
    pub(super) fn header(&self) -> (&'static str, String) {
        match self {
            Self::Crc32c(sum) => ("x-amz-checksum-crc32c", sum.clone()),
            Self::Md5(sum) => ("content-md5", sum.clone()),
        }
    }
}

impl Integrity {
    /// Bytes with the sum this endpoint looks at. Large ones are summed on a thread where that may take a while.
    pub(super) async fn parcel(self, pieces: Vec<Bytes>) -> Parcel {
        /// Bytes that are summed at once: MD5 takes 100 µs for them.
        const FEW: u64 = 64 * 1024;
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        if size <= FEW {
            let sum = self.sum(&pieces);
            return Parcel { pieces, size, sum };
        }
        let whole = pieces.clone();
        let sum = tokio::task::spawn_blocking(move || self.sum(&whole)).await;
        // Only a runtime that shuts down loses a job; then nobody waits for the answer.
        let sum = sum.unwrap_or_else(|_| self.sum(&pieces));
        Parcel { pieces, size, sum }
    }

    fn sum(self, pieces: &[Bytes]) -> Sum {
        let mut summing = self.begin();
        pieces.iter().for_each(|piece| summing.add(piece));
        summing.end()
    }

    /// The sum of bytes that come.
    pub(super) fn begin(self) -> Summing {
        match self {
            Self::Crc32c => Summing::Crc32c(0),
            Self::Md5 => Summing::Md5(Md5::new()),
        }
    }
}

/// A sum of bytes that come one after the other.
#[derive(Debug, Clone)]
pub(super) enum Summing {
    Crc32c(u32),
    Md5(Md5),
}

impl Summing {
    fn add(&mut self, piece: &[u8]) {
        match self {
            Self::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, piece),
            Self::Md5(md5) => md5.update(piece),
        }
    }

    /// With these bytes too, summed on a thread where that may take a while.
    pub(super) async fn with(mut self, pieces: Vec<Bytes>) -> Self {
        let before = self.clone();
        let (of_job, mut left) = (pieces.clone(), pieces);
        let job = tokio::task::spawn_blocking(move || {
            of_job.iter().for_each(|piece| self.add(piece));
            self
        });
        // Only a runtime that shuts down loses a job; then nobody waits for the answer.
        job.await.unwrap_or_else(|_| {
            left.drain(..).fold(before, |mut summing, piece| {
                summing.add(&piece);
                summing
            })
        })
    }

    pub(super) fn end(self) -> Sum {
        match self {
            Self::Crc32c(crc) => Sum::Crc32c(BASE64.encode(&crc.to_be_bytes())),
            Self::Md5(md5) => Sum::Md5(BASE64.encode(&md5.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sums_are_those_of_the_whole() {
        let pieces = vec![Bytes::from_static(b"1234"), Bytes::new(), Bytes::from_static(b"56789")];
        let crc = Integrity::Crc32c.parcel(pieces.clone()).await;
        assert_eq!((crc.size, crc.sum.header()), (9, ("x-amz-checksum-crc32c", "4waSgw==".to_owned())));
        let md5 = Integrity::Md5.parcel(pieces).await;
        assert_eq!(md5.sum.header(), ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==".to_owned()));
        let large = Bytes::from(vec![7; 1_000_000]);
        let halves = vec![large.slice(..400_000), large.slice(400_000..)];
        let whole = Integrity::Md5.parcel(vec![large]).await;
        assert_eq!(whole.sum, Integrity::Md5.parcel(halves.clone()).await.sum);
        let [first, second] = halves.try_into().unwrap();
        for integrity in [Integrity::Crc32c, Integrity::Md5] {
            let summing = integrity.begin().with(vec![first.clone()]).await.with(vec![second.clone()]).await;
            assert_eq!(summing.end(), integrity.parcel(vec![first.clone(), second.clone()]).await.sum);
        }
    }
}
