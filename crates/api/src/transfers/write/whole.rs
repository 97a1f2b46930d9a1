//! Contents that are there before anything is begun: small ones, whose messages come together.
//!
//! `WriteFile` tells its client nothing before its end, so nobody notices that an upload begins a moment later.

use super::{Part, later_message, messages::Messages};
use coffer_domain::{
    content::Piece,
    service::{MAX_WHOLE_BYTES, Whole},
};

/// Most messages that are looked at.
const MAX_MESSAGES: usize = 16;

/// The content of `first` and what follows it, if it ends soon and has no fault. Else all that was looked at is still to come, and what is wrong
/// is told where it always is.
pub(super) async fn gather(first: &Part, messages: &mut Messages) -> Option<Whole> {
    let (mut pieces, mut bytes, mut part) = (Vec::new(), 0, None);
    for _ in 0..MAX_MESSAGES {
        let Part { data, finish } = part.as_ref().unwrap_or(first);
        if let Some((offset, data)) = data {
            if *offset != bytes as u64 || bytes + data.content.len() > MAX_WHOLE_BYTES {
                return None;
            }
            bytes += data.content.len();
            pieces.push(Piece { bytes: data.content.clone(), crc32c: data.crc32c });
        }
        match (*finish, messages.look_ahead().await?) {
            (Some(sha256), None) => return Some(Whole { pieces, sha256 }),
            (None, Some(message)) => part = Some(later_message(message).ok()?),
            (_, _) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
