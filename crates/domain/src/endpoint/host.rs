//! The name of a machine.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Most bytes of a host's name.
const MAX_HOST_BYTES: usize = 253;

/// A host's name in lowercase ASCII, or its address; IPv6 without brackets. Two that mean the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// What a host breaks, as a rule to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHost(&'static str);

impl Host {
    /// The name or address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        if !text.contains(':') {
            return name(text).map(Self).map_err(BadHost);
        }
        let literal = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'));
        let address: Option<Ipv6Addr> = literal.and_then(|literal| literal.parse().ok());
        let address = address.ok_or(BadHost("must name a host without its port, or be an address"))?;
        Ok(Self(address.to_string()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Host {
    type Error = BadHost;

    fn try_from(text: String) -> Result<Self, BadHost> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

/// A name, or an address of IPv4, in the form in which it is kept; or the rule that it breaks.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.split('.').all(is_label) {
        return Err("must name a host in ASCII, at most 253 bytes");
    }
    // What ends like a number is one to resolvers, in forms that hide which.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("must write an IPv4 address as four decimal numbers");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (text, kept) in [
            ("Files.Example.", "files.example"),
            ("a_b-c", "a_b-c"),
            ("10.0.0.1", "10.0.0.1"),
            ("::0001", "::1"),
            ("[FD00::1]", "fd00::1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.as_str(), kept);
            assert_eq!(kept.parse(), Ok(host), "{text}");
        }
    }

    #[test]
    fn what_is_no_host() {
        for text in [
            "",
            ".",
            "h:21",
            "[h]",
            "[::1",
            "::1]",
            "[::1]:21",
            "fe80::1%eth0",
            "user@h",
            "h/x",
            "h\\x",
            "a b",
            "a\r\nb",
            "h\0",
            "h\n",
            "a..b",
            "-a",
            "exämple.org",
            "127.1",
            "0x7f000001",
            "2130706433",
            &"a".repeat(64),
            &format!("{}a", "a.".repeat(127)),
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_reads_its_own_words(text in "\\PC{0,40}") {
            for text in [format!("[{text}]"), format!("h.{text}"), text] {
                if let Ok(host) = text.parse::<Host>() {
                    prop_assert_eq!(host.to_string().parse(), Ok(host));
                }
            }
        }
    }
}
