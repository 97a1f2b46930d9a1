//! What a running process asks of the kernel, with what it sends and is sent.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A system call that has ended.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments as strace prints them, parts of a text in one: a descriptor is followed by its path in angle brackets.
    pub arguments: String,
    /// What it answered.
    pub result: String,
    /// The thread.
    pub thread: u32,
    /// Lines of the trace at which it began and ended.
    pub began: usize,
    /// See `began`.
    pub ended: usize,
}

impl Call {
    /// Whether it ended well before the other began.
    pub fn is_before(&self, other: &Self) -> bool {
        !self.result.starts_with('-') && self.ended < other.began
    }
}

/// A trace under way.
pub struct Trace {
    strace: Child,
    directory: TempDir,
}

impl Trace {
    /// Traces the given calls of a running process and all its threads, the first 32 KiB of each text. `None` if strace is missing or may not.
    pub fn attach(pid: u32, calls: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "32768", "-e", "signal=none", "-e", &format!("trace={calls}")]);
        command.arg("-o").arg(directory.path().join("log")).args(["-p", &pid.to_string()]);
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        // It says so when it has all threads, or why it has not.
        let mut said = String::new();
        BufReader::new(strace.stderr.as_mut()?).read_line(&mut said).ok()?;
        if said.contains("attached") {
            return Some(Self { strace, directory });
        }
        let _ = strace.wait();
        None
    }

    /// Lets the process go and answers what it did, in the order in which calls began.
    pub fn end(mut self) -> Vec<Call> {
        let pid = rustix::process::Pid::from_child(&self.strace);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("strace can be signalled");
        self.strace.wait().expect("strace can be waited for");
        read(&self.directory.path().join("log"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Has no effect where it has ended.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn read(log: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(log).expect("strace has written its log");
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for (at, line) in text.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse::<u32>() else { continue };
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (at, begun.to_owned()));
            continue;
        }
        let (began, text) = match text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => match open.remove(&thread) {
                Some((began, begun)) => (began, format!("{begun}{rest}")),
                // It had begun before the trace.
                None => continue,
            },
            None => (at, text.to_owned()),
        };
        let Some((call, result)) = text.rsplit_once(" = ") else { continue };
        let Some((name, arguments)) = call.trim_end().split_once('(') else { continue };
        let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
        calls.push(Call {
            name: name.to_owned(),
            arguments: joined(arguments),
            result: result.to_owned(),
            thread,
            began,
            ended: at,
        });
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// A text that is given in several parts, which may be cut anywhere, as one.
fn joined(arguments: &str) -> String {
    const NEXT: &str = "}, {iov_base=\"";
    let mut parts = arguments.split(NEXT).peekable();
    let mut text = String::new();
    while let Some(part) = parts.next() {
        // `…", iov_len=22`, and after the last one more arguments.
        let part = if parts.peek().is_some() {
            part.rsplit_once("\", iov_len=").map_or(part, |(part, _)| part)
        } else {
            part
        };
        text.push_str(part);
    }
    text
}
