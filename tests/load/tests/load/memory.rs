//! What many transfers at once cost the service in memory: uploads that are all under way, readers that take next to nothing, connections
//! that do nothing. What matters is how many there are, not how large.

use crate::{
    ALONE,
    usage::{MIB, Process, raise_file_limit},
};
use bytes::Bytes;
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    dice::number_of_run,
    frames::{Frame, hello, kind, read_file, window_update},
    grpc::{Clients, at, by_path, finish, first, noise},
};
use data_encoding::HEXLOWER;
use futures_util::{StreamExt as _, future::join_all, stream};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    sync::{Barrier, watch},
    task::JoinHandle,
};

/// The most memory that the service may have had.
const GOAL_BYTES: u64 = 192 * MIB;
/// How much there is of what in the run of all tests; `cargo xtask bench memory` asks for more.
const UPLOADS: u64 = 8;
const SIZE_MIB: u64 = 8;
const IDLE: u64 = 50;
const READERS: u64 = 8;

const MESSAGE_BYTES: usize = 256 * 1024;
/// What the slow readers read, and how much of it in each second.
const READ_BYTES: usize = 8 * MIB as usize;
const READ_PER_SECOND: u32 = 4 * 1024;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);
/// Looks that are printed of a run.
const SHOWN: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_transfers_at_once_take_little_memory() {
    let _alone = ALONE.lock().await;
    raise_file_limit();
    let uploads = number_of_run("COFFER_UPLOADS", UPLOADS);
    let size_bytes = number_of_run("COFFER_SIZE_MIB", SIZE_MIB) * MIB;
    let (idle, readers) = (number_of_run("COFFER_IDLE", IDLE), number_of_run("COFFER_READERS", READERS));
    // Slow readers and idle connections are what is measured here: they stay.
    let patience =
        ["transfer.stall_timeout", "grpc.first_request_timeout", "grpc.idle_timeout"].map(|key| (key, "1h"));
    let cofferd = Cofferd::start_with(&patience).await;
    let room = rustix::fs::statvfs(cofferd.data_dir()).unwrap();
    let (free, needed) = (room.f_bavail * room.f_frsize, uploads * size_bytes + 1024 * MIB);
    assert!(
        free > needed,
        "{uploads} uploads of {} MiB need {} MiB on the disk of {}, and {} are free: take smaller ones",
        size_bytes / MIB,
        needed / MIB,
        cofferd.data_dir().display(),
        free / MIB
    );
    let addr: SocketAddr = cofferd.grpc_addr().parse().unwrap();
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let clients = cofferd.clients_with(Some(&token)).await;
    let content = Bytes::from(noise(READ_BYTES));
    clients.upload(at("read"), &content).await.unwrap();

    let looks = Looks::start(Process(cofferd.pid()));
    let idle = join_all((0..idle).map(|_| Idle::connect(addr))).await;
    let (slow, is_slow) = watch::channel(true);
    let readers: Vec<_> = (0..readers)
        .map(|_| tokio::spawn(read_slowly(addr, token.clone(), content.clone(), is_slow.clone())))
        .collect();
    let since = Instant::now();
    let under_way = Barrier::new(uploads as usize);
    let source = Bytes::from(noise(MESSAGE_BYTES + 4096 * 256));
    let stored = join_all((0..uploads).map(|n| {
        let content = Content {
            source: source.clone(),
            number: n as usize,
            messages: (size_bytes / MESSAGE_BYTES as u64) as usize,
        };
        upload(Clients::at(cofferd.grpc_addr(), Some(&token)), content, &under_way)
    }))
    .await;
    let took = since.elapsed();
    let reading = readers.iter().filter(|reader| !reader.is_finished()).count();
    slow.send_replace(false);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(idle.iter().all(|connection| !connection.0.is_finished()), "idle connections were closed");
    let peak = Process(cofferd.pid()).peak_bytes();
    println!(
        "{uploads} uploads of {} MiB at once, {} readers of {} KiB/s, {} idle connections, {:.1} s ({:.0} MiB/s): at most {:.1} MiB of memory, goal {}: {}",
        size_bytes / MIB,
        reading,
        READ_PER_SECOND / 1024,
        idle.len(),
        took.as_secs_f64(),
        (uploads * size_bytes / MIB) as f64 / took.as_secs_f64(),
        peak as f64 / MIB as f64,
        GOAL_BYTES / MIB,
        if peak <= GOAL_BYTES { "reached" } else { "missed" }
    );
    println!("over time, MiB: {}", looks.end());
    // Everything is what was sent, on the disk as well.
    for (path, sha256) in stored {
        assert_eq!(digest_of(&clients, &path).await, sha256, "{path}");
    }
    assert!(peak <= GOAL_BYTES, "{} MiB", peak / MIB);
}

/// An upload's content: messages that are all different, and different from those of other uploads, without being held in memory.
#[derive(Clone)]
struct Content {
    source: Bytes,
    number: usize,
    messages: usize,
}

impl Content {
    fn message(&self, n: usize) -> Bytes {
        let begin = (self.number * 4099 + n * 257) % (self.source.len() - MESSAGE_BYTES);
        self.source.slice(begin..begin + MESSAGE_BYTES)
    }
}

