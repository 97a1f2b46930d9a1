//! `cargo xtask bench`: measurements against a plain baseline on the same machine.

mod transfer;

use crate::workspace::Workspace;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// `coffer upload` and `download` of one file against `dd` and `cp` of the same file on the same disk.
    Transfer(transfer::Options),
}

/// # Errors
/// When something that is measured fails.
pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Transfer(options) => transfer::run(workspace, options),
    }
}
