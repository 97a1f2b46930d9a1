//! What comes from apt, pip, npm and cargo.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::process::{output, run, succeeds};
use crate::workspace::Workspace;

/// Versions are fixed so that a check means the same everywhere; newer ones that are in PATH are used as they are.
const BUF: &str = "@bufbuild/buf@1.75.0";
const CARGO_DENY: &str = "cargo-deny@0.20.2";
/// Prints `schema.rs`, whose form changes between versions.
const DIESEL: &str = "diesel_cli@2.3.14";
const REQUIREMENTS: &str = "tests/interop/python/requirements.txt";

/// Installs Debian packages.
///
/// # Errors
/// When not root or not on a Debian.
pub(crate) fn apt(workspace: &Workspace, packages: &[&str]) -> anyhow::Result<()> {
    ensure!(workspace.has("apt-get"), "no apt-get here");
    ensure!(rustix::process::geteuid().is_root(), "apt-get needs root");
    let apt_get = |verb: &str| {
        let mut command = workspace.command("apt-get");
        command.args(["-qq", verb]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(&mut apt_get("update"))?;
    run(apt_get("install").args(["--yes", "--no-install-recommends"]).args(packages))
}

pub(crate) fn has_rust_components(workspace: &Workspace) -> bool {
    succeeds(workspace.cargo().args(["fmt", "--version"]))
        && succeeds(workspace.cargo().args(["clippy", "--version"]))
}

pub(crate) fn install_rust_components(workspace: &Workspace) -> anyhow::Result<()> {
    run(workspace.command("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

pub(crate) fn has_openssl(workspace: &Workspace) -> bool {
    workspace.has("pkg-config")
        && succeeds(workspace.command("pkg-config").args(["--exists", "openssl >= 1.1"]))
}

/// The environment remembers the list it was made from, so that a changed list is noticed without asking pip.
pub(crate) fn has_python(workspace: &Workspace) -> bool {
    let wanted = fs::read(workspace.path(REQUIREMENTS)).ok();
    wanted.is_some() && fs::read(workspace.tools("python/requirements.txt")).ok() == wanted
}

/// Makes sure that Python can make environments.
pub(super) fn ensure_venv(workspace: &Workspace) -> anyhow::Result<()> {
    // Debian's python3 comes without ensurepip, which makes an environment's pip.
    if !succeeds(workspace.command("python3").args(["-c", "import ensurepip, venv"])) {
        apt(workspace, &["python3", "python3-venv"])?;
    }
    Ok(())
}

pub(crate) fn install_python(workspace: &Workspace) -> anyhow::Result<()> {
    ensure_venv(workspace)?;
    let environment = workspace.tools("python");
    run(workspace.command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(workspace.command(environment.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        REQUIREMENTS,
    ]))?;
    fs::copy(workspace.path(REQUIREMENTS), environment.join("requirements.txt"))
        .context("cannot note the installed list")?;
    Ok(())
}

pub(crate) fn install_buf(workspace: &Workspace) -> anyhow::Result<()> {
    if !workspace.has("npm") {
        apt(workspace, &["npm"])?;
    }
    run(workspace
        .command("npm")
        .args(["install", "--global", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(workspace.tools(""))
        .arg(BUF))
}

pub(crate) fn install_cargo_deny(workspace: &Workspace) -> anyhow::Result<()> {
    cargo_install(workspace, CARGO_DENY, &[])
}

/// It links libpq, unlike Coffer.
pub(crate) fn install_diesel(workspace: &Workspace) -> anyhow::Result<()> {
    // Debian has a pg_config without libpq-dev as well; only the header tells.
    let include_dir = output(workspace.command("pg_config").arg("--includedir")).unwrap_or_default();
    if !Path::new(include_dir.trim()).join("libpq-fe.h").is_file() {
        apt(workspace, &["libpq-dev"])?;
    }
    cargo_install(workspace, DIESEL, &["--no-default-features", "--features", "postgres"])
}

/// Unoptimised and without debug information: these run for a second, their build is what costs.
fn cargo_install(workspace: &Workspace, package: &str, features: &[&str]) -> anyhow::Result<()> {
    let build = workspace.tools("build");
    run(workspace
        .cargo()
        .args(["install", package, "--locked", "--quiet", "--debug", "--root"])
        .arg(workspace.tools(""))
        .arg("--target-dir")
        .arg(&build)
        .args(features)
        .env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    fs::remove_dir_all(&build).context("cannot remove what the build left")
}
