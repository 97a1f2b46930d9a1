//! One client, one file at a time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cofferd::{Cofferd, Listen};
use crate::content::{self, MIB, ScratchDir};
use crate::demo::rate;
use crate::process::{interrupts, run as run_command, timed};
use crate::setup;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of the file.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    size_mib: u64,
    /// Rounds; each runs every measured command once, so that a slower minute of the machine meets all of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Prints the median of each command and its ratio to the baseline.
///
/// # Errors
/// When a command fails, or what came back is not what was sent.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::SERVER)?;
    run_command(workspace.cargo().args([
        "build",
        "--release",
        "-p",
        "coffer-server",
        "-p",
        "coffer-client",
    ]))?;
    // Held, so that Ctrl-C ends the command being measured and then this in order.
    let _interrupts = interrupts()?;

    // Everything lies in one directory, so that service and baseline use the same disk.
    let scratch = ScratchDir::new(workspace, "bench")?;
    let dir = scratch.path();
    let size_bytes = options.size_mib * MIB;
    let source = dir.join("source.bin");
    content::write(&source, size_bytes)?;
    let cofferd =
        Cofferd::start(workspace, &dir.join("data"), &dir.join("cofferd.log"), &Listen::anywhere())?;
    let token = cofferd.token(&["--user", "bench", "--org", "bench", "--app", "bench"])?;

    let (mut dd, mut cp, mut upload, mut download) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        println!("-- round {} of {}", round + 1, options.rounds);
        let (copy, received) = (dir.join("copy.bin"), dir.join("received.bin"));
        let path = format!("bench/{round}.bin");
        dd.push(timed(
            workspace
                .command("dd")
                .arg(format!("if={}", source.display()))
                .arg(format!("of={}", copy.display()))
                .args(["bs=1M", "conv=fsync", "status=none"]),
        )?);
        remove(&copy)?;
        upload.push(timed(cofferd.client(&token).arg("upload").arg(&source).arg(&path))?);
        cp.push(timed(workspace.command("cp").args(["--reflink=never"]).arg(&source).arg(&copy))?);
        remove(&copy)?;
        download.push(timed(cofferd.client(&token).args(["download", &path]).arg(&received))?);
        if round == 0 {
            let (sent, back) = (content::sha256(workspace, &source)?, content::sha256(workspace, &received)?);
            ensure!(sent == back, "what came back is not what was sent");
        }
        remove(&received)?;
    }
    cofferd.stop()?;

    let (dd, cp, upload, download) = (median(dd), median(cp), median(upload), median(download));
    println!(
        "\nmedians of {} rounds, client and service on this machine, all from the page cache:",
        options.rounds
    );
    println!("dd conv=fsync    {}", rate(size_bytes, dd));
    println!("coffer upload    {}   {:.2} of dd", rate(size_bytes, upload), ratio(dd, upload));
    println!("cp               {}", rate(size_bytes, cp));
    println!("coffer download  {}   {:.2} of cp", rate(size_bytes, download), ratio(cp, download));
    println!("again: cargo xtask bench transfer --size-mib {} --rounds {}", options.size_mib, options.rounds);
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Rates as a fraction: 1 is as fast as the baseline, 0.5 takes twice as long.
fn ratio(baseline: Duration, measured: Duration) -> f64 {
    baseline.as_secs_f64() / measured.as_secs_f64()
}

/// The middle one, or the slower of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        let times = [5, 900, 4, 6, 3].map(Duration::from_millis).to_vec();
        assert_eq!(median(times), Duration::from_millis(5));
    }

    #[test]
    fn half_as_fast_as_the_baseline_is_a_half() {
        assert_eq!(ratio(Duration::from_secs(1), Duration::from_secs(2)), 0.5);
    }
}
