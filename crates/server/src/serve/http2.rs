//! One connection of HTTP/2, from its preface to its end.
//!
//! It is hyper's part done anew on the same `h2`, because hyper fixes the windows of a connection when it begins, does not say whether
//! anything is open on it, and keeps an answer for as long as its client likes to take nothing of it.

mod answer;
mod body;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use coffer_api::edge::EdgeBody;
use coffer_domain::budget::Budget;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::frames::Offence;
use super::traffic::{Watch, Watched};
use super::windows::{FIRST_BYTES, Windows};
pub(super) use body::Received;

/// Largest HTTP/2 frame we take. The largest lever of uploads after the windows.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;
/// Streams at once on a connection.
const MAX_STREAMS: u32 = 200;
/// Metadata of a request, as HTTP/2 counts it. Up to four times as much refuses the request, more the connection.
const MAX_HEADER_LIST_BYTES: u32 = 24 * 1024;
/// Of an answer's content, what may wait in HTTP/2's own buffers.
const MAX_SEND_BYTES: usize = 256 * 1024;
/// Beyond their bytes, what small pieces of content may take that nobody has read yet: about 4096 of them. A client with more is cut off.
const MAX_SMALL_PIECES_BYTES: usize = 1024 * 1024;
/// A peer that sends nothing is asked for a sign of life so often …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and has so long to give one.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was told to end and has nothing open is closed after so long, if its client does not close it.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Unused for so long, a connection is told to end if others need its memory.
const IDLE_WITH_MEMORY: Duration = Duration::from_secs(30);
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long a connection may do nothing, and how long it may be at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) first_request: Duration,
    pub(super) idle: Duration,
    /// `None`: any.
    pub(super) age: Option<Duration>,
    /// How long a client may take nothing.
    pub(super) stall: Duration,
}

/// Why a connection ended other than in order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("HTTP/2 failed")]
    Protocol(#[from] h2::Error),
    #[error("the client gave no sign of life")]
    Silent,
    #[error("the client took nothing for too long")]
    Blocked,
    #[error("the client did not answer the end of its connection")]
    Lingering,
    #[error("the client broke the rules: {0:?}")]
    Offence(Offence),
}

/// Serves `service` on a connection until it ends, or until it has ended after `closing`.
pub(super) async fn serve<T, S, R>(
    (mut stream, watch): (Watched<T>, Arc<Watch>),
    service: S,
    budget: Budget,
    patience: Patience,
    closing: CancellationToken,
) -> Result<(), Broken>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Received>, Response = Response<EdgeBody<R>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    R: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let mut builder = h2::server::Builder::new();
    builder
        .max_frame_size(MAX_FRAME_BYTES)
        .initial_window_size(FIRST_BYTES)
        .initial_connection_window_size(FIRST_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_send_buffer_size(MAX_SEND_BYTES)
        .data_frame_budget(MAX_SMALL_PIECES_BYTES);
    let mut connection: Connection<_, Bytes> = builder.handshake(&mut stream).await?;
    let pings = connection.ping_pong().expect("nobody has taken it before");
    let mut life = Life::new(watch, Windows::new(budget), patience, pings);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            biased;
            () = closing.cancelled(), if life.told_to_end.is_none() => Event::Close,
            accepted = life.drive(&mut connection) => accepted,
            _ = ticks.tick() => life.look(&connection)?,
        };
        match event {
            Event::Request(request, reply) => {
                life.is_used = true;
                let answer = service.clone().oneshot(request.map(Received::new));
                tokio::spawn(answer::give(answer, reply, patience.stall));
            }
            Event::Close => {
                life.told_to_end = Some(Instant::now());
                connection.graceful_shutdown();
            }
            Event::Offence(offence) => {
                connection.abrupt_shutdown(match offence {
                    Offence::Flood => Reason::ENHANCE_YOUR_CALM,
                    Offence::TooMuchContent => Reason::FLOW_CONTROL_ERROR,
                    Offence::TooLarge => Reason::FRAME_SIZE_ERROR,
                });
                let told = poll_fn(|context| connection.poll_closed(context));
                let _ = tokio::time::timeout(LAST_WORDS, told).await;
                drop(connection);
                let _ = tokio::time::timeout(LAST_WORDS, stream.discard()).await;
                return Err(Broken::Offence(offence));
            }
            Event::Ended => return Ok(()),
            Event::Broken(error) => return Err(error.into()),
            Event::None => {}
        }
    }
}

