//! Servers whose listings do not end.

use super::{
    hostile::{listing, object},
    open_http, open_s3,
    scripted::{self, Asked, dav, file, multistatus, xml},
};
use crate::servers;
use coffer_domain::driver::{Error, ErrorKind};
use coffer_drivers::http;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

const MIB: usize = 1024 * 1024;
const GIBIBYTE: usize = 1024 * MIB;
/// What sockets hold of an answer whose reader has gone.
const IN_SOCKETS: usize = 6 * MIB;

/// An answer of a gibibyte, or without an end.
#[derive(Debug, Clone)]
struct Flood {
    begin: String,
    /// What follows, again and again.
    more: String,
    is_endless: bool,
}

/// A server that floods whoever asks what its script has no answer to; it ends when dropped.
struct Flooding {
    address: SocketAddr,
    said: Arc<AtomicUsize>,
    _accepts: JoinSet<()>,
}

impl Flooding {
    async fn start(script: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static, flood: Flood) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So that what was said is what was taken, or nearly.
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let (address, said) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (script, counted) = (Arc::new(script), Arc::clone(&said));
        let mut accepts = JoinSet::new();
        accepts.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, said, flood) = (Arc::clone(&script), Arc::clone(&counted), flood.clone());
                connections.spawn(async move {
                    let Some(asked) = scripted::read(&mut stream).await else { return };
                    match script(&asked) {
                        Some(bytes) => {
                            let _ = stream.write_all(&bytes).await;
                            let _ = stream.shutdown().await;
                        }
                        None => flood.pour(stream, &said).await,
                    }
                });
            }
        });
        Self { address, said, _accepts: accepts }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Flood {
    /// Until nobody listens any more.
    async fn pour(&self, mut stream: TcpStream, said: &AtomicUsize) {
        let Self { begin, more, is_endless } = self;
        let length = match is_endless {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {GIBIBYTE}"),
        };
        let head = format!(
            "HTTP/1.1 207 X\r\nconnection: close\r\ncontent-type: application/xml\r\n{length}\r\n\r\n"
        );
        let framed = |text: &str| match is_endless {
            true => format!("{:x}\r\n{text}\r\n", text.len()),
            false => text.to_owned(),
        };
        let more = framed(&more.repeat(16 * 1024 / more.len()));
        if stream.write_all((head + &framed(begin)).as_bytes()).await.is_err() {
            return;
        }
        let mut poured = begin.len();
        while poured < GIBIBYTE && stream.write_all(more.as_bytes()).await.is_ok() {
            poured += more.len();
            said.store(poured, Ordering::SeqCst);
        }
    }
}

/// What is no listing is read to its first mebibyte; what may be one, to the limit of listings.
async fn assert_limits(
    root: &str,
    entry: &str,
    most: usize,
    list: impl AsyncFn(Flood) -> (Result<usize, Error>, usize),
) {
    let begin = format!("<{root}>");
    let of_entities = format!("<!DOCTYPE x [<!ENTITY a \"{}\">]>{begin}", "a".repeat(1_000));
    for (of, begin, more, limit) in [
        ("blanks", begin.as_str(), " ", MIB),
        ("comments", &begin, "<!-- nothing -->", MIB),
        ("one name", &format!("{begin}<Contents><Key>"), "a", MIB),
        ("another document", "<html>", "<p><b>Please log in</b></p>", MIB),
        ("no document", "{", "\"a\": 1, ", MIB),
        ("entities", &of_entities, "&a;", MIB),
        ("entities in names", &of_entities, entry, MIB),
        ("depth", &begin, "<a>", MIB),
        ("names", &begin, entry, most),
    ] {
        for is_endless in [false, true] {
            let flood = Flood { begin: begin.to_owned(), more: more.to_owned(), is_endless };
            let (listed, said) = list(flood).await;
            let failure = listed.unwrap_err();
            assert_eq!(failure.kind, ErrorKind::BadAnswer, "{of}");
            let problem = failure.source.unwrap().to_string();
            assert_eq!(problem, format!("the answer has more than {limit} bytes"), "{of}");
            println!("{root} of {of}, endless {is_endless}: {} KiB were taken", said / 1024);
            assert!(said <= limit + IN_SOCKETS, "{of}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_a_bucket_has_an_end() {
    let script = |asked: &Asked| match asked.line() {
        line if line.contains("?versioning") => Some(xml(200, "<VersioningConfiguration/>")),
        line if line.contains("/.coffer/check/") => Some(xml(400, "<Error><Code>BadDigest</Code></Error>")),
        _ => None,
    };
    assert_limits("ListBucketResult", &object("a", "1"), 8 * MIB, async |flood| {
        let server = Flooding::start(script, flood).await;
        let driver = open_s3(servers::s3_config(&server.url(), "bucket")).await.unwrap();
        let listed = driver.list("", None, 10).await;
        (listed.map(|found| found.len()), server.said.load(Ordering::SeqCst))
    })
    .await;
    // A long one that is right is read.
    let names: String = (0..5_000).map(|n| object(&format!("{n:05}{}", "x".repeat(300)), "1")).collect();
    let page = listing(&names);
    assert!(page.len() > MIB);
    let (driver, _server) = super::hostile::s3(move |_| xml(200, &page)).await;
    assert_eq!(driver.list("", None, 10_000).await.unwrap().len(), 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_a_folder_has_an_end() {
    assert_limits("multistatus", &file("/a", 1), 64 * MIB, async |flood| {
        let server = Flooding::start(dav(), flood).await;
        let config = http::Config { wire: servers::loopback(), ..http::Config::new(server.url(), None) };
        let driver = open_http(config).await.unwrap();
        let listed = driver.list("", None, 10).await;
        (listed.map(|found| found.len()), server.said.load(Ordering::SeqCst))
    })
    .await;
    let names: String = (0..5_000).map(|n| file(&format!("/{n:05}{}", "x".repeat(300)), 1)).collect();
    let (folder, rest) = (multistatus(&names), dav());
    assert!(folder.len() > MIB);
    let server =
        scripted::Scripted::start(move |asked| rest(asked).unwrap_or_else(|| xml(207, &folder))).await;
    let config = http::Config { wire: servers::loopback(), ..http::Config::new(server.url(), None) };
    let driver = open_http(config).await.unwrap();
    assert_eq!(driver.list("", None, 10_000).await.unwrap().len(), 5_000);
}
