//! Streams that are mostly right, so that what is wrong with them is found behind the first message too.

use super::BEGUN;
use coffer_proto::v1::{ChecksummedData, UploadSpec, WriteFileRequest, write_file_request::FirstMessage};
use data_encoding::HEXLOWER;
use prost::Message as _;
use ring::digest::{SHA256, digest};

/// Most bytes of data in all messages.
const MAX_BYTES: usize = 5 * 1024 * 1024;
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A body of such messages. Two bytes choose what is announced; each message has four, up to one that is `0xff`: what follows is put behind
/// the messages as it is.
///
/// The four are what the message has (a checksum, which may be wrong, `finish`, …), how many bytes, where they begin, beside the place at
/// which they should, and how often it is sent.
pub(super) fn body(script: &[u8]) -> Vec<u8> {
    let Some(([announced, named], rest)) = script.split_first_chunk() else { return Vec::new() };
    let (mut messages, mut content) = (Vec::new(), Vec::new());
    let mut rest = rest;
    while let Some(([has, length, place, times], behind)) = rest.split_first_chunk() {
        if *has == 0xff {
            break;
        }
        rest = behind;
        let offset = match *place as i8 {
            i8::MAX => i64::MAX - 1,
            i8::MIN => -1,
            by => content.len() as i64 + i64::from(by),
        };
        let data = if has & 1 != 0 { data(offset, length_of(*length), *has) } else { Vec::new() };
        let known = content.len().saturating_sub(usize::try_from(offset).unwrap_or_default());
        content.extend_from_slice(data.get(known..).unwrap_or_default());
        let crc32c = (has & 2 != 0).then(|| crc32c::crc32c(&data) ^ u32::from(has & 4));
        let message = WriteFileRequest {
            first_message: None,
            write_offset: offset,
            data: (has & 1 != 0).then(|| ChecksummedData { content: data.into(), crc32c }),
            finish: has & 8 != 0,
            sha256: if has & 16 != 0 { sum(&content, has & 32 != 0) } else { String::new() },
        };
        // Often only what is small.
        let times = if length_of(*length) < 256 { times_of(*times) } else { 1 };
        messages.extend(std::iter::repeat_n(message, times));
        if content.len() > MAX_BYTES {
            break;
        }
    }
    if let Some(first) = messages.first_mut() {
        first.first_message = opening(*announced, *named, &content);
    }
    let mut body: Vec<u8> = messages.iter().flat_map(frame).collect();
    body.extend_from_slice(rest.strip_prefix(b"\xff").unwrap_or_default());
    body
}

fn frame(message: &WriteFileRequest) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a message is no larger than its content");
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// A spec that announces of `content` what it is, or something else; or an upload.
fn opening(announced: u8, named: u8, content: &[u8]) -> Option<FirstMessage> {
    let size = content.len() as i64;
    let spec = UploadSpec {
        size_bytes: match announced & 3 {
            0 => None,
            1 => Some(size - 1),
            2 => Some(size + 1),
            _ => Some(size),
        },
        sha256: if announced & 4 != 0 { sum(content, announced & 8 != 0) } else { String::new() },
        request_id: if announced & 16 != 0 { ID } else { "" }.to_owned(),
        path: "a/b".to_owned(),
        ..UploadSpec::default()
    };
    match named % 4 {
        0 | 1 => Some(FirstMessage::Spec(spec)),
        2 => Some(FirstMessage::UploadId(ID.to_owned())),
        _ => None,
    }
}

/// The bytes of the content there, which begins as one that is there; or those of another content.
fn data(offset: i64, length: usize, has: u8) -> Vec<u8> {
    let (begin, other) = (usize::try_from(offset).unwrap_or_default(), has & 64);
    let numbers: Vec<u8> = (0..=u8::MAX).map(|number| number ^ other).collect();
    let mut data = numbers.repeat(length / numbers.len() + 2);
    data.drain(..begin % numbers.len());
    data.truncate(length);
    for (byte, begun) in data.iter_mut().zip(BEGUN.iter().skip(begin)) {
        *byte = begun ^ other;
    }
    data
}

/// Bytes; seldom thousands; and more seldom so many that a message or a file has too many.
fn length_of(length: u8) -> usize {
    match length {
        0..230 => length.into(),
        230..250 => usize::from(length - 229) * 4_096,
        250.. => usize::from(length - 249) * 512 * 1_024 + usize::from(length == 254),
    }
}

/// Once; seldom so often that there are too many of them.
fn times_of(times: u8) -> usize {
    match times {
        0..240 => 1,
        240.. => usize::from(times - 239) * 80,
    }
}

/// The SHA-256 of the content, or one digit of it wrong.
fn sum(content: &[u8], is_wrong: bool) -> String {
    let mut sum = HEXLOWER.encode(digest(&SHA256, content).as_ref());
    if is_wrong {
        sum.replace_range(..1, if sum.starts_with('0') { "1" } else { "0" });
    }
    sum
}
