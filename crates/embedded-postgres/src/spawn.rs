//! What happens in a child between fork and exec: the only unsafe code of this crate.

use std::ffi::CStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use crate::run_as::{NAMESPACE_ID, RunAs};

/// Lets the command run as `run_as`, and end by `death` when the *thread* that spawns it ends.
///
/// The kernel ties the death signal to the thread, not to the process: spawn from a thread that outlives the
/// child. Where our process ends between fork and exec, the child ends too.
pub(crate) fn prepare(command: &mut Command, run_as: RunAs, death: Signal) {
    let maps = match run_as {
        RunAs::Ourselves => None,
        // The standard library also drops the supplementary groups here.
        RunAs::User { uid, gid } => {
            command.uid(uid).gid(gid);
            None
        }
        RunAs::Namespace => Some(Maps::of_this_process()),
    };
    let parent = rustix::process::getpid();
    #[expect(unsafe_code, reason = "there is no safe way to set a death signal or to enter a namespace")]
    // SAFETY: the closure runs in the forked child of a process with several threads, where another thread may
    // have held any lock, the allocator's included. It only makes system calls, on memory that was allocated
    // before the fork, and neither allocates nor frees nor panics.
    unsafe {
        command.pre_exec(move || {
            if let Some(maps) = &maps {
                // No flag for open files: the descriptors stay shared with nobody.
                rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?;
                maps.write()?;
            }
            die_with(parent, death)
        });
    }
}

/// Set last, since a change of credentials clears it.
fn die_with(parent: Pid, death: Signal) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(death))?;
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        // Our process ended before the signal was set: nobody would ever send it.
        Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()))
    }
}

/// The lines that make us [`NAMESPACE_ID`] in the new namespace.
struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    fn of_this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Self { uid: format!("{NAMESPACE_ID} {uid} 1"), gid: format!("{NAMESPACE_ID} {gid} 1") }
    }

    fn write(&self) -> io::Result<()> {
        // The kernel takes a group map only where groups can no longer be dropped.
        write(c"/proc/self/setgroups", b"deny")?;
        write(c"/proc/self/uid_map", self.uid.as_bytes())?;
        write(c"/proc/self/gid_map", self.gid.as_bytes())
    }
}

fn write(path: &CStr, content: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, content)?;
    Ok(())
}
