//! The byte stream of an HTTP/2 connection: counts its bytes, watches its frames, and notices when the other end takes nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{Frames, Offence};
use super::greeting::PREFACE;
use super::windows::{FIRST_BYTES, MOST_BYTES};

/// A connection whose preface has been read, and is given once more to whoever reads it.
pub(super) struct Watched<T> {
    inner: T,
    /// What is left of the preface.
    preface: &'static [u8],
    frames: Frames,
    watch: Arc<Watch>,
    traffic: Traffic,
}

/// Where the bytes of all connections of a listener are counted.
#[derive(Clone)]
pub(super) struct Traffic {
    received: Counter,
    sent: Counter,
}

/// What is seen of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    received: AtomicU64,
    /// Bytes of content that the client may send, which whoever grants them sets.
    window: AtomicU32,
    /// Milliseconds after the beginning since when nothing could be written, plus one; 0: it could.
    blocked_since: AtomicU64,
    offence: AtomicU8,
}

impl Watch {
    /// Bytes that have arrived.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The client is about to be allowed so much content.
    pub(super) fn allow(&self, window: u32) {
        self.window.store(window, Ordering::Relaxed);
    }

    /// How long the other end has taken nothing of what waits for it.
    pub(super) fn blocked(&self) -> Duration {
        match self.blocked_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.begun.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// What the client did that it may not. Nothing is read of it any more.
    pub(super) fn offence(&self) -> Option<Offence> {
        match self.offence.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Offence::Flood),
            2 => Some(Offence::TooMuchContent),
            _ => Some(Offence::TooLarge),
        }
    }

    fn accuse(&self, offence: Offence) {
        let number = match offence {
            Offence::Flood => 1,
            Offence::TooMuchContent => 2,
            Offence::TooLarge => 3,
        };
        self.offence.store(number, Ordering::Relaxed);
    }

    fn note_write<T>(&self, outcome: &Poll<io::Result<T>>) {
        if outcome.is_ready() {
            self.blocked_since.store(0, Ordering::Relaxed);
        } else if self.blocked_since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.blocked_since.store(now + 1, Ordering::Relaxed);
        }
    }
}

impl Traffic {
    pub(super) fn of(listener: &'static str) -> Self {
        Self {
            received: metrics::counter!("coffer_received_bytes_total", "listener" => listener),
            sent: metrics::counter!("coffer_sent_bytes_total", "listener" => listener),
        }
    }

    /// Watches a connection whose preface has been read.
    pub(super) fn watch<T>(&self, inner: T) -> (Watched<T>, Arc<Watch>) {
        let watch = Arc::new(Watch {
            begun: Instant::now(),
            received: AtomicU64::new(0),
            window: AtomicU32::new(FIRST_BYTES),
            blocked_since: AtomicU64::new(0),
            offence: AtomicU8::new(0),
        });
        let watched = Watched {
            inner,
            preface: PREFACE,
            frames: Frames::new(),
            watch: Arc::clone(&watch),
            traffic: self.clone(),
        };
        (watched, watch)
    }
}

/// Reads what still comes until the other end has closed, and looks at none of it. A connection that is closed while there is something to
/// read is reset, and what was said last is lost. Whoever sends more than a window holds does not listen, and is not read any further.
pub(super) async fn discard(stream: &mut (impl AsyncRead + Unpin)) {
    let mut stream = stream.take(MOST_BYTES.into());
    // On the heap: as part of the future every connection would have it from its beginning.
    let mut bytes = vec![0; 4 * 1024];
    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}

impl<T: AsyncRead + Unpin> Watched<T> {
    /// [`discard`], past what watches.
    pub(super) async fn discard(&mut self) {
        discard(&mut self.inner).await;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.offence().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.preface.is_empty() {
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        } else {
            let (now, later) = this.preface.split_at(this.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.preface = later;
        }
        let bytes = &buffer.filled()[before..];
        this.watch.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        this.traffic.received.increment(bytes.len() as u64);
        if let Err(offence) = this.frames.received(bytes, this.watch.window.load(Ordering::Relaxed)) {
            this.watch.accuse(offence);
            buffer.set_filled(before);
            // Whoever reads looks at the offence before it reads again.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.watch.note_write(&outcome);
        let sent = ready!(outcome)?;
        this.frames.sent(sent);
        this.traffic.sent.increment(sent as u64);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.watch.note_write(&outcome);
        let sent = ready!(outcome)?;
        this.frames.sent(sent);
        this.traffic.sent.increment(sent as u64);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(context);
        this.watch.note_write(&outcome);
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::discard;
    use std::time::Duration;

    #[tokio::test]
    async fn whoever_never_ends_is_not_read_for_ever() {
        let read = tokio::time::timeout(Duration::from_secs(10), discard(&mut tokio::io::repeat(7))).await;
        assert!(read.is_ok());
    }
}
