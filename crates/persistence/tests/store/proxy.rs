//! A way to the server that can be cut at the one moment that matters: around a COMMIT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// What happens to the next COMMIT, or to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// All is passed on.
    Pass = 0,
    /// It never reaches the server, and the connection ends.
    CutBefore = 1,
    /// The server does it, and the connection ends before its answer.
    CutAfter = 2,
    /// Nothing is passed on, and nothing ends.
    Stall = 3,
}

pub(crate) struct Proxy {
    mode: Arc<AtomicU8>,
    port: u16,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// To the server behind the Unix socket of `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let socket = socket_of(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let armed = Arc::clone(&mode);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, socket.clone(), Arc::clone(&armed)));
            }
        });
        Self { mode, port, listener }
    }

    /// The URL of the same database by this way.
    pub(crate) fn url(&self, direct: &str) -> String {
        let database = direct.rsplit('/').next().unwrap();
        format!("postgres://coffer@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Whether the connection that was to be cut has been.
    pub(crate) fn has_cut(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == Mode::Pass as u8
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn socket_of(url: &str) -> PathBuf {
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let mut decoded = Vec::new();
    let mut bytes = host.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let hex: String = bytes.by_ref().take(2).map(char::from).collect();
            u8::from_str_radix(&hex, 16).unwrap()
        } else {
            byte
        });
    }
    PathBuf::from(String::from_utf8(decoded).unwrap()).join(".s.PGSQL.5432")
}

async fn pass(client: TcpStream, socket: PathBuf, mode: Arc<AtomicU8>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    client.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    // Both directions end together, so that the client sees it.
    tokio::select! {
        () = requests(from_client, to_server, &mode) => {}
        () = copy(&mut from_server, to_client, &mode) => {}
    }
}

async fn requests(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mode: &AtomicU8) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let sent = &buffer[..length];
        // Where a session prepares it, this is the first time; later ones do not say it in words.
        let is_commit = sent.windows(7).any(|window| window == b"COMMIT\0");
        match mode.load(Ordering::SeqCst) {
            before if is_commit && before == Mode::CutBefore as u8 => {
                mode.store(Mode::Pass as u8, Ordering::SeqCst);
                return;
            }
            stall if stall == Mode::Stall as u8 => std::future::pending().await,
            _ => {}
        }
        if to.write_all(sent).await.is_err() {
            return;
        }
    }
}

async fn copy(from: &mut (impl AsyncRead + Unpin), mut to: impl AsyncWrite + Unpin, mode: &AtomicU8) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let answer = &buffer[..length];
        if mode.load(Ordering::SeqCst) == Mode::CutAfter as u8
            && answer.windows(7).any(|window| window == b"COMMIT\0")
        {
            mode.store(Mode::Pass as u8, Ordering::SeqCst);
            return;
        }
        if to.write_all(answer).await.is_err() {
            return;
        }
    }
}
