//! How many small uploads the service commits, beside the smallest transactions of pgbench on the same cluster: both do nothing faster
//! than the disk takes a commit.
//!
//! Both are closed loops: a client has one upload or transaction under way, and begins the next when it is answered. Before anything is
//! counted both have run for a while; then they take turns, also in who is first.

use coffer_tests::{
    Cofferd, TestDatabase, Token,
    dice::number_of_run,
    grpc::{Clients, at, noise},
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

/// How many at once; the run of the suite leaves the last out.
const CLIENTS: [usize; 3] = [1, 32, 128];
const CONTENT_BYTES: usize = 4 * 1024;
/// Length of a measurement and how often each is made in the run of the suite, which shows that all is stored; `COFFER_SECONDS` and
/// `COFFER_PAIRS` ask for more.
const SECONDS: u64 = 1;
const PAIRS: u64 = 1;
/// Before the first measurement with so many clients: connections, prepared statements, warm caches.
const WARM_UP: Duration = Duration::from_millis(500);
/// What is to be reached with 32 clients of pgbench's rate, and at most be needed with one of its median time.
const GOAL_OF_RATE: f64 = 0.6;
const GOAL_OF_TIME: f64 = 2.5;
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

    /// The medians of several measurements, each figure for itself.
    fn middle(rates: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> Duration| {
            let mut figures: Vec<_> = rates.iter().map(figure).collect();
            figures.sort();
            figures[figures.len() / 2]
        };
        let mut per_second: Vec<_> = rates.iter().map(|rate| rate.per_second).collect();
        per_second.sort_by(f64::total_cmp);
        Self {
            per_second: per_second[per_second.len() / 2],
            median: middle(|rate| rate.median),
            slow: middle(|rate| rate.slow),
        }
    }
}

/// Median, least and most of what was found in each pair.
fn spread(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    [figures[figures.len() / 2], figures[0], figures[figures.len() - 1]]
}

/// Clients that upload one file after the other, each over a connection of its own. Answers how many files there are of it as well.
async fn upload(connected: &[Clients], run: &str, length: Duration) -> (Rate, usize) {
    let content = noise(CONTENT_BYTES);
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
    let pairs = number_of_run("COFFER_PAIRS", PAIRS).max(1);
    let cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let baseline = TestDatabase::create().await.url().await;
    let made = Command::new("pgbench").args(["-i", "-q", "-s", SCALE, &baseline]).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut files = 0;
    for &clients in if pairs > PAIRS { &CLIENTS[..] } else { &CLIENTS[..2] } {
        let connected = join_all((0..clients).map(|_| cofferd.clients_with(Some(&token)))).await;
        files += upload(&connected, &format!("{clients}-warm"), WARM_UP).await.1;
        pgbench(&baseline, clients, Duration::from_secs(1)).await;
        let (mut uploads, mut transactions) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            if pair % 2 == 0 {
                transactions.push(pgbench(&baseline, clients, length).await);
            }
            let (rate, stored) = upload(&connected, &format!("{clients}-{pair}"), length).await;
            uploads.push(rate);
            files += stored;
            if pair % 2 == 1 {
                transactions.push(pgbench(&baseline, clients, length).await);
            }
        }
        report(clients, &uploads, &transactions);
    }
    let rows = format!("SELECT count(*) FROM storage_files WHERE size = {CONTENT_BYTES}");
    assert_eq!(cofferd.database.number(&rows).await, files as i64);
    assert_eq!(cofferd.objects().len(), files);
    super::quotas::nothing_drifts(&cofferd).await;
}

fn report(clients: usize, uploads: &[Rate], transactions: &[Rate]) {
    for (what, rates) in [("uploads", uploads), ("pgbench", transactions)] {
        let Rate { per_second, median, slow } = Rate::middle(rates);
        let [median, slow] = [median, slow].map(|time| time.as_secs_f64() * 1e3);
        println!(
            "{clients:>3} clients, {what}: {per_second:>6.0}/s, p50 {median:>6.2} ms, p99 {slow:>6.2} ms"
        );
    }
    let pairs = || uploads.iter().zip(transactions);
    let [rate, least, most] = spread(pairs().map(|(ours, theirs)| ours.per_second / theirs.per_second));
    let goal = match clients {
        32 if rate >= GOAL_OF_RATE => format!(" (goal {GOAL_OF_RATE}: reached)"),
        32 => format!(" (goal {GOAL_OF_RATE}: missed)"),
        _ => String::new(),
    };
    println!("    of its rate {rate:.3}, in the pairs {least:.3} to {most:.3}{goal}");
    let [time, least, most] =
        spread(pairs().map(|(ours, theirs)| ours.median.as_secs_f64() / theirs.median.as_secs_f64()));
    let goal = match clients {
        1 if time <= GOAL_OF_TIME => format!(" (goal {GOAL_OF_TIME}: reached)"),
        1 => format!(" (goal {GOAL_OF_TIME}: missed)"),
        _ => String::new(),
    };
    println!("    of its p50 {time:.2}, in the pairs {least:.2} to {most:.2}{goal}");
}
