//! HTTP/2 frames by hand (RFC 9113, RFC 7541): what an attacker sends, or does not read, is nothing a library would do.

use coffer_proto::v1;
use prost::Message;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before a frame's payload.
pub const HEAD_BYTES: usize = 9;

/// Kinds of frames.
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// Header fields that open a stream, begin its answer or end it.
    pub const HEADERS: u8 = 1;
    /// Which streams matter more, which nobody heeds any more.
    pub const PRIORITY: u8 = 2;
    /// A stream is given up, with a code.
    pub const RESET: u8 = 3;
    /// What a peer wants to be heeded.
    pub const SETTINGS: u8 = 4;
    /// Asks for a sign of life, or is one.
    pub const PING: u8 = 6;
    /// The connection is given up, with a code.
    pub const GOAWAY: u8 = 7;
    /// How much more may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More header fields.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of DATA and HEADERS: the sender is done with the stream.
    pub const END_STREAM: u8 = 1;
    /// Of SETTINGS and PING: it is the answer to one.
    pub const ACK: u8 = 1;
    /// Of HEADERS and CONTINUATION: no more header fields follow.
    pub const END_HEADERS: u8 = 4;
}

/// The setting for the window that each new stream begins with.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame that was received.
#[derive(Debug)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Those of [`flag`] that its kind has.
    pub flags: u8,
    /// The stream it is about; 0 is the connection.
    pub stream: u32,
    /// What follows its head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads the next one whole.
    ///
    /// # Errors
    /// Where the connection ends, also in the middle of one.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        from.read_exact(&mut payload).await?;
        Ok(Self { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Whether the peer has nothing more to say on the frame's stream.
    pub fn ends_stream(&self) -> bool {
        match self.kind {
            kind::DATA | kind::HEADERS => self.flags & flag::END_STREAM != 0,
            kind::RESET => true,
            _ => false,
        }
    }

    /// Whether it is the answer to what was asked with one of its kind: SETTINGS, or PING.
    pub fn is_ack(&self) -> bool {
        [kind::SETTINGS, kind::PING].contains(&self.kind) && self.flags & flag::ACK != 0
    }

    /// What an honest peer answers at once.
    pub fn answer(&self) -> Option<Vec<u8>> {
        match self.kind {
            kind::SETTINGS if !self.is_ack() => Some(frame(kind::SETTINGS, flag::ACK, 0, &[])),
            kind::PING if !self.is_ack() => Some(frame(kind::PING, flag::ACK, 0, &self.payload)),
            _ => None,
        }
    }

    /// The code with which the connection is given up, if it is.
    pub fn goaway_code(&self) -> Option<u32> {
        let code = self.payload.get(4..8).filter(|_| self.kind == kind::GOAWAY)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }
}

/// A frame's bytes. The payload has less than 16 MiB.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [0, length @ ..] = length_bytes(payload) else { panic!("no frame is that long") };
    let mut bytes = length.to_vec();
    bytes.extend([kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A SETTINGS frame.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// A WINDOW_UPDATE frame; stream 0 is the connection.
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A RST_STREAM frame with this code.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RESET, 0, stream, &code.to_be_bytes())
}

/// How an HTTP/2 client begins.
pub fn hello(pairs: &[(u16, u32)]) -> Vec<u8> {
    [PREFACE, &settings(pairs)].concat()
}

/// A list of header fields, each as a literal that is not indexed: nothing has to be remembered on either side.
pub fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// HPACK's integer with a prefix of 7 bits.
fn length(block: &mut Vec<u8>, bytes: usize) {
    const PREFIX: usize = 127;
    if bytes < PREFIX {
        block.push(bytes as u8);
        return;
    }
    block.push(PREFIX as u8);
    let mut rest = bytes - PREFIX;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The header fields of a call, such as of `FileService/GetFile`.
pub fn call(method: &str, token: Option<&str>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let (path, bearer) = (format!("/coffer.v1.{method}"), token.map(|token| format!("Bearer {token}")));
    let mut list = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "coffer"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    list.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    list.extend_from_slice(metadata);
    fields(&list)
}

/// The HEADERS frame that opens a stream, which stays open.
pub fn open(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, block)
}

/// A message as gRPC frames it.
pub fn message(message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    [&[0], length_bytes(&encoded).as_slice(), &encoded].concat()
}

fn length_bytes(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("nothing here has 4 GiB").to_be_bytes()
}

/// A read of a whole content, asked for on stream 1.
pub fn read_file(token: &str, file: Option<v1::FileReference>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let request = v1::ReadFileRequest { file, ..Default::default() };
    [
        open(1, &call("TransferService/ReadFile", Some(token), metadata)),
        frame(kind::DATA, flag::END_STREAM, 1, &message(&request)),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn lengths_are_those_of_the_specification() {
        // RFC 7541, C.1.2, with a prefix of 7 bits: 1337 - 127 = 9 * 128 + 58.
        let mut block = Vec::new();
        length(&mut block, 1337);
        assert_eq!(block, [127, 186, 9]);
        block.clear();
        length(&mut block, 126);
        assert_eq!(block, [126]);
        block.clear();
        length(&mut block, 127);
        assert_eq!(block, [127, 0]);
    }
}