/// Uploads, and waits in the middle until all others are there as well. Answers the path and the SHA-256 of what was sent.
async fn upload(clients: Clients, content: Content, under_way: &Barrier) -> (String, String) {
    let path = format!("crowd/{}", content.number);
    let size = (content.messages * MESSAGE_BYTES) as i64;
    let digest = Arc::new(Mutex::new(Sha256::new()));
    let hashing = Arc::clone(&digest);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let spec = v1::UploadSpec { size_bytes: Some(size), ..at(&path) };
    let send = async move {
        sender.send(first(spec)).await.unwrap();
        for n in 0..content.messages {
            if n == content.messages / 2 {
                under_way.wait().await;
            }
            let piece = content.message(n);
            hashing.lock().unwrap().update(&piece);
            let data = v1::ChecksummedData { crc32c: Some(crc32c::crc32c(&piece)), content: piece };
            let write_offset = (n * MESSAGE_BYTES) as i64;
            let message = v1::WriteFileRequest { write_offset, data: Some(data), ..Default::default() };
            sender.send(message).await.unwrap();
        }
        sender.send(finish(size)).await.unwrap();
    };
    let mut transfers = clients.transfers.clone();
    let (_, answer) =
        tokio::join!(send, transfers.write_file(tokio_stream::wrappers::ReceiverStream::new(receiver)));
    let file = answer.unwrap().into_inner().file.unwrap();
    let sha256 = HEXLOWER.encode(&digest.lock().unwrap().clone().finalize());
    assert_eq!((file.sha256.as_str(), file.size_bytes), (sha256.as_str(), size));
    (path, sha256)
}

/// The SHA-256 of a content as it is read.
async fn digest_of(clients: &Clients, path: &str) -> String {
    let request = v1::ReadFileRequest { file: by_path(path), ..Default::default() };
    let mut stream = clients.transfers.clone().read_file(request).await.unwrap().into_inner();
    let mut digest = Sha256::new();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(data) = message.data {
            digest.update(&data.content);
        }
    }
    HEXLOWER.encode(&digest.finalize())
}

/// A connection that does nothing but answer. Closed when dropped.
struct Idle(JoinHandle<()>);

impl Idle {
    async fn connect(addr: SocketAddr) -> Self {
        let mut stream = connect_from([127, 0, 0, 3], addr).await;
        stream.write_all(&hello(&[])).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::with_capacity(256, read);
        Self(tokio::spawn(async move {
            while let Ok(frame) = Frame::read(&mut read).await {
                if let Some(answer) = frame.answer() {
                    write.write_all(&answer).await.unwrap();
                }
            }
        }))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect_from(source: impl Into<IpAddr>, addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.into(), 0)).unwrap();
    socket.connect(addr).await.unwrap()
}

/// Reads a file a few KiB per second, and what is left at once when nobody `is_slow` any more; all must be as it was stored.
async fn read_slowly(addr: SocketAddr, token: String, content: Bytes, mut is_slow: watch::Receiver<bool>) {
    let mut stream = connect_from([127, 0, 0, 4], addr).await;
    stream.write_all(&[hello(&[]), read_file(&token, by_path("read"), &[])].concat()).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut frames = std::pin::pin!(stream::unfold(BufReader::new(read), |mut read| async {
        Some((Frame::read(&mut read).await.expect("the service goes on"), read))
    }));
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let (mut received, mut hurries) = (Vec::new(), false);
    loop {
        tokio::select! {
            Some(frame) = frames.next() => {
                if let Some(answer) = frame.answer() {
                    write.write_all(&answer).await.unwrap();
                }
                if frame.kind == kind::DATA {
                    received.extend_from_slice(&frame.payload);
                }
                assert!(frame.kind != kind::RESET && frame.kind != kind::GOAWAY, "{frame:?}");
                if frame.ends_stream() {
                    break;
                }
            }
            _ = second.tick(), if !hurries => write.write_all(&room(READ_PER_SECOND)).await.unwrap(),
            Ok(()) = is_slow.changed(), if !hurries => {
                hurries = true;
                write.write_all(&room(4 * READ_BYTES as u32)).await.unwrap();
            }
        }
    }
    assert!(contents(&received) == content, "a slow reader got something else");
}

/// Lets so much more be sent on stream 1.
fn room(bytes: u32) -> Vec<u8> {
    [window_update(0, bytes), window_update(1, bytes)].concat()
}

/// The bytes of content in the messages of a read.
fn contents(mut messages: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = messages {
        let (message, next) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        let message = v1::ReadFileResponse::decode(message).unwrap();
        if let Some(data) = message.data {
            assert_eq!(data.crc32c, Some(crc32c::crc32c(&data.content)));
            content.extend_from_slice(&data.content);
        }
        messages = next;
    }
    assert!(messages.is_empty(), "whole messages that are not compressed");
    content
}

/// Looks at a process's memory now and then.
struct Looks {
    seen: Arc<Mutex<Vec<u64>>>,
    task: JoinHandle<()>,
}

impl Looks {
    fn start(process: Process) -> Self {
        let seen = Arc::<Mutex<Vec<u64>>>::default();
        let looking = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                looking.lock().unwrap().push(process.resident_bytes());
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { seen, task }
    }

    /// What was seen, at equal distances.
    fn end(self) -> String {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        let each = seen.len().div_ceil(SHOWN).max(1);
        // The most of each part: a peak between two of those that are shown is what this is about.
        let most = seen.chunks(each).map(|part| part.iter().max().map_or(0, |bytes| bytes / MIB).to_string());
        most.collect::<Vec<_>>().join(" ")
    }
}
