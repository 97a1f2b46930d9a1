//! The body of a request: passes frames on, and says that the client left where tonic would say that the stream ended.
//!
//! tonic takes a stream that its client cancelled for one that ended, which is right for nobody who acts on the end of a stream.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    iter::successors,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::Status;

/// The body of a request that went through the edge.
#[derive(Debug)]
pub struct RequestBody<B>(pub(super) B);

/// The stream of a request broke off: the client cancelled it, or its connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("the client left before the end of its stream")]
pub struct Gone;

impl Gone {
    /// Whether this is why a message could not be read.
    pub(crate) fn caused(status: &Status) -> bool {
        let status: &(dyn std::error::Error + 'static) = status;
        successors(Some(status), |error| error.source()).any(|error| error.is::<Self>())
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Pin::new(&mut self.0).poll_frame(context).map_err(|_| Gone)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
