//! The cluster as its owner sees it.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::binaries::Binaries;
use crate::log::Log;
use crate::postmaster::{Postmaster, Shutdown};
use crate::run_as::RunAs;
use crate::socket::SocketDirectory;
use crate::{Error, authentication, data_directory, leftovers, psql};

/// How a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether what is committed survives a loss of power. `false` is for data that nobody will miss: it turns off
    /// `fsync` and `full_page_writes`. Killed processes, the server's included, lose nothing either way.
    pub durable: bool,
    /// Connections at once, all users together; PostgreSQL keeps three of them for superusers.
    pub max_connections: u16,
    /// How long a start may take. Replaying the log after a crash is part of it; making the data directory is not.
    pub start_timeout: Duration,
    /// More settings of PostgreSQL, by name and value. They win over those above, but not over where and to whom
    /// the cluster listens. A setting that PostgreSQL does not take fails the start with [`Error::Start`].
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    /// Durable, 100 connections, 60 s to start.
    fn default() -> Self {
        Self {
            durable: true,
            max_connections: 100,
            start_timeout: Duration::from_secs(60),
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// For tests: nothing is synced to disk.
    #[must_use]
    pub fn disposable() -> Self {
        Self { durable: false, ..Self::default() }
    }
}

/// A running cluster of PostgreSQL that belongs to this process: it ends with it, however that ends.
///
/// All methods block. Dropping a cluster stops it, as [`stop`](Self::stop) does, without saying how.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they end: nobody else may come before the server is gone.
    postmaster: Postmaster,
    socket: SocketDirectory,
    binaries: Binaries,
    _lock: File,
}

impl Cluster {
    /// Makes the cluster in `dir` if it is not there, and runs it. There is a database `coffer` in a new one, and
    /// the superuser `coffer`.
    ///
    /// What an owner left that was killed is taken over: its processes are ended, its data kept. May be called
    /// from any thread, also from one that ends before the cluster does.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] where another living owner has the directory; else every one but [`Error::Name`] and
    /// [`Error::Statement`]. Nothing keeps running after an error.
    pub fn start(dir: &Path, options: Options) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
        let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
        let lock = lock(&dir)?;
        let data = dir.join("pg");
        let binaries = Binaries::find(&data)?;
        let run_as = RunAs::choose(&dir, &data, &binaries)?;
        leftovers::end_processes(&data)?;
        data_directory::ensure(&dir, &binaries, run_as, options.durable)?;
        // PostgreSQL believes in the process of this file even where it is a zombie, or a stranger with its id.
        leftovers::remove_file(&data.join("postmaster.pid"))?;
        let socket = SocketDirectory::make(&dir, run_as)?;
        let files = authentication::write(&dir, run_as)?;
        let log = Log::open(dir.join("postgres.log"))?;
        let arguments = arguments(&options, &socket, &files);
        let postmaster =
            Postmaster::start(&binaries.postgres(), data, arguments, run_as, &log, options.start_timeout)?;
        Ok(Self { postmaster, socket, binaries, _lock: lock })
    }

    /// The URL of the database `coffer`: `postgres://coffer@%2Fdirectory/coffer`, as libpq and tokio-postgres
    /// take it. It is for processes of the same user only.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for("coffer")
    }

    /// The URL of another database.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        let host = percent_encode(self.socket.path().as_os_str().as_bytes());
        format!("postgres://coffer@{host}/{}", percent_encode(database.as_bytes()))
    }

    /// Makes a database: an empty one, or a copy of `template`, to which nobody may be connected meanwhile.
    ///
    /// A template is copied file by file, in PostgreSQL 15 and later too, whose default would write all of it to
    /// the log: with [`Options::durable`] off that is the faster way for a database of many tables.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] if a name is not of the form `[a-z_][a-z0-9_]{0,62}`; [`Error::Statement`] if the database
    /// is there, the template is not, or is in use: for the last PostgreSQL waits 5 s.
    pub fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), Error> {
        psql::check_name(name)?;
        let mut statement = format!(r#"CREATE DATABASE "{name}""#);
        if let Some(template) = template {
            psql::check_name(template)?;
            statement.push_str(&format!(r#" TEMPLATE "{template}""#));
            if self.binaries.version >= 15 {
                statement.push_str(" STRATEGY file_copy");
            }
        }
        self.run(&statement)
    }

    /// Drops a database if it is there, and breaks the connections to it.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] as above; [`Error::Statement`] if the server refuses it.
    pub fn drop_database(&self, name: &str) -> Result<(), Error> {
        psql::check_name(name)?;
        self.run(&format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#))
    }

    /// The process id of the server's first process, parent of the others.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.postmaster.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the server is still there. One that was killed is not started again: stop it and start anew.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the operating system does not tell.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(self.postmaster.ended()?.is_none())
    }

    /// Stops the cluster: open transactions are rolled back, connections closed. It takes about 15 ms, and never
    /// more than 20 s, after which it has been killed.
    ///
    /// # Errors
    ///
    /// [`Error::StillRunning`] if processes outlive SIGKILL; [`Error::Io`] if it cannot be signalled.
    pub fn stop(self) -> Result<Shutdown, Error> {
        self.postmaster.stop()
    }

    fn run(&self, statement: &str) -> Result<(), Error> {
        psql::run(&self.binaries.psql(), &self.url_for("postgres"), statement)
    }
}

/// The directory is ours while this file is open. The system closes it whatever happens to us, and no child has
/// it.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// Of two equal settings PostgreSQL takes the later, and any of these before its files.
fn arguments(options: &Options, socket: &SocketDirectory, files: &authentication::Files) -> Vec<OsString> {
    let mut settings: Vec<(&str, OsString)> = vec![
        ("max_connections", options.max_connections.to_string().into()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
    ];
    if !options.durable {
        // Not synchronous_commit: without a sync it costs nothing, and off it loses commits to a killed server.
        settings.extend(["fsync", "full_page_writes"].map(|name| (name, "off".into())));
    }
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.into())));
    settings.extend([
        ("listen_addresses", "".into()),
        ("port", "5432".into()),
        ("unix_socket_directories", quoted(socket.path())),
        ("unix_socket_permissions", "0700".into()),
        ("hba_file", files.hba.clone().into()),
        ("ident_file", files.ident.clone().into()),
        ("lc_messages", "C".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
    ]);
    let argument = |(name, value): (&str, OsString)| {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        argument
    };
    settings.into_iter().map(argument).collect()
}

/// The setting is a list, in which commas and blanks count outside double quotes.
fn quoted(path: &Path) -> OsString {
    use std::os::unix::ffi::OsStringExt;

    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// Everything but the characters that mean themselves anywhere in a URL.
fn percent_encode(text: &[u8]) -> String {
    let mut encoded = String::new();
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    encoded
}
