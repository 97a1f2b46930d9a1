//! The data directory: what is where in it, and who may use it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use coffer_domain::id::NodeId;
use serde::Serialize;

/// Everything a node keeps.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// The right to serve from a data directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What other programs read to find a running server: `cofferd.json`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) http_addr: SocketAddr,
}

impl DataDir {
    /// Makes the directory if it is not there.
    ///
    /// It is open to be entered, as far as the umask lets it: a root process runs the embedded PostgreSQL as another user.
    /// What is secret in it has narrower modes of its own.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let root = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { root })
    }

    /// The directory itself, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The embedded cluster.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// The key of `cofferd token`.
    pub(crate) fn development_key(&self) -> PathBuf {
        self.root.join("development-key.pem")
    }

    /// The keys of the embedded database's secrets.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys.json")
    }

    /// Below this are local volumes that need no other approval; made here, for nobody else to enter.
    pub(crate) fn volumes(&self) -> anyhow::Result<PathBuf> {
        let path = self.root.join("volumes");
        make_private(&path)?;
        Ok(path)
    }

    /// A directory for a local volume.
    pub(crate) fn volume(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.volumes()?.join(name);
        make_private(&path)?;
        Ok(path)
    }

    /// Takes the directory for this process. `None`: another one has it.
    pub(crate) fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.root.join("lock");
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // For people; the lock is what counts.
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(Lock { _file: file }))
    }

    /// The same, for those who need it.
    pub(crate) fn must_lock(&self) -> anyhow::Result<Lock> {
        self.lock()?.ok_or_else(|| {
            anyhow!(
                "{} is in use by the process {}",
                self.root.display(),
                self.lock_holder().unwrap_or_default()
            )
        })
    }

    fn lock_holder(&self) -> io::Result<String> {
        let mut pid = String::new();
        File::open(self.root.join("lock"))?.take(20).read_to_string(&mut pid)?;
        Ok(pid.trim().to_owned())
    }

    /// This node's name in the metadata: the same at every start on this directory.
    pub(crate) fn node_id(&self) -> anyhow::Result<NodeId> {
        let path = self.root.join("node-id");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().with_context(|| format!("{} holds no node id", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = NodeId::new();
                self.replace("node-id", format!("{id}\n").as_bytes())?;
                Ok(id)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Says where the server is to be found.
    pub(crate) fn announce(&self, running: &Running) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(running)?;
        text.push('\n');
        self.replace("cofferd.json", text.as_bytes())
    }

    /// Takes that back; also what a server left that was killed.
    pub(crate) fn withdraw(&self) -> anyhow::Result<()> {
        let path = self.root.join("cofferd.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file whole or not at all, durably.
    fn replace(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let (path, new) = (self.root.join(name), self.root.join(format!("{name}.new")));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{DataDir, Running};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_node_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(&dir.path().join("data")).unwrap().node_id().unwrap();
        let again = DataDir::open(&dir.path().join("data")).unwrap().node_id().unwrap();
        assert_eq!(first, again);
    }

    #[test]
    fn a_damaged_node_id_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node-id"), "what").unwrap();
        assert!(DataDir::open(dir.path()).unwrap().node_id().is_err());
        assert_eq!(fs::read_to_string(dir.path().join("node-id")).unwrap(), "what");
    }

    #[test]
    fn one_process_at_a_time_and_the_other_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(dir.path()).unwrap();
        let lock = data_dir.must_lock().unwrap();
        assert!(data_dir.lock().unwrap().is_none());
        let refusal = data_dir.must_lock().unwrap_err().to_string();
        assert!(refusal.ends_with(&format!("process {}", std::process::id())), "{refusal}");
        drop(lock);
        assert!(data_dir.lock().unwrap().is_some());
    }

    #[test]
    fn volumes_are_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let volume = DataDir::open(dir.path()).unwrap().volume("main").unwrap();
        for path in [volume.as_path(), volume.parent().unwrap()] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o7777,
                0o700,
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn a_server_is_announced_and_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(dir.path()).unwrap();
        let running = Running {
            pid: 7,
            grpc_addr: "127.0.0.1:1".parse().unwrap(),
            http_addr: "[::1]:2".parse().unwrap(),
        };
        data_dir.announce(&running).unwrap();
        let told = fs::read_to_string(dir.path().join("cofferd.json")).unwrap();
        assert_eq!(told.trim(), r#"{"pid":7,"grpc_addr":"127.0.0.1:1","http_addr":"[::1]:2"}"#);
        data_dir.withdraw().unwrap();
        data_dir.withdraw().unwrap();
        assert!(!dir.path().join("cofferd.json").exists());
    }
}
