//! How many small uploads the service commits, beside the smallest transactions of pgbench on the same cluster: both do nothing faster
//! than the disk takes a commit.

use coffer_tests::{
    Cofferd, TestDatabase, Token,
    dice::number_of_run,
    grpc::{at, noise},
    missing,
};
use futures_util::future::join_all;
use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::Command;

/// How many at once.
const CLIENTS: [usize; 2] = [1, 32];
const CONTENT_BYTES: usize = 4 * 1024;
/// Length of a measurement and how often each is made in the run of the suite, which shows that all is stored; `COFFER_SECONDS` and
/// `COFFER_PAIRS` ask for more.
const SECONDS: u64 = 1;
const PAIRS: u64 = 1;
/// A million rows of pgbench's own: its clients seldom wait for each other's.
const SCALE: &str = "10";

/// What one measurement found.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    median: Duration,
    slow: Duration,
}

impl Rate {
    fn of(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort();
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
        Self { per_second: latencies.len() as f64 / elapsed.as_secs_f64(), median: at(0.5), slow: at(0.99) }
    }

    /// The one in the middle, by uploads or transactions per second.
    fn middle(mut rates: Vec<Self>) -> Self {
        rates.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        rates[rates.len() / 2]
    }
}

/// Clients that upload one file after the other, each over a connection of its own. Answers how many files there are of it as well.
async fn upload(
    cofferd: &Cofferd,
    token: &Token,
    clients: usize,
    run: &str,
    length: Duration,
) -> (Rate, usize) {
    let content = noise(CONTENT_BYTES);
    let connected = join_all((0..clients).map(|_| cofferd.clients(token))).await;
    let since = Instant::now();
    let work = connected.iter().enumerate().map(async |(client, clients)| {
        let mut latencies = Vec::new();
        while since.elapsed() < length {
            let begin = Instant::now();
            let path = format!("{run}/{client}/{}", latencies.len());
            clients.upload(at(&path), &content).await.unwrap();
            latencies.push(begin.elapsed());
        }
        latencies
    });
    let latencies = join_all(work).await.concat();
    let files = latencies.len();
    (Rate::of(latencies, since.elapsed()), files)
}

/// pgbench's built-in simple update, with prepared statements.
async fn pgbench(url: &str, clients: usize, length: Duration) -> Rate {
    let log = tempfile::tempdir().unwrap();
    let clients = clients.to_string();
    let seconds = length.as_secs().to_string();
    let mut command = Command::new("pgbench");
    command.args(["-N", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &seconds, "-l", url]);
    let output = command.current_dir(&log).stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap();
    let per_second = tps.split(' ').next().unwrap().parse().unwrap();
    Rate { per_second, ..Rate::of(logged(log.path()), length) }
}

/// The latencies in pgbench's logs: the third word of each line, in microseconds.
fn logged(directory: &Path) -> Vec<Duration> {
    let mut latencies = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let words = text.lines().map(|line| line.split(' ').nth(2).unwrap());
        latencies.extend(words.map(|word| Duration::from_micros(word.parse().unwrap())));
    }
    latencies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_small_upload_is_stored_however_many_at_once() {
    if !missing::has("pgbench") {
        return missing::ignore("pgbench");
    }
    let length = Duration::from_secs(number_of_run("COFFER_SECONDS", SECONDS).max(1));
    let pairs = number_of_run("COFFER_PAIRS", PAIRS);
    let cofferd = Cofferd::start().await;
    let token = Token::user("ann", "clinic");
    let baseline = TestDatabase::create().await.url().await;
    let made = Command::new("pgbench").args(["-i", "-q", "-s", SCALE, &baseline]).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut files = 0;
    for clients in CLIENTS {
        let (mut uploads, mut transactions) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            transactions.push(pgbench(&baseline, clients, length).await);
            let (rate, stored) =
                upload(&cofferd, &token, clients, &format!("{clients}-{pair}"), length).await;
            uploads.push(rate);
            files += stored;
        }
        let (ours, theirs) = (Rate::middle(uploads), Rate::middle(transactions));
        println!(
            "{clients:>2} clients: {:.0} uploads/s (p50 {:.2} ms, p99 {:.2} ms), pgbench {:.0} tps (p50 {:.2} ms, p99 {:.2} ms): {:.3} of its rate, {:.2} times its p50",
            ours.per_second,
            ours.median.as_secs_f64() * 1e3,
            ours.slow.as_secs_f64() * 1e3,
            theirs.per_second,
            theirs.median.as_secs_f64() * 1e3,
            theirs.slow.as_secs_f64() * 1e3,
            ours.per_second / theirs.per_second,
            ours.median.as_secs_f64() / theirs.median.as_secs_f64(),
        );
    }
    let rows = format!("SELECT count(*) FROM storage_files WHERE size = {CONTENT_BYTES}");
    assert_eq!(cofferd.database.number(&rows).await, files as i64);
    assert_eq!(cofferd.objects().len(), files);
    super::quotas::nothing_drifts(&cofferd).await;
}
