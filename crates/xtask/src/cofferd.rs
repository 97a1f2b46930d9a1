//! A cofferd of its own for the time of a task.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt as _;

use crate::process::{output, pause};
use crate::workspace::Workspace;

/// The first start makes a PostgreSQL cluster, which takes seconds on a slow disk.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer than the 30 s the service gives running streams.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where it listens. Port 0 takes any.
pub(crate) struct Listen {
    pub(crate) grpc: String,
    pub(crate) http: String,
}

impl Listen {
    pub(crate) fn anywhere() -> Self {
        Self { grpc: "127.0.0.1:0".to_owned(), http: "127.0.0.1:0".to_owned() }
    }
}

/// A running cofferd; stopped when dropped.
pub(crate) struct Cofferd<'a> {
    workspace: &'a Workspace,
    child: Child,
    data_dir: PathBuf,
    grpc_addr: String,
}

impl<'a> Cofferd<'a> {
    /// Starts the release binary on `data_dir`, with its log in `log`, and waits until it serves.
    pub(crate) fn start(
        workspace: &'a Workspace,
        data_dir: &Path,
        log: &Path,
        listen: &Listen,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = workspace
            .command(workspace.release("cofferd"))
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--grpc-addr", &listen.grpc, "--http-addr", &listen.http])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is for xtask, which stops the service in order.
            .process_group(0)
            .spawn()
            .context("cannot run cofferd")?;
        let mut cofferd = Self { workspace, child, data_dir: data_dir.to_owned(), grpc_addr: String::new() };
        cofferd.grpc_addr = cofferd.wait_until_ready(log)?;
        Ok(cofferd)
    }

    /// `host:port` of its gRPC listener.
    pub(crate) fn grpc_addr(&self) -> &str {
        &self.grpc_addr
    }

    /// Mints a token of the development key: `arguments` as `cofferd token` takes them.
    pub(crate) fn token(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.workspace.command(self.workspace.release("cofferd"));
        command.arg("token").arg("--data-dir").arg(&self.data_dir).args(arguments);
        let token = output(&mut command)?.trim().to_owned();
        ensure!(!token.is_empty(), "cofferd token printed nothing");
        Ok(token)
    }

    /// The client command, pointed at this service with this token.
    pub(crate) fn client(&self, token: &str) -> std::process::Command {
        let mut command = self.workspace.command(self.workspace.release("coffer"));
        command.env("COFFER_ADDR", format!("http://{}", self.grpc_addr)).env("COFFER_TOKEN", token);
        command
    }

    /// Asks it to end and expects that it ends well.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "cofferd ended with {status}");
        Ok(())
    }

    /// The description it writes when it is ready; one of an earlier process, which was killed, has another pid.
    fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<String> {
        let description = self.data_dir.join("cofferd.json");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("cofferd ended with {status} before it served; its log:\n{}", tail(log));
            }
            if let Some(addr) = read_addr(&description, self.child.id()) {
                return Ok(addr);
            }
            if start.elapsed() > START_TIMEOUT {
                bail!("cofferd does not serve after {START_TIMEOUT:?}; its log:\n{}", tail(log));
            }
            pause();
        }
    }

    fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // Not waited for yet, so the id still is this child's.
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id is positive")?;
        kill_process(pid, Signal::TERM).context("cannot signal cofferd")?;
        let start = Instant::now();
        while start.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            pause();
        }
        self.child.kill().context("cannot kill cofferd")?;
        self.child.wait()?;
        bail!("cofferd did not end within {STOP_TIMEOUT:?} of SIGTERM and was killed");
    }
}

impl Drop for Cofferd<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            eprintln!("{error:#}");
        }
    }
}

fn read_addr(description: &Path, pid: u32) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(description).ok()?).ok()?;
    (json["pid"].as_u64() == Some(pid.into())).then(|| json["grpc_addr"].as_str().map(str::to_owned))?
}

/// The end of a log, where the reason stands.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
