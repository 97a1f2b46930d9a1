//! Servers to be measured beside Coffer: each on a free port of loopback, with its files in a directory of its own on the same disk.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::process::pause;
use crate::workspace::Workspace;

/// Until it must answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `host:port`.
    pub(crate) addr: String,
}

impl Server {
    /// Coffer's messages to and from files, and nothing else.
    pub(crate) fn bare(workspace: &Workspace, dir: &Path) -> anyhow::Result<Self> {
        let mut command = workspace.command(workspace.release("bare"));
        let mut child = spawn(command.arg("--dir").arg(dir).stdout(Stdio::piped()))?;
        let mut addr = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut addr).context("cannot read what the bare server prints")?;
        }
        let server = Self { child, addr: addr.trim().to_owned() };
        ensure!(!server.addr.is_empty(), "the bare server did not start");
        Ok(server)
    }

    /// `rclone serve`, of this kind.
    pub(crate) fn rclone(workspace: &Workspace, kind: &str, dir: &Path) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let mut command = workspace.command("rclone");
        command.args(["serve", kind, "--addr", &addr, "--log-level", "ERROR"]).arg(dir);
        // None of the user's settings and caches.
        command.env("RCLONE_CONFIG", "/notfound").env("RCLONE_CACHE_DIR", dir);
        Self::listening(&mut command, addr)
    }

    /// nginx with its DAV module; bodies are received beside the files, so that they are renamed and not copied.
    pub(crate) fn nginx(workspace: &Workspace, dir: &Path) -> anyhow::Result<Self> {
        let (addr, dir) = (free_addr()?, dir.display());
        let other =
            ["proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {dir}/.{kind};"));
        let config = format!(
            "daemon off; master_process off; pid {dir}/.pid; error_log {dir}/.log;\n\
             events {{}}\n\
             http {{ access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {dir}/.body; {}\n\
             server {{ listen {addr}; root {dir}; dav_methods PUT DELETE; }} }}\n",
            other.join(" ")
        );
        let path = format!("{dir}/.conf");
        fs::write(&path, config).with_context(|| format!("cannot write {path}"))?;
        let mut command = workspace.command("nginx");
        Self::listening(command.args(["-c", &path, "-e", &format!("{dir}/.log")]), addr)
    }

    fn listening(command: &mut Command, addr: String) -> anyhow::Result<Self> {
        let mut server = Self { child: spawn(command.stdout(Stdio::null()))?, addr };
        let since = Instant::now();
        while TcpStream::connect(&server.addr).is_err() {
            if let Some(status) = server.child.try_wait()? {
                anyhow::bail!("it ended with {status}");
            }
            ensure!(since.elapsed() < START_TIMEOUT, "it does not answer after {START_TIMEOUT:?}");
            pause();
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its files go with the benchmark's directory. An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process group of its own: Ctrl-C is for xtask, which ends it.
fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).process_group(0).spawn().with_context(|| format!("cannot run {name}"))
}

/// A port that was free a moment ago: these servers do not tell which one they took.
fn free_addr() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.to_string())
}
