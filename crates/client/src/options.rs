//! How to reach the service and whom to speak for.

use crate::{Error, Result, call::CallMetadata};
use std::{error::Error as _, fmt, time::Duration};
use tonic::transport::{Channel, Endpoint};

/// Bytes per HTTP/2 frame that the service may send: the largest lever of download speed (the default of 16 KiB costs a third).
const FRAME_BYTES: u32 = 1024 * 1024;
/// Bytes that may be under way in one stream, and in all streams of the connection.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Without a sign of life for the interval a ping is sent; without its answer in time the connection is given up.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts to connect, and the pause after the first; each further pause is twice as long.
const CONNECT_ATTEMPTS: u32 = 4;
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How to connect, and what every call says about its caller.
#[derive(Clone)]
pub struct Options {
    /// `http://HOST:PORT`, or `HOST:PORT` for short.
    pub addr: String,
    /// Bearer token, at most 8 KiB. Without one only public files can be read.
    pub token: Option<String>,
    /// Why the caller does this; goes to the audit trail. At most 256 bytes of visible ASCII, as the two below.
    pub purpose: Option<String>,
    /// The caller's session, for the audit trail.
    pub session_id: Option<String>,
    /// What ties several requests together, for the audit trail.
    pub correlation_id: Option<String>,
    /// Put before the transport's own name in `user-agent`.
    pub user_agent: String,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt to connect; there are up to four, with short pauses. 5 s.
    pub connect: Duration,
    /// A whole call that transfers no content; the service is told as well. 30 s.
    pub call: Duration,
    /// A transfer in which no byte moves. 60 s.
    pub stall: Duration,
    /// The service's answer after the last byte of an upload, while it makes the bytes durable. 5 min.
    pub commit: Duration,
    /// How long after a failure a transfer is taken up again and again without getting any further; zero: nothing is repeated,
    /// calls without content included. 2 min.
    pub retry: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            commit: Duration::from_secs(300),
            retry: Duration::from_secs(120),
        }
    }
}

impl Options {
    /// The service at `addr`, without a token, with the default timeouts.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            token: None,
            purpose: None,
            session_id: None,
            correlation_id: None,
            user_agent: concat!("coffer-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
        }
    }

    /// The fixed metadata of every call; [`Error::InvalidOption`] for a value that cannot be sent.
    pub(crate) fn call_metadata(&self) -> Result<CallMetadata> {
        CallMetadata::new(self)
    }

    /// A connected channel; [`Error::Connect`] after the last attempt.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let endpoint = self.endpoint()?;
        let mut pause = CONNECT_PAUSE;
        let mut attempt = 1;
        loop {
            match endpoint.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) if attempt == CONNECT_ATTEMPTS => {
                    let reason = innermost(&error);
                    return Err(Error::Connect { addr: self.addr.clone(), attempts: attempt, reason });
                }
                Err(error) => tracing::debug!(attempt, %error, "cannot connect yet to {}", self.addr),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let invalid = |problem: String| Error::InvalidOption { name: "addr", problem };
        let url = if self.addr.contains("://") { self.addr.clone() } else { format!("http://{}", self.addr) };
        if !url.starts_with("http://") {
            return Err(invalid(format!("only http:// is spoken, not {}", self.addr)));
        }
        let endpoint = Endpoint::from_shared(url)
            .map_err(|error| invalid(format!("{} is no address: {}", self.addr, innermost(&error))))?;
        let endpoint = endpoint.user_agent(self.user_agent.clone()).map_err(|_| Error::InvalidOption {
            name: "user_agent",
            problem: "has characters that metadata cannot hold".to_owned(),
        })?;
        Ok(endpoint
            .connect_timeout(self.timeouts.connect)
            .tcp_nodelay(true)
            .max_frame_size(FRAME_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
    }
}

/// Shows no token.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, token, purpose, session_id, correlation_id, user_agent, timeouts } = self;
        f.debug_struct("Options")
            .field("addr", addr)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("purpose", purpose)
            .field("session_id", session_id)
            .field("correlation_id", correlation_id)
            .field("user_agent", user_agent)
            .field("timeouts", timeouts)
            .finish()
    }
}

/// The text at the end of a chain of causes: the transport's own words ("transport error") say nothing.
fn innermost(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if error.source().is_none() { error.to_string() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:50051", "127.0.0.1:50051", "localhost:1", "http://[::1]:50051"] {
            assert!(Options::new(good).endpoint().is_ok(), "{good}");
        }
        for bad in ["https://127.0.0.1:1", "unix:///run/x", "", "http://", "a b"] {
            let refused =
                matches!(Options::new(bad).endpoint(), Err(Error::InvalidOption { name: "addr", .. }));
            assert!(refused, "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let options = Options { token: Some("secret".to_owned()), ..Options::new("localhost:1") };
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[tokio::test]
    async fn refused_connections_are_tried_again_and_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Options::new(free.to_string()).connect().await.unwrap_err();
        let Error::Connect { attempts, reason, .. } = error else { panic!("{error}") };
        assert_eq!(attempts, CONNECT_ATTEMPTS);
        assert!(reason.contains("refused"), "{reason}");
    }
}
