//! The messages of an upload, each within the time that a stream may make no progress and that its token is good.

use coffer_domain::{
    Error,
    error::Unauthenticated,
    time::{Timestamp, now},
};
use coffer_proto::v1::WriteFileRequest;
use futures_util::{Stream, StreamExt as _};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// Why a stream goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// The service refuses it.
    Refused(Error),
    /// The transport ended it: the client left, or what it sent was no message.
    Broken(Status),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

#[derive(Debug)]
pub(super) struct Messages<S> {
    stream: S,
    stall_timeout: Duration,
    expires_at: Timestamp,
}

impl<S> Messages<S>
where
    S: Stream<Item = Result<WriteFileRequest, Status>> + Unpin,
{
    pub(super) fn new(stream: S, stall_timeout: Duration, expires_at: Timestamp) -> Self {
        Self { stream, stall_timeout, expires_at }
    }

    /// The next message; `None` at the end of the stream. Only waiting for the client counts: while the backend is slow, nobody asks.
    pub(super) async fn next(&mut self) -> Result<Option<WriteFileRequest>, Stop> {
        let expired = Error::Unauthenticated(Unauthenticated::Expired);
        let Some(lifetime) = (self.expires_at - now()).to_std().ok().filter(|left| !left.is_zero()) else {
            return Err(expired.into());
        };
        match timeout(lifetime.min(self.stall_timeout), self.stream.next()).await {
            Ok(message) => message.transpose().map_err(Stop::Broken),
            Err(_) if lifetime < self.stall_timeout => Err(expired.into()),
            Err(_) => Err(Error::Stalled { seconds: self.stall_timeout.as_secs() }.into()),
        }
    }
}
