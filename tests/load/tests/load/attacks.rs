//! Attackers on HTTP/2, while honest clients work: these notice as good as nothing, and the service grows by as good as nothing.

mod peer;
mod plans;

use crate::{
    ALONE,
    honest::{Load, Notes, Work},
    usage::{MIB, Process, quantile, raise_file_limit},
};
use coffer_tests::{
    Cofferd, Token,
    dice::number_of_run,
    grpc::{at, noise},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use peer::{End, Life};
use plans::Plan;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// Seconds of each attack in the run of all tests; `COFFER_SECONDS` asks for more.
const SECONDS: u64 = 1;
/// Where attackers come from. Honest clients come from elsewhere: limits per source are part of what is shown.
const SOURCE: [u8; 4] = [127, 0, 0, 66];
/// What the reads that are not taken read.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
/// Before an attacker comes back that was cut.
const RETURN: Duration = Duration::from_millis(20);
/// Beyond its time, for a cut to happen and to be seen on a busy machine.
const GRACE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });

/// The service may grow by so much during an attack.
const MOST_GROWTH_BYTES: u64 = 64 * MIB;
/// How much slower the slowest hundredth of honest calls may be than without an attack: attackers, honest clients, the service and its
/// database share this machine, so that a flood takes its senders' part of the processor from everybody.
const MOST_SLOWER: u32 = 20;
/// The least that is held against anybody: what a machine that is busy with other things takes as well.
const LEAST_NOTICED: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(5) } else { Duration::from_millis(500) };

/// As the service is set up here: shorter than in use, so that the end of each wait is seen.
const LIMIT: Duration = Duration::from_secs(2);
const SETTINGS: [(&str, &str); 3] =
    [("transfer.stall_timeout", "2s"), ("grpc.first_request_timeout", "2s"), ("grpc.idle_timeout", "2s")];

/// How one attack went.
struct Report {
    before: Notes,
    during: Notes,
    resident_bytes: [u64; 3],
    cpu: f64,
    lives: Vec<Life>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_and_memory_bear_every_attack() {
    let _alone = ALONE.lock().await;
    raise_file_limit();
    let length = Duration::from_secs(number_of_run("COFFER_SECONDS", SECONDS).max(1));
    let mut cofferd = Cofferd::start_with(&SETTINGS).await;
    let process = Process(cofferd.pid());
    let (honest, attacker) = (Token::user("ann", "clinic"), Token::user("mallory", "elsewhere"));
    cofferd.clients(&attacker).await.upload(at("large"), &noise(LARGE_BYTES)).await.unwrap();
    let load = Load::start(cofferd.grpc_addr(), &cofferd.token(&honest));
    // The first calls prepare statements and make connections.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let warmed = load.take().await;
    assert!(warmed.errors.is_empty(), "{:?}", warmed.errors);

    let plans = plans::all(&cofferd.token(&attacker), "large", LIMIT);
    let addr: SocketAddr = cofferd.grpc_addr().parse().unwrap();
    println!("{HEAD}");
    let mut problems = Vec::new();
    for plan in plans {
        let plan = Arc::new(plan);
        let report = under(&plan, addr, process, &load, length).await;
        println!("{}", report.row(&plan));
        problems
            .extend(report.problems(&plan).into_iter().map(|problem| format!("{}: {problem}", plan.name)));
    }
    assert!(problems.is_empty(), "{problems:#?}");
    // Nothing that the attacks have left keeps the service from working, or from its end.
    let after = load.take().await;
    assert!(after.errors.is_empty(), "{:?}", after.errors);
    drop(load);
    assert!(cofferd.terminate().await.success());
}

const HEAD: &str = "\
attack                    | honest p99 before → during, ms: call, connection, upload, download  | RSS before → most → after, MiB | CPU  | attackers";

/// Runs one attack for `length`, after as long without.
async fn under(
    plan: &Arc<Plan>,
    addr: SocketAddr,
    process: Process,
    load: &Load,
    length: Duration,
) -> Report {
    tokio::time::sleep(length / 2).await;
    let before = load.take().await;
    let (rss_before, cpu_before, since) = (process.resident_bytes(), process.cpu_seconds(), Instant::now());
    // Long enough to see that what must end ends, but for what takes much longer than the attack: long runs see that.
    let seen = plan.ends_within.filter(|limit| *limit <= length.max(LIMIT));
    let until = since + length.max(seen.map_or(Duration::ZERO, |limit| limit + GRACE + GRACE / 5));
    let attackers = {
        let plan = Arc::clone(plan);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attack(&plan, addr, until))
        })
    };
    let mut most = rss_before;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(process.resident_bytes());
    }
    let cpu = (process.cpu_seconds() - cpu_before) / since.elapsed().as_secs_f64();
    let lives = tokio::task::spawn_blocking(move || attackers.join().unwrap()).await.unwrap();
    // Also what has begun under the attack and ends after it.
    let during = load.take().await;
    Report { before, during, resident_bytes: [rss_before, most, process.resident_bytes()], cpu, lives }
}

