//! What the contract says of a stream, said a second time and for all its messages at once.

use super::{BEGUN, MAX_FILE_BYTES};
use coffer_api::MAX_MESSAGE_BYTES;
use coffer_proto::{
    MAX_DATA_BYTES,
    v1::{ChecksummedData, WriteFileRequest, write_file_request::FirstMessage},
};
use data_encoding::HEXLOWER;
use prost::Message as _;
use ring::digest::{SHA256, digest};

/// Most messages in a row without data.
const MAX_EMPTY: usize = 1_024;

/// What a body holds.
#[derive(Debug)]
pub(super) enum Frame {
    Message(Box<WriteFileRequest>),
    /// No message of the contract.
    Unreadable,
    /// The client left.
    Left,
}

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Refusal {
    Field,
    Checksum,
    TooLarge,
    AnotherContent,
    Size,
    Gap,
    FileTooLarge,
    Left,
    Unreadable,
}

/// The frames of a body, up to the first that is none.
pub(super) fn frames(mut body: &[u8], breaks_off: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let [flag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if flag != 0 || length > MAX_MESSAGE_BYTES {
            frames.push(Frame::Unreadable);
            return frames;
        }
        let Some((message, behind)) = rest.split_at_checked(length) else {
            // A head of which nothing follows is nothing to tonic: no byte is lost by it.
            body = if rest.is_empty() { rest } else { body };
            break;
        };
        match WriteFileRequest::decode(message) {
            Ok(message) => frames.push(Frame::Message(Box::new(message))),
            Err(_) => {
                frames.push(Frame::Unreadable);
                return frames;
            }
        }
        body = behind;
    }
    if breaks_off {
        frames.push(Frame::Left);
    } else if !body.is_empty() {
        frames.push(Frame::Unreadable);
    }
    frames
}

/// Whether the first message opens anything, apart from what its spec or its id say.
pub(super) fn opening(frames: &[Frame]) -> Result<(), Refusal> {
    match frames.first() {
        None => Err(Refusal::Field),
        Some(Frame::Unreadable) => Err(Refusal::Unreadable),
        Some(Frame::Left) => Err(Refusal::Left),
        Some(Frame::Message(_)) => Ok(()),
    }
}

/// The content of a stream whose first message is good, as far as it is; and why it is refused, if it is. Where it `goes_on`, its beginning
/// is there from before.
pub(super) fn content(frames: &[Frame], goes_on: bool) -> (Vec<u8>, Result<(), Refusal>) {
    let begun = if goes_on { BEGUN } else { &[] };
    let mut content = begun.to_vec();
    let outcome = judge(frames, begun, &mut content);
    (content, outcome)
}

fn judge(frames: &[Frame], begun: &[u8], content: &mut Vec<u8>) -> Result<(), Refusal> {
    let spec = match frames.first() {
        Some(Frame::Message(first)) => match &first.first_message {
            Some(FirstMessage::Spec(spec)) => Some(spec),
            _ => None,
        },
        _ => None,
    };
    let size = spec.and_then(|spec| spec.size_bytes).map(|size| size as u64);
    // What is sent once more of the beginning, as long as it comes in order.
    let mut again = spec.filter(|_| !begun.is_empty()).map(|_| Vec::new());
    let mut empty = 0;
    for (at, frame) in frames.iter().enumerate() {
        let message = match frame {
            Frame::Message(message) => message,
            Frame::Unreadable => return Err(Refusal::Unreadable),
            Frame::Left => return Err(Refusal::Left),
        };
        if at > 0 && !is_later(message) {
            return Err(Refusal::Field);
        }
        let is_empty = message.data.as_ref().is_none_or(|data| data.content.is_empty());
        empty = if is_empty { empty + 1 } else { 0 };
        if empty > MAX_EMPTY {
            return Err(Refusal::Field);
        }
        if let Some(data) = &message.data {
            let offset = usize::try_from(message.write_offset).map_err(|_| Refusal::Field)?;
            let new = new_of(data, offset, content.len())?;
            if let Some(sent) = &mut again {
                repeat(sent, offset, &data.content, begun)?;
            }
            let says_nothing = offset == content.len() && new.is_empty();
            again = again.filter(|sent| says_nothing || sent.len() < begun.len() && offset <= sent.len());
            let received = (content.len() + new.len()) as u64;
            if !new.is_empty() && size.is_some_and(|size| received > size) {
                return Err(Refusal::Size);
            }
            if received > MAX_FILE_BYTES {
                return Err(Refusal::FileTooLarge);
            }
            content.extend_from_slice(new);
        }
        match (message.finish, frames.get(at + 1)) {
            (true, Some(Frame::Message(_))) | (false, None) => return Err(Refusal::Field),
            (true, None) => {
                let sums = [spec.map_or("", |spec| spec.sha256.as_str()), &message.sha256];
                return is_announced(content, size, sums);
            }
            (_, Some(_)) => {}
        }
    }
    Err(Refusal::Field)
}

/// What of the data is new behind `received` bytes.
fn new_of(data: &ChecksummedData, offset: usize, received: usize) -> Result<&[u8], Refusal> {
    if data.content.len() > MAX_DATA_BYTES {
        return Err(Refusal::TooLarge);
    }
    if data.crc32c.is_some_and(|sum| sum != crc32c::crc32c(&data.content)) {
        return Err(Refusal::Checksum);
    }
    let known = received.checked_sub(offset).ok_or(Refusal::Gap)?;
    Ok(data.content.get(known..).unwrap_or_default())
}

/// Adds to `sent` what belongs behind it; refuses another beginning than `begun` when all of it was sent.
fn repeat(sent: &mut Vec<u8>, offset: usize, data: &[u8], begun: &[u8]) -> Result<(), Refusal> {
    if let Some(new) = sent.len().checked_sub(offset).and_then(|known| data.get(known..)) {
        sent.extend(new.iter().take(begun.len() - sent.len()));
    }
    if sent.len() == begun.len() && sent.as_slice() != begun { Err(Refusal::AnotherContent) } else { Ok(()) }
}

/// A message that begins nothing, with numbers that are possible.
fn is_later(message: &WriteFileRequest) -> bool {
    let WriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
    let length = data.as_ref().map_or(0, |data| data.content.len() as i64);
    let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    first_message.is_none()
        && *write_offset >= 0
        && write_offset.checked_add(length).is_some()
        && (sha256.is_empty() || *finish && sha256.len() == 64 && sha256.bytes().all(is_hex))
}

/// The content is as large as was said, and has the sums that were named.
fn is_announced(content: &[u8], size: Option<u64>, sums: [&str; 2]) -> Result<(), Refusal> {
    if size.is_some_and(|size| size != content.len() as u64) {
        return Err(Refusal::Size);
    }
    let sum = HEXLOWER.encode(digest(&SHA256, content).as_ref());
    if sums.iter().any(|named| !named.is_empty() && *named != sum) {
        return Err(Refusal::Checksum);
    }
    Ok(())
}
