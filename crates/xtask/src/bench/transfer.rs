//! One client, one file at a time: Coffer beside a server that does nothing but its messages, the disk alone, and other file servers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::cofferd::{Cofferd, Listen};
use crate::content::{self, MIB, ScratchDir};
use crate::process::{interrupts, pause, pause_for, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

mod contenders;
mod figures;
mod servers;

use contenders::{Contender, Source};
use figures::{Spread, shown};
use servers::Server;

/// What the bare server's rate is to be reached of, in both directions.
const GOAL_OF_BARE: f64 = 0.9;
/// How much faster than rclone's PUT over WebDAV an upload is to be.
const GOAL_OF_WEBDAV: f64 = 3.0;
/// Time a disk is given to free what was removed: discarding the blocks of a large file goes on long after the sync.
const SETTLING: Duration = Duration::from_secs(1);
/// Until a removed file is gone from the disk as well.
const REMOVAL: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of the file.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Rounds; each measures everybody once, so that a slower minute of the machine meets all of them.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave out rclone and nginx.
    #[arg(long)]
    no_peers: bool,
}

/// What was measured of one of them.
struct Times {
    up: Vec<Duration>,
    down: Vec<Duration>,
}

/// Prints the rates of everybody, and the ratios that have a goal.
///
/// # Errors
/// When a command fails, or what came back is not what was sent.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::SERVER)?;
    let peers_needed: &[_] = if options.no_peers { &[] } else { &setup::PEERS };
    if let Err(error) = setup::ensure(workspace, peers_needed) {
        eprintln!("{error:#}");
    }
    let packages = ["-p", "coffer-server", "-p", "coffer-client", "-p", "coffer-load"];
    run_command(workspace.cargo().args(["build", "--release", "--bins"]).args(packages))?;
    // Held, so that Ctrl-C ends the command being measured and then this in order.
    let _interrupts = interrupts()?;

    // Everything lies in one directory, so that all use the same disk.
    let scratch = ScratchDir::new(workspace, "bench")?;
    let dir = scratch.path();
    let source = Source { path: dir.join("source.bin"), size_mib: options.size_mib };
    content::write(&source.path, options.size_mib * MIB)?;
    let cofferd =
        Cofferd::start(workspace, &dir.join("data"), &dir.join("cofferd.log"), &Listen::anywhere())?;
    let token = cofferd.token(&["--user", "bench", "--org", "bench", "--app", "bench", "--ttl", "12h"])?;
    let mut contenders = contenders(workspace, dir, &cofferd, &token)?;
    if !options.no_peers {
        contenders.extend(peers(workspace, dir)?);
    }

    let mut times: Vec<_> = contenders.iter().map(|_| Times { up: Vec::new(), down: Vec::new() }).collect();
    settle(&dir.join("disk"))?;
    for round in 0..options.rounds {
        println!("-- round {} of {}", round + 1, options.rounds);
        for turn in 0..contenders.len() {
            // Whoever comes after another one today comes before it tomorrow.
            let at = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let contender = &contenders[at];
            let up =
                contender.put(workspace, &source).with_context(|| format!("{}, upload", contender.name()))?;
            // What is still on its way to the disk is none of the download's business.
            run_command(&mut workspace.command("sync"))?;
            let is_first = round == 0;
            let down = contender
                .get(workspace, &source, is_first)
                .with_context(|| format!("{}, download", contender.name()))?;
            println!("{:<26} {:.3} s, {:.3} s", contender.name(), up.as_secs_f64(), down.as_secs_f64());
            times[at].up.push(up);
            // Comparing every byte took its time.
            if !is_first || options.rounds == 1 {
                times[at].down.push(down);
            }
            settle(contender.remove()?)?;
        }
    }
    let rows: Vec<_> = contenders.iter().map(Contender::name).zip(&times).collect();
    report(options, &rows);
    drop(contenders);
    cofferd.stop()
}

/// Those that are always there.
fn contenders<'a>(
    workspace: &Workspace,
    dir: &Path,
    cofferd: &'a Cofferd<'a>,
    token: &'a str,
) -> anyhow::Result<Vec<Contender<'a>>> {
    let bare = directory(dir, "bare")?;
    let data = dir.join("data/volumes/main");
    Ok(vec![
        Contender::Disk(directory(dir, "disk")?),
        Contender::Bare(Server::bare(workspace, &bare)?, bare),
        Contender::Cofferd { cofferd, token, data: data.clone() },
        Contender::Coffer { cofferd, token, data, into: directory(dir, "received")? },
    ])
}

