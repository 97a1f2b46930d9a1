//! What attackers do: one plan each.

use coffer_proto::v1;
use coffer_tests::{
    frames::{
        INITIAL_WINDOW_SIZE, PREFACE, call, fields, flag, frame, hello, kind, message, open, read_file,
        reset, settings, window_update,
    },
    grpc::{at, by_path, first},
};
use std::time::Duration;

/// Frames of a flood that are sent at once.
const BATCH: usize = 1024;
/// The length of a frame that every peer takes.
const FRAME_BYTES: usize = 16 * 1024;
/// Streams that are opened at once: more than any server allows.
const STREAMS: u32 = 1_000;

/// The longest a flood may last: as much as a busy machine needs to get at what was sent.
const AT_ONCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// The longest a connection may take for its preface.
const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// What the end of an attack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// That of its connection.
    Connection,
    /// That of its only stream as well.
    Stream,
}

/// What is sent again and again, by its number.
type Batch = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// What one attacker does on each of its connections.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    /// Whether it comes back when it was cut.
    pub(super) returns: bool,
    /// Whether it reads what the service says.
    pub(super) reads: bool,
    pub(super) counts: Counts,
    pub(super) opening: Vec<u8>,
    pub(super) batch: Batch,
    /// From one batch to the next.
    pub(super) pause: Duration,
    /// The longest a connection may last; `None`: it may stay, since it costs next to nothing.
    pub(super) ends_within: Option<Duration>,
}

impl Plan {
    /// A flood over a few connections that are made anew when they are cut.
    fn flood(
        name: &'static str,
        opening: Vec<u8>,
        batch: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            connections: 20,
            returns: true,
            reads: true,
            counts: Counts::Connection,
            opening,
            batch: Box::new(batch),
            pause: Duration::ZERO,
            ends_within: Some(AT_ONCE),
        }
    }

    /// Connections that do as good as nothing.
    fn held(name: &'static str, connections: usize, opening: Vec<u8>) -> Self {
        Self { connections, returns: false, ends_within: None, ..Self::flood(name, opening, |_| Vec::new()) }
    }

    fn ends_within(self, limit: Duration) -> Self {
        Self { ends_within: Some(limit), ..self }
    }
}

/// All of them, in the name of the caller of `token`, who may read the file at `large`. `limit`: how long the service waits for what should
/// come: a first request, the next one, progress.
pub(super) fn all(token: &str, large: &str, limit: Duration) -> Vec<Plan> {
    let get = call("FileService/GetFile", None, &[]);
    let write = call("TransferService/WriteFile", Some(token), &[]);
    let upload = |path: &str| {
        [hello(&[]), open(1, &write), frame(kind::DATA, 0, 1, &message(&first(at(path))))].concat()
    };
    let repeated = |one: Vec<u8>| {
        let batch = one.repeat(BATCH);
        move |_| batch.clone()
    };
    let streams = write.clone();
    vec![
        Plan::flood("rapid reset", hello(&[]), move |round| {
            let ids = (0..BATCH as u32).map(|n| 1 + 2 * (round * BATCH as u32 + n));
            ids.flat_map(|id| {
                [frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, &get), reset(id, 8)].concat()
            })
            .collect()
        }),
        Plan::flood(
            "CONTINUATION flood",
            [hello(&[]), frame(kind::HEADERS, 0, 1, &call("FileService/GetFile", None, &[]))].concat(),
            repeated(frame(kind::CONTINUATION, 0, 1, &fields(&[("x", &"x".repeat(200))]))),
        ),
        Plan::flood(
            "empty CONTINUATION flood",
            [hello(&[]), frame(kind::HEADERS, 0, 1, &call("FileService/GetFile", None, &[]))].concat(),
            repeated(frame(kind::CONTINUATION, 0, 1, &[])),
        ),
        Plan::flood("PING flood", hello(&[]), repeated(frame(kind::PING, 0, 0, &[7; 8]))),
        Plan {
            reads: false,
            ..Plan::flood("PING flood, unread", hello(&[]), repeated(frame(kind::PING, 0, 0, &[7; 8])))
        },
        Plan::flood("SETTINGS flood", hello(&[]), repeated(settings(&[(INITIAL_WINDOW_SIZE, 65_535)]))),
        Plan::flood("WINDOW_UPDATE flood", hello(&[]), repeated(window_update(0, 1))),
        Plan::flood("PRIORITY flood", hello(&[]), repeated(frame(kind::PRIORITY, 0, 3, &[0, 0, 0, 0, 16]))),
        Plan::flood("empty DATA flood", upload("flood/empty"), repeated(frame(kind::DATA, 0, 1, &[]))),
        Plan::flood("1-byte DATA flood", upload("flood/byte"), {
            // One message of 64 KiB, a byte per frame.
            let data = v1::ChecksummedData { content: vec![7; 64 * 1024].into(), crc32c: None };
            let bytes = message(&v1::WriteFileRequest { data: Some(data), ..Default::default() });
            let all: Vec<u8> = bytes.iter().flat_map(|byte| frame(kind::DATA, 0, 1, &[*byte])).collect();
            move |_| all.clone()
        }),
        Plan {
            // Each is refused for itself, and is a request like any other.
            ends_within: None,
            ..Plan::flood("huge header lists", hello(&[]), move |round| {
                // 64 KiB in frames that are allowed.
                let block = fields(&[(":method", "POST"), ("x", &"x".repeat(4 * FRAME_BYTES))]);
                let mut parts = block.chunks(FRAME_BYTES);
                let mut bytes = frame(kind::HEADERS, 0, 1 + 2 * round, parts.next().unwrap());
                bytes.extend(parts.flat_map(|part| frame(kind::CONTINUATION, 0, 1 + 2 * round, part)));
                bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1 + 2 * round, &[]));
                bytes
            })
        },
        Plan::flood("HTTP/1.1", b"POST / HTTP/1.1\r\nHost: coffer\r\n\r\n".repeat(100), |_| {
            b"GET /metrics HTTP/1.1\r\n\r\n".repeat(100)
        }),
        // Unoptimised, each of them costs the service much more.
        Plan::held("open streams", if cfg!(debug_assertions) { 5 } else { 50 }, {
            let mut opening = hello(&[]);
            (0..STREAMS).for_each(|n| opening.extend(open(1 + 2 * n, &streams)));
            opening
        }),
        Plan::held("idle connections", 2_000, hello(&[])).ends_within(limit),
        Plan::held("no preface", 200, Vec::new()).ends_within(PREFACE_LIMIT),
        Plan {
            pause: Duration::from_secs(1),
            batch: Box::new(|round| PREFACE[round as usize % PREFACE.len()..][..1].to_vec()),
            ..Plan::held("preface byte by byte", 50, Vec::new())
        }
        .ends_within(PREFACE_LIMIT),
        Plan {
            counts: Counts::Stream,
            pause: Duration::from_secs(1),
            // A message that is announced as 64 KiB long.
            batch: Box::new(|round| {
                frame(kind::DATA, 0, 1, &[0, 0, 1, 0, 0, 34][(round as usize).min(5)..][..1])
            }),
            ..Plan::held("slow-loris up", 100, upload("loris/up"))
        }
        .ends_within(3 * limit),
        Plan {
            counts: Counts::Stream,
            ..Plan::held(
                "slow-loris down",
                100,
                [hello(&[(INITIAL_WINDOW_SIZE, 0)]), read_file(token, by_path(large), &[])].concat(),
            )
        }
        .ends_within(5 * limit),
    ]
}
