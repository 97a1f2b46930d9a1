//! What a part is made of.

use super::{
    client::Client,
    integrity::{Parcel, Sum},
    objects::body,
    reader::Content,
};
use crate::remote::{Failure, reading};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use rusoto_core::ByteStream;
use std::{io, ops::Range, sync::Arc};

/// Where the bytes of a part are until it is stored. They can be sent again.
#[derive(Debug)]
pub(super) enum PartContent {
    /// In memory.
    Here(Parcel),
    /// In the bucket, for want of memory, but for the last few.
    Staged {
        /// Objects, and what of each is in the part.
        pieces: Vec<(String, Range<u64>)>,
        /// What comes after them.
        tail: Vec<Bytes>,
        size: u64,
        sum: Sum,
    },
}

impl PartContent {
    /// Its size, and the sum that goes with it.
    pub(super) fn told(&self) -> (u64, &Sum) {
        match self {
            Self::Here(parcel) => (parcel.size, &parcel.sum),
            Self::Staged { size, sum, .. } => (*size, sum),
        }
    }

    /// A body for rusoto. What is in the bucket is read as it is sent.
    pub(super) fn body(&self, client: &Arc<Client>) -> Result<ByteStream, Failure> {
        match self {
            Self::Here(parcel) => body(parcel),
            Self::Staged { pieces, tail, size, .. } => {
                let size = usize::try_from(*size)
                    .map_err(|_| Failure::wrong(ErrorKind::Unsupported, "too large for this machine"))?;
                let tail = stream::iter(tail.clone().into_iter().map(Ok));
                let content = staged(client, pieces.clone()).map_err(io::Error::other).chain(tail);
                Ok(ByteStream::new_with_size(content, size))
            }
        }
    }
}

/// What is in these objects, one after the other.
pub(super) fn staged(
    client: &Arc<Client>,
    pieces: Vec<(String, Range<u64>)>,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    let client = Arc::clone(client);
    let contents = stream::iter(pieces).then(move |(name, range)| {
        reading::read(Content { client: Arc::clone(&client), name, version: None }, range)
    });
    contents.try_flatten().boxed()
}
