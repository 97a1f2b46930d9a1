//! How much there may be at once, how slow a client may be, and how long a connection may do nothing.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, Writing, at, data, finish, first, noise, refusal},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt as _, task::JoinSet};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A refusal of what is too much says so, and when to come back.
fn is_too_much(status: &Status) -> bool {
    let delay = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    let (code, reason) = refusal(status);
    code == Code::ResourceExhausted
        && ["LIMIT_REACHED", "OVERLOADED"].contains(&reason.as_str())
        && delay.is_some_and(|delay| !delay.is_zero())
}

async fn list(clients: &Clients) -> Result<(), Status> {
    clients.files.clone().list_files(v1::ListFilesRequest::default()).await.map(drop)
}

/// So many uploads of three bytes that have begun and are not finished.
async fn streaming(cofferd: &Cofferd, clients: &Clients, uploads: usize) -> Vec<Writing> {
    let mut running = Vec::new();
    for n in 0..uploads {
        let writing = clients.writing();
        assert!(writing.send(first(at(&format!("streamed/{n}")))).await);
        assert!(writing.send(data(0, b"abc")).await);
        running.push(writing);
    }
    let begun = "SELECT count(*) FROM storage_uploads";
    until(|| async { cofferd.database.number(begun).await == uploads as i64 }).await;
    running
}

