//! The messages of an upload, each within the time that a stream may make no progress and that its token is good.

use crate::edge::{Gone, Progress};
use coffer_domain::{
    Error,
    error::Unauthenticated,
    time::{Timestamp, now},
};
use coffer_proto::v1::{
    self, BidiWriteFileRequest, ChecksummedData, WriteFileRequest, bidi_write_file_request,
    write_file_request,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::BoxStream};
use std::{collections::VecDeque, fmt, time::Duration};
use tokio::time::timeout;
use tonic::Status;

/// A message, whichever RPC it came with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    pub(super) first: Option<First>,
    pub(super) write_offset: i64,
    pub(super) data: Option<ChecksummedData>,
    pub(super) finish: bool,
    pub(super) sha256: String,
}

/// What only the first message has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum First {
    Spec(Box<v1::UploadSpec>),
    Upload(String),
}

impl From<WriteFileRequest> for Message {
    fn from(message: WriteFileRequest) -> Self {
        use write_file_request::FirstMessage;
        let WriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
        let first = first_message.map(|first| match first {
            FirstMessage::Spec(spec) => First::Spec(Box::new(spec)),
            FirstMessage::UploadId(id) => First::Upload(id),
        });
        Self { first, write_offset, data, finish, sha256 }
    }
}

impl From<BidiWriteFileRequest> for Message {
    fn from(message: BidiWriteFileRequest) -> Self {
        use bidi_write_file_request::FirstMessage;
        let BidiWriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
        let first = first_message.map(|first| match first {
            FirstMessage::Spec(spec) => First::Spec(Box::new(spec)),
            FirstMessage::UploadId(id) => First::Upload(id),
        });
        Self { first, write_offset, data, finish, sha256 }
    }
}

/// Why a stream goes no further.
#[derive(Debug)]
pub enum Stop {
    /// The service refuses it, or its client left.
    Refused(Error),
    /// What the client sent was no message; tonic says why.
    Unreadable(Status),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The stream of a request.
pub(super) struct Messages {
    stream: BoxStream<'static, Result<Message, Status>>,
    progress: Progress,
    expires_at: Timestamp,
    /// What was looked at before it was wanted.
    ahead: VecDeque<Result<Option<Message>, Stop>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    pub(super) fn new<M>(
        stream: impl Stream<Item = Result<M, Status>> + Send + 'static,
        progress: Progress,
        expires_at: Timestamp,
    ) -> Self
    where
        M: Into<Message>,
    {
        let stream = stream.map(|message| message.map(M::into)).boxed();
        Self { stream, progress, expires_at, ahead: VecDeque::new() }
    }

    /// The next message; `None` at the end of the stream. Only waiting for the client counts: while the backend is slow, nobody asks.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Stop> {
        match self.ahead.pop_front() {
            Some(outcome) => outcome,
            None => self.receive().await,
        }
    }

    /// What comes after all that was looked at: the message, or within `Some` the end of the stream; `None` where it stops. It is still to
    /// come from [`Messages::next`].
    pub(super) async fn look_ahead(&mut self) -> Option<Option<Message>> {
        let outcome = self.receive().await;
        let seen = outcome.as_ref().ok().cloned();
        self.ahead.push_back(outcome);
        seen
    }

    async fn receive(&mut self) -> Result<Option<Message>, Stop> {
        let lifetime = self.lifetime()?;
        match timeout(lifetime, self.progress.wait(self.stream.next())).await {
            Ok(message) => read(message?),
            Err(_elapsed) => Err(expired().into()),
        }
    }

    /// The next message if it has arrived, whole; `None` inside at the end of the stream.
    pub(super) fn arrived(&mut self) -> Result<Option<Option<Message>>, Stop> {
        if let Some(outcome) = self.ahead.pop_front() {
            return outcome.map(Some);
        }
        self.lifetime()?;
        self.stream.next().now_or_never().map(read).transpose()
    }

    /// How long the token is good.
    fn lifetime(&self) -> Result<Duration, Error> {
        (self.expires_at - now()).to_std().ok().filter(|left| !left.is_zero()).ok_or_else(expired)
    }
}

fn read(message: Option<Result<Message, Status>>) -> Result<Option<Message>, Stop> {
    message.transpose().map_err(|status| match Gone::caused(&status) {
        true => Stop::Refused(Error::ClientLeft),
        false => Stop::Unreadable(status),
    })
}

fn expired() -> Error {
    Error::Unauthenticated(Unauthenticated::Expired)
}

#[cfg(test)]
mod tests;
