//! A TCP proxy that loses connections on purpose.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It is cut when the client has sent so many bytes.
    CutRequest(u64),
    /// It is cut when the server has sent so many bytes.
    CutAnswer(u64),
    /// When the client has sent so many bytes nothing passes any more.
    Stall(u64),
    /// Of what the client sends, the byte after so many is changed.
    Damage(u64),
}

/// A proxy on loopback; it ends with its connections when dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    cuts: Arc<AtomicU64>,
    plans: watch::Sender<u64>,
    _accepts: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, cuts) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(AtomicU64::new(0)));
        let (planned, counted) = (Arc::clone(&faults), Arc::clone(&cuts));
        let (plans, changes) = watch::channel(0);
        let accepts = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let fault = planned.lock().unwrap().pop_front().unwrap_or(Fault::None);
                let (cuts, mut changes) = (Arc::clone(&counted), changes.clone());
                changes.mark_unchanged();
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let passing = connect(client, server, fault, &cuts);
                    tokio::select! {
                        () = passing => {}
                        _ = changes.changed() => {}
                    }
                });
            }
        });
        Self { address, faults, cuts, plans, _accepts: AbortOnDropHandle::new(accepts) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of the next connections, in their order. Those that are open end.
    pub(super) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.faults.lock().unwrap() = faults.into_iter().collect();
        self.plans.send_modify(|plans| *plans += 1);
    }

    /// Connections that met their fault.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Passes what is sent until the connection ends or meets its fault.
pub(super) async fn connect(client: TcpStream, server: TcpStream, fault: Fault, cuts: &AtomicU64) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (up, down) = match fault {
        Fault::None | Fault::Damage(_) => (u64::MAX, u64::MAX),
        Fault::CutRequest(bytes) | Fault::Stall(bytes) => (bytes, u64::MAX),
        Fault::CutAnswer(bytes) => (u64::MAX, bytes),
    };
    let damage = |from: u64, piece: &mut [u8]| {
        let Fault::Damage(at) = fault else { return };
        let byte = at.checked_sub(from).and_then(|at| piece.get_mut(usize::try_from(at).ok()?));
        if let Some(byte) = byte {
            *byte ^= 1;
            cuts.fetch_add(1, Ordering::Relaxed);
        }
    };
    let is_cut = tokio::select! {
        is_cut = pump(&mut from_client, &mut to_server, up, damage) => is_cut,
        is_cut = pump(&mut from_server, &mut to_client, down, |_, _| {}) => is_cut,
    };
    if is_cut {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
    if is_cut && matches!(fault, Fault::Stall(_)) {
        // Until the test ends, or there is another plan.
        std::future::pending::<()>().await;
    }
}

/// Whether as many bytes have passed as may. Each piece is changed on its way by what knows how many came before it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    most: u64,
    change: impl Fn(u64, &mut [u8]),
) -> bool {
    let (mut buffer, mut left) = (vec![0; 64 * 1024], most);
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return false };
        let passed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        change(most - left, &mut buffer[..passed]);
        if to.write_all(&buffer[..passed]).await.is_err() {
            return false;
        }
        left -= passed as u64;
        if left == 0 {
            return true;
        }
    }
}
