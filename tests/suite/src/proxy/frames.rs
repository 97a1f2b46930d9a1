//! As much of HTTP/2 as it takes to see a request's end and an answer's beginning.

use crate::frames::{HEAD_BYTES, PREFACE, flag, kind};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes a client sends before its first frame.
pub(super) const PREFACE_BYTES: u64 = PREFACE.len() as u64;

/// A frame, header and payload.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    /// The next frame; `None` where the connection ends, also in the middle of one.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEAD_BYTES];
        match from.read_exact(&mut bytes).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        };
        let payload_bytes = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        bytes.resize(HEAD_BYTES + payload_bytes, 0);
        match from.read_exact(&mut bytes[HEAD_BYTES..]).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            outcome => outcome.map(|_| Some(Self { bytes })),
        }
    }

    /// The sender is done with a stream after this.
    pub(super) fn ends_stream(&self) -> bool {
        [kind::DATA, kind::HEADERS].contains(&self.bytes[3]) && self.bytes[4] & flag::END_STREAM != 0
    }

    /// From a server: an answer begins.
    pub(super) fn begins_answer(&self) -> bool {
        self.bytes[3] == kind::HEADERS
    }
}
