//! Requests of one message: read whole, in a limited time and within the memory budget, before anybody works on them.
//!
//! Left to tonic, a client that sends half a message would keep what it had sent, and its handler's turn, for as long as it likes.

use super::{
    admission::{Kind, Place},
    progress::Pace,
};
use crate::MAX_MESSAGE_BYTES;
use bytes::{Bytes, BytesMut};
use coffer_domain::{
    Error, Result,
    budget::{Budget, Share},
    error::Unauthenticated,
};
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;
use tokio::time::timeout;
use tonic::body::Body;

/// What is read without asking the budget, and the most of callers who are not known.
const SMALL_BYTES: usize = 16 * 1024;

/// Bytes in front of each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How requests of one message are read: an extension of each request.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(super) pace: Pace,
    pub(super) budget: Budget,
    pub(super) place: Place,
}

/// Memory of a message, until nobody needs the request's extensions.
#[derive(Debug, Clone)]
struct Memory(#[expect(dead_code, reason = "held for its drop")] Arc<Share>);

impl Reading {
    /// Makes a request ready to be worked on: it is the caller's, has arrived where it is one message, and it is its turn.
    ///
    /// # Errors
    ///
    /// [`Error::LimitReached`] and [`Error::Overloaded`] where there is too much in progress, [`Error::Stalled`] if the message takes longer
    /// than the stall timeout.
    pub(crate) async fn ready(
        self,
        caller: Option<String>,
        request: http::Request<Body>,
    ) -> Result<http::Request<Body>> {
        let is_known = caller.is_some();
        if let Some(caller) = caller {
            self.place.belong_to(caller)?;
        }
        if self.place.kind() != Kind::Unary {
            return Ok(request);
        }
        let (mut head, body) = request.into_parts();
        let (message, memory) = self.message(body, is_known).await?;
        head.extensions.insert(Memory(Arc::new(memory)));
        self.place.take_turn().await?;
        Ok(http::Request::from_parts(head, Body::new(Full::new(message))))
    }

    /// The first message, with its prefix, and its memory. What follows it is not kept.
    pub(super) async fn message<B>(&self, body: B, is_known: bool) -> Result<(Bytes, Share)>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let stall_timeout = self.pace.stall_timeout;
        match timeout(stall_timeout, self.collect(body, is_known)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Error::Stalled { seconds: stall_timeout.as_secs() }),
        }
    }

    async fn collect<B>(&self, mut body: B, is_known: bool) -> Result<(Bytes, Share)>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        let mut memory = self.budget.take(0, 0);
        let mut most = SMALL_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Error::ClientLeft)?.into_data() else { continue };
            if bytes < most {
                bytes += data.len();
                parts.push(data);
            }
            let Some(declared) = length(&parts) else { continue };
            if declared > MAX_MESSAGE_BYTES {
                // tonic refuses it for its prefix.
                break;
            }
            most = PREFIX_BYTES + declared;
            if most > SMALL_BYTES && memory.bytes() < most {
                if !is_known {
                    return Err(Error::Unauthenticated(Unauthenticated::Missing));
                }
                memory.resize(most, 0);
                if memory.bytes() < most {
                    return Err(Error::Overloaded);
                }
            }
        }
        Ok((joined(parts, bytes), memory))
    }
}

/// The length that the prefix declares, if it has arrived.
fn length(parts: &[Bytes]) -> Option<usize> {
    let mut prefix = parts.iter().flatten().take(PREFIX_BYTES).skip(1).copied();
    let bytes = [prefix.next()?, prefix.next()?, prefix.next()?, prefix.next()?];
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

/// Without a copy in the usual case of one frame.
fn joined(mut parts: Vec<Bytes>, bytes: usize) -> Bytes {
    if parts.len() <= 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(bytes);
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

#[cfg(test)]
mod tests;
