//! SFTP servers.

use super::{Folder, Host, account};
use crate::{error::FieldViolation, secret::Secret};
use data_encoding::BASE64_NOPAD;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};

/// The port where nobody names one.
pub const DEFAULT_SFTP_PORT: u16 = 22;

/// What the fingerprint of a key begins with.
const SHA256: &str = "SHA256:";
/// Bytes of the sum behind it.
const SUM_BYTES: usize = 32;

/// An SFTP server, and who logs in. What proves it is its credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SftpServer {
    /// Where it is.
    pub host: Host,
    /// The port it listens on.
    pub port: u16,
    /// Who logs in.
    pub username: String,
    /// The key it has to show.
    pub host_key: HostKey,
    /// Where keys are put.
    pub folder: Folder,
}

/// The fingerprint of a server's key, as `ssh-keygen -lf` prints it: `SHA256:` and the sum of the key in base64 without padding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey(String);

/// The text is no fingerprint of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be SHA256: and 43 characters of base64, as ssh-keygen -lf prints it")]
pub struct NotAHostKey;

/// How a user proves to an SFTP server who he is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshLogin {
    /// By a password.
    Password(Secret),
    /// By a private key without a passphrase, in OpenSSH's or another PEM form.
    Key(Secret),
    /// By one in a file of the host.
    KeyFile(PathBuf),
}

impl HostKey {
    /// The fingerprint.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKey {
    type Err = NotAHostKey;

    fn from_str(text: &str) -> Result<Self, NotAHostKey> {
        let sum = text.strip_prefix(SHA256).and_then(|sum| BASE64_NOPAD.decode(sum.as_bytes()).ok());
        if sum.is_some_and(|sum| sum.len() == SUM_BYTES) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAHostKey)
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HostKey {
    type Error = NotAHostKey;

    fn try_from(text: String) -> Result<Self, NotAHostKey> {
        text.parse()
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.0
    }
}

impl SftpServer {
    pub(super) fn place(&self) -> String {
        let Self { host, port, username, host_key: _, folder } = self;
        account::place("sftp", host, *port, username, folder)
    }

    pub(super) fn is_where(&self, other: &Self) -> bool {
        let Self { host, port, username, host_key: _, folder } = other;
        (&self.host, &self.port, &self.username, &self.folder) == (host, port, username, folder)
    }

    pub(super) fn violations(&self) -> Vec<FieldViolation> {
        account::violations("sftp", self.port, &self.username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_key_is_the_whole_fingerprint() {
        let text = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s";
        assert_eq!(text.parse::<HostKey>().unwrap().to_string(), text);
        for bad in [
            "",
            "SHA256:",
            "uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s",
            "sha256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s=",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3sA",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3t",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz_s",
            "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s\n",
            "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS",
        ] {
            assert_eq!(bad.parse::<HostKey>(), Err(NotAHostKey), "{bad:?}");
        }
    }

    #[test]
    fn a_login_is_shown_without_its_secret() {
        let logins = [SshLogin::Password(Secret::new("swordfish")), SshLogin::Key(Secret::new("swordfish"))];
        assert!(!format!("{logins:?}").contains("swordfish"));
    }
}
