//! Where things are, and commands that run there.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The checkout and its target directory.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The checkout this binary was built from.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .context("the checkout xtask was built from is gone")?;
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    /// A path in the checkout.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A path below the target directory: whatever is made or fetched goes there.
    pub(crate) fn target(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.target.join(relative)
    }

    /// A path below `target/tools`, where `setup` installs.
    pub(crate) fn tools(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.target.join("tools").join(relative)
    }

    /// A release binary of this workspace.
    pub(crate) fn release(&self, binary: &str) -> PathBuf {
        self.target.join("release").join(binary)
    }

    /// A command that runs in the root of the checkout and finds the installed tools first.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(self.resolve(program.as_ref()));
        command.current_dir(&self.root).env("PATH", self.search_path());
        // Cargo describes the package xtask to xtask. Build scripts that watch these variables would run again for
        // every change between `cargo xtask test` and a plain `cargo test`.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The cargo that runs xtask, without what it told xtask of its package: some dependencies build themselves anew for that.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (variable, _) in env::vars_os() {
            let is_of_package =
                |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if variable.to_str().is_some_and(is_of_package) {
                command.env_remove(variable);
            }
        }
        command
    }

    /// Whether a program of this name is among the tools or in PATH.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.lookup(OsStr::new(program)).is_some()
    }

    /// `Command` itself searches the PATH of xtask, not the one its child gets.
    fn resolve(&self, program: &OsStr) -> PathBuf {
        self.lookup(program).unwrap_or_else(|| program.into())
    }

    fn lookup(&self, program: &OsStr) -> Option<PathBuf> {
        if Path::new(program).components().count() > 1 {
            return Some(program.into());
        }
        env::split_paths(&self.search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
    }

    fn search_path(&self) -> std::ffi::OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.tools("bin")).chain(env::split_paths(&path));
        // Only fails for a directory with a colon in its name, which PATH cannot hold anyway.
        env::join_paths(dirs).unwrap_or(path.clone())
    }
}
