//! Where an FTP server is, and how it is spoken to.

use crate::wire::Options;
use coffer_domain::{budget::Budget, endpoint::FtpSecurity, secret::Secret};
use std::fmt;

/// A volume on an FTP server.
#[derive(Clone)]
pub struct Config {
    /// A name or an address. With TLS the server's certificate has to be for it.
    pub host: String,
    /// The port of its control connections.
    pub port: u16,
    /// How all connections are protected.
    pub security: FtpSecurity,
    /// Who logs in.
    pub username: String,
    /// What proves it.
    pub password: Secret,
    /// The folder on the server: absolute, or relative to where the log-in leads. It has to exist.
    pub path: String,
    /// Put before every key: empty, or segments each followed by `/`. Its folders are made when they are needed.
    pub prefix: String,
    /// Most control connections at a time. An upload or a read under way has one to itself.
    pub sessions: usize,
    /// How the server is reached.
    pub wire: Options,
    /// Memory for bytes that wait to be sent, one for the process.
    pub budget: Budget,
}

impl Config {
    /// A server with the usual settings.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        security: FtpSecurity,
        username: impl Into<String>,
        password: Secret,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            security,
            username: username.into(),
            password,
            path: String::new(),
            prefix: String::new(),
            sessions: 24,
            wire: Options::default(),
            budget: Budget::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("security", &self.security)
            .field("path", &self.path)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_its_secret() {
        let config = Config::new("host", 21, FtpSecurity::Plain, "ann", Secret::new("swordfish"));
        assert!(!format!("{config:?} {config:#?}").contains("swordfish"));
    }
}
