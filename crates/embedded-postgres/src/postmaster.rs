//! The server process, from its start to its end.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::log::Log;
use crate::run_as::RunAs;
use crate::{Error, leftovers, spawn, wait};

/// How the server is told to end, and how long each time is waited: a fast shutdown breaks off transactions and
/// writes a checkpoint, an immediate one leaves the log to be replayed, and the third is the end.
const SIGNALS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(10)),
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// How a server ended. Committed data are safe in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// By a checkpoint: the next start is immediate.
    Clean,
    /// It had to be killed, or had ended by itself before: the next start replays the log.
    Unclean,
}

/// A running server. Dropping it stops it, for up to 20 s.
#[derive(Debug)]
pub(crate) struct Postmaster {
    child: Mutex<Child>,
    pid: Pid,
    data: PathBuf,
    _parent: ParentThread,
}

impl Postmaster {
    /// Starts the server and waits until it takes connections.
    pub(crate) fn start(
        postgres: &Path,
        data: PathBuf,
        arguments: Vec<OsString>,
        run_as: RunAs,
        log: &Log,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut command = Command::new(postgres);
        command
            .env_clear()
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .current_dir("/")
            .arg("-D")
            .arg(&data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.writer()?)
            .stderr(log.writer()?)
            // An interrupt from the terminal is for this process alone; it still needs its database to end well.
            .process_group(0);
        // Interrupt: a fast shutdown, when this process is killed.
        spawn::prepare(&mut command, run_as, Signal::INT);
        let (child, parent) = ParentThread::spawn(command).map_err(Error::io("run", postgres))?;
        let pid = Pid::from_child(&child);
        let server = Self { child: Mutex::new(child), pid, data, _parent: parent };
        server.wait_until_ready(log, timeout)?;
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Result<Option<ExitStatus>, Error> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().map_err(Error::io("wait for", "postgres"))
    }

    /// Stops it; where it has ended already, only sees that none of its processes is left.
    pub(crate) fn stop(&self) -> Result<Shutdown, Error> {
        let mut is_first = true;
        for (signal, patience) in SIGNALS {
            if self.ended()?.is_some() {
                break;
            }
            // The child has not been waited for, so the id is still its own.
            rustix::process::kill_process(self.pid, signal)
                .map_err(|error| Error::io("signal", "postgres")(error.into()))?;
            if let Some(status) = wait::until(patience, || self.ended())? {
                if is_first && status.success() {
                    return Ok(Shutdown::Clean);
                }
                break;
            }
            is_first = false;
        }
        leftovers::end_processes(&self.data)?;
        Ok(Shutdown::Unclean)
    }

    fn wait_until_ready(&self, log: &Log, timeout: Duration) -> Result<(), Error> {
        let path = || log.path().to_owned();
        let ready = wait::until(timeout, || match self.ended()? {
            Some(status) => Err(Error::Start { status, log: path(), output: log.tail() }),
            None => Ok(self.is_ready().then_some(())),
        })?;
        ready.ok_or_else(|| Error::Timeout { timeout, log: path(), output: log.tail() })
    }

    /// Line 1 is the process, line 8 its state, padded with blanks.
    fn is_ready(&self) -> bool {
        // The lines between hold paths, in whatever encoding.
        let Ok(text) = fs::read(self.data.join("postmaster.pid")) else { return false };
        let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.next() == Some(self.pid.as_raw_nonzero().to_string().as_bytes())
            && lines.nth(6) == Some(b"ready")
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // What goes wrong here has nobody to be told; the next start takes over what is left.
        let _ = self.stop();
    }
}

/// The thread that forked the server. The kernel sends the death signal when *it* ends, so it lives as long as
/// the server, whichever thread called us.
#[derive(Debug)]
struct ParentThread {
    /// Nothing is ever sent: that it is dropped ends the thread.
    end: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl ParentThread {
    fn spawn(mut command: Command) -> io::Result<(Child, Self)> {
        let (child, started) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel::<Infallible>();
        let thread = std::thread::Builder::new().name("postgres-parent".to_owned()).spawn(move || {
            // The receiver waits below. Without the command, only the server holds its log open.
            let _ = child.send(command.spawn());
            drop(command);
            let _ = ended.recv();
        })?;
        let parent = Self { end: Some(end), thread: Some(thread) };
        let child = started.recv().map_err(|_| io::Error::other("the thread that starts it ended"))??;
        Ok((child, parent))
    }
}

impl Drop for ParentThread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
