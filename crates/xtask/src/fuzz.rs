//! `cargo xtask fuzz`: looks for bytes that break a property of `tests/fuzz`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::process::{output, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

/// As `coffer_fuzz::TARGETS` has them.
const TARGETS: [&str; 6] = ["config", "keys", "page", "path", "token", "upload"];
/// Coverage as libFuzzer reads it: which edges were taken, and what was compared with what.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// All of them, one after the other, if none is named.
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each is run.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Runs this input of the target once, and nothing else.
    #[arg(long, requires = "target", value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Goes on from what earlier runs have covered, below `target/`.
///
/// # Errors
/// When an input breaks a property, takes more than 5 s or more than 1 GiB; says where it is kept.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::FUZZ)?;
    let version = output(workspace.command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // With a target named, what runs while building is built without the flags.
    let build =
        ["build", "--profile", "fuzz", "-p", "coffer-fuzz", "--features", "libfuzzer", "--target", host];
    run_command(workspace.cargo().args(build).env("RUSTFLAGS", COVERAGE.join(" ")))?;
    let binary = workspace.target(host).join("fuzz/fuzz");
    let chosen =
        TARGETS.into_iter().filter(|name| options.target.as_deref().is_none_or(|target| target == *name));
    let mut broken = Vec::new();
    for target in chosen {
        let (corpus, found) = (format!("fuzz-corpus/{target}"), format!("fuzz-found/{target}"));
        let [corpus, found] = [corpus, found].map(|path| workspace.target(path));
        for dir in [&corpus, &found] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut fuzz = workspace.command(&binary);
        fuzz.env("FUZZ_TARGET", target);
        match &options.input {
            Some(input) => fuzz.arg(input),
            None => fuzz
                .args([
                    "-timeout=5",
                    "-rss_limit_mb=1024",
                    "-max_len=4096",
                    "-print_final_stats=1",
                    "-verbosity=0",
                ])
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-artifact_prefix={}/", found.display()))
                .arg(&corpus)
                .arg(workspace.path("tests/fuzz/seeds").join(target)),
        };
        if let Err(error) = run_command(&mut fuzz) {
            eprintln!("{error:#}\nwhat was found lies in {}", found.display());
            broken.push(target);
        }
    }
    ensure!(broken.is_empty(), "broken: {}", broken.join(", "));
    Ok(())
}