enum Event {
    Request(Box<Request<RecvStream>>, SendResponse<Bytes>),
    /// The connection is to end when nothing is open on it any more.
    Close,
    Offence(Offence),
    Ended,
    Broken(h2::Error),
    None,
}

/// What a connection has done, and when.
struct Life {
    watch: Arc<Watch>,
    windows: Windows,
    patience: Patience,
    pings: PingPong,
    begun: Instant,
    /// When it becomes too old.
    old_at: Option<Instant>,
    /// There was a request.
    is_used: bool,
    /// When something was open on it, as far as was looked.
    used_at: Instant,
    /// Bytes that had arrived at the last look, when that was not what it had been, and whether a sign of life was asked for since.
    received: u64,
    heard_at: Instant,
    is_asked: bool,
    told_to_end: Option<Instant>,
    /// A window of streams that the client has still to be told of.
    stream_window: Option<u32>,
}

impl Life {
    fn new(watch: Arc<Watch>, windows: Windows, patience: Patience, pings: PingPong) -> Self {
        let begun = Instant::now();
        Self {
            watch,
            windows,
            patience,
            pings,
            begun,
            old_at: patience.age.map(|age| begun + jittered(age)),
            is_used: false,
            used_at: begun,
            received: 0,
            heard_at: begun,
            is_asked: false,
            told_to_end: None,
            stream_window: None,
        }
    }

    /// Lets the connection work until there is a request or it ends; its windows follow its flow meanwhile.
    async fn drive<T>(&mut self, connection: &mut Connection<T, Bytes>) -> Event
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|context| {
            let accepted = pin!(connection.accept()).poll(context);
            if let Some(offence) = self.watch.offence() {
                return Poll::Ready(Event::Offence(offence));
            }
            // An answer is a sign of life like any other bytes; taken, so that there can be another.
            let _ = self.pings.poll_pong(context);
            if let Some(change) = self.windows.after(self.watch.received()) {
                self.watch.allow(self.windows.promised());
                connection.set_target_window_size(change.connection);
                self.stream_window = Some(change.stream);
            }
            if let Some(window) = self.stream_window
                // Not while the client has still to acknowledge the last one.
                && connection.set_initial_window_size(window).is_ok()
            {
                self.stream_window = None;
                context.waker().wake_by_ref();
            }
            accepted.map(|accepted| match accepted {
                Some(Ok((request, reply))) => Event::Request(Box::new(request), reply),
                Some(Err(error)) => Event::Broken(error),
                None => Event::Ended,
            })
        })
        .await
    }

    /// Whether the connection has to end by itself.
    fn look<T>(&mut self, connection: &Connection<T, Bytes>) -> Result<Event, Broken>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let now = Instant::now();
        self.must_live(now)?;
        let is_open = connection.has_streams();
        if is_open {
            self.used_at = now;
        }
        if let Some(at) = self.told_to_end {
            let is_over = !is_open && now - at.max(self.used_at) > LAST_WORDS;
            return if is_over { Err(Broken::Lingering) } else { Ok(Event::None) };
        }
        let idle = now - self.used_at;
        let is_late = !self.is_used && now - self.begun >= self.patience.first_request;
        let is_idle = idle >= self.patience.idle;
        let is_old = self.old_at.is_some_and(|at| now >= at);
        let is_in_the_way = idle >= IDLE_WITH_MEMORY && self.windows.is_wanted_back();
        if is_late || is_idle || is_old || is_in_the_way { Ok(Event::Close) } else { Ok(Event::None) }
    }

    /// Ends a connection of which nothing is heard, or to which nothing can be told.
    fn must_live(&mut self, now: Instant) -> Result<(), Broken> {
        if self.watch.blocked() > self.patience.stall {
            return Err(Broken::Blocked);
        }
        let received = self.watch.received();
        if received != self.received {
            (self.received, self.heard_at, self.is_asked) = (received, now, false);
        }
        let silence = now - self.heard_at;
        if silence >= KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT {
            return Err(Broken::Silent);
        }
        if silence >= KEEP_ALIVE_INTERVAL && !self.is_asked {
            // Fails only while another one is on its way.
            self.is_asked = self.pings.send_ping(Ping::opaque()).is_ok();
        }
        Ok(())
    }
}

/// Nine to eleven tenths, so that what began together does not end together.
fn jittered(age: Duration) -> Duration {
    // The last bytes of a version 4 UUID are random.
    let [.., byte] = uuid::Uuid::new_v4().into_bytes();
    age.mul_f64(0.9 + 0.2 * f64::from(byte) / 255.0)
}
