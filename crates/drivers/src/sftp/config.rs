//! Where a server of SFTP is, and who logs in.

use crate::wire::Options;
use coffer_domain::{
    budget::Budget,
    endpoint::{HostKey, SshLogin},
};
use std::fmt;

/// A volume on a server of SFTP.
#[derive(Clone)]
pub struct Config {
    /// Name or address of the server.
    pub host: String,
    /// 22, as a rule.
    pub port: u16,
    /// Who logs in.
    pub username: String,
    /// By what he is known.
    pub login: SshLogin,
    /// By what the server is known, before anything of the log-in is sent. Any of its keys will do.
    pub host_key: HostKey,
    /// The folder on the server, which has to exist: absolute, or from where the log-in leads; empty for that folder itself. One whose full
    /// name has more than 127 bytes has to be named absolutely.
    pub path: String,
    /// Put before every key: empty, or segments each followed by `/`. Its folders are made when they are needed.
    pub prefix: String,
    /// How the server is reached.
    pub wire: Options,
    /// Most sessions at a time.
    pub sessions: usize,
    /// Memory for bytes of uploads, one for the process.
    pub budget: Budget,
}

impl Config {
    /// A server with the usual settings.
    pub fn new(
        host: impl Into<String>,
        username: impl Into<String>,
        login: SshLogin,
        host_key: HostKey,
    ) -> Self {
        Self {
            host: host.into(),
            port: 22,
            username: username.into(),
            login,
            host_key,
            path: String::new(),
            prefix: String::new(),
            wire: Options::default(),
            sessions: 16,
            budget: Budget::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("host_key", &self.host_key)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_domain::secret::Secret;

    #[test]
    fn a_server_is_shown_without_its_secret() {
        let host_key: HostKey = format!("SHA256:{}", "A".repeat(43)).parse().unwrap();
        for login in [SshLogin::Password(Secret::new("swordfish")), SshLogin::Key(Secret::new("swordfish"))] {
            let config = Config::new("host", "ann", login, host_key.clone());
            assert!(!format!("{config:?} {config:#?}").contains("swordfish"));
        }
    }
}
