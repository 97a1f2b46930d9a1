//! `cargo xtask soak`: the long forms of tests that `cargo xtask test` runs briefly.

use crate::tests::{self, Binary};
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
    /// SIGKILL between each two steps of the commit protocol, at each of them so many times.
    Steps {
        /// How often at each step.
        #[arg(long, default_value_t = 20)]
        kills: u32,
    },
    /// Uploads that go on after SIGKILLs of `cofferd` and after cut connections.
    Resume {
        /// Size of the file that is uploaded through the kills.
        #[arg(long, default_value_t = 1_024)]
        size_mib: u32,
        /// Connections cut at random offsets.
        #[arg(long, default_value_t = 100)]
        cuts: u32,
        /// Another seed takes other offsets.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
    /// Uploads to volumes on servers whose connections are lost, the client's or the service's.
    Cuts {
        /// Connections cut at random places, for each server and side.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        cuts: u32,
        /// Another seed takes other places.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
    /// An object of many parts, up and down, and uploads that are given up.
    Large {
        /// Its size; the disk must hold it twice.
        #[arg(long, default_value_t = 6 * 1024, value_parser = clap::value_parser!(u32).range(1..))]
        size_mib: u32,
    },
    /// Clients racing for what is left of quotas.
    Quota {
        /// Rounds of 256 clients racing for the last MiB.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Another seed takes other sizes.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
    /// Random operations, cuts and restarts, compared with a model after each.
    Model {
        /// Sequences of operations.
        #[arg(long, default_value_t = 200)]
        cases: u32,
        /// Another seed takes other operations.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
    /// Paths that are meant to lead out of a volume.
    Paths {
        /// On each of two volumes, one of which has its files at their paths.
        #[arg(long, default_value_t = 2_500)]
        paths: u32,
        /// Another seed takes other paths.
        #[arg(long, default_value_t = 0x5EED)]
        seed: u64,
    },
    /// Attacks on HTTP/2 while honest clients from another address work.
    Http2 {
        /// Length of each attack; below 15, how long the slowest of the service's waits lasts is not seen.
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
}

/// # Errors
/// When the test fails.
pub(crate) fn run(workspace: &Workspace, soak: &Soak) -> anyhow::Result<()> {
    let binary = match soak {
        Soak::Http2 { .. } => Binary::Load,
        _ => Binary::Suite,
    };
    let (names, settings): (&[&str], Vec<(&str, u64)>) = match soak {
        Soak::Kill { kills, seed } => (
            &["crash::nothing_acknowledged"],
            vec![("COFFER_KILLS", (*kills).into()), ("COFFER_SEED", *seed)],
        ),
        Soak::Steps { kills } => (&["steps::"], vec![("COFFER_KILLS", (*kills).into())]),
        Soak::Resume { size_mib, cuts, seed } => (
            &["resume::"],
            vec![
                ("COFFER_RESUME_MIB", (*size_mib).into()),
                ("COFFER_CUTS", (*cuts).into()),
                ("COFFER_SEED", *seed),
            ],
        ),
        // The client's connections to a volume on a disk are cut among the others of `resume`.
        Soak::Cuts { cuts, seed } => (
            &["backends::cuts::", "resume::nothing_that_arrived"],
            vec![("COFFER_CUTS", (*cuts).into()), ("COFFER_SEED", *seed)],
        ),
        Soak::Large { size_mib } => (&["backends::large::"], vec![("COFFER_LARGE_MIB", (*size_mib).into())]),
        Soak::Quota { rounds, seed } => {
            let rounds = ("COFFER_ROUNDS", (*rounds).into());
            (&["quota_races::"], vec![rounds, ("COFFER_WAYS", 1), ("COFFER_SEED", *seed)])
        }
        Soak::Model { cases, seed } => {
            (&["model::"], vec![("COFFER_CASES", (*cases).into()), ("COFFER_SEED", *seed)])
        }
        Soak::Paths { paths, seed } => {
            (&["hostile_paths::"], vec![("COFFER_PATHS", (*paths).into()), ("COFFER_SEED", *seed)])
        }
        Soak::Http2 { seconds } => (&["attacks::"], vec![("COFFER_SECONDS", (*seconds).into())]),
    };
    tests::at_length(workspace, binary, names, &settings)
}
