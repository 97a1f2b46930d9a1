//! What HTTP/2 lets a client do to a service that does not look: each kind is told off, and others do not notice.

use crate::floods::wire::Wire;
use coffer_tests::{
    Cofferd, Token,
    frames::{INITIAL_WINDOW_SIZE, call, flag, frame, kind, open, read_file, reset, settings, window_update},
    grpc::{at, by_id, noise},
};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "floods/wire.rs"]
mod wire;

/// The values 431 and 4, as HPACK codes them.
const TOO_LARGE: [u8; 4] = [0x83, 0x69, 0x90, 0xff];
const DEADLINE_EXCEEDED: [u8; 2] = [0x81, 0x6b];

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A window that nothing here fills.
const WIDE: u32 = 0x3fff_0000;

/// Longest that any of this may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An attack on one connection: what it begins with, what it repeats, and the codes with which it may be told off.
struct Attack {
    name: &'static str,
    begin: Vec<u8>,
    repeat: Vec<u8>,
    codes: &'static [u32],
}

fn attacks(cofferd: &Cofferd) -> Vec<Attack> {
    let token = cofferd.token(&Token::user("mallory", "clinic"));
    let upload = open(1, &call("TransferService/WriteFile", Some(&token), &[]));
    let list = frame(kind::HEADERS, 0, 1, &call("FileService/ListFiles", None, &[]));
    let attack =
        |name, begin: &[u8], repeat: Vec<u8>, codes| Attack { name, begin: begin.to_vec(), repeat, codes };
    let calm: &[u32] = &[ENHANCE_YOUR_CALM];
    vec![
        attack("pings", &[], frame(kind::PING, 0, 0, &[7; 8]), calm),
        attack("settings", &[], settings(&[]), calm),
        attack("windows", &[], window_update(0, 1), calm),
        attack("priorities", &[], frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 7]), calm),
        attack("unknown frames", &[], frame(0x42, 0, 0, &[7; 3]), calm),
        attack("empty content", &upload, frame(kind::DATA, 0, 1, &[]), calm),
        attack(
            "content by the byte",
            &upload,
            frame(kind::DATA, 0, 1, &[0]),
            &[ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR],
        ),
        attack("resets", &[], reset(1, 8), &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]),
        attack("empty continuations", &list, frame(kind::CONTINUATION, 0, 1, &[]), calm),
        attack(
            "continuations",
            &list,
            frame(kind::CONTINUATION, 0, 1, &[0; 16 * 1024]),
            &[ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        attack(
            "a frame of 2 MiB",
            &[],
            frame(kind::DATA, 0, 1, &vec![0; 2 * 1024 * 1024]),
            &[FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR],
        ),
        attack(
            "content beyond the window",
            &upload,
            frame(kind::DATA, 0, 1, &[0; 70_000]),
            &[FLOW_CONTROL_ERROR],
        ),
        attack("metadata of 1 MiB", &[], open(1, &vec![0; 1024 * 1024]), &[FRAME_SIZE_ERROR]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_with_their_connection_and_others_do_not_notice() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let attacks = attacks(&cofferd);
    assert_eq!(attacks.len(), 13);
    for Attack { name, begin, repeat, codes } in attacks {
        let since = Instant::now();
        let code = Wire::connect(&cofferd).await.flood(&begin, &repeat).await;
        assert!(code.is_some_and(|code| codes.contains(&code)), "{name}: {code:?}");
        assert!(since.elapsed() < Duration::from_secs(10), "{name}: {:?}", since.elapsed());
        ann.upload(at(&format!("after/{name}")), b"x").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_begun_and_reset_do_not_pile_up() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let mut wire = Wire::connect(&cofferd).await;
    let list = call("FileService/ListFiles", None, &[]);
    let mut code = None;
    for batch in 0..500 {
        let mut bytes = Vec::new();
        for n in 0..100 {
            let stream = 2 * (batch * 100 + n) + 1;
            bytes.extend(open(stream, &list));
            bytes.extend(reset(stream, 8));
        }
        if !wire.send(&bytes).await {
            code = wire.told_off(TIMEOUT).await;
            break;
        }
    }
    assert_eq!(code, Some(ENHANCE_YOUR_CALM), "50,000 of them were taken");
    ann.upload(at("after"), b"x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_those_allowed_are_refused_one_by_one() {
    let cofferd = Cofferd::start().await;
    let mut wire = Wire::connect(&cofferd).await;
    let upload = call("TransferService/WriteFile", None, &[]);
    let bytes: Vec<u8> = (0..1_000).flat_map(|n| open(2 * n + 1, &upload)).collect();
    assert!(wire.send(&bytes).await);
    assert!(wire.send(&frame(kind::PING, 0, 0, b"the last")).await);
    let mut refused = 0;
    loop {
        let frame = wire.next(TIMEOUT).await.expect("the connection goes on");
        match frame.kind {
            kind::RESET if frame.payload == REFUSED_STREAM.to_be_bytes() => refused += 1,
            kind::PING if frame.is_ack() => break,
            kind::GOAWAY => panic!("told off: {frame:?}"),
            _ => {}
        }
    }
    assert!((700..=800).contains(&refused), "{refused} of 1,000, where 200 may be open");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_metadata_is_refused_and_the_connection_goes_on() {
    let cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let large = "x".repeat(64 * 1024);
    for length in [24 * 1024, 64 * 1024] {
        let mut wire = Wire::connect(&cofferd).await;
        let block = call("FileService/ListFiles", None, &[("coffer-purpose", &large[..length])]);
        assert!(wire.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block)).await);
        let head = wire.answer(1, TIMEOUT).await;
        assert!(head.windows(4).any(|part| part == TOO_LARGE), "{length}: {head:?}");
        let good = call("FileService/ListFiles", Some(&token), &[]);
        assert!(wire.send(&open(3, &good)).await);
        assert!(wire.send(&frame(kind::DATA, flag::END_STREAM, 3, &[0; 5])).await);
        wire.answer(3, TIMEOUT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_refused_readably() {
    let cofferd = Cofferd::start().await;
    let mut stream = tokio::net::TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("HTTP/2"), "{answer}");
}

/// How long a download goes on whose connection is read and answers pings, but whose windows are never opened.
async fn ends_untaken(mut wire: Wire, token: &str, file: &str, metadata: &[(&str, &str)]) -> Duration {
    let since = Instant::now();
    assert!(wire.send(&read_file(token, by_id(file), metadata)).await);
    let mut content = 0;
    loop {
        let frame = wire.next(TIMEOUT).await.expect("the connection goes on");
        if let Some(answer) = frame.answer() {
            assert!(wire.send(&answer).await);
        }
        match frame.kind {
            kind::DATA => content += frame.payload.len(),
            kind::HEADERS if frame.ends_stream() => {
                assert!(frame.payload.windows(2).any(|part| part == DEADLINE_EXCEEDED), "{frame:?}");
                assert!(content <= 65_535, "{content} bytes in a window of 65,535");
                return since.elapsed();
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_which_nothing_is_taken_ends() {
    let cofferd = Cofferd::start_with(&[("transfer.stall_timeout", "4s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("large"), &noise(2_000_000)).await.unwrap();
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let since = Instant::now();
    let (stall, deadline) = tokio::join!(
        ends_untaken(Wire::connect(&cofferd).await, &token, &file.id, &[]),
        ends_untaken(Wire::connect(&cofferd).await, &token, &file.id, &[("grpc-timeout", "1S")]),
    );
    assert!(deadline < Duration::from_secs(4), "{deadline:?}");
    assert!(stall >= Duration::from_secs(4), "{stall:?}");
    // It stands in the audit trail as what it was.
    let stalled = "SELECT count(*) FROM storage_operations WHERE error_code = 'STREAM_STALLED'";
    while cofferd.database.number(stalled).await != 1 {
        assert!(since.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_reads_is_cut() {
    let cofferd = Cofferd::start_with(&[("transfer.stall_timeout", "2s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("large"), &noise(60_000_000)).await.unwrap();
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let mut wire = Wire::connect(&cofferd).await;
    assert!(wire.send(&settings(&[(INITIAL_WINDOW_SIZE, WIDE)])).await);
    assert!(wire.send(&window_update(0, WIDE)).await);
    assert!(wire.send(&read_file(&token, by_id(&file.id), &[])).await);
    // Pings are signs of life of a client, but not of one that takes anything.
    let since = Instant::now();
    while wire.send(&frame(kind::PING, 0, 0, &[7; 8])).await {
        assert!(since.elapsed() < TIMEOUT, "it stays open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(since.elapsed() >= Duration::from_secs(2));
}
