//! HTTP/1.1 to backends, for every driver that speaks it, and connections for those that speak something else.
//!
//! Only addresses that the policy allows are dialled, no proxy of the environment is used and no redirect is followed, so credentials go
//! to the configured host alone. Every wait has a limit: to connect, for the handshake, between pieces of a body, for an answer.

mod connect;
mod failure;
mod request;

pub(crate) use connect::{Dialler, client_config, dial};
pub(crate) use failure::Failure;
pub(crate) use request::{Body, empty, of_pieces, of_stream};

use bytes::{Bytes, BytesMut};
use coffer_domain::egress::Policy;
use connect::Connector;
use futures_util::{Stream, stream};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use request::Clock;
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a connection that nobody uses is kept.
const KEEP: Duration = Duration::from_secs(20);
/// Most connections to one host that are kept while nobody uses them.
const MOST_KEPT: usize = 32;
/// Most bytes of an answer that are read before anybody looks at them.
pub(crate) const FIRST_BYTES: usize = 1024 * 1024;
/// Tells the server who asks.
pub(crate) const USER_AGENT: &str = concat!("cofferd/", env!("CARGO_PKG_VERSION"));

/// How a server is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What may be connected to.
    pub policy: Policy,
    /// PEM file of certificates to trust beside the system's.
    pub certificate_authority: Option<PathBuf>,
    /// How long is waited.
    pub patience: Patience,
}

/// How long is waited for a server.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one address to accept, then for its TLS handshake.
    pub connect: Duration,
    /// For the head of an answer, from the last piece of the request that was taken.
    pub answer: Duration,
    /// For each piece of an answer's body.
    pub piece: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(25),
            piece: Duration::from_secs(20),
        }
    }
}

/// A client of one server, with its connections.
#[derive(Debug)]
pub(crate) struct Wire {
    client: Client<Connector, Body>,
    patience: Patience,
}

impl Wire {
    /// A client. Reads the certificates that are trusted, from disk.
    pub(crate) fn new(options: Options) -> Result<Self, Failure> {
        let Options { policy, certificate_authority, patience } = options;
        let connector = Connector::new(policy, certificate_authority.as_deref(), patience.connect)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP)
            .pool_max_idle_per_host(MOST_KEPT)
            .build(connector);
        Ok(Self { client, patience })
    }

    /// The head of an answer, whatever its status is; a redirect is a failure. It may take `longer` than usual, by as much.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        longer: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let patience = self.patience.answer + longer;
        let clock = Clock::default();
        let request = request.map(|body| clock.watch(body));
        let mut answer = std::pin::pin!(self.client.request(request));
        let head = loop {
            let deadline = clock.last() + patience;
            tokio::select! {
                head = &mut answer => break head.map_err(Failure::from_client)?,
                () = sleep_until(deadline) => if clock.last() + patience <= Instant::now() {
                    return Err(Failure::Silent("an answer"));
                },
            }
        };
        // 304 is no redirect, and no answer to anything that is asked here.
        if head.status().is_redirection() {
            let location = head.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.unwrap_or_default().to_owned();
            return Err(Failure::Redirect(head.status(), location));
        }
        Ok(head)
    }

    /// The pieces of a body, each in time. It ends with an error if the connection breaks before the length that was announced.
    pub(crate) fn pieces(&self, body: Incoming) -> impl Stream<Item = Result<Bytes, Failure>> + Send + use<> {
        let limit = self.patience.piece;
        stream::unfold(Some(body), move |left| async move {
            let mut body = left?;
            loop {
                match timeout(limit, body.frame()).await {
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(piece) if piece.is_empty() => {}
                        Ok(piece) => return Some((Ok(piece), Some(body))),
                        // Trailers.
                        Err(_) => {}
                    },
                    Ok(Some(Err(error))) => return Some((Err(Failure::broken(&error)), None)),
                    Ok(None) => return None,
                    Err(_elapsed) => return Some((Err(Failure::Silent("the next piece")), None)),
                }
            }
        })
    }

    /// A whole body of at most `most` bytes. A longer one than [`FIRST_BYTES`] is read on only if so much of it looks like what is wanted.
    pub(crate) async fn whole(
        &self,
        body: Incoming,
        most: usize,
        is_wanted: impl Fn(&[u8]) -> bool + Send,
    ) -> Result<Bytes, Failure> {
        use futures_util::TryStreamExt as _;
        let mut pieces = std::pin::pin!(self.pieces(body));
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            let size = whole.len() + piece.len();
            if size > most {
                return Err(Failure::TooLarge(most));
            }
            if size > FIRST_BYTES && whole.len() <= FIRST_BYTES && !is_wanted(&whole) {
                return Err(Failure::TooLarge(FIRST_BYTES));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// What a server says of its failure: at most `most` bytes of its body, cut and not refused.
    pub(crate) async fn words(&self, body: Incoming, most: usize) -> Bytes {
        use futures_util::StreamExt as _;
        let mut pieces = std::pin::pin!(self.pieces(body));
        let mut words = BytesMut::new();
        while let Some(Ok(piece)) = pieces.next().await {
            words.extend_from_slice(&piece[..piece.len().min(most - words.len())]);
            if words.len() == most {
                break;
            }
        }
        words.freeze()
    }
}
