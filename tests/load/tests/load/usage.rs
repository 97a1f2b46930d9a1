//! What a process uses of the machine, as Linux counts it.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;

/// Bytes of a MiB, for people.
pub(crate) const MIB: u64 = 1024 * 1024;
/// `sysconf(_SC_CLK_TCK)` on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Bytes of its memory that are in RAM now.
    pub(crate) fn resident_bytes(self) -> u64 {
        self.of_status("VmRSS:")
    }

    /// The most bytes there have been.
    pub(crate) fn peak_bytes(self) -> u64 {
        self.of_status("VmHWM:")
    }

    /// Seconds of CPU that it has had.
    pub(crate) fn cpu_seconds(self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        // The name in parentheses may hold blanks; utime and stime are the 14th and 15th field, so the 12th and 13th after it.
        let after = text.rsplit_once(')').unwrap().1;
        let ticks: f64 = after.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().unwrap()).sum();
        ticks / TICKS_PER_SECOND
    }

    fn of_status(self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// The time that all but so many parts of a whole stay below: 0.5 is the median. Zero of nothing.
pub(crate) fn quantile(sorted: &[std::time::Duration], part: f64) -> std::time::Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

/// Lets this process, and those it starts from now on, have as many open files as the machine allows: often only a thousand are usual.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not, connections beyond the limit fail, and their test says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
