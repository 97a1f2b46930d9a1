//! The directory of the Unix socket, which is also what keeps other users out.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::leftovers::remove_file;
use crate::run_as::RunAs;

/// The socket's name has a port in it, though no port is opened.
const SOCKET: &str = ".s.PGSQL.5432";

/// The kernel's limit for the path of a Unix socket, without the closing zero.
const PATH_LIMIT_BYTES: usize = 107;

/// A directory with mode 0700 that holds the socket and its lock file.
#[derive(Debug)]
pub(crate) struct SocketDirectory {
    path: PathBuf,
    is_temporary: bool,
}

impl SocketDirectory {
    /// Makes `socket` in `dir`, or `/tmp/coffer-<device>-<inode>` where that path would be too long, and
    /// removes what an earlier server left in it.
    pub(crate) fn make(dir: &Path, run_as: RunAs) -> Result<Self, Error> {
        let near = dir.join("socket");
        // Clients read a comma in a host as the end of it.
        let is_usable = near.join(SOCKET).as_os_str().len() <= PATH_LIMIT_BYTES
            && !near.as_os_str().as_bytes().contains(&b',');
        let made = if is_usable {
            Self { path: near, is_temporary: false }
        } else {
            let identity = fs::metadata(dir).map_err(Error::io("read", dir))?;
            let name = format!("coffer-{:x}-{}", identity.dev(), identity.ino());
            Self { path: Path::new("/tmp").join(name), is_temporary: true }
        };
        made.make_private(run_as)?;
        remove_file(&made.path.join(SOCKET))?;
        remove_file(&made.path.join(format!("{SOCKET}.lock")))?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn make_private(&self, run_as: RunAs) -> Result<(), Error> {
        let path = &self.path;
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => return run_as.give(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("make", path)(error)),
        }
        // Anybody may have made a directory below /tmp, or a link to one.
        let found = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
        if !found.is_dir() || found.uid() != run_as.owner() {
            return Err(Error::Socket { path: path.clone(), owner: found.uid() });
        }
        if found.permissions().mode() & 0o7777 != 0o700 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(Error::io("change the mode of", path))?;
        }
        Ok(())
    }
}

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        if self.is_temporary {
            // Left where a server that would not end still has its socket there; the next start uses it again.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
