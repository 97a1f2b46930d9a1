//! Go, and what is built with it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::tools::apt;
use crate::process::{output, run, succeeds};
use crate::workspace::Workspace;

/// Where the interop client's `go.mod` is.
const MODULE: &str = "tests/interop/go";
/// Fetched where the machine has an older one.
const TOOLCHAIN: &str = "1.26.8";
/// The last that can be had as a module. It is AGPL: only run, as a program of its own.
const MINIO: &str = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";
const GRPCURL: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4";

/// Whether Go is new enough and has the client's modules; a Go that fetches newer ones itself does so here.
pub(crate) fn is_ready(workspace: &Workspace) -> bool {
    // Without a proxy it succeeds only if all of them are in the module cache.
    is_new_enough(workspace)
        && succeeds(
            workspace
                .command("go")
                .current_dir(workspace.path(MODULE))
                .args(["mod", "download"])
                .env("GOPROXY", "off"),
        )
}

pub(crate) fn install(workspace: &Workspace) -> anyhow::Result<()> {
    if !is_new_enough(workspace) {
        if !workspace.has("go") {
            apt(workspace, &["golang-go", "ca-certificates"])?;
        }
        if !is_new_enough(workspace) {
            install_toolchain(workspace)?;
        }
    }
    run(workspace.command("go").current_dir(workspace.path(MODULE)).args(["mod", "download"]))
}

pub(crate) fn install_grpcurl(workspace: &Workspace) -> anyhow::Result<()> {
    if !is_new_enough(workspace) {
        install(workspace)?;
    }
    run(workspace.command("go").args(["install", GRPCURL]).env("GOBIN", workspace.tools("bin")))
}

pub(crate) fn has_minio(workspace: &Workspace) -> bool {
    workspace.has("minio") && succeeds(workspace.command("minio").arg("--version"))
}

/// Builds it: there is no package of it.
pub(crate) fn install_minio(workspace: &Workspace) -> anyhow::Result<()> {
    if !is_new_enough(workspace) {
        install(workspace)?;
    }
    run(workspace
        .command("go")
        .args(["install", "-ldflags=-s -w", MINIO])
        .env("GOBIN", workspace.tools("bin"))
        .env("CGO_ENABLED", "0"))
}

fn is_new_enough(workspace: &Workspace) -> bool {
    let wanted = fs::read_to_string(workspace.path(MODULE).join("go.mod")).ok();
    let wanted = wanted.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("go ")));
    let found = workspace.has("go").then(|| {
        output(workspace.command("go").current_dir(workspace.path(MODULE)).args(["env", "GOVERSION"]))
    });
    match (wanted.and_then(minor), found) {
        (Some(wanted), Some(Ok(found))) => minor(found.trim().trim_start_matches("go")) >= Some(wanted),
        _ => false,
    }
}

/// 26 of "1.26.8".
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Fetches Go as the module its own tools fetch it as. A Go older than 1.21 does not use it by itself, but downloads it and
/// checks it against the public checksum database like any module.
fn install_toolchain(workspace: &Workspace) -> anyhow::Result<()> {
    let arch = output(workspace.command("go").args(["env", "GOARCH"]))?;
    let module = format!("golang.org/toolchain@v0.0.1-go{TOOLCHAIN}.linux-{}", arch.trim());
    let described = output(
        workspace
            .command("go")
            .args(["mod", "download", "-modcacherw", "-json", &module])
            .env("GOMODCACHE", workspace.tools("go-modules"))
            .env("GOFLAGS", ""),
    )?;
    let described: serde_json::Value = serde_json::from_str(&described).context("go mod download -json")?;
    let dir = described["Dir"].as_str().ok_or_else(|| anyhow!("go mod download named no directory"))?;
    // Modules hold no executable files.
    make_executable(&Path::new(dir).join("bin"))?;
    make_executable(&Path::new(dir).join("pkg/tool"))?;
    let link = workspace.tools("bin/go");
    fs::create_dir_all(workspace.tools("bin")).context("cannot make target/tools/bin")?;
    fs::remove_file(&link).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    symlink(Path::new(dir).join("bin/go"), &link).with_context(|| format!("cannot link {}", link.display()))
}

fn make_executable(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn versions_are_compared_by_their_minor_number() {
        assert_eq!(minor("1.26.8"), Some(26));
        assert_eq!(minor("1.26"), Some(26));
        assert_eq!(minor("1.27rc1"), Some(27));
        assert_eq!(minor("devel"), None);
        // As text the older one would be the larger.
        assert!(minor("1.9.7") < minor("1.26.0"));
    }
}
