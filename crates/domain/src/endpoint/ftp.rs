//! FTP servers.

use super::{Folder, Host, account};
use crate::{error::FieldViolation, volume::UnknownValue};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// An FTP server, and who logs in. What proves it is its credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FtpServer {
    /// Where it is.
    pub host: Host,
    /// The port it listens on.
    pub port: u16,
    /// How its connections are protected.
    pub security: FtpSecurity,
    /// Who logs in.
    pub username: String,
    /// Where keys are put.
    pub folder: Folder,
}

/// How connections to an FTP server are protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FtpSecurity {
    /// Not at all: password and bytes are in clear.
    Plain,
    /// By TLS from the command `AUTH TLS` on (RFC 4217).
    #[default]
    Explicit,
    /// By TLS from the first byte on.
    Implicit,
}

impl FtpSecurity {
    /// The port where nobody names one.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Plain | Self::Explicit => 21,
            Self::Implicit => 990,
        }
    }

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
        }
    }
}

impl FromStr for FtpSecurity {
    type Err = UnknownValue;

    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        match text {
            "plain" => Ok(Self::Plain),
            "explicit" => Ok(Self::Explicit),
            "implicit" => Ok(Self::Implicit),
            _ => Err(UnknownValue),
        }
    }
}

impl FtpServer {
    pub(super) fn place(&self) -> String {
        let Self { host, port, security: _, username, folder } = self;
        account::place("ftp", host, *port, username, folder)
    }

    pub(super) fn is_where(&self, other: &Self) -> bool {
        let Self { host, port, security: _, username, folder } = other;
        (&self.host, &self.port, &self.username, &self.folder) == (host, port, username, folder)
    }

    pub(super) fn violations(&self) -> Vec<FieldViolation> {
        account::violations("ftp", self.port, &self.username)
    }
}
