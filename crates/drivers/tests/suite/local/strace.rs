//! Runs one test of this binary under strace: what it asks of the kernel, and what becomes of it when the kernel says no.

use crate::support::is_missing;
use std::{collections::HashMap, path::Path, process::Command};

/// A system call that has ended.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    /// Arguments; a descriptor is followed by its path in angle brackets.
    pub(super) arguments: String,
    pub(super) result: String,
    /// Lines of the trace at which it began and ended.
    pub(super) began: usize,
    pub(super) ended: usize,
}

/// Calls that change what is on the disk, or make it durable.
const TRACED: &str = "trace=openat2,mkdirat,fallocate,flock,pwritev,ftruncate,fsync,fdatasync,sync_file_range,linkat,renameat,\
                      renameat2,unlinkat,copy_file_range";

/// Runs the ignored test `child` with the environment variable `COFFER_TEST_PLACE` and answers its calls. `faults` are injections
/// in strace's words. `None` if there is no strace that works.
pub(super) fn trace(child: &str, place: &Path, faults: &[&str]) -> Option<Vec<Call>> {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
    {
        is_missing("strace that may trace");
        return None;
    }
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "256", "-e", "signal=none", "-e", TRACED, "-o"]).arg(&log);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", child, "--ignored", "--test-threads=1"]);
    let output = command.env("COFFER_TEST_PLACE", place).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{child}: {text}");
    Some(parse(&std::fs::read_to_string(log).unwrap()))
}

fn parse(log: &str) -> Vec<Call> {
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for (at, line) in log.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (at, begun.to_owned()));
            continue;
        }
        let (began, text) = match text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => {
                let (began, begun) = open.remove(thread).expect("a resumed call has begun");
                (began, format!("{begun}{rest}"))
            }
            None => (at, text.to_owned()),
        };
        let Some((call, result)) = text.rsplit_once(" = ") else { continue };
        let Some((name, arguments)) = call.trim_end().split_once('(') else { continue };
        let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
        calls.push(Call {
            name: name.into(),
            arguments: arguments.into(),
            result: result.into(),
            began,
            ended: at,
        });
    }
    calls.sort_by_key(|call: &Call| call.began);
    calls
}

/// The calls of the given name, in order of their beginning.
pub(super) fn named<'a>(calls: &'a [Call], name: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.name == name).collect()
}

/// The one call of that name whose arguments contain `part`.
pub(super) fn the<'a>(calls: &'a [Call], name: &str, part: &str) -> &'a Call {
    let found: Vec<_> = named(calls, name).into_iter().filter(|call| call.arguments.contains(part)).collect();
    assert_eq!(found.len(), 1, "{name} of {part} in {calls:#?}");
    found[0]
}
