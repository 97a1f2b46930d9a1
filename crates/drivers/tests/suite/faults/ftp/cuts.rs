//! Connections that are lost in mid-transfer: a proxy that knows where a server listens for data.

use super::{
    super::{
        cuts::{cuts, random, upload},
        proxy::{Fault, connect},
    },
    open_ftp,
};
use crate::{
    servers,
    support::{fresh_key, noise, read},
};
use coffer_domain::{driver::Driver, id::UploadId};
use coffer_drivers::ftp::Config;
use coffer_test_servers::{Kind, Server};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

const MIB: usize = 1024 * 1024;

/// A proxy on loopback between a driver and a server of FTP in clear.
struct Proxy {
    address: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    cuts: Arc<AtomicU64>,
    _accepts: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, cuts) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(AtomicU64::new(0)));
        let shared = (Arc::clone(&faults), Arc::clone(&cuts));
        let accepts = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (faults, cuts) = shared.clone();
                sessions.spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    control(client, server, faults, cuts).await;
                });
            }
        });
        Self { address, faults, cuts, _accepts: AbortOnDropHandle::new(accepts) }
    }

    /// What becomes of the next data connections through which so much passes.
    fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.faults.lock().unwrap() = faults.into_iter().collect();
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Passes commands and replies, of which those that name a port name one of the proxy. It ends with the first data connection that is cut in
/// every second case.
async fn control(
    client: TcpStream,
    server: TcpStream,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    cuts: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (lost, mut is_lost) = tokio::sync::mpsc::channel::<()>(1);
    let mut data = tokio::task::JoinSet::new();
    let replies = async {
        let mut lines = BufReader::new(from_server).lines();
        while let Ok(Some(mut line)) = lines.next_line().await {
            if let Some(port) = line.strip_prefix("229 ").and_then(|rest| rest.split('|').nth(3)) {
                let target: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                line = format!("229 there (|||{}|)", listener.local_addr().unwrap().port());
                let (faults, cuts, lost) = (Arc::clone(&faults), Arc::clone(&cuts), lost.clone());
                data.spawn(async move {
                    let Ok((client, _)) = listener.accept().await else { return };
                    let fault = faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let before = cuts.load(Ordering::Relaxed);
                    connect(client, server, fault, &cuts).await;
                    if fault != Fault::None && cuts.load(Ordering::Relaxed) > before && random(2) == 0 {
                        let _ = lost.send(()).await;
                    }
                });
            }
            if to_client.write_all(format!("{line}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = replies => {}
        _ = is_lost.recv() => {}
    }
}

/// A driver on the other side of a proxy.
struct Rig {
    driver: Arc<dyn Driver>,
    proxy: Proxy,
    _server: Arc<Server>,
}

async fn rig(kind: Kind) -> Option<Rig> {
    let server = kind.shared()?;
    let proxy = Proxy::start(server.address()).await;
    let config = servers::ftp_config(kind, &server, proxy.address, &server.place());
    let driver = open_ftp(Config { sessions: 4, ..config }).await.unwrap();
    Some(Rig { driver, proxy, _server: server })
}

async fn uploads_survive(kind: Kind) {
    let Some(Rig { driver, proxy, _server }) = rig(kind).await else { return };
    let content = noise(12 * MIB + 345, 1);
    for _ in 0..cuts() {
        proxy.plan((0..4).map(|_| Fault::CutRequest(1 + random(3 * MIB as u64))));
        let (key, _) = upload(&*driver, &content).await;
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
    assert!(proxy.cuts() >= cuts(), "{} connections were cut", proxy.cuts());
}

async fn reads_survive(kind: Kind) {
    let Some(Rig { driver, proxy, _server }) = rig(kind).await else { return };
    let (key, content) = (fresh_key(), noise(6 * MIB + 7, 2));
    driver.store(UploadId::new(), &key, vec![content.clone()]).await.unwrap();
    for _ in 0..cuts() {
        proxy.plan((0..3).map(|_| Fault::CutAnswer(300 * 1024 + random(4 * MIB as u64))));
        assert!(read(&*driver, &key).await.unwrap() == content);
    }
    assert!(proxy.cuts() >= cuts(), "{} connections were cut", proxy.cuts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_vsftpd_survive_cuts() {
    uploads_survive(Kind::Vsftpd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_proftpd_survive_cuts() {
    uploads_survive(Kind::Proftpd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_vsftpd_survive_cuts() {
    reads_survive(Kind::Vsftpd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_from_proftpd_survive_cuts() {
    reads_survive(Kind::Proftpd).await;
}
