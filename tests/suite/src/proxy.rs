//! A TCP proxy that loses connections on purpose.
//!
//! It stands in front of a server under an address that stays, while the server's may change, and counts what passes. Each
//! connection meets one [`Fault`]. A connection that is cut ends for the server in good order, after every byte that was counted, and
//! for the client with a reset.

mod frames;
mod pump;

use pump::{End, Pump};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How long a server may go on sending on a connection that was cut.
const LINGER: Duration = Duration::from_secs(5);

/// What becomes of a connection. Bytes are those on the wire, frames and headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is cut when the client has sent this many bytes, all of which pass.
    CutRequest {
        /// Bytes from the client.
        after_bytes: u64,
    },
    /// It is cut when the server has sent this many bytes, all of which pass.
    CutAnswer {
        /// Bytes from the server.
        after_bytes: u64,
    },
    /// The first request on it is let through and the answer is lost. For HTTP/2.
    DropReply(Reply),
    /// When the client has sent this many bytes nothing it sends passes any more; the connection stays.
    Stall {
        /// Bytes from the client.
        after_bytes: u64,
    },
}

/// How an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The connection is cut as soon as the request has passed: the server may not have begun to work.
    Unseen,
    /// The server has answered. So many bytes of the answer pass; one that is shorter passes whole.
    Seen {
        /// Bytes of the answer.
        passed_bytes: u64,
    },
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Connections cut by a fault or by [`Proxy::cut`].
    pub cuts: u64,
    /// Bytes handed to the server.
    pub to_server_bytes: u64,
    /// Bytes handed to clients.
    pub to_client_bytes: u64,
}

/// Places in what clients send at which connections are cut.
#[derive(Debug, Default)]
struct Places {
    sent_bytes: u64,
    next: VecDeque<u64>,
}

impl Places {
    /// Takes the next bytes that a client has sent. Answers how many of them pass, if its connection is cut then.
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let passed = self.next.front().and_then(|place| place.checked_sub(self.sent_bytes));
        let passed = passed.filter(|passed| *passed < bytes);
        self.sent_bytes += passed.unwrap_or(bytes);
        if passed.is_some() {
            self.next.pop_front();
        }
        passed
    }
}

/// A proxy on loopback. Ends with its connections when dropped.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<String>,
    plan: Mutex<VecDeque<Fault>>,
    places: Mutex<Places>,
    connections: AtomicU64,
    cuts: AtomicU64,
    to_server_bytes: AtomicU64,
    to_client_bytes: AtomicU64,
    cut_now: watch::Sender<()>,
    is_paused: watch::Sender<bool>,
}

impl Proxy {
    /// Stands in front of `upstream`, a `host:port` that need not be there yet.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.to_owned()),
            plan: Mutex::default(),
            places: Mutex::default(),
            connections: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            to_server_bytes: AtomicU64::new(0),
            to_client_bytes: AtomicU64::new(0),
            cut_now: watch::Sender::new(()),
            is_paused: watch::Sender::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    /// `host:port` for clients.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// Connections from now on go to another `host:port`.
    pub fn point_at(&self, upstream: &str) {
        upstream.clone_into(&mut self.shared.upstream.lock().expect("no panic while locked"));
    }

    /// The next connections meet these faults, one each and in this order; those after them meet none. Replaces an earlier plan.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.shared.plan.lock().expect("no panic while locked") = faults.into_iter().collect();
    }

    /// How many planned faults have met no connection yet.
    pub fn planned(&self) -> usize {
        self.shared.plan.lock().expect("no panic while locked").len()
    }

    /// Cuts connections by what all clients together send from now on: after each of so many bytes, in ascending order, the connection that
    /// brings the next one, whatever else its fault is. Replaces earlier places.
    pub fn cut_at(&self, places: impl IntoIterator<Item = u64>) {
        *self.shared.places.lock().expect("no panic while locked") =
            Places { sent_bytes: 0, next: places.into_iter().collect() };
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.shared.cut_now.send_replace(());
    }

    /// Lets nothing pass in either direction until [`Proxy::go_on`].
    pub fn pause(&self) {
        self.shared.is_paused.send_replace(true);
    }

    /// Ends a pause.
    pub fn go_on(&self) {
        self.shared.is_paused.send_replace(false);
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        let Shared { connections, cuts, to_server_bytes, to_client_bytes, .. } = &*self.shared;
        Traffic {
            connections: connections.load(Ordering::Relaxed),
            cuts: cuts.load(Ordering::Relaxed),
            to_server_bytes: to_server_bytes.load(Ordering::Relaxed),
            to_client_bytes: to_client_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let fault = shared.plan.lock().expect("no panic while locked").pop_front().unwrap_or_default();
                connections.spawn(connection(client, Arc::clone(&shared), fault));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>, fault: Fault) {
    let mut cut_now = shared.cut_now.subscribe();
    let upstream = shared.upstream.lock().expect("no panic while locked").clone();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return reset(client) };
    for stream in [&client, &server] {
        // Without it a cut after n bytes could wait for an acknowledgement of the bytes before.
        let _ = stream.set_nodelay(true);
    }
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |counter, places| Pump { counter, places, is_paused: shared.is_paused.subscribe() };
        let up = pump(&shared.to_server_bytes, Some(&shared.places)).requests(from_client, to_server, fault);
        let down = pump(&shared.to_client_bytes, None).answers(from_server, to_client, fault);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.err(),
            _ = cut_now.changed() => Some(End::Cut),
        }
    };
    match end {
        None => {}
        Some(End::Broken) => reset(client),
        Some(End::Cut) => {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
            reset(client);
            let _ = tokio::time::timeout(LINGER, leave(server)).await;
        }
    }
}

/// Ends a connection in good order: were it closed while the server's bytes wait unread, the server would lose what it was sent.
async fn leave(mut server: TcpStream) {
    let _ = server.shutdown().await;
    let mut unread = vec![0; 64 * 1024];
    while server.read(&mut unread).await.is_ok_and(|bytes| bytes > 0) {}
}

/// Ends a connection as a lost network does.
fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}

#[cfg(test)]
mod tests;
