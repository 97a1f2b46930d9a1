//! As whom PostgreSQL runs. It refuses root, so root needs another identity for it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::Error;
use crate::binaries::Binaries;
use crate::spawn;

/// What root is called in the namespace. initdb wants an id that has a name, and everywhere this is `nobody`.
pub(crate) const NAMESPACE_ID: u32 = 65534;

/// The identity of a cluster's processes and the owner of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// We are not root.
    Ourselves,
    /// We are root, and this user can reach the directory.
    User {
        /// Its user id, never 0.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
    /// We are root, and run it in a user namespace where we look like [`NAMESPACE_ID`]; its files stay root's.
    Namespace,
}

impl RunAs {
    /// The identity for a cluster with the data directory `data` in `dir`. An existing one keeps that which
    /// made it, told by its owner.
    pub(crate) fn choose(dir: &Path, data: &Path, binaries: &Binaries) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let candidates = match fs::metadata(data) {
            Ok(owner) if owner.uid() == 0 => vec![Self::Namespace],
            Ok(owner) => vec![Self::User { uid: owner.uid(), gid: owner.gid() }],
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let user = user("postgres").or_else(|| user("nobody"));
                user.into_iter().chain([Self::Namespace]).collect()
            }
            Err(error) => return Err(Error::io("read", data)(error)),
        };
        let mut tried = Vec::new();
        for candidate in candidates {
            match candidate.try_in(dir, binaries) {
                Ok(()) => return Ok(candidate),
                Err(reason) => tried.push(reason),
            }
        }
        Err(Error::NoUser { dir: dir.to_owned(), reason: tried.join("; ") })
    }

    /// The name that PostgreSQL's peer authentication gives to us, its client.
    pub(crate) fn client_name(self) -> Result<String, Error> {
        let seen_by = if self == Self::Namespace { self } else { Self::Ourselves };
        let output = seen_by.run("id", &["-un".as_ref()]).map_err(Error::io("run", "id"))?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // It goes between double quotes into a file of PostgreSQL, where a leading slash means a pattern.
        if name.is_empty() || name.starts_with('/') || name.contains(['"', '\n']) {
            return Err(Error::io("use", &name)(io::Error::other(format!(
                "this process's user has no usable name: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))));
        }
        Ok(name)
    }

    /// Gives a file or directory of ours to this identity.
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::User { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))
            }
            Self::Ourselves | Self::Namespace => Ok(()),
        }
    }

    /// Who owns the files that this identity makes, as we see it.
    pub(crate) fn owner(self) -> u32 {
        match self {
            Self::User { uid, .. } => uid,
            Self::Ourselves | Self::Namespace => rustix::process::geteuid().as_raw(),
        }
    }

    /// Whether this identity can enter the directory, run PostgreSQL and has a name; asked by doing it, since
    /// modes, access lists, mount options and security modules all have a say.
    fn try_in(self, dir: &Path, binaries: &Binaries) -> Result<(), String> {
        let postgres = binaries.postgres();
        let script = r#"cd -- "$1" && "$2" --version >/dev/null && id -un >/dev/null"#;
        let arguments =
            ["-c".as_ref(), script.as_ref(), "sh".as_ref(), dir.as_os_str(), postgres.as_os_str()];
        match self.run("sh", &arguments) {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("{self}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("{self}: {error}")),
        }
    }

    fn run(self, program: &str, arguments: &[&std::ffi::OsStr]) -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/");
        spawn::prepare(&mut command, self, Signal::KILL);
        command.output()
    }
}

impl std::fmt::Display for RunAs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ourselves => formatter.write_str("as ourselves"),
            Self::User { uid, .. } => write!(formatter, "as the user with id {uid}"),
            Self::Namespace => formatter.write_str("in a user namespace"),
        }
    }
}

/// Looked up by `id`, which also knows users that are not in /etc/passwd.
fn user(name: &str) -> Option<RunAs> {
    let ask = |option| {
        let output = Command::new("id").args([option, name]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    let (uid, gid) = (ask("-u")?, ask("-g")?);
    (uid != 0).then_some(RunAs::User { uid, gid })
}
