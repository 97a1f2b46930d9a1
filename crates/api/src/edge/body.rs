//! The body of an answer: passes frames on, ends them at the deadline or when nobody takes them, and notes the trailers.

use super::{call::Call, mark};
use crate::status::status;
use bytes::Bytes;
use coffer_domain::Error;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// The body of an answer that went through the edge. A default one is empty.
#[derive(Debug)]
pub struct EdgeBody<B> {
    inner: Option<B>,
    deadline: Option<Pin<Box<Sleep>>>,
    call: Option<Call>,
}

impl<B> Default for EdgeBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<B> EdgeBody<B> {
    pub(super) fn empty() -> Self {
        Self { inner: None, deadline: None, call: None }
    }

    pub(super) fn new(inner: B, deadline: Option<Instant>, call: Call) -> Self {
        Self { inner: Some(inner), deadline: deadline.map(|at| Box::pin(sleep_until(at))), call: Some(call) }
    }

    /// For a connection that cannot send what it has of this answer: ready with the trailers that end it when the deadline has passed.
    /// Nothing comes after them.
    pub fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<HeaderMap> {
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(context).map(|()| self.end(&Error::DeadlineExceeded)),
            None => Poll::Pending,
        }
    }

    /// For a connection whose client has taken nothing of this answer for so long: the trailers that end it. Nothing comes after them.
    pub fn stalled(&mut self, timeout: Duration) -> HeaderMap {
        self.end(&Error::Stalled { seconds: timeout.as_secs() })
    }

    /// Ends the answer now: what produces it is dropped, and the caller hears why.
    fn end(&mut self, error: &Error) -> HeaderMap {
        self.inner = None;
        self.deadline = None;
        let mut trailers = HeaderMap::new();
        if let Some(mut call) = self.call.take() {
            let status = call.span().in_scope(|| status(error));
            status
                .add_header(&mut trailers)
                .expect("a status of the service's own words is made of valid headers");
            mark(&mut trailers, &call);
            call.finish(Some(&trailers));
        }
        trailers
    }
}

impl<B> Body for EdgeBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(trailers) = this.poll_overdue(context) {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let _entered = this.call.as_ref().map(|call| call.span().clone().entered());
        let mut frame = ready!(Pin::new(inner).poll_frame(context));
        match (&mut frame, &mut this.call) {
            (Some(Ok(frame)), Some(call)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    // A client sees either the answer's headers or its trailers where it looks at a refusal.
                    mark(trailers, call);
                    call.finish(Some(trailers));
                }
            }
            (None | Some(Err(_)), Some(call)) => call.finish(None),
            (_, None) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
