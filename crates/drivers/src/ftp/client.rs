//! The server of a volume: names in it, sessions with it.

use super::{
    config::Config,
    connect::Account,
    pool::{Lease, Pool},
};
use crate::{
    remote::{Failure, insist},
    wire::{Dialler, Options, client_config},
};
use coffer_domain::{driver::ErrorKind, path::Key};
use std::fmt;

/// The server of a volume.
pub(super) struct Client {
    pool: Pool,
    /// The folder, absolute and without a slash at the end.
    root: String,
    prefix: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, prefix, pool: _ } = self;
        f.debug_struct("Client").field("root", root).field("prefix", prefix).finish_non_exhaustive()
    }
}

impl Client {
    /// Logs in, and finds the volume's folder.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let Config { host, port, security, username, password, path, prefix, sessions, wire, .. } = config;
        let texts = [username, password.expose(), path, prefix];
        if texts.iter().any(|text| text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
            return Err(Failure::wrong(ErrorKind::Denied, "a setting holds what no command can"));
        }
        let Options { policy, certificate_authority, patience } = wire.clone();
        // It reads the certificates of the system.
        let read = tokio::task::spawn_blocking(move || client_config(certificate_authority.as_deref()));
        let stopped = |_| Failure::wrong(ErrorKind::Unavailable, "the service stops");
        let tls = read.await.map_err(stopped)??;
        let account = Account {
            host: host.clone(),
            port: *port,
            security: *security,
            username: username.clone(),
            password: password.clone(),
            dialler: Dialler::new(policy, patience.connect),
            tls,
            patience,
        };
        let mut client =
            Self { pool: Pool::new(account, *sessions), root: String::new(), prefix: prefix.clone() };
        client.root = client.find_root(path).await?;
        client.expect_root().await?;
        Ok(client)
    }

    /// Names are absolute: what begins with a blank, a dash or a tilde is then no option and nobody's home.
    async fn find_root(&self, path: &str) -> Result<String, Failure> {
        let path = path.trim_end_matches('/');
        if path.starts_with('/') {
            return Ok(path.to_owned());
        }
        let home = insist(|| async { self.lease().await?.home().await }).await?;
        let home = home.trim_end_matches('/');
        match path {
            "" => Ok(home.to_owned()),
            path => Ok(format!("{home}/{path}")),
        }
    }

    /// Fails if the volume's folder is not there, which looks as if nothing was.
    pub(super) async fn expect_root(&self) -> Result<(), Failure> {
        match insist(|| async { self.lease().await?.enter(&self.path("")).await }).await? {
            true => Ok(()),
            false => Err(Failure::wrong(ErrorKind::Unavailable, "the volume's folder is not there")),
        }
    }

    /// A session of one's own.
    pub(super) async fn lease(&self) -> Result<Lease, Failure> {
        self.pool.lease().await
    }

    /// Whether somebody waits for a session.
    pub(super) fn is_wanted(&self) -> bool {
        self.pool.is_wanted()
    }

    /// The name of a key.
    pub(super) fn name(&self, key: &Key) -> String {
        self.below(key.as_str())
    }

    /// A name below the volume's prefix.
    pub(super) fn below(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    /// What a name is within the volume.
    pub(super) fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix.as_str())
    }

    /// Where a name is; that of a folder may end with a slash.
    pub(super) fn path(&self, name: &str) -> String {
        match name.trim_end_matches('/') {
            "" if self.root.is_empty() => "/".to_owned(),
            "" => self.root.clone(),
            name => format!("{}/{name}", self.root),
        }
    }
}
