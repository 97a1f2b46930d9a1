//! Accepts connections, and ends them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sources::Sources;

/// Pause after an error that is the machine's and not one connection's: no file descriptors, no memory.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// The connections of all listeners, and how they are told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    /// Accept no more; finish what runs and close.
    pub(crate) closing: CancellationToken,
    /// Close at once.
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// How many there may be at once, and what they are called in logs and metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) per_source: usize,
}

impl Connections {
    /// Accepts until the end begins, and runs `serve` on each connection in a task of its own.
    ///
    /// While there are as many as allowed, others wait in the kernel's queue: they are served when one ends. Those of a source that has
    /// all it may have are closed, or they would keep everybody else waiting. No error ends the loop.
    pub(crate) fn accept<F>(
        &self,
        listener: TcpListener,
        limit: Limit,
        serve: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let connections = self.clone();
        self.tasks.spawn(async move {
            let accepting = connections.clone();
            // Dropped at the end, which closes the port.
            accepting.closing.run_until_cancelled(connections.accept_each(listener, limit, serve)).await;
        });
    }

    async fn accept_each<F>(
        &self,
        listener: TcpListener,
        limit: Limit,
        serve: impl Fn(TcpStream, SocketAddr) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let permits = Arc::new(Semaphore::new(limit.connections));
        let accepted = metrics::counter!("coffer_connections_accepted_total", "listener" => limit.name);
        let refused = metrics::counter!("coffer_connections_refused_total", "listener" => limit.name);
        let open = metrics::gauge!("coffer_connections_open", "listener" => limit.name);
        let sources = Sources::new(limit.per_source);
        let mut is_failing = false;
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("nobody closes the semaphore");
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    metrics::counter!("coffer_accept_errors_total", "listener" => limit.name).increment(1);
                    // Once for as long as it lasts: it may last long.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, listener = limit.name, "cannot accept connections");
                    }
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            if std::mem::replace(&mut is_failing, false) {
                tracing::info!(listener = limit.name, "accepting connections again");
            }
            accepted.increment(1);
            let Some(place) = sources.place(peer.ip()) else {
                refused.increment(1);
                tracing::debug!(%peer, listener = limit.name, "a connection was closed: its source has too many");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended before it was served");
                continue;
            }
            let (serving, cut, open) = (serve(stream, peer), self.cut.clone(), open.clone());
            self.tasks.spawn(async move {
                open.increment(1);
                cut.run_until_cancelled(serving).await;
                open.decrement(1);
                drop((permit, place));
            });
        }
    }

    /// Waits until all connections have ended by themselves after `closing`. `false`: some had not after `grace` and were cut.
    pub(crate) async fn end(&self, grace: Duration) -> bool {
        self.closing.cancel();
        self.tasks.close();
        let is_in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.cut.cancel();
        self.tasks.wait().await;
        is_in_time
    }
}

/// The connection broke before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::{Connections, Limit};
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn limit(connections: usize) -> Limit {
        Limit { name: "test", connections, per_source: connections }
    }

    /// Serves one byte of greeting, then holds the connection until the client sends one, or the end begins.
    async fn listen(connections: &Connections, limit: Limit) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let closing = connections.closing.clone();
        connections.accept(listener, limit, move |mut stream, _| {
            let closing = closing.clone();
            async move {
                stream.write_all(b"!").await.unwrap();
                let mut byte = [0];
                let _ = closing.run_until_cancelled(stream.read(&mut byte)).await;
            }
        });
        addr
    }

    async fn greeted(addr: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.read_u8().await.unwrap();
        stream
    }

    #[tokio::test]
    async fn one_more_than_allowed_waits_its_turn() {
        let connections = Connections::default();
        let addr = listen(&connections, limit(1)).await;
        let mut first = greeted(addr).await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await.is_err());
        first.write_all(b"x").await.unwrap();
        tokio::time::timeout(TIMEOUT, second.read_u8()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_source_with_too_many_is_refused_and_others_are_served() {
        let connections = Connections::default();
        let addr = listen(&connections, Limit { per_source: 1, ..limit(10) }).await;
        let mut first = greeted(addr).await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        let closed = tokio::time::timeout(TIMEOUT, second.read(&mut [0])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut other = socket.connect(addr).await.unwrap();
        tokio::time::timeout(TIMEOUT, other.read_u8()).await.unwrap().unwrap();
        first.write_all(b"x").await.unwrap();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        // Its place is free a moment after its end.
        let served = async { while TcpStream::connect(addr).await.unwrap().read_u8().await.is_err() {} };
        tokio::time::timeout(TIMEOUT, served).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_closes_the_port_and_lets_connections_finish() {
        let connections = Connections::default();
        let addr = listen(&connections, limit(10)).await;
        let _open = greeted(addr).await;
        assert!(connections.end(TIMEOUT).await);
        assert!(TcpStream::connect(addr).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_cut() {
        let connections = Connections::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        connections.accept(listener, limit(1), |mut stream, _| async move {
            stream.write_all(b"!").await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut open = greeted(addr).await;
        assert!(!connections.end(Duration::from_millis(20)).await);
        assert_eq!(open.read(&mut [0]).await.unwrap(), 0);
    }
}
