//! A server that says what a test wants: no real one says such things when it is asked to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// A request: its first line and headers as they came, and how long its body was.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.head.split(' ').next() == Some(method)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server on loopback; it ends when dropped.
pub(super) struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _accepts: AbortOnDropHandle<()>,
}

impl Scripted {
    /// Answers each request with the bytes that `answer` makes, and closes.
    pub(super) async fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&asked));
        let accepts = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                connections.spawn(async move {
                    let Some(asked) = read(&mut stream).await else { return };
                    let bytes = answer(&asked);
                    seen.lock().unwrap().push(asked);
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, asked, _accepts: AbortOnDropHandle::new(accepts) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

pub(super) async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut asked = Asked { head, body: bytes.split_off(end) };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while asked.body.len() < length {
        if stream.read_buf(&mut asked.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(asked)
}

/// An answer with these headers.
pub(super) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An answer of S3.
pub(super) fn xml(status: u16, body: &str) -> Vec<u8> {
    answer(status, "content-type: application/xml\r\n", body.as_bytes())
}

/// A server of WebDAV as it should be, but for what is in folders: of that it says nothing.
pub(super) fn dav() -> impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync {
    let stored = Mutex::new(HashMap::<String, Vec<u8>>::new());
    move |asked| {
        let mut stored = stored.lock().unwrap();
        let mut words = asked.line().split(' ').map(str::to_owned);
        let (method, address) = (words.next()?, words.next()?);
        Some(match (method.as_str(), stored.get(&address)) {
            ("PROPFIND", _) if asked.header("depth") == Some("1") => return None,
            ("OPTIONS", _) => answer(200, "dav: 1\r\n", b""),
            ("PUT", _) => {
                stored.insert(address, asked.body.clone());
                answer(201, "", b"")
            }
            ("GET", Some(body)) if asked.header("range") == Some("bytes=10-19") => {
                let range = format!("etag: \"x\"\r\ncontent-range: bytes 10-19/{}\r\n", body.len());
                answer(206, &range, &body[10..20])
            }
            ("GET", Some(body)) => answer(200, "etag: \"x\"\r\n", body),
            ("PROPFIND", Some(body)) => xml(207, &multistatus(&file(&address, body.len()))),
            ("GET" | "PROPFIND", None) => answer(404, "", b""),
            ("DELETE", _) => {
                stored.remove(&address);
                answer(204, "", b"")
            }
            _ => answer(201, "", b""),
        })
    }
}

/// An answer of WebDAV.
pub(super) fn multistatus(responses: &str) -> String {
    format!("<multistatus>{responses}</multistatus>")
}

/// A file in one.
pub(super) fn file(href: &str, size: usize) -> String {
    format!(
        "<response><href>{href}</href><getcontentlength>{size}</getcontentlength>\
         <getlastmodified>Sun, 22 Nov 2026 19:07:46 GMT</getlastmodified></response>"
    )
}
