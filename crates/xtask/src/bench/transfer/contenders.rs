//! Who takes a file in and out, each in its own way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::servers::Server;
use crate::cofferd::Cofferd;
use crate::process::{output, run, timed};
use crate::workspace::Workspace;

/// What all of them transfer.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) size_mib: u64,
}

/// One that is measured.
pub(crate) enum Contender<'a> {
    /// `dd conv=fsync` and `cp` in this directory.
    Disk(PathBuf),
    /// The bare server, with its files, by the client that knows nothing but the messages.
    Bare(Server, PathBuf),
    /// cofferd, by the same client.
    Cofferd { cofferd: &'a Cofferd<'a>, token: &'a str, data: PathBuf },
    /// cofferd, by `coffer upload` and `download` into this directory.
    Coffer { cofferd: &'a Cofferd<'a>, token: &'a str, data: PathBuf, into: PathBuf },
    /// An HTTP server, by curl: its name, what comes before a file's name in its URLs, and where its files are.
    Http { name: &'static str, server: Server, below: &'static str, files: PathBuf },
}

impl Contender<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Disk(_) => "dd conv=fsync, cp",
            Self::Bare(..) => "bare server, bare client",
            Self::Cofferd { .. } => "cofferd, bare client",
            Self::Coffer { .. } => "cofferd, coffer",
            Self::Http { name, .. } => name,
        }
    }

    /// Takes the file in.
    pub(crate) fn put(&self, workspace: &Workspace, source: &Source) -> anyhow::Result<Duration> {
        match self {
            Self::Disk(dir) => timed(
                workspace
                    .command("dd")
                    .arg(format!("if={}", source.path.display()))
                    .arg(format!("of={}", dir.join("dd.bin").display()))
                    .args(["bs=1M", "conv=fsync", "status=none"]),
            ),
            Self::Bare(server, _) => wire(workspace, &server.addr, None, source, &["put"]),
            Self::Cofferd { cofferd, token, .. } => {
                wire(workspace, cofferd.grpc_addr(), Some(token), source, &["put"])
            }
            Self::Coffer { cofferd, token, .. } => {
                timed(cofferd.client(token).arg("upload").arg(&source.path).arg(COFFER))
            }
            Self::Http { server, below, .. } => {
                let mut curl = workspace.command("curl");
                // Without Expect: nobody's PUT begins with a wait.
                curl.args(["--upload-file"]).arg(&source.path).args(["--header", "Expect:"]);
                seconds(curl.args(CURL).arg(format!("http://{}/{below}{HTTP}", server.addr)))
            }
        }
    }

    /// Takes the file out again. `is_checked`: compares every byte as well, which takes its time.
    pub(crate) fn get(
        &self,
        workspace: &Workspace,
        source: &Source,
        is_checked: bool,
    ) -> anyhow::Result<Duration> {
        let verb: &[&str] = if is_checked { &["get", "--check"] } else { &["get"] };
        match self {
            Self::Disk(dir) => timed(
                workspace.command("cp").arg("--reflink=never").arg(&source.path).arg(dir.join("cp.bin")),
            ),
            Self::Bare(server, _) => wire(workspace, &server.addr, None, source, verb),
            Self::Cofferd { cofferd, token, .. } => {
                wire(workspace, cofferd.grpc_addr(), Some(token), source, verb)
            }
            Self::Coffer { cofferd, token, into, .. } => {
                let received = into.join("received.bin");
                let took = timed(cofferd.client(token).args(["download", COFFER]).arg(&received))?;
                if is_checked {
                    run(workspace.command("cmp").arg(&source.path).arg(&received))?;
                }
                Ok(took)
            }
            Self::Http { server, below, files, .. } => {
                if is_checked {
                    run(workspace.command("cmp").arg(&source.path).arg(files.join(HTTP)))?;
                }
                let mut curl = workspace.command("curl");
                seconds(curl.args(CURL).arg(format!("http://{}/{below}{HTTP}", server.addr)))
            }
        }
    }

    /// Removes what the two have left, and answers where its bytes have been.
    pub(crate) fn remove(&self) -> anyhow::Result<&Path> {
        match self {
            Self::Disk(dir) => {
                remove(&dir.join("dd.bin"))?;
                remove(&dir.join("cp.bin"))?;
                Ok(dir)
            }
            Self::Bare(_, dir) => {
                remove(&dir.join(WIRE))?;
                Ok(dir)
            }
            Self::Cofferd { cofferd, token, data } => {
                run(cofferd.client(token).args(["rm", "--purge", WIRE]))?;
                Ok(data)
            }
            Self::Coffer { cofferd, token, data, into } => {
                remove(&into.join("received.bin"))?;
                run(cofferd.client(token).args(["rm", "--purge", COFFER]))?;
                Ok(data)
            }
            Self::Http { files, .. } => {
                remove(&files.join(HTTP))?;
                Ok(files)
            }
        }
    }
}

/// Names of the file with each of the clients.
const WIRE: &str = "wire.bin";
const COFFER: &str = "coffer.bin";
const HTTP: &str = "curl.bin";
/// Prints the seconds it took and nothing else.
const CURL: [&str; 7] =
    ["--silent", "--show-error", "--fail", "--output", "/dev/null", "--write-out", "%{time_total}"];

fn wire(
    workspace: &Workspace,
    addr: &str,
    token: Option<&str>,
    source: &Source,
    verb: &[&str],
) -> anyhow::Result<Duration> {
    let mut command = workspace.command(workspace.release("wire"));
    command.args(["--addr", addr, "--path", WIRE, "--size-mib", &source.size_mib.to_string()]).args(verb);
    match token {
        Some(token) => command.env("COFFER_TOKEN", token),
        None => command.env_remove("COFFER_TOKEN"),
    };
    seconds(&mut command)
}

/// Runs what prints the seconds it has measured.
fn seconds(command: &mut std::process::Command) -> anyhow::Result<Duration> {
    let since = Instant::now();
    let printed = output(command)?;
    let seconds: f64 = printed.trim().parse().with_context(|| format!("{printed:?} is no time"))?;
    let took = Duration::try_from_secs_f64(seconds).with_context(|| format!("{printed:?} is no time"))?;
    ensure!(!took.is_zero() && took <= since.elapsed(), "{seconds} s is not what it took");
    Ok(took)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
