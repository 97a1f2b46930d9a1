//! A connection that counts its bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use metrics::Counter;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pin_project! {
    /// Counts what goes over `inner`, both for all connections and for itself.
    pub(super) struct Counted<T> {
        #[pin]
        inner: T,
        received_here: Arc<AtomicU64>,
        received: Counter,
        sent: Counter,
    }
}

/// Where the bytes of all connections of a listener are counted.
#[derive(Clone)]
pub(super) struct Traffic {
    received: Counter,
    sent: Counter,
}

impl Traffic {
    pub(super) fn of(listener: &'static str) -> Self {
        Self {
            received: metrics::counter!("coffer_received_bytes_total", "listener" => listener),
            sent: metrics::counter!("coffer_sent_bytes_total", "listener" => listener),
        }
    }

    /// Counts the bytes of `inner`; the second value is how many it has received.
    pub(super) fn count<T>(&self, inner: T) -> (Counted<T>, Arc<AtomicU64>) {
        let received_here = Arc::default();
        let counted = Counted {
            inner,
            received_here: Arc::clone(&received_here),
            received: self.received.clone(),
            sent: self.sent.clone(),
        };
        (counted, received_here)
    }
}

impl<T: AsyncRead> AsyncRead for Counted<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        ready!(this.inner.poll_read(context, buffer))?;
        let bytes = (buffer.filled().len() - before) as u64;
        this.received_here.fetch_add(bytes, Ordering::Relaxed);
        this.received.increment(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite> AsyncWrite for Counted<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let sent = ready!(this.inner.poll_write(context, bytes))?;
        this.sent.increment(sent as u64);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let sent = ready!(this.inner.poll_write_vectored(context, bytes))?;
        this.sent.increment(sent as u64);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }
}
