//! What happens to content on its way: hashing, then the codec, then the driver.

use crate::{driver::Batch, file::Sha256Sum};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// How plain bytes are kept by the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Identity,
}

impl Codec {
    /// The stored value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
        }
    }

    fn encode(self, plain: Vec<Bytes>) -> Vec<Bytes> {
        match self {
            Self::Identity => plain,
        }
    }
}

/// What was stored of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Plain bytes.
    pub size: u64,
    /// SHA-256 of the plain bytes.
    pub sha256: Sha256Sum,
    /// CRC-32C of the plain bytes.
    pub crc32c: u32,
    /// How the backend keeps them.
    pub codec: Codec,
    /// Bytes the backend keeps.
    pub stored_size: u64,
}

/// Hashes and encodes the batches of one content, in order. The work happens where a driver asks for the bytes.
#[derive(Debug, Clone)]
pub struct Pipeline {
    codec: Codec,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    size: u64,
    sha256: Sha256,
    crc32c: u32,
    stored_size: u64,
}

impl Pipeline {
    /// A pipeline at the beginning of a content.
    pub fn new(codec: Codec) -> Self {
        Self { codec, state: Arc::default() }
    }

    /// The next bytes of the content with their CRC-32C each, ready to be handed to a driver.
    pub fn batch(&self, pieces: Vec<(Bytes, u32)>) -> Batch {
        let Self { codec, state } = self.clone();
        Batch::new(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            for (bytes, crc32c) in &pieces {
                state.sha256.update(bytes);
                state.crc32c = crc32c::crc32c_combine(state.crc32c, *crc32c, bytes.len());
                state.size += bytes.len() as u64;
            }
            let encoded = codec.encode(pieces.into_iter().map(|(bytes, _)| bytes).collect());
            state.stored_size += encoded.iter().map(|b| b.len() as u64).sum::<u64>();
            encoded
        })
    }

    /// Sizes and checksums of all that went through.
    pub fn stored(&self) -> Stored {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Stored {
            size: state.size,
            sha256: Sha256Sum(state.sha256.clone().finalize().into()),
            crc32c: state.crc32c,
            codec: self.codec,
            stored_size: state.stored_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn checksums_do_not_depend_on_how_content_is_cut(content in proptest::collection::vec(any::<u8>(), 0..5_000), cuts in proptest::collection::vec(1usize..700, 0..20)) {
            let pipeline = Pipeline::new(Codec::Identity);
            let (mut rest, mut out) = (Bytes::from(content.clone()), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let piece = rest.split_to(cut.min(rest.len()));
                let crc = crc32c::crc32c(&piece);
                out.extend(pipeline.batch(vec![(piece, crc)]).encode().concat());
            }
            prop_assert_eq!(&out, &content);
            let stored = pipeline.stored();
            prop_assert_eq!(stored.size, content.len() as u64);
            prop_assert_eq!(stored.crc32c, crc32c::crc32c(&content));
            prop_assert_eq!(stored.sha256.0, <[u8; 32]>::from(Sha256::digest(&content)));
        }
    }
}
