//! Servers that answer what they should not: nothing is published, and the error says what it was.

use super::{Act, Config, Server, assert_kind, config, open_ftp};
use crate::support::{all_keys, fresh_key, noise, read};
use bytes::Bytes;
use coffer_domain::{
    driver::{Driver, ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::net::TcpListener;

const KIB: usize = 1024;
/// What sockets hold of an answer whose reader has gone.
const IN_SOCKETS: usize = 6 * KIB * KIB;

/// A server that is as it should be until the driver is open; then its script counts.
async fn opened(script: impl Fn(&str) -> Act + Send + Sync + 'static) -> (Arc<dyn Driver>, Server) {
    let is_open = Arc::new(AtomicBool::new(false));
    let counts = Arc::clone(&is_open);
    let server = Server::start(move |line| match counts.load(Ordering::SeqCst) {
        true => script(line),
        false => Act::Usual,
    })
    .await;
    let driver = open_ftp(config(server.address)).await.unwrap();
    is_open.store(true, Ordering::SeqCst);
    (driver, server)
}

async fn store(driver: &dyn Driver, content: &Bytes) -> coffer_domain::driver::Result<Key> {
    let key = fresh_key();
    driver.store(UploadId::new(), &key, vec![content.clone()]).await.map(|_| key)
}

/// As the others, but sent as it comes.
async fn stream(driver: &dyn Driver, content: &Bytes) -> coffer_domain::driver::Result<Key> {
    let key = fresh_key();
    let mut writer = driver.begin(UploadId::new(), &key, WriteOptions::default()).await?;
    for at in (0..content.len()).step_by(500_000) {
        writer.write(vec![content.slice(at..content.len().min(at + 500_000))].into()).await?;
    }
    writer.finish().await.map(|_| key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_as_it_should_be_is_used() {
    let (driver, server) = opened(|_| Act::Usual).await;
    let can = driver.capabilities();
    assert!(can.resume && can.list && can.range_read && can.rename && !can.durable_ack && !can.create_only);
    for length in [0, 1000, 3_000_000] {
        let content = noise(length, 1);
        let key = stream(&*driver, &content).await.unwrap();
        assert_eq!(read(&*driver, &key).await.unwrap(), content);
    }
    assert_eq!(server.published().len(), 3);
    assert_eq!(all_keys(&*driver, ".coffer/", 10).await, [""; 0]);
}

/// Whatever address an answer names, nobody else is dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_connections_lead_to_the_server_alone() {
    let canary = TcpListener::bind("127.0.0.2:0").await.unwrap();
    for address in [[10, 0, 0, 1], [169, 254, 169, 254], [127, 0, 0, 2]] {
        let server = Server::start(move |line| match line {
            "FEAT" => Act::Say("211-these\r\n MLST type*;size*;modify*;\r\n SIZE\r\n211 end"),
            "PASV" => Act::At(address),
            _ => Act::Usual,
        })
        .await;
        let driver = open_ftp(config(server.address)).await.unwrap();
        let content = noise(10_000, 1);
        let key = store(&*driver, &content).await.unwrap();
        assert_eq!(read(&*driver, &key).await.unwrap(), content);
        assert!(server.asked().iter().any(|line| line == "PASV"));
    }
    // The port of somebody who listens elsewhere: nobody listens there on the server.
    let port = canary.local_addr().unwrap().port();
    let answer: &'static str =
        Box::leak(format!("227 there (127,0,0,2,{},{})", port >> 8, port & 255).into_boxed_str());
    let server = Server::start(move |line| match line {
        "FEAT" => Act::Say("211-these\r\n SIZE\r\n211 end"),
        "PASV" => Act::Say(answer),
        _ => Act::Usual,
    })
    .await;
    assert_kind(open_ftp(config(server.address)).await, ErrorKind::Unavailable, "the server does not listen");
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), canary.accept()).await;
    assert!(accepted.is_err(), "nobody has connected");
    assert_eq!(server.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_has_an_end() {
    for flood in ["250-a line of many\r\n", "211-x\r\n x\r\n", "250-a", "\r\n\r\n\r\n\r\n"] {
        for verb in ["greeting", "USER", "FEAT", "PWD"] {
            let server = Server::start(move |line| match line.starts_with(verb) {
                true => Act::Flood(flood),
                false => Act::Usual,
            })
            .await;
            let opened = open_ftp(config(server.address)).await;
            assert_kind(opened, ErrorKind::BadAnswer, verb);
            assert!(server.said() <= 256 * KIB + IN_SOCKETS, "{verb}: {}", server.said());
        }
        for verb in ["EPSV", "STOR", "SIZE", "RNFR", "RNTO"] {
            let (driver, server) = opened(move |line| match line.starts_with(verb) {
                true => Act::Flood(flood),
                false => Act::Usual,
            })
            .await;
            assert_kind(store(&*driver, &noise(1000, 1)).await, ErrorKind::BadAnswer, verb);
            assert!(server.said() <= 256 * KIB + IN_SOCKETS, "{verb}: {}", server.said());
            assert_eq!(server.published(), [""; 0], "{verb}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_it_has_is_looked_at() {
    let (half, content) = (noise(100_000, 1), noise(3_000_000, 2));
    for (of, act) in
        [("said before it came", Act::Early), ("half of it", Act::Keep(50_000)), ("nothing", Act::Keep(0))]
    {
        let (driver, server) =
            opened(move |line| match line.starts_with("STOR") || line.starts_with("APPE") {
                true => act.clone(),
                false => Act::Usual,
            })
            .await;
        assert_kind(store(&*driver, &half).await, ErrorKind::Unavailable, of);
        assert_kind(stream(&*driver, &content).await, ErrorKind::Unavailable, of);
        assert_eq!(server.published(), [""; 0], "{of}");
    }
    for (of, said) in [("a byte more", "213 100001"), ("a byte less", "213 99999"), ("nothing", "213 0")] {
        let (driver, server) = opened(move |line| match line.starts_with("SIZE") {
            true => Act::Say(said),
            false => Act::Usual,
        })
        .await;
        assert_kind(store(&*driver, &half).await, ErrorKind::Unavailable, of);
        assert_eq!(server.published(), [""; 0], "{of}");
    }
}

/// Where a server tells sums, the same number of other bytes is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_that_is_another_is_noticed() {
    const SUM: &str = "250 0000000000000000000000000000000000000000000000000000000000000000";
    for (said, expected) in [
        (SUM, Some(ErrorKind::BadAnswer)),
        ("250 none", Some(ErrorKind::BadAnswer)),
        ("552 too large", None),
        ("450 not now", Some(ErrorKind::Unavailable)),
    ] {
        let server = Server::start(move |line| match line {
            "FEAT" => Act::Say("211-these\r\n MLST type*;\r\n EPSV\r\n XSHA256\r\n SIZE\r\n211 end"),
            line if line.starts_with("XSHA256 /.coffer/staging/") => Act::Say(said),
            _ => Act::Usual,
        })
        .await;
        let driver = open_ftp(config(server.address)).await.unwrap();
        for length in [1000, 3_000_000] {
            let stored = stream(&*driver, &noise(length, 1)).await;
            assert_eq!(stored.err().map(|failure| failure.kind), expected, "{said}");
        }
        assert_eq!(server.published().is_empty(), expected.is_some(), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_that_is_right_is_believed() {
    let server = Server::start(|line| match line {
        "FEAT" => Act::Say("211-these\r\n MLST type*;\r\n EPSV\r\n XMD5\r\n SIZE\r\n211 end"),
        // Of no bytes.
        line if line.starts_with("XMD5") => Act::Say("250 D41D8CD98F00B204E9800998ECF8427E"),
        _ => Act::Usual,
    })
    .await;
    let driver = open_ftp(config(server.address)).await.unwrap();
    stream(&*driver, &Bytes::new()).await.unwrap();
    assert_kind(stream(&*driver, &noise(1, 1)).await, ErrorKind::BadAnswer, "of another content");
    assert!(server.asked().iter().any(|line| line.starts_with("XMD5 /.coffer/staging/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_half_the_bytes_fails() {
    let (driver, server) = opened(|line| match line.starts_with("STOR") {
        true => Act::Keep(1000),
        false => Act::Usual,
    })
    .await;
    let options = WriteOptions { is_resumable: true, ..WriteOptions::default() };
    let (upload, key) = (UploadId::new(), fresh_key());
    let mut writer = driver.begin(upload, &key, options).await.unwrap();
    writer.write(vec![noise(2000, 1)].into()).await.unwrap();
    assert_kind(writer.checkpoint().await, ErrorKind::Unavailable, "a checkpoint");
    assert_kind(writer.finish().await, ErrorKind::Unavailable, "the end after it");
    assert_kind(driver.resume(upload, &key, 2000, options).await, ErrorKind::NotFound, "going on");
    assert_eq!(server.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up() {
    for verb in ["EPSV", "STOR", "226", "SIZE", "RNFR", "RNTO"] {
        let (driver, server) = opened(move |line| match line.starts_with(verb) {
            true => Act::Hang,
            false => Act::Usual,
        })
        .await;
        assert_kind(store(&*driver, &noise(1000, 1)).await, ErrorKind::Timeout, verb);
        assert_eq!(server.published(), [""; 0], "{verb}");
    }
    for verb in ["greeting", "PASS", "TYPE"] {
        let server = Server::start(move |line| match line.starts_with(verb) {
            true => Act::Hang,
            false => Act::Usual,
        })
        .await;
        assert_kind(open_ftp(config(server.address)).await, ErrorKind::Timeout, verb);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_no_answer() {
    for (said, expected) in [
        ("hello", ErrorKind::BadAnswer),
        // The first line of many, of which there is no last.
        ("99999", ErrorKind::Timeout),
        ("213 many", ErrorKind::BadAnswer),
        ("213 -5", ErrorKind::BadAnswer),
        ("213 99999999999999999999999", ErrorKind::BadAnswer),
        ("226 well", ErrorKind::BadAnswer),
        ("421 too many of you", ErrorKind::Unavailable),
        ("530 who are you", ErrorKind::Denied),
        ("552 no space", ErrorKind::Full),
    ] {
        let (driver, server) = opened(move |line| match line.starts_with("SIZE") {
            true => Act::Say(said),
            false => Act::Usual,
        })
        .await;
        assert_kind(store(&*driver, &noise(1000, 1)).await, expected, said);
        assert_eq!(server.published(), [""; 0], "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_it_is() {
    for (verb, said, expected) in [
        ("STOR", "552 xyzzy", ErrorKind::Full),
        ("STOR", "452 xyzzy", ErrorKind::Full),
        ("226", "452 xyzzy", ErrorKind::Full),
        ("STOR", "553 xyzzy", ErrorKind::Denied),
        ("STOR", "550 xyzzy", ErrorKind::Denied),
        ("STOR", "425 xyzzy", ErrorKind::Unavailable),
        ("226", "426 xyzzy", ErrorKind::Unavailable),
        ("226", "451 xyzzy", ErrorKind::Unavailable),
        ("STOR", "502 xyzzy", ErrorKind::Unsupported),
        ("RNTO", "553 xyzzy", ErrorKind::Denied),
    ] {
        let (driver, server) = opened(move |line| match line.starts_with(verb) {
            true => Act::Say(said),
            false => Act::Usual,
        })
        .await;
        let failure = store(&*driver, &noise(1000, 1)).await.unwrap_err();
        assert_eq!(failure.kind, expected, "{verb} {said}");
        let told = coffer_domain::Error::from(failure).to_string();
        assert!(!told.contains("xyzzy"), "{told}");
        assert_eq!(server.published(), [""; 0], "{verb} {said}");
    }
    for (verb, said, expected) in [
        ("greeting", "421 xyzzy", ErrorKind::Unavailable),
        ("PASS", "530 xyzzy", ErrorKind::Denied),
        ("TYPE", "504 xyzzy", ErrorKind::Unsupported),
    ] {
        let server = Server::start(move |line| match line.starts_with(verb) {
            true => Act::Say(said),
            false => Act::Usual,
        })
        .await;
        assert_kind(open_ftp(config(server.address)).await, expected, said);
    }
}

/// What comes late is the answer to something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_left_unanswered_is_not_used_again() {
    let (driver, server) = opened(|line| match line.ends_with("/slow") {
        true => Act::Hang,
        false => Act::Usual,
    })
    .await;
    server.put("/fast", &[1; 77]);
    let slow = Key::parse("slow").unwrap();
    for _ in 0..3 {
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), driver.stat(&slow)).await;
        assert!(given_up.is_err());
        let stat = driver.stat(&Key::parse("fast").unwrap()).await.unwrap().unwrap();
        assert_eq!(stat.size, 77);
    }
    assert!(server.sessions() >= 4, "{} sessions", server.sessions());
}

/// One that is used for one thing after the other is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_answered_is_used_again() {
    let (driver, server) = opened(|_| Act::Usual).await;
    let before = server.sessions();
    for n in 0..20 {
        let key = store(&*driver, &noise(1000 + n, 1)).await.unwrap();
        assert_eq!(driver.stat(&key).await.unwrap().unwrap().size, 1000 + n as u64);
    }
    assert_eq!(server.sessions(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_names_nothing_outside_itself() {
    for (name, expected) in [
        ("..", Ok(())),
        (".", Ok(())),
        ("a\rb", Ok(())),
        ("a\u{7}b", Ok(())),
        ("../x", Err(ErrorKind::BadAnswer)),
        ("/etc/passwd", Err(ErrorKind::BadAnswer)),
        ("a/b", Err(ErrorKind::BadAnswer)),
        ("", Err(ErrorKind::BadAnswer)),
    ] {
        let (driver, server) = opened(|_| Act::Usual).await;
        server.put("/good", b"x");
        server.put("/links", b"x");
        let lines = format!("type=file;size=1; {name}\r\ntype=OS.unix=slink:/etc; link\r\n");
        server.list_also(&lines);
        let found = driver.list("", None, 10).await;
        let found =
            found.map(|found| found.into_iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>());
        match expected {
            Ok(()) => assert_eq!(found.unwrap(), ["good", "links"], "{name:?}"),
            Err(kind) => assert_kind(found, kind, name),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_no_command_can_hold_is_refused_before_anything_is_sent() {
    let server = Server::start(|_| Act::Usual).await;
    let right = config(server.address);
    for wrong in [
        Config { username: "ann\r\nDELE x".to_owned(), ..right.clone() },
        Config { path: "a\nb".to_owned(), ..right.clone() },
        Config { prefix: "a\0b/".to_owned(), ..right.clone() },
    ] {
        assert_kind(open_ftp(wrong).await, ErrorKind::Denied, "a setting");
    }
    assert_eq!(server.sessions(), 0);
    let missing = Config { path: "no/such/folder".to_owned(), ..right.clone() };
    assert_kind(open_ftp(missing).await, ErrorKind::Unavailable, "a folder that is not there");
    let forbidden = Config { wire: coffer_drivers::WireOptions::default(), ..right };
    let before = server.sessions();
    assert_kind(open_ftp(forbidden).await, ErrorKind::Denied, "an address that may not be dialled");
    assert_eq!(server.sessions(), before);
}
