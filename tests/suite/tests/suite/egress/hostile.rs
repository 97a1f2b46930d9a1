//! A server that means no good.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

const MIB: usize = 1024 * 1024;
/// What may be taken of an answer: the mebibyte that is read, and what sockets hold of one whose reader is gone.
pub(super) const MOST_TAKEN: usize = 6 * MIB;
/// Length of an answer that is too long.
const GIBIBYTE: usize = 1024 * MIB;

/// What it answers to everything.
#[derive(Debug, Clone)]
pub(super) enum Says {
    /// A status and a location.
    Redirect(u16, String),
    /// A document of a gibibyte.
    Gibibyte,
    /// The same from a server of WebDAV.
    GibibyteOfDav,
    /// A document whose entities grow to gigabytes.
    Bomb,
    /// The same from a server of WebDAV.
    BombOfDav,
    /// A document that does not end and does not say how long it is.
    Endless,
    /// The same from a server of WebDAV.
    EndlessOfDav,
}

/// Listens on loopback; ends when dropped.
pub(super) struct Hostile {
    address: SocketAddr,
    seen: Arc<Seen>,
    _accepts: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    has_secret: AtomicBool,
    most_said: AtomicUsize,
}

impl Hostile {
    pub(super) async fn start(says: Says) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So that what was said is what was taken, or nearly.
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let mut accepts = JoinSet::new();
        let shared = Arc::clone(&seen);
        accepts.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (says, seen) = (says.clone(), Arc::clone(&shared));
                connections.spawn(async move { answer(stream, &says, &seen).await });
            }
        });
        Self { address, seen, _accepts: accepts }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub(super) fn was_told_a_secret(&self) -> bool {
        self.seen.has_secret.load(Ordering::SeqCst)
    }

    /// Bytes of the longest answer that was taken off it.
    pub(super) fn most_said(&self) -> usize {
        self.seen.most_said.load(Ordering::SeqCst)
    }
}

/// One request and its answer. `None` when the client has gone.
async fn answer(mut stream: TcpStream, says: &Says, seen: &Seen) -> Option<()> {
    let head = request(&mut stream).await?;
    seen.requests.fetch_add(1, Ordering::SeqCst);
    seen.has_secret.fetch_or(head.to_ascii_lowercase().contains("\r\nauthorization: "), Ordering::SeqCst);
    let is_bodiless = head.starts_with("HEAD ");
    let dav = match says {
        Says::GibibyteOfDav | Says::BombOfDav | Says::EndlessOfDav => "dav: 1\r\n",
        _ => "",
    };
    let begin = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/xml\r\n{dav}");
    let (head, first, length) = match says {
        Says::Redirect(status, location) => {
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\nlocation: {location}\r\n");
            (format!("{head}content-length: 0\r\n\r\n"), String::new(), 0)
        }
        Says::Gibibyte | Says::GibibyteOfDav => {
            (format!("{begin}content-length: {GIBIBYTE}\r\n\r\n"), "<list>".to_owned(), GIBIBYTE)
        }
        Says::Bomb | Says::BombOfDav => {
            let bomb = bomb();
            (format!("{begin}content-length: {}\r\n\r\n", bomb.len()), bomb, 0)
        }
        Says::Endless | Says::EndlessOfDav => {
            (format!("{begin}transfer-encoding: chunked\r\n\r\n"), String::new(), usize::MAX)
        }
    };
    stream.write_all(head.as_bytes()).await.ok()?;
    if is_bodiless {
        return stream.shutdown().await.ok();
    }
    stream.write_all(first.as_bytes()).await.ok()?;
    let is_chunked = matches!(says, Says::Endless | Says::EndlessOfDav);
    let mut piece = vec![b' '; 16 * 1024];
    if is_chunked {
        piece = [b"4000\r\n".as_slice(), &piece, b"\r\n"].concat();
    }
    let mut said = first.len();
    while said < length {
        let step = piece.len().min(length - said);
        let written = stream.write(&piece[..step]).await;
        // A piece that was taken in part goes on where it was: chunks have to stay whole.
        let Ok(written @ 1..) = written else { break };
        stream.write_all(&piece[written..step]).await.ok();
        said += step;
        seen.most_said.fetch_max(said, Ordering::SeqCst);
    }
    stream.shutdown().await.ok()
}

/// A billion laughs.
fn bomb() -> String {
    let entities: String =
        (1..10).map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10))).collect();
    format!("<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e0 \"ha\">{entities}]><x>&e9;</x>")
}

/// Reads a request to its end, so that the answer is not lost with what was not read; answers its head.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut left = length.unwrap_or(0).saturating_sub(bytes.len() - end);
    let mut rest = vec![0; 16 * 1024];
    while left > 0 {
        let read = stream.read(&mut rest).await.ok()?;
        if read == 0 {
            return None;
        }
        left = left.saturating_sub(read);
    }
    Some(head)
}
