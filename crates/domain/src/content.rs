//! What happens to content on its way: hashing, then the codec, then the driver.

mod arrival;
mod checksum;

pub use arrival::Arrival;
pub(crate) use arrival::check_message;
pub(crate) use checksum::Checksum;

use crate::{Error, Result, driver::Batch, error::SHA256, file::Sha256Sum};
use bytes::Bytes;
use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

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

impl Stored {
    /// Refuses a content that is not what was announced of it: its size, and its SHA-256 as often as it was said.
    ///
    /// # Errors
    ///
    /// [`Error::SizeMismatch`] and [`Error::ChecksumMismatch`].
    pub fn check(&self, size: Option<u64>, sha256: [Option<Sha256Sum>; 2]) -> Result<()> {
        if let Some(declared) = size.filter(|declared| *declared != self.size) {
            return Err(Error::SizeMismatch { declared, received: self.size });
        }
        match sha256.into_iter().flatten().find(|expected| *expected != self.sha256) {
            None => Ok(()),
            Some(expected) => Err(Error::ChecksumMismatch {
                algorithm: SHA256,
                expected: expected.to_string(),
                actual: self.sha256.to_string(),
            }),
        }
    }
}

/// Hashes and encodes the batches of one content, in order. The work happens where a driver asks for the bytes.
#[derive(Debug, Clone)]
pub struct Pipeline {
    codec: Codec,
    state: Arc<Mutex<State>>,
}

/// Bytes of [`SavedState`]: its format, the state of SHA-256, CRC-32C, plain and stored size.
const SAVED_BYTES: usize = 1 + SHA256_BYTES + 4 + 8 + 8;
/// Bytes `sha2` makes of its state.
const SHA256_BYTES: usize = 104;
/// The only format so far. The state of `sha2` is its own affair: another version of it would get another number.
const FORMAT: u8 = 1;

/// Where a [`Pipeline`] was, so that another can go on from there without reading back what went through.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedState(Vec<u8>);

impl SavedState {
    /// As it was stored.
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// To be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SavedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedState({} bytes)", self.0.len())
    }
}

/// Bytes of a content, with their CRC-32C where that was found already.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// Their CRC-32C; has to be right.
    pub crc32c: Option<u32>,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, crc32c: None }
    }
}

#[derive(Debug, Default)]
struct State {
    size: u64,
    sha256: Sha256,
    crc32c: Checksum,
    stored_size: u64,
}

impl Pipeline {
    /// A pipeline at the beginning of a content.
    pub fn new(codec: Codec) -> Self {
        Self { codec, state: Arc::default() }
    }

    /// The next bytes of the content, ready to be handed to a driver.
    pub fn batch(&self, pieces: Vec<Piece>) -> Batch {
        let me = self.clone();
        Batch::new(move || me.encode(pieces))
    }

    /// The same on this thread.
    pub fn encode(&self, pieces: Vec<Piece>) -> Vec<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plain = Vec::with_capacity(pieces.len());
        for Piece { bytes, crc32c } in pieces {
            let length = bytes.len() as u64;
            state.sha256.update(&bytes);
            state.crc32c.append(crc32c.unwrap_or_else(|| crc32c::crc32c(&bytes)), length);
            state.size += length;
            plain.push(bytes);
        }
        let encoded = self.codec.encode(plain);
        state.stored_size += encoded.iter().map(|b| b.len() as u64).sum::<u64>();
        encoded
    }

    /// A pipeline where another was; `None` if this build cannot read its state.
    pub fn restore(codec: Codec, saved: &SavedState) -> Option<Self> {
        let (format, rest) = saved.0.split_first()?;
        if *format != FORMAT || saved.0.len() != SAVED_BYTES {
            return None;
        }
        let (sha256, rest) = rest.split_at(SHA256_BYTES);
        let sha256: &SerializedState<Sha256> = sha256.try_into().ok()?;
        let (crc32c, rest) = rest.split_at(4);
        let (size, stored_size) = rest.split_at(8);
        let state = State {
            size: u64::from_le_bytes(size.try_into().ok()?),
            sha256: Sha256::deserialize(sha256).ok()?,
            crc32c: Checksum::new(u32::from_le_bytes(crc32c.try_into().ok()?)),
            stored_size: u64::from_le_bytes(stored_size.try_into().ok()?),
        };
        Some(Self { codec, state: Arc::new(Mutex::new(state)) })
    }

    /// Where it is now: the same for the same bytes, however they were cut.
    pub fn save(&self) -> SavedState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(SAVED_BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&state.sha256.serialize());
        bytes.extend_from_slice(&state.crc32c.value().to_le_bytes());
        bytes.extend_from_slice(&state.size.to_le_bytes());
        bytes.extend_from_slice(&state.stored_size.to_le_bytes());
        SavedState(bytes)
    }

    /// Sizes and checksums of all that went through.
    pub fn stored(&self) -> Stored {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Stored {
            size: state.size,
            sha256: Sha256Sum(state.sha256.clone().finalize().into()),
            crc32c: state.crc32c.value(),
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
            let mut pipeline = Pipeline::new(Codec::Identity);
            let (mut rest, mut out) = (Bytes::from(content.clone()), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let bytes = rest.split_to(cut.min(rest.len()));
                let crc32c = (cut % 2 == 0).then(|| crc32c::crc32c(&bytes));
                out.extend(pipeline.batch(vec![Piece { bytes, crc32c }]).encode().concat());
                let saved = pipeline.save();
                pipeline = Pipeline::restore(Codec::Identity, &saved).unwrap();
                prop_assert_eq!(pipeline.save(), saved);
            }
            prop_assert_eq!(&out, &content);
            let stored = pipeline.stored();
            prop_assert_eq!(stored.size, content.len() as u64);
            prop_assert_eq!(stored.crc32c, crc32c::crc32c(&content));
            prop_assert_eq!(stored.sha256.0, <[u8; 32]>::from(Sha256::digest(&content)));
        }
    }

    #[test]
    fn a_state_that_is_not_understood_is_refused() {
        let saved = Pipeline::new(Codec::Identity).save();
        let restored = |bytes: Vec<u8>| Pipeline::restore(Codec::Identity, &SavedState::stored(bytes));
        assert!(restored(saved.as_bytes().to_vec()).is_some());
        assert!(restored(Vec::new()).is_none());
        assert!(restored(saved.as_bytes()[1..].to_vec()).is_none());
        let mut newer = saved.as_bytes().to_vec();
        newer[0] = FORMAT + 1;
        assert!(restored(newer).is_none());
        let mut impossible = saved.as_bytes().to_vec();
        impossible[SHA256_BYTES] = 0xFF;
        let (plain, bad) = (saved.as_bytes().to_vec(), restored(impossible.clone()));
        assert!(bad.is_none() || impossible == plain, "a position past the block");
    }
}
