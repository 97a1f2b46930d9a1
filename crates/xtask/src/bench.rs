//! `cargo xtask bench`: measurements against a plain baseline on the same machine.

mod transfer;

use crate::process::run as run_command;
use crate::setup;
use crate::workspace::Workspace;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// `coffer upload` and `download` of one file against `dd` and `cp` of the same file on the same disk.
    Transfer(transfer::Options),
    /// An upload by StartUpload and WriteFile, which can be resumed, against one that cannot.
    Resume {
        /// Size of the content.
        #[arg(long, default_value_t = 1024)]
        size_mib: u32,
        /// Pairs; the two of a pair run one after the other, and take turns in being first.
        #[arg(long, default_value_t = 10)]
        pairs: u32,
    },
    /// Uploads of 4 KiB against pgbench's simple updates on the same cluster.
    Small {
        /// Length of each measurement.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// How often each is made; they take turns.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
    },
}

/// # Errors
/// When something that is measured fails.
pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Transfer(options) => transfer::run(workspace, options),
        Bench::Resume { size_mib, pairs } => {
            measure(workspace, "speed::", &[("COFFER_SIZE_MIB", *size_mib), ("COFFER_PAIRS", *pairs)])
        }
        Bench::Small { seconds, pairs } => {
            measure(workspace, "small_uploads::", &[("COFFER_SECONDS", *seconds), ("COFFER_PAIRS", *pairs)])
        }
    }
}

/// Runs a test that measures, on a PostgreSQL that syncs to the disk.
fn measure(workspace: &Workspace, test: &str, settings: &[(&str, u32)]) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::TESTS)?;
    let mut command = workspace.cargo();
    command.args(["test", "--release", "-p", "coffer-tests", "--test", "suite", "--", test]);
    command.args(["--nocapture", "--test-threads=1"]).env("COFFER_DURABLE", "1");
    command.envs(settings.iter().map(|(name, value)| (name, value.to_string())));
    run_command(&mut command)
}
