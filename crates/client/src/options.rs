//! How to reach the service and whom to speak for.

use crate::{Error, Result, Tls, call::CallMetadata, tls};
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
    /// `https://HOST:PORT`, or `http://HOST:PORT` where nobody can listen; for short `HOST:PORT`, which is `https://` if anything of
    /// `tls` is set and else `http://`.
    pub addr: String,
    /// Certificates, for `https://`.
    pub tls: Tls,
    /// Bearer token, at most 8 KiB. Without one only public files can be read.
    pub token: Option<String>,
    /// Why the caller does this; goes to the audit trail. At most 256 bytes of visible ASCII, as the two below.
    pub purpose: Option<String>,
    /// The caller's session, for the audit trail.
    pub session_id: Option<String>,
    /// What ties several requests together, for the audit trail.
    pub correlation_id: Option<String>,
    /// UUID of the user to act for; only for an app alone with the role `delegate`.
    pub on_behalf_of: Option<String>,
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
            tls: Tls::default(),
            token: None,
            purpose: None,
            session_id: None,
            correlation_id: None,
            on_behalf_of: None,
            user_agent: concat!("coffer-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
        }
    }

    /// The fixed metadata of every call; [`Error::InvalidOption`] for a value that cannot be sent.
    pub(crate) fn call_metadata(&self) -> Result<CallMetadata> {
        CallMetadata::new(self)
    }

    /// A connected channel; [`Error::Connect`] after the last attempt, [`Error::Tls`] after the first that shows no trust.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let endpoint = self.endpoint()?;
        let mut pause = CONNECT_PAUSE;
        let mut attempt = 1;
        loop {
            let outcome = endpoint.connect().await;
            if let Some(problem) = outcome.as_ref().err().and_then(|error| tls::problem(error)) {
                return Err(Error::Tls(problem));
            }
            match outcome {
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
        let scheme = if self.tls.is_set() { "https" } else { "http" };
        let url =
            if self.addr.contains("://") { self.addr.clone() } else { format!("{scheme}://{}", self.addr) };
        let is_tls = url.starts_with("https://");
        if !is_tls && !url.starts_with("http://") {
            return Err(invalid(format!("only https:// and http:// are spoken, not {}", self.addr)));
        }
        if !is_tls && self.tls.is_set() {
            return Err(invalid(format!("certificates go with https://, not with {}", self.addr)));
        }
        let no_address = |problem: String| invalid(format!("{} is no address: {problem}", self.addr));
        let mut endpoint = Endpoint::from_shared(url).map_err(|error| no_address(innermost(&error)))?;
        if is_tls {
            let host = endpoint.uri().host().unwrap_or_default().to_owned();
            let config = self.tls.config(&host, self.timeouts.connect)?;
            endpoint = endpoint.tls_config(config).map_err(|error| Error::InvalidOption {
                name: "tls",
                problem: format!("cannot be used: {}", innermost(&error)),
            })?;
        }
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
        let Self {
            addr,
            tls,
            token,
            purpose,
            session_id,
            correlation_id,
            on_behalf_of,
            user_agent,
            timeouts,
        } = self;
        f.debug_struct("Options")
            .field("addr", addr)
            .field("tls", tls)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("purpose", purpose)
            .field("session_id", session_id)
            .field("correlation_id", correlation_id)
            .field("on_behalf_of", on_behalf_of)
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
            let endpoint = Options::new(good).endpoint().unwrap();
            assert_eq!(endpoint.uri().scheme_str(), Some("http"), "{good}");
        }
        for bad in ["unix:///run/x", "", "http://", "https://", "a b"] {
            let refused =
                matches!(Options::new(bad).endpoint(), Err(Error::InvalidOption { name: "addr", .. }));
            assert!(refused, "{bad}");
        }
    }

    #[test]
    fn certificates_are_for_https() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
            Some(dir.path().join(name))
        };
        let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca = file("ca.pem", &authority.cert.pem());
        let key = file("key.pem", &authority.signing_key.serialize_pem());
        let with = |addr: &str, tls: Tls| Options { tls, ..Options::new(addr) }.endpoint();
        let trusting = || Tls { ca: ca.clone(), ..Tls::default() };
        for addr in ["localhost:1", "https://localhost:1", "https://[::1]:1"] {
            assert_eq!(with(addr, trusting()).unwrap().uri().scheme_str(), Some("https"), "{addr}");
        }
        assert!(with("localhost:1", Tls { certificate: ca.clone(), key: key.clone(), ..trusting() }).is_ok());
        let wrong = [
            ("addr", with("http://localhost:1", trusting())),
            ("ca", with("localhost:1", Tls { ca: key.clone(), ..Tls::default() })),
            ("certificate", with("localhost:1", Tls { key, ..trusting() })),
            ("key", with("localhost:1", Tls { certificate: ca.clone(), ..trusting() })),
            ("tls", with("localhost:1", Tls { certificate: ca.clone(), key: ca.clone(), ..trusting() })),
        ];
        for (field, outcome) in wrong {
            let error = outcome.err().unwrap();
            assert!(matches!(error, Error::InvalidOption { name, .. } if name == field), "{field}: {error}");
        }
        let missing = with("localhost:1", Tls { ca: Some(dir.path().join("no.pem")), ..Tls::default() });
        assert!(matches!(missing, Err(Error::Io { .. })));
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
