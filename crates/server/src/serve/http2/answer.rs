//! The answer to a request, as fast as its client takes it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use coffer_api::edge::EdgeBody;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use tokio::time::sleep;

/// Waits for an answer and gives it. Nothing goes on that the client has reset.
pub(super) async fn give<R>(
    answer: impl Future<Output = Result<Response<EdgeBody<R>>, Infallible>>,
    mut reply: SendResponse<Bytes>,
    stall: Duration,
) where
    R: Body<Data = Bytes> + Unpin,
{
    let answer = pin!(answer);
    let Ok(answer) = tokio::select! {
        biased;
        answer = answer => answer,
        _ = poll_fn(|context| reply.poll_reset(context)) => return,
    };
    let (head, body) = answer.into_parts();
    let is_whole = body.is_end_stream();
    if let Ok(stream) = reply.send_response(Response::from_parts(head, ()), is_whole)
        && !is_whole
    {
        // The stream was reset or its connection is gone: nobody is left to be told.
        let _ = Sending { stream, body, stall }.run().await;
    }
}

/// The client has reset the stream, or its connection is gone.
struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

struct Sending<R> {
    stream: SendStream<Bytes>,
    body: EdgeBody<R>,
    stall: Duration,
}

impl<R: Body<Data = Bytes> + Unpin> Sending<R> {
    async fn run(mut self) -> Result<(), Gone> {
        loop {
            let Some(frame) = self.next().await? else {
                return Ok(self.stream.send_data(Bytes::new(), true)?);
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Some(trailers) = self.send(data).await? {
                        return Ok(self.stream.send_trailers(trailers)?);
                    }
                }
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        return Ok(self.stream.send_trailers(trailers)?);
                    }
                }
            }
        }
    }

    /// The next frame of the body; `None` at its end.
    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, Gone> {
        let frame = poll_fn(|context| {
            if self.stream.poll_reset(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            Pin::new(&mut self.body).poll_frame(context).map(Ok)
        });
        match frame.await?.transpose() {
            Ok(frame) => Ok(frame),
            Err(_) => {
                self.stream.send_reset(h2::Reason::INTERNAL_ERROR);
                Err(Gone)
            }
        }
    }

    /// Sends a part of the content as the client's windows allow. Trailers: it took too little for too long, or too long in all.
    async fn send(&mut self, mut data: Bytes) -> Result<Option<HeaderMap>, Gone> {
        let mut patience = None;
        while !data.is_empty() {
            // Asked for again each time, since what was given is used up. Never ahead of having content: windows that are held back from
            // other streams of the connection might be all there are.
            self.stream.reserve_capacity(data.len());
            let capacity = poll_fn(|context| {
                if self.stream.poll_reset(context).is_ready() {
                    return Poll::Ready(Err(Gone));
                }
                if self.stream.capacity() > 0 {
                    return Poll::Ready(Ok(Ok(self.stream.capacity())));
                }
                match self.stream.poll_capacity(context) {
                    Poll::Ready(Some(Ok(capacity))) if capacity > 0 => return Poll::Ready(Ok(Ok(capacity))),
                    // Nothing was gained, or the notice was of what is gone: once more.
                    Poll::Ready(Some(Ok(_))) => context.waker().wake_by_ref(),
                    Poll::Ready(_) => return Poll::Ready(Err(Gone)),
                    Poll::Pending => {}
                }
                if let Poll::Ready(trailers) = self.body.poll_overdue(context) {
                    return Poll::Ready(Ok(Err(trailers)));
                }
                let patience = patience.get_or_insert_with(|| Box::pin(sleep(self.stall + GRACE)));
                patience.as_mut().poll(context).map(|()| Ok(Err(self.body.stalled(self.stall))))
            });
            match capacity.await? {
                Ok(capacity) => self.stream.send_data(data.split_to(capacity.min(data.len())), false)?,
                Err(trailers) => {
                    self.stream.reserve_capacity(0);
                    return Ok(Some(trailers));
                }
            }
        }
        Ok(None)
    }
}

/// A reader that stands behind the answer notices the same, and says so to the audit trail: it goes first.
const GRACE: Duration = Duration::from_secs(5);
