//! What an owner that was killed leaves behind: living processes, and files that speak of dead ones.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::{Error, wait};

/// How an earlier server is asked to end, and how long each time: fast, at once, not asked.
const SIGNALS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(10)),
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// Ends every process of PostgreSQL that works in the data directory `data`. Only for the holder of the lock.
pub(crate) fn end_processes(data: &Path) -> Result<(), Error> {
    for (signal, patience) in SIGNALS {
        for process in living(data)? {
            process.send(signal);
        }
        let gone = wait::until(patience, || Ok(living(data)?.is_empty().then_some(())))?;
        if gone.is_some() {
            return Ok(());
        }
    }
    let pids = living(data)?.iter().map(|process| process.pid.as_raw_nonzero().get()).collect();
    Err(Error::StillRunning { pids })
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

struct Process {
    pid: Pid,
    /// Opened before the process was looked at, so that a signal cannot meet another with the same id.
    handle: OwnedFd,
}

impl Process {
    fn send(&self, signal: Signal) {
        // It fails only where the process has ended meanwhile, which is what is wanted; if it did not for any
        // other reason, the wait that follows sees it.
        let _ = rustix::process::pidfd_send_signal(&self.handle, signal);
    }
}

/// PostgreSQL changes into its data directory and stays there: that tells its processes from all others, also
/// where `postmaster.pid` is gone or names a stranger. A zombie has no working directory and so does not count.
fn living(data: &Path) -> Result<Vec<Process>, Error> {
    let data = match fs::metadata(data) {
        Ok(found) => (found.dev(), found.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", data)(error)),
    };
    let entries = fs::read_dir("/proc").map_err(Error::io("list", "/proc"))?;
    Ok(entries.filter_map(|entry| process_in(data, &entry.ok()?.path())).collect())
}

/// The process of this entry of /proc, if it is one of PostgreSQL in that directory. Those that end meanwhile
/// and those of others, which may not be looked at, are none.
fn process_in(data: (u64, u64), entry: &Path) -> Option<Process> {
    let pid = Pid::from_raw(entry.file_name()?.to_str()?.parse().ok()?)?;
    let working_directory = entry.join("cwd");
    let in_data = || fs::metadata(&working_directory).is_ok_and(|found| (found.dev(), found.ino()) == data);
    if !in_data() {
        return None;
    }
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // An administrator's shell may stand in the directory too.
    let name = fs::read_to_string(entry.join("comm")).ok()?;
    let is_ours = name.contains("postgres") || name.contains("initdb");
    (is_ours && in_data()).then_some(Process { pid, handle })
}
