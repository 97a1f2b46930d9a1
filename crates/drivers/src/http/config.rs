//! Where a server of HTTP is, and how it is spoken to.

use crate::wire::Options;
use coffer_domain::budget::Budget;
use std::fmt;

/// A volume on a server of HTTP, with WebDAV or without: the server says.
#[derive(Clone)]
pub struct Config {
    /// `https://host[:port][/path]` or `http://…`. Its folder has to exist.
    pub url: String,
    /// Put before every key: empty, or segments each followed by `/`. Its folders are made when they are needed.
    pub prefix: String,
    /// Who asks.
    pub auth: Auth,
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
    pub fn new(url: impl Into<String>, auth: Auth) -> Self {
        Self {
            url: url.into(),
            prefix: String::new(),
            auth,
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
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// How a server knows who asks.
#[derive(Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// By name and password.
    Basic {
        /// The name, without a colon.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token.
    Bearer(String),
    /// By a header of the server's own.
    Header {
        /// Its name. None that HTTP or WebDAV gives a meaning.
        name: String,
        /// Its value.
        value: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
            Self::Header { .. } => "Header(..)",
        })
    }
}