/// How long so many calls in a row took, the shortest first.
async fn times(clients: &Clients, calls: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let since = Instant::now();
        list(clients).await.unwrap();
        times.push(since.elapsed());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hammers_is_refused_and_others_are_served() {
    let cofferd = Cofferd::start_with(&[("limits.requests_per_principal", "128")]).await;
    let bob = cofferd.clients(&Token::user("bob", "clinic")).await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let is_over = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut hammering = JoinSet::new();
    for _ in 0..4 {
        let ann = cofferd.clients_with(Some(&token)).await;
        for _ in 0..50 {
            let (ann, is_over, refused) = (ann.clone(), is_over.clone(), refused.clone());
            hammering.spawn(async move {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    match list(&ann).await {
                        Ok(()) => times.push(since.elapsed()),
                        Err(status) if is_too_much(&status) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            // Sooner than it is told to, but not only to make heat.
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        Err(status) => panic!("{status:?}"),
                    }
                }
                times
            });
        }
    }
    while refused.load(Ordering::Relaxed) < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bobs = times(&bob, 40).await[35];
    is_over.store(true, Ordering::Relaxed);
    let mut anns: Vec<_> = hammering.join_all().await.concat();
    anns.sort();
    let (served, refused) = (anns.len(), refused.load(Ordering::Relaxed));
    assert!(served > 0 && refused > 0);
    let median = anns[served / 2];
    println!("bob's p90: {bobs:?}; ann's median: {median:?} of {served} calls, {refused} refused");
    // One queue for all would let him wait as long as she does: he has his turn before the rest of hers.
    assert!(bobs < median.mul_f64(0.7), "{bobs:?}, ann's median {median:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_progress_and_open_uploads_are_limited_per_caller() {
    let settings = [("limits.uploads_per_principal", "2"), ("limits.open_uploads_per_principal", "3")];
    let cofferd = Cofferd::start_with(&settings).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let bob = cofferd.clients(&Token::user("bob", "clinic")).await;
    let running = streaming(&cofferd, &ann, 2).await;
    let status = ann.upload(at("one too many"), b"x").await.unwrap_err();
    assert!(is_too_much(&status), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["limit"], "2");
    list(&ann).await.unwrap();
    bob.upload(at("bob's"), b"x").await.unwrap();
    // What runs is not touched.
    for writing in running {
        assert!(writing.send(finish(3)).await);
        writing.end().await.unwrap();
    }
    ann.upload(at("not any more"), b"x").await.unwrap();

    let spec = |n: usize| v1::UploadSpec {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..at(&format!("started/{n}"))
    };
    let mut started = Vec::new();
    for n in 0..3 {
        started.push(ann.start_upload(spec(n)).await.unwrap());
    }
    let status = ann.start_upload(spec(3)).await.unwrap_err();
    assert!(is_too_much(&status), "{status:?}");
    let one_shot = ann.upload(spec(4), &noise(3_000_000)).await.unwrap_err();
    assert!(is_too_much(&one_shot), "{one_shot:?}");
    ann.upload(at("without a request"), b"x").await.unwrap();
    bob.start_upload(spec(3)).await.unwrap();
    ann.cancel_upload(&started[0].id).await.unwrap();
    ann.start_upload(spec(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_all_no_more_than_so_much_is_begun_and_health_is_still_told() {
    let cofferd = Cofferd::start_with(&[("limits.requests", "3")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let running = streaming(&cofferd, &ann, 3).await;
    let bob = cofferd.clients(&Token::user("bob", "clinic")).await;
    let status = list(&bob).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert!(is_too_much(&status));
    let mut health = tonic_health::pb::health_client::HealthClient::new(cofferd.channel().await);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    for writing in running {
        assert!(writing.send(finish(3)).await);
        writing.end().await.unwrap();
    }
    until(|| async { list(&bob).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_is_no_upload() {
    let settings = [("transfer.stall_timeout", "2s"), ("transfer.min_rate", "16KiB")];
    let cofferd = Cofferd::start_with(&settings).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let since = Instant::now();
    let writing = ann.writing();
    assert!(writing.send(first(at("slow"))).await);
    let mut offset = 0;
    while writing.send(data(offset, b"x")).await {
        offset += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(since.elapsed() < TIMEOUT, "a byte every 100 ms is taken for ever");
    }
    let status = writing.answer().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "STREAM_STALLED".to_owned()));
    assert!(since.elapsed() >= Duration::from_secs(2));
    let recorded = "SELECT count(*) FROM storage_operations WHERE error_code = 'STREAM_STALLED'";
    until(|| async { cofferd.database.number(recorded).await == 1 }).await;

    // As slow as may be is not too slow, and a message may take longer than the timeout.
    let writing = ann.writing();
    assert!(writing.send(first(at("just fast enough"))).await);
    for n in 0..20 {
        assert!(writing.send(data(n * 5_000, &[7; 5_000])).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(writing.send(finish(100_000)).await);
    writing.end().await.unwrap();
}

/// How long a connection stays open that sends this and reads on.
async fn closed_after(cofferd: &Cofferd, bytes: &[u8]) -> Duration {
    // Before the service can have begun to wait.
    let since = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.expect("it is closed");
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_nothing_are_closed() {
    let cofferd =
        Cofferd::start_with(&[("grpc.first_request_timeout", "1s"), ("grpc.idle_timeout", "2s")]).await;
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let (silent, greeted) =
        tokio::join!(closed_after(&cofferd, b"PRI * HTTP"), closed_after(&cofferd, &hello));
    assert!(silent >= Duration::from_secs(10) && silent < TIMEOUT, "{silent:?}");
    assert!(greeted >= Duration::from_secs(1) && greeted < TIMEOUT, "{greeted:?}");
    // A client whose connection was closed connects again, and a stream keeps its connection.
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let writing = ann.writing();
    assert!(writing.send(first(at("slow"))).await);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(writing.send(data(0, b"abc")).await && writing.send(finish(3)).await);
    writing.end().await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    list(&ann).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_replaced_and_what_runs_on_it_finishes() {
    let cofferd = Cofferd::start_with(&[("grpc.max_connection_age", "1s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let writing = ann.writing();
    assert!(writing.send(first(at("old"))).await);
    let since = Instant::now();
    let (mut calls, mut overtaken) = (0, 0);
    while since.elapsed() < Duration::from_secs(5) {
        match list(&ann).await {
            Ok(()) => calls += 1,
            // tonic's client does not send again what the end of its connection overtook. The service itself refused nothing.
            Err(status) => {
                assert!(std::error::Error::source(&status).is_some(), "{status:?}");
                overtaken += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(calls > 10, "{calls}");
    assert!(writing.send(data(0, b"abc")).await && writing.send(finish(3)).await);
    writing.end().await.unwrap();
    let metrics = metrics(&cofferd).await;
    let accepted =
        metrics.lines().find(|line| line.starts_with("coffer_connections_accepted_total{listener=\"grpc\"}"));
    let accepted: u64 = accepted.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(accepted >= 3, "{accepted} connections in 5 s");
    assert!(overtaken < accepted, "{overtaken} calls overtaken by the end of {accepted} connections");
}

async fn metrics(cofferd: &Cofferd) -> String {
    let mut stream = tokio::net::TcpStream::connect(cofferd.http_addr()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until it is so.
async fn until<F: Future<Output = bool>>(is_it: impl Fn() -> F) {
    let since = Instant::now();
    while !is_it().await {
        assert!(since.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
