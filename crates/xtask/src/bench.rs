//! `cargo xtask bench`: measurements against a plain baseline on the same machine.

mod transfer;

use crate::setup;
use crate::tests::{self, Binary};
use crate::workspace::Workspace;

/// A PostgreSQL that syncs to the disk, as in use.
const DURABLE: (&str, u64) = ("COFFER_DURABLE", 1);

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Uploads and downloads of one large file, against a server that does nothing else, the disk, rclone and nginx.
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
    /// The most memory that the service takes for many transfers at once.
    Memory {
        /// Uploads that are all under way at the same time.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
        uploads: u32,
        /// Size of each; the disk must hold them all.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
        size_mib: u32,
        /// Connections that do nothing.
        #[arg(long, default_value_t = 500)]
        idle: u32,
        /// Downloads whose readers take a few KiB per second.
        #[arg(long, default_value_t = 64)]
        readers: u32,
    },
    /// Volumes on servers of S3, WebDAV and HTTP: a file up and down against `rclone copyto` and `curl` to the same server, and the most
    /// memory that many uploads at once take.
    Backends {
        /// Size of the file.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
        size_mib: u32,
        /// Pairs; the two of a pair run one after the other, and take turns in being first.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
        /// Uploads that are all under way at the same time.
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
        uploads: u32,
        /// Size of each.
        #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
        each_mib: u32,
    },
}

/// # Errors
/// When something that is measured fails.
pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Transfer(options) => transfer::run(workspace, options),
        Bench::Resume { size_mib, pairs } => {
            let settings =
                [("COFFER_SIZE_MIB", (*size_mib).into()), ("COFFER_PAIRS", (*pairs).into()), DURABLE];
            tests::at_length(workspace, Binary::Suite, &["speed::"], &settings)
        }
        Bench::Small { seconds, pairs } => {
            let settings =
                [("COFFER_SECONDS", (*seconds).into()), ("COFFER_PAIRS", (*pairs).into()), DURABLE];
            tests::at_length(workspace, Binary::Suite, &["small_uploads::"], &settings)
        }
        Bench::Memory { uploads, size_mib, idle, readers } => {
            let settings = [
                ("COFFER_UPLOADS", (*uploads).into()),
                ("COFFER_SIZE_MIB", (*size_mib).into()),
                ("COFFER_IDLE", (*idle).into()),
                ("COFFER_READERS", (*readers).into()),
            ];
            tests::at_length(workspace, Binary::Load, &["memory::"], &settings)
        }
        Bench::Backends { size_mib, pairs, uploads, each_mib } => {
            setup::ensure(workspace, &setup::PEERS)?;
            let settings = [
                ("COFFER_SIZE_MIB", (*size_mib).into()),
                ("COFFER_PAIRS", (*pairs).into()),
                ("COFFER_UPLOADS", (*uploads).into()),
                ("COFFER_EACH_MIB", (*each_mib).into()),
                DURABLE,
            ];
            let tests = ["backends::peers::", "backends::crowd::"];
            tests::at_length(workspace, Binary::Suite, &tests, &settings)
        }
    }
}
