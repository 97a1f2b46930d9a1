//! What the tests share.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use coffer_embedded_postgres::{Cluster, Error, Options};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// Whether a missing PostgreSQL, or a machine that forbids what is tested, is an error.
pub(crate) fn backends_are_required() -> bool {
    std::env::var_os("COFFER_REQUIRE_BACKENDS").is_some_and(|value| value == "1")
}

/// Whether PostgreSQL is there; panics where it has to be.
pub(crate) fn require() -> bool {
    // Data of a version that is never installed: nothing is run to find out.
    let place = Place::open();
    fs::create_dir_all(place.dir.join("pg")).unwrap();
    fs::write(place.dir.join("pg/PG_VERSION"), "1\n").unwrap();
    match place.start() {
        Err(Error::NotInstalled) => {
            assert!(!backends_are_required(), "PostgreSQL is required and not installed");
            eprintln!("ignored: PostgreSQL is not installed");
            false
        }
        Err(Error::Version { wanted: 1, .. }) => true,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory for one cluster, which goes with the test.
pub(crate) struct Place {
    _root: TempDir,
    pub(crate) dir: PathBuf,
}

impl Place {
    /// One that every user can reach.
    pub(crate) fn open() -> Self {
        let place = Self::with_mode(0o755);
        fs::create_dir(&place.dir).unwrap();
        fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    /// One below a directory that only its owner can enter.
    pub(crate) fn private() -> Self {
        Self::with_mode(0o700)
    }

    fn with_mode(mode: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).unwrap();
        let dir = root.path().canonicalize().unwrap().join("database");
        Self { _root: root, dir }
    }

    pub(crate) fn start(&self) -> Result<Cluster, Error> {
        Cluster::start(&self.dir, Options::disposable())
    }

    pub(crate) fn start_with(&self, name: &str, value: &str) -> Result<Cluster, Error> {
        let settings = vec![(name.to_owned(), value.to_owned())];
        Cluster::start(&self.dir, Options { settings, ..Options::disposable() })
    }
}

/// A connection.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    pub(crate) fn open(url: &str) -> Result<Self, tokio_postgres::Error> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        // Its error is also that of the statement that meets it.
        runtime.spawn(async move { drop(connection.await) });
        Ok(Self { runtime, client })
    }

    pub(crate) fn execute(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).unwrap();
    }

    /// The only value of the only row, as text.
    pub(crate) fn value(&self, query: &str) -> String {
        let query = format!("SELECT ({query})::text");
        self.runtime.block_on(self.client.query_one(&query, &[])).unwrap().get(0)
    }

    pub(crate) fn setting(&self, name: &str) -> String {
        self.value(&format!("current_setting('{name}')"))
    }
}

/// Waits until a process has ended; whether somebody has waited for it does not matter.
pub(crate) fn wait_for_end(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ended = rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ended, 1, "process {pid:?} lives on");
}

pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// The variable that makes `owner` start a cluster: its directory.
const OWNER_DIR: &str = "COFFER_TEST_OWNER_DIR";

/// Another process with a cluster of its own.
pub(crate) struct Owner {
    process: Child,
    _stdin: ChildStdin,
    /// The server's process id.
    pub(crate) pid: u32,
    pub(crate) url: String,
}

impl Owner {
    /// Or the text of the error that it got.
    pub(crate) fn start(dir: &Path, environment: &[(&str, &Path)]) -> Result<Self, String> {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rig::owner", "--ignored", "--nocapture", "--test-threads=1"])
            .env(OWNER_DIR, dir)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let answer = lines.find(|line| line.starts_with("owner ")).expect("the owner tells how it went");
        let mut words = answer.splitn(4, ' ').skip(1);
        match words.next().unwrap() {
            "ready" => {
                let pid = words.next().unwrap().parse().unwrap();
                Ok(Self { process, _stdin: stdin, pid, url: words.next().unwrap().to_owned() })
            }
            _ => {
                // The harness has more to say, and nobody else reads it.
                lines.for_each(drop);
                process.wait().unwrap();
                Err(answer)
            }
        }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "not a test: the process that other tests start, and kill"]
fn owner() {
    let Some(dir) = std::env::var_os(OWNER_DIR) else { return };
    // The harness has begun a line.
    match Cluster::start(Path::new(&dir), Options::disposable()) {
        Ok(cluster) => {
            println!("\nowner ready {} {}", cluster.pid(), cluster.url());
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            drop(cluster);
        }
        Err(error) => println!("\nowner error {}", error.to_string().replace('\n', " ")),
    }
}
