//! Where a server of HTTP is, and how it is spoken to.

use crate::wire::Options;
use coffer_domain::{budget::Budget, endpoint::Login};
use std::fmt;

/// A volume on a server of HTTP, with WebDAV or without: the server says.
#[derive(Clone)]
pub struct Config {
    /// `https://host[:port][/path]` or `http://…`. Its folder has to exist.
    pub url: String,
    /// Put before every key: empty, or segments each followed by `/`. Its folders are made when they are needed.
    pub prefix: String,
    /// Who asks; `None`: nobody in particular.
    pub login: Option<Login>,
    /// Whether an object is at `{url}?id={key}` instead of `{url}/{key}`. Without WebDAV only.
    pub use_query_params: bool,
    /// How the server is reached.
    pub wire: Options,
    /// Bytes of an upload that are kept in memory, and of the pieces that a resumable one is stored in.
    pub part_bytes: u64,
    /// Memory for them, one for the process.
    pub budget: Budget,
}

impl Config {
    /// A server with the usual settings.
    pub fn new(url: impl Into<String>, login: Option<Login>) -> Self {
        Self {
            url: url.into(),
            prefix: String::new(),
            login,
            use_query_params: false,
            wire: Options::default(),
            part_bytes: 8 * 1024 * 1024,
            budget: Budget::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("login", &self.login.as_ref().map(Login::kind))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_domain::secret::Secret;

    #[test]
    fn a_server_is_shown_without_its_secret() {
        for login in [
            Login::Basic { username: "ann".to_owned(), password: Secret::new("swordfish") },
            Login::Bearer { token: Secret::new("swordfish") },
            Login::CustomHeader { name: "x-key".to_owned(), value: Secret::new("swordfish") },
        ] {
            let config = Config::new("http://host", Some(login));
            assert!(!format!("{config:?} {config:#?}").contains("swordfish"));
        }
    }
}
