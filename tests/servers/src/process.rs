//! A server's process.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs,
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

/// A server that runs. It is killed when this is dropped, and its files with it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    places: AtomicUsize,
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

    /// The directory of a place.
    pub fn directory(&self, place: &str) -> PathBuf {
        self.root().join(place)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts a server: `command` makes its command of the port, the directory it serves and one for everything else.
    pub(crate) fn start(command: impl Fn(SocketAddr, &Path, &Path) -> Command) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        // Servers that change their user have to get in.
        make_public(directory.path());
        let root = directory.path().join("root");
        for place in 0..PLACES {
            let place = root.join(name(place));
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
            let is_listening = loop {
                if TcpStream::connect(address).is_ok() {
                    break true;
                }
                if child.try_wait().is_ok_and(|status| status.is_some()) || since.elapsed() > START {
                    break false;
                }
                pause();
            };
            if is_listening {
                return Self { child, address, directory, places: AtomicUsize::new(0) };
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
