//! The embedded PostgreSQL, for a runtime that must not block.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use coffer_embedded_postgres::{Cluster, Options};
use tokio::task::spawn_blocking;

/// Connections beside the pool: commit pipelines, migrations, tools, psql.
const EXTRA_CONNECTIONS: usize = 50;

/// A running cluster. It ends with the process, however that ends.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    dir: PathBuf,
    options: Options,
    /// `None` once it was stopped, or while it could not be started again.
    cluster: Arc<Mutex<Option<Cluster>>>,
    url: String,
}

impl Embedded {
    /// Makes the cluster in `dir` if it is not there, and runs it.
    pub(super) async fn start(dir: PathBuf, pool_size: usize) -> anyhow::Result<Self> {
        let max_connections = u16::try_from(pool_size + EXTRA_CONNECTIONS).unwrap_or(u16::MAX);
        let options = Options { max_connections: max_connections.max(100), ..Options::default() };
        let cluster = start(dir.clone(), options.clone()).await?;
        let url = cluster.url();
        Ok(Self { dir, options, cluster: Arc::new(Mutex::new(Some(cluster))), url })
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// Starts the server again if it is gone: somebody killed it, or it ran out of memory. Its own crashes of single sessions it
    /// repairs itself. Answers whether that was necessary.
    ///
    /// # Errors
    ///
    /// If it does not start; the next call tries again.
    pub(crate) async fn revive(&self) -> anyhow::Result<bool> {
        let (cluster, dir, options) = (Arc::clone(&self.cluster), self.dir.clone(), self.options.clone());
        let revive = move || {
            let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
            if cluster.as_ref().map(Cluster::is_running).transpose()?.unwrap_or(false) {
                return Ok(false);
            }
            // Ends whatever is left of it, and gives up its lock.
            drop(cluster.take());
            *cluster = Some(Cluster::start(&dir, options)?);
            Ok::<_, coffer_embedded_postgres::Error>(true)
        };
        spawn_blocking(revive).await?.context("cannot start the embedded PostgreSQL again")
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let stop = move || {
            let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            cluster.take().map(Cluster::stop).transpose()
        };
        let shutdown = spawn_blocking(stop).await?.context("cannot stop the embedded PostgreSQL")?;
        tracing::debug!(?shutdown, "stopped the embedded PostgreSQL");
        Ok(())
    }
}

async fn start(dir: PathBuf, options: Options) -> anyhow::Result<Cluster> {
    spawn_blocking(move || Cluster::start(&dir, options))
        .await?
        .context("cannot start the embedded PostgreSQL")
}

/// The URL of a cluster in `dir` that another process runs: PostgreSQL writes its socket's directory into line 5 of
/// `postmaster.pid`, and its state into line 8.
pub(super) fn running_url(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("pg").join("postmaster.pid");
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "the data directory is in use, but its PostgreSQL does not run: cannot read {}",
            path.display()
        )
    })?;
    let lines: Vec<_> = text.lines().collect();
    match (lines.get(4), lines.get(7)) {
        (Some(socket), Some(state)) if !socket.is_empty() && state.trim() == "ready" => {
            Ok(format!("postgres://coffer@{}/coffer", percent_encode(socket)))
        }
        _ => Err(anyhow!("the data directory is in use, and its PostgreSQL is not ready")),
    }
}

/// Everything but the characters that mean themselves anywhere in a URL.
fn percent_encode(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::running_url;
    use std::fs;

    fn url_of(postmaster_pid: &str) -> anyhow::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pg")).unwrap();
        fs::write(dir.path().join("pg/postmaster.pid"), postmaster_pid).unwrap();
        running_url(dir.path())
    }

    #[test]
    fn a_running_cluster_tells_its_socket() {
        let url = url_of("1\n/d/pg\n1700000000\n5432\n/d a/socket\n\n 1 2\nready   \n").unwrap();
        assert_eq!(url, "postgres://coffer@%2Fd%20a%2Fsocket/coffer");
    }

    #[test]
    fn one_that_is_not_ready_is_none() {
        for text in ["", "1\n/d/pg\n", "1\n/d/pg\n1700000000\n5432\n/d/socket\n\n 1 2\nstarting\n"] {
            assert!(url_of(text).is_err(), "{text:?}");
        }
        assert!(running_url(tempfile::tempdir().unwrap().path()).is_err());
    }
}
