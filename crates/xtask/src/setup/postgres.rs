//! PostgreSQL's server programs. Coffer runs a private cluster of its own with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::tools::apt;
use crate::process::output;
use crate::workspace::Workspace;

/// The oldest major version that Coffer runs on.
const OLDEST: u32 = 14;
const DEBIAN: &str = "/usr/lib/postgresql";
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.d";

/// Looks where the service looks: `COFFER_POSTGRES_BIN`, PATH, Debian's place.
pub(crate) fn is_installed(workspace: &Workspace) -> bool {
    let explicit = std::env::var_os("COFFER_POSTGRES_BIN").filter(|dir| !dir.is_empty());
    let mut dirs: Vec<PathBuf> = Vec::new();
    match explicit {
        Some(dir) => dirs.push(dir.into()),
        None => {
            dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
            let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
            dirs.extend(versions.map(|entry| entry.path().join("bin")));
        }
    }
    dirs.iter()
        .any(|dir| dir.join("initdb").is_file() && version(workspace, dir).is_some_and(|v| v >= OLDEST))
}

/// The major version in "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
fn version(workspace: &Workspace, dir: &Path) -> Option<u32> {
    let postgres = dir.join("postgres");
    if !postgres.is_file() {
        return None;
    }
    let text = output(workspace.command(postgres).arg("--version")).ok()?;
    text.split_whitespace().nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Installs the programs without the cluster that Debian would make and start: nobody asked for a server on port 5432.
pub(crate) fn install(workspace: &Workspace) -> anyhow::Result<()> {
    apt(workspace, &["postgresql-common"])?;
    let setting = Path::new(CREATE_CLUSTER).join("coffer-setup.conf");
    fs::create_dir_all(CREATE_CLUSTER).with_context(|| format!("cannot make {CREATE_CLUSTER}"))?;
    fs::write(&setting, "create_main_cluster = false\n")
        .with_context(|| format!("cannot write {}", setting.display()))?;
    let installed = apt(workspace, &["postgresql"]);
    fs::remove_file(&setting).with_context(|| format!("cannot remove {}", setting.display()))?;
    installed
}
