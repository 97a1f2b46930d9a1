//! The body of a request: passes frames on and counts them, and says that the client left where tonic would say that the stream ended.
//!
//! tonic takes a stream that its client cancelled for one that ended, which is right for nobody who acts on the end of a stream.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    iter::successors,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

/// The body of a request that went through the edge.
#[derive(Debug)]
pub struct RequestBody<B>(Form<B>);

#[derive(Debug)]
enum Form<B> {
    /// What was read already.
    Whole(Option<Bytes>),
    /// The client's, whose bytes are counted for whoever looks after its pace.
    Counted(B, Arc<AtomicU64>),
    /// The client's, of which nobody waits for the end: it is over when nothing comes for so long.
    Idle(B, Duration, Pin<Box<Sleep>>),
}

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

impl<B> RequestBody<B> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Form::Whole(Some(bytes)))
    }

    pub(super) fn counted(body: B, bytes: Arc<AtomicU64>) -> Self {
        Self(Form::Counted(body, bytes))
    }

    pub(super) fn idle(body: B, timeout: Duration) -> Self {
        Self(Form::Idle(body, timeout, Box::pin(sleep(timeout))))
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
        match &mut self.0 {
            Form::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Form::Counted(body, count) => {
                let frame = ready!(Pin::new(body).poll_frame(context)).transpose().map_err(|_| Gone)?;
                if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
                    count.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(Ok))
            }
            Form::Idle(body, timeout, end) => match Pin::new(body).poll_frame(context) {
                Poll::Ready(frame) => {
                    end.as_mut().reset(Instant::now() + *timeout);
                    Poll::Ready(frame.map(|frame| frame.map_err(|_| Gone)))
                }
                Poll::Pending => end.as_mut().poll(context).map(|()| None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Form::Whole(bytes) => bytes.is_none(),
            Form::Counted(body, _) | Form::Idle(body, ..) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Form::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Form::Counted(body, _) | Form::Idle(body, ..) => body.size_hint(),
        }
    }
}
