//! `cargo xtask soak`: the long forms of tests that `cargo xtask test` runs briefly.

use crate::process::run as run_command;
use crate::setup;
use crate::workspace::Workspace;

#[derive(clap::Subcommand)]
pub(crate) enum Soak {
    /// SIGKILL to `cofferd` at random moments under concurrent uploads and deletes; then volume, rows and quotas are compared.
    Kill {
        /// How often.
        #[arg(long, default_value_t = 1_000)]
        kills: u32,
        /// Another seed takes other moments; the run prints its own.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
}

/// # Errors
/// When the test fails.
pub(crate) fn run(workspace: &Workspace, soak: &Soak) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::TESTS)?;
    let Soak::Kill { kills, seed } = soak;
    let mut command = workspace.cargo();
    command.args(["test", "--release", "-p", "coffer-tests", "--test", "suite", "--"]);
    command.args(["--exact", "crash::nothing_acknowledged_is_lost_and_nothing_is_left_over", "--nocapture"]);
    run_command(command.env("COFFER_KILLS", kills.to_string()).env("COFFER_SEED", seed.to_string()))
}
