//! Bodies of requests, and the clock that runs while nothing of them is taken.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// Bytes of a body that are handed to the connection at a time: small, so that the clock sees a slow one move.
const STEP: usize = 64 * 1024;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is here. Its length has to be told in a header.
pub(crate) fn of_pieces(pieces: Vec<Bytes>) -> Body {
    of_stream(stream::iter(pieces.into_iter().map(Ok)))
}

/// A body that comes. Its length has to be told in a header.
pub(crate) fn of_stream(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    let steps = pieces.map_ok(|piece| stream::iter(split(piece).map(Ok))).try_flatten();
    StreamBody::new(steps.map_ok(Frame::data)).boxed_unsync()
}

fn split(mut piece: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!piece.is_empty()).then(|| piece.split_to(piece.len().min(STEP))))
}

/// When something of a request was taken last.
#[derive(Debug, Clone)]
pub(super) struct Clock(Arc<Mutex<Instant>>);

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Clock {
    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body, each piece of which sets the clock anew.
    pub(super) fn watch(&self, body: Body) -> Body {
        let clock = self.clone();
        let size = http_body::Body::size_hint(&body);
        let frames = body.into_data_stream().inspect(move |_| {
            *clock.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        });
        match size.exact() {
            Some(0) => empty(),
            _ => StreamBody::new(frames.map_ok(Frame::data)).boxed_unsync(),
        }
    }
}
