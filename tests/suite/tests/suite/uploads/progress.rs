//! What is recorded of uploads under way, and how often.

use super::{ended_early, resumable, sha256, until};
use coffer_tests::{
    Cofferd, Token,
    grpc::{data, finish, noise, of_upload},
};
use std::time::{Duration, Instant};

/// Between two messages of a slow flow.
const PAUSE: Duration = Duration::from_millis(50);
const MESSAGE_BYTES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_flow_is_recorded_twice_a_second() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(80 * MESSAGE_BYTES);
    let id = ann.start_upload(resumable("slow.bin")).await.unwrap().id;
    let writing = ann.writing();
    assert!(writing.send(of_upload(&id)).await);
    // When how much had been sent, and when how much was seen recorded.
    let (since, mut sent, mut recorded) = (Instant::now(), Vec::new(), vec![(Duration::ZERO, 0)]);
    for (n, chunk) in content.chunks(MESSAGE_BYTES).enumerate() {
        assert!(writing.send(data((n * MESSAGE_BYTES) as i64, chunk)).await);
        sent.push((since.elapsed(), ((n + 1) * MESSAGE_BYTES) as i64));
        tokio::time::sleep(PAUSE).await;
        let persisted = ann.get_upload(&id).await.unwrap().persisted_size;
        if persisted > recorded.last().unwrap().1 {
            recorded.push((since.elapsed(), persisted));
        }
    }
    let took = since.elapsed();
    let gaps: Vec<_> = recorded.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let lags = recorded.iter().skip(1).map(|(at, bytes)| {
        let (left, _) = sent.iter().find(|(_, sent)| sent >= bytes).unwrap();
        *at - *left
    });
    println!("{} records in {took:?}; between them {gaps:?}; behind by {:?} at most", gaps.len(), lags.max());
    assert!(gaps.len() >= 4, "it is recorded as it goes");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(2)), "{gaps:?}");
    let most = took.as_millis() / 500 + 2;
    assert!(gaps.len() as u128 <= most, "{} records, at most {most}", gaps.len());

    // A pause is no reason to wait: what was sent is recorded without a further message.
    let rest = content.len() as i64;
    until("all of it is recorded", async || ann.get_upload(&id).await.unwrap().persisted_size == rest).await;
    assert!(writing.send(finish(rest)).await);
    assert_eq!(writing.end().await.unwrap().file.unwrap().sha256, sha256(&content));
}

/// How many transactions have recorded progress.
async fn checkpoints(cofferd: &Cofferd) -> f64 {
    let (status, metrics) = crate::telemetry::get(cofferd, "/metrics").await;
    assert_eq!(status, 200);
    let counted = metrics.lines().filter(|line| {
        line.starts_with("coffer_store_seconds_count{") && line.contains("method=\"checkpoint_uploads\"")
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_are_recorded_together() {
    const UPLOADS: usize = 64;
    const MESSAGES: usize = 60;
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let mut writings = Vec::new();
    for n in 0..UPLOADS {
        let id = ann.start_upload(resumable(&format!("{n}.bin"))).await.unwrap().id;
        let writing = ann.writing();
        assert!(writing.send(of_upload(&id)).await);
        writings.push((id, writing));
    }
    let (before, since) = (checkpoints(&cofferd).await, Instant::now());
    let content = noise(MESSAGE_BYTES);
    for n in 0..MESSAGES {
        for (_, writing) in &writings {
            assert!(writing.send(data((n * MESSAGE_BYTES) as i64, &content)).await);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let (statements, took) = (checkpoints(&cofferd).await - before, since.elapsed());
    let intervals = took.as_secs_f64() / 0.5;
    println!("{UPLOADS} uploads for {took:?}: {statements} statements in {intervals:.1} intervals of 500 ms");
    let recorded =
        cofferd.database.number("SELECT count(*) FROM storage_uploads WHERE persisted_size > 0").await;
    assert_eq!(recorded, UPLOADS as i64);
    assert!(statements >= intervals / 3.0, "{statements} are too few");
    assert!(statements <= intervals * 2.0 + 3.0, "{statements} are too many");

    for (id, writing) in writings {
        ended_early(&writing.end().await.unwrap_err());
        let persisted = ann.get_upload(&id).await.unwrap().persisted_size;
        assert_eq!(persisted, (MESSAGES * MESSAGE_BYTES) as i64);
    }
}
