//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a private cluster could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL was found: install one, or give the URL of a running one.
    #[error(
        "PostgreSQL is not installed: no directory with postgres, initdb and psql in PATH or \
         /usr/lib/postgresql/*/bin; install it (apt-get install postgresql), or set COFFER_POSTGRES_BIN"
    )]
    NotInstalled,

    /// `COFFER_POSTGRES_BIN` names a directory that does not hold a usable PostgreSQL: correct it.
    #[error("COFFER_POSTGRES_BIN={}: {reason}", dir.display())]
    BadBinaries {
        /// The directory as given.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The data were written by another major version: install that one beside the present.
    #[error(
        "{} was made by PostgreSQL {wanted}, and only {found} is installed; \
         install that version (apt-get install postgresql-{wanted})", data.display()
    )]
    Version {
        /// The data directory.
        data: PathBuf,
        /// Its major version.
        wanted: u32,
        /// The major versions found, separated by commas.
        found: String,
    },

    /// Another living owner has this directory: use that one, or another directory.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },

    /// We are root, PostgreSQL refuses root, and no other identity can reach the directory: run as another
    /// user, or choose a directory that the user `postgres` can enter.
    #[error("PostgreSQL cannot run as root, and nobody else can run it in {}: {reason}", dir.display())]
    NoUser {
        /// The directory.
        dir: PathBuf,
        /// What was tried, and how each failed.
        reason: String,
    },

    /// The socket's directory is not ours alone: remove it, or find out who made it.
    #[error("the socket directory {} belongs to user {owner} or is not a directory", path.display())]
    Socket {
        /// The directory.
        path: PathBuf,
        /// The numeric id of its owner.
        owner: u32,
    },

    /// A tool of PostgreSQL failed while the data directory was made. Nothing is left but `pg.new`, which the
    /// next start removes.
    #[error("{program} failed ({status}): {output}")]
    Tool {
        /// The tool.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote.
        output: String,
    },

    /// The server ended before it was ready; the log says why.
    #[error("PostgreSQL did not start ({status}); {} ends with:\n{output}", log.display())]
    Start {
        /// How it ended.
        status: ExitStatus,
        /// The log file.
        log: PathBuf,
        /// The last lines of this start.
        output: String,
    },

    /// The server was not ready in time and was stopped again: a long recovery needs a longer
    /// [`Options::start_timeout`](crate::Options::start_timeout).
    #[error("PostgreSQL was not ready within {timeout:?}; {} ends with:\n{output}", log.display())]
    Timeout {
        /// How long was waited.
        timeout: Duration,
        /// The log file.
        log: PathBuf,
        /// The last lines of this start.
        output: String,
    },

    /// Processes of an earlier server outlived SIGKILL, as one does in uninterruptible I/O: nothing was started.
    #[error("earlier PostgreSQL processes do not end: {pids:?}")]
    StillRunning {
        /// Their process ids.
        pids: Vec<i32>,
    },

    /// A database name is not of the form `[a-z_][a-z0-9_]{0,62}`.
    #[error("bad database name {name:?}: 1 to 63 of a-z, 0-9 and _, not a digit first")]
    Name {
        /// The name as given.
        name: String,
    },

    /// The server refused a statement, or is not there any more.
    #[error("{statement}: {message}")]
    Statement {
        /// The statement.
        statement: String,
        /// What the server, or psql, said.
        message: String,
    },

    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: says what was tried, and with what.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }
}