/// Other file servers, as far as they can be started. None of them syncs what it was given to the disk.
fn peers(workspace: &Workspace, dir: &Path) -> anyhow::Result<Vec<Contender<'static>>> {
    let (webdav, s3, nginx) = (directory(dir, "webdav")?, directory(dir, "s3")?, directory(dir, "nginx")?);
    let bucket = directory(&s3, "bucket")?;
    let started = [
        (WEBDAV, Server::rclone(workspace, "webdav", &webdav), "", webdav),
        ("rclone serve s3, curl", Server::rclone(workspace, "s3", &s3), "bucket/", bucket),
        ("nginx DAV, curl", Server::nginx(workspace, &nginx), "", nginx),
    ];
    let mut peers = Vec::new();
    for (name, server, below, files) in started {
        match server {
            Ok(server) => peers.push(Contender::Http { name, server, below, files }),
            Err(error) => println!("not measured: {name}: {error:#}"),
        }
    }
    println!("not measured: MinIO, SeaweedFS: peers are fetched ready built, and Debian has neither");
    Ok(peers)
}

const WEBDAV: &str = "rclone serve webdav, curl";

fn directory(dir: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = dir.join(name);
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Waits until what was removed is gone, and the disk has nothing left to do: it would be somebody else's burden.
fn settle(dir: &Path) -> anyhow::Result<()> {
    let since = Instant::now();
    while largest_bytes(dir) > MIB {
        ensure!(since.elapsed() < REMOVAL, "a removed file still lies in {}", dir.display());
        pause();
    }
    rustix::fs::sync();
    pause_for(SETTLING);
    Ok(())
}

/// Size of the largest file below a directory.
fn largest_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It went between two looks.
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

fn report(options: &Options, rows: &[(&'static str, &Times)]) {
    println!(
        "\n{} MiB, {} rounds, client and service on this machine, all from the page cache; medians (least to most):",
        options.size_mib, options.rounds
    );
    println!("{:<26} | {:<24} | {:<24}", "", "up, MiB/s", "down, MiB/s");
    for (name, Times { up, down }) in rows {
        let [up, down] = [up, down].map(|times| shown(Spread::of_rates(options.size_mib, times), 0));
        println!("{name:<26} | {up:<24} | {down:<24}");
    }
    let of = |wanted: &str| rows.iter().find(|(name, _)| name.starts_with(wanted)).map(|(_, times)| *times);
    let (Some(bare), Some(cofferd), Some(coffer), Some(disk)) =
        (of("bare"), of("cofferd, bare"), of("cofferd, coffer"), of("dd"))
    else {
        return;
    };
    println!("\nratios of the rates in each round, medians (least to most):");
    ratio("cofferd's upload of the bare server's", &cofferd.up, &bare.up, Some(GOAL_OF_BARE));
    ratio("cofferd's download of the bare server's", &cofferd.down, &bare.down, Some(GOAL_OF_BARE));
    if let Some(webdav) = of(WEBDAV) {
        ratio("cofferd's upload of rclone's by WebDAV", &cofferd.up, &webdav.up, Some(GOAL_OF_WEBDAV));
    }
    ratio("coffer upload of dd conv=fsync", &coffer.up, &disk.up, None);
    ratio("coffer download of cp", &coffer.down, &disk.down, None);
    println!("again: cargo xtask bench transfer --size-mib {} --rounds {}", options.size_mib, options.rounds);
}

fn ratio(what: &str, measured: &[Duration], baseline: &[Duration], goal: Option<f64>) {
    let ratio = Spread::of_ratios(measured, baseline);
    let goal = match (goal, ratio) {
        (Some(goal), Some(ratio)) if ratio.median >= goal => format!("   goal {goal}: reached"),
        (Some(goal), _) => format!("   goal {goal}: missed"),
        (None, _) => String::new(),
    };
    println!("{what:<40} {}{goal}", shown(ratio, 2));
}
