//! The socket of a session, for libssh2.
//!
//! libssh2 does a part of an operation, says that it would have to wait, and for which direction; then it is called again. The stream that the
//! crate comes with sleeps a millisecond each time.

use async_ssh2_lite::{
    AsyncSessionStream, Error,
    ssh2::{self, BlockDirections, ErrorCode, Session},
};
use async_trait::async_trait;
use std::{
    future::poll_fn,
    io,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream};

/// `LIBSSH2_ERROR_EAGAIN`.
const AGAIN: ErrorCode = ErrorCode::Session(-37);

/// A socket.
#[derive(Debug)]
pub(super) struct Stream(pub(super) Arc<TcpStream>);

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Stream {
    /// Calls `operation` until it does not have to wait. The inner result is its own, the outer one that of waiting.
    fn poll<R, E>(
        &self,
        cx: &mut Context<'_>,
        operation: &mut impl FnMut() -> Result<R, E>,
        has_to_wait: impl Fn(&E) -> bool,
        session: &Session,
    ) -> Poll<io::Result<Result<R, E>>> {
        loop {
            match operation() {
                Err(error) if has_to_wait(&error) => {}
                done => return Poll::Ready(Ok(done)),
            }
            let (reads, writes) = match session.block_directions() {
                BlockDirections::Inbound => (true, false),
                BlockDirections::Outbound => (false, true),
                BlockDirections::Both | BlockDirections::None => (true, true),
            };
            // Once more under the eyes of the runtime, which forgets that the socket is ready only if it turns out not to be.
            for interest in
                [(reads, Interest::READABLE), (writes, Interest::WRITABLE)].into_iter().filter_map(wanted)
            {
                let mut done = None;
                let tried = self.0.try_io(interest, || match operation() {
                    Err(error) if has_to_wait(&error) => Err(io::ErrorKind::WouldBlock.into()),
                    outcome => {
                        done = Some(outcome);
                        Ok(())
                    }
                });
                match (done, tried) {
                    (Some(done), _) => return Poll::Ready(Ok(done)),
                    (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                        return Poll::Ready(Err(error));
                    }
                    (None, _) => {}
                }
            }
            // Both are asked, so that either wakes.
            let mut is_ready = false;
            if reads && let Poll::Ready(ready) = self.0.poll_read_ready(cx) {
                ready?;
                is_ready = true;
            }
            if writes && let Poll::Ready(ready) = self.0.poll_write_ready(cx) {
                ready?;
                is_ready = true;
            }
            if !is_ready {
                return Poll::Pending;
            }
        }
    }
}

fn wanted((is_wanted, interest): (bool, Interest)) -> Option<Interest> {
    is_wanted.then_some(interest)
}

#[async_trait]
impl AsyncSessionStream for Stream {
    async fn x_with<R>(
        &self,
        mut op: impl FnMut() -> Result<R, ssh2::Error> + Send,
        sess: &Session,
        _expected_block_directions: BlockDirections,
        _sleep_dur: Option<Duration>,
    ) -> Result<R, Error> {
        let has_to_wait = |error: &ssh2::Error| error.code() == AGAIN;
        Ok(poll_fn(|cx| self.poll(cx, &mut op, has_to_wait, sess)).await??)
    }

    fn poll_x_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut() -> Result<R, io::Error> + Send,
        sess: &Session,
        _expected_block_directions: BlockDirections,
        _sleep_dur: Option<Duration>,
    ) -> Poll<Result<R, io::Error>> {
        let has_to_wait = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.poll(cx, &mut op, has_to_wait, sess).map(|waited| waited?)
    }
}
