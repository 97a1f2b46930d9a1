//! A server's process.

use crate::{Ssh, certificate, minio, openssh};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);
/// Places that are made before a server starts: some look at their directory rarely.
const PLACES: usize = 400;
/// And those whose name is the beginning of a host's. A bucket's name has at most 63 characters.
const HOSTS: usize = 60;

/// A server that runs. It is killed when this is dropped, and its files with it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    places: AtomicUsize,
    hosts: AtomicUsize,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its root, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An empty place on it that nobody else uses: the name of a folder, or of a bucket.
    ///
    /// # Panics
    /// When hundreds were asked for.
    pub fn place(&self) -> String {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        assert!(number < PLACES, "no more places on this server");
        name(number)
    }

    /// The URL of MinIO without the bucket, and the name of an empty bucket that nobody else uses, for requests to `bucket.host`. No resolver has
    /// to know them: 127.0.0.1 is also written as `0x7f.0x1`, `0x07f.0x1` and so on, of which the first part is a bucket's name.
    ///
    /// # Panics
    /// When dozens were asked for.
    pub fn host_with_bucket(&self) -> (String, String) {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        assert!(number < HOSTS, "no more hosts on this server");
        (format!("http://{}:{}", minio::DOMAIN, self.address.port()), host(number))
    }

    /// The directory of a place.
    pub fn directory(&self, place: &str) -> PathBuf {
        self.root().join(place)
    }

    /// The certificate of who signed its own, if it has one.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join(certificate::AUTHORITY)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// How one logs in to a server of SFTP.
    pub fn ssh(&self) -> Ssh {
        openssh::ssh(self.directory.path())
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts a server: `command` makes its command of the port, the directory it serves and one for everything else.
    pub(crate) fn start(command: impl Fn(SocketAddr, &Path, &Path) -> Command) -> Self {
        Self::start_and_ask(|address| TcpStream::connect(address).is_ok(), command)
    }

    /// The same for one that listens before it is ready, which it says under this path.
    pub(crate) fn start_when(path: &str, command: impl Fn(SocketAddr, &Path, &Path) -> Command) -> Self {
        Self::start_and_ask(|address| answers(address, path).unwrap_or(false), command)
    }

    fn start_and_ask(
        is_ready: impl Fn(SocketAddr) -> bool,
        command: impl Fn(SocketAddr, &Path, &Path) -> Command,
    ) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        // Servers that change their user have to get in.
        make_public(directory.path());
        let root = directory.path().join("root");
        for place in (0..PLACES).map(name).chain((0..HOSTS).map(host)) {
            let place = root.join(place);
            fs::create_dir_all(&place).expect("a directory can be made");
            make_public(&place);
        }
        make_public(&root);
        // Another process may take the port before the server does; then there is another.
        for _ in 0..5 {
            let address = free_address();
            let mut command = command(address, &root, directory.path());
            let log = fs::File::create(directory.path().join("log")).expect("a log can be made");
            let log_too = log.try_clone().expect("a file can be had twice");
            command.stdin(Stdio::null()).stdout(log).stderr(log_too).process_group(0);
            let mut child = command.spawn().expect("a program that was found can be run");
            let since = Instant::now();
            let is_up = loop {
                if is_ready(address) {
                    break true;
                }
                if child.try_wait().is_ok_and(|status| status.is_some()) || since.elapsed() > START {
                    break false;
                }
                pause();
            };
            if is_up {
                let (places, hosts) = (AtomicUsize::new(0), AtomicUsize::new(0));
                return Self { child, address, directory, places, hosts };
            }
            end(&mut child);
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("a server does not start: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a server with the processes it made. An error means that it has ended by itself.
fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn name(place: usize) -> String {
    format!("place-{place:03}")
}

/// 127 as the beginning of an address, with as many zeros.
fn host(place: usize) -> String {
    format!("0x{}7f", "0".repeat(place))
}

/// Whether a server answers with 200.
fn answers(address: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

fn make_public(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("permissions can be set");
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("a listener has an address")
}

#[expect(
    clippy::disallowed_methods,
    reason = "servers do not tell when they listen, and this is no runtime's thread"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
