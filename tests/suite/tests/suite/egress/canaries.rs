//! Listeners that nobody should connect to.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, lookup_host},
    task::JoinSet,
};

/// Where they listen.
const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(127, 255, 255, 254)),
];

/// Listeners on one port of several addresses of loopback, which count who connects. They end when dropped.
pub(super) struct Canaries {
    port: u16,
    counts: Vec<(IpAddr, Arc<AtomicUsize>)>,
    _accepts: JoinSet<()>,
}

impl Canaries {
    pub(super) async fn start() -> Self {
        let listeners = loop {
            if let Some(listeners) = on_one_port().await {
                break listeners;
            }
        };
        let port = listeners[0].local_addr().unwrap().port();
        let (mut counts, mut accepts) = (Vec::new(), JoinSet::new());
        for listener in listeners {
            let count = Arc::new(AtomicUsize::new(0));
            counts.push((listener.local_addr().unwrap().ip(), Arc::clone(&count)));
            accepts.spawn(async move {
                loop {
                    if listener.accept().await.is_ok() {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        println!(
            "canaries on port {port} of {:?}",
            counts.iter().map(|(address, _)| address).collect::<Vec<_>>()
        );
        Self { port, counts, _accepts: accepts }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.counts.iter().map(|(_, count)| count.load(Ordering::SeqCst)).sum()
    }

    /// The same of each address.
    pub(super) fn counts(&self) -> impl Iterator<Item = (IpAddr, impl Fn() -> usize)> {
        self.counts.iter().map(|(address, count)| (*address, move || count.load(Ordering::SeqCst)))
    }
}

/// Listeners on a port that is free on all addresses; `None` if somebody has it on one. A machine may have no IPv6.
async fn on_one_port() -> Option<Vec<TcpListener>> {
    let first = TcpListener::bind((ADDRESSES[0], 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    let mut listeners = vec![first];
    for address in &ADDRESSES[1..] {
        match TcpListener::bind((*address, port)).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return None,
            Err(error) => {
                assert!(address.is_ipv6(), "{address}: {error}");
                println!("{address} is not there: {error}");
            }
        }
    }
    Some(listeners)
}

/// Whether a name has addresses here.
pub(super) async fn is_known(name: &str) -> bool {
    lookup_host((name, 80)).await.is_ok()
}