/// All connections of an attack, those that came back included.
async fn attack(plan: &Plan, addr: SocketAddr, until: Instant) -> Vec<Life> {
    let connections: FuturesUnordered<_> =
        (0..plan.connections).map(|_| one_after_the_other(plan, addr, until)).collect();
    connections.concat().await
}

async fn one_after_the_other(plan: &Plan, addr: SocketAddr, until: Instant) -> Vec<Life> {
    let mut lives = Vec::new();
    loop {
        lives.push(peer::live(plan, addr, IpAddr::from(SOURCE), until).await);
        if !plan.returns || Instant::now() + RETURN >= until {
            return lives;
        }
        tokio::time::sleep(RETURN).await;
    }
}

impl Report {
    /// A row of the table.
    fn row(&self, plan: &Plan) -> String {
        let p99 = |work| {
            let [before, during] =
                [&self.before, &self.during].map(|notes| ms(quantile(&notes.times(work), 0.99)));
            format!("{before:.0} → {during:.0}")
        };
        let works = [Work::Call, Work::Newcomer, Work::Upload, Work::Download].map(p99).join(", ");
        let rss = self.resident_bytes.map(|bytes| (bytes / MIB).to_string()).join(" → ");
        format!("{:<25} | {works:<67} | {rss:<30} | {:>4.2} | {}", plan.name, self.cpu, self.fates())
    }

    /// Such as "GOAWAY 11: 40 after 0.02 s; open at the end: 3".
    fn fates(&self) -> String {
        let mut fates: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for life in &self.lives {
            let name = match life.end {
                End::GoAway(code) => format!("GOAWAY {code}"),
                End::Closed => "closed".to_owned(),
                End::Stream => "stream ended".to_owned(),
                End::HeldUp => "held up at the end".to_owned(),
                End::Open => "open at the end".to_owned(),
            };
            fates.entry(name).or_default().push(life.lasted);
        }
        let sent: u64 = self.lives.iter().map(|life| life.sent_bytes).sum();
        let told = fates.into_iter().map(|(name, mut lasted)| {
            lasted.sort();
            format!("{} {name} after {:.2} s", lasted.len(), quantile(&lasted, 0.5).as_secs_f64())
        });
        format!("{}; {} MiB sent", told.collect::<Vec<_>>().join(", "), sent / MIB)
    }

    /// What must not be.
    fn problems(&self, plan: &Plan) -> Vec<String> {
        let mut problems: Vec<String> =
            self.during.errors.iter().chain(&self.before.errors).cloned().collect();
        let [before, most, _] = self.resident_bytes;
        if most > before + MOST_GROWTH_BYTES {
            problems.push(format!("the service grew from {} to {} MiB", before / MIB, most / MIB));
        }
        for work in [Work::Call, Work::Newcomer, Work::Upload, Work::Download] {
            let [before, during] =
                [&self.before, &self.during].map(|notes| quantile(&notes.times(work), 0.99));
            if during > (before * MOST_SLOWER).max(LEAST_NOTICED) {
                problems.push(format!("{work:?}: p99 of honest clients from {before:?} to {during:?}"));
            }
        }
        if let Some(limit) = plan.ends_within {
            let outlived = self.lives.iter().filter(|life| life.lasted > limit + GRACE).count();
            if outlived > 0 {
                problems.push(format!("{outlived} connections lasted longer than {limit:?}"));
            }
        }
        problems
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
