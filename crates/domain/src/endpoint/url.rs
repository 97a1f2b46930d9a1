//! The base URL of a server.

use super::host;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv6Addr, str::FromStr};

/// Most bytes of a URL.
pub const MAX_URL_BYTES: usize = 2_048;

/// Ports on which something else listens that a request could harm: mail, shells, databases and the like.
const PORTS_OF_OTHERS: [u16; 26] = [
    1, 7, 9, 19, 20, 21, 22, 23, 25, 53, 69, 110, 111, 135, 137, 139, 143, 389, 445, 465, 587, 993, 2_049,
    3_306, 5_432, 6_379,
];

/// Scheme, host, port and path of a server; no user, no query and no fragment. Two that mean the same are equal: the host is in
/// lowercase, the port is left out where it is the scheme's, and the path does not end with a slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl {
    is_tls: bool,
    /// IPv6 addresses without their brackets.
    host: String,
    port: u16,
    path: String,
}

/// What a URL breaks, as a rule to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(&'static str);

impl BaseUrl {
    /// Reads `http://…` or `https://…`, or a host and port alone, which `is_tls` tells the scheme of.
    pub fn parse(text: &str, is_tls: Option<bool>) -> Result<Self, BadUrl> {
        if text.is_empty() || text.len() > MAX_URL_BYTES {
            return Err(BadUrl("must be 1 to 2,048 bytes"));
        }
        let (is_tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (tls_of(scheme)?, rest),
            None => (is_tls.ok_or(BadUrl("must begin with http:// or https://"))?, text),
        };
        let (authority, path) = match rest.find(['/', '?', '#', '\\']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(default_port(is_tls));
        Ok(Self { is_tls, host, port, path: check_path(path)?.to_owned() })
    }

    /// Whether requests go over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host's name or address; IPv6 addresses without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path: empty, or beginning with a slash and not ending with one.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_tls, host, port, path } = self;
        f.write_str(if *is_tls { "https://" } else { "http://" })?;
        if host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            f.write_str(host)?;
        }
        if *port != default_port(*is_tls) {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

impl FromStr for BaseUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        Self::parse(text, None)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        text.parse()
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

fn tls_of(scheme: &str) -> Result<bool, BadUrl> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(true),
        "http" => Ok(false),
        _ => Err(BadUrl("must begin with http:// or https://")),
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), BadUrl> {
    if authority.contains('@') {
        return Err(BadUrl("must not name a user or password: store a credential"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, port) = rest.split_once(']').ok_or(BadUrl("names no host"))?;
            let address: Ipv6Addr =
                literal.parse().map_err(|_| BadUrl("holds no IPv6 address in its brackets"))?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(BadUrl("must have : before its port"))?),
            };
            (address.to_string(), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host_name(host)?, Some(port)),
            None => (host_name(authority)?, None),
        },
    };
    Ok((host, port.map(check_port).transpose()?))
}

fn host_name(text: &str) -> Result<String, BadUrl> {
    host::name(text).map_err(BadUrl)
}

fn check_port(text: &str) -> Result<u16, BadUrl> {
    let is_decimal = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if is_decimal && port != 0 && !PORTS_OF_OTHERS.contains(&port) => Ok(port),
        _ => Err(BadUrl("must have a port from 1 to 65535 that is not another protocol's")),
    }
}

/// The path without a slash at its end.
fn check_path(path: &str) -> Result<&str, BadUrl> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.contains(['?', '#']) {
        return Err(BadUrl("must not have a query or fragment"));
    }
    let is_segment = |segment: &str| is_escaped(segment) && !segment.is_empty() && !is_dots(segment);
    if path.is_empty() || path[1..].split('/').all(is_segment) && path.starts_with('/') {
        Ok(path)
    } else {
        Err(BadUrl("must have a path of plain segments, without . and .., also when escaped"))
    }
}

/// Whether a segment holds what a path may hold (RFC 3986), and no escaped separator or control character.
fn is_escaped(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let escaped = segment.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                if escaped.is_none_or(|b| b.is_ascii_control() || matches!(b, b'/' | b'\\' | b'%')) {
                    return false;
                }
                at += 3;
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) => at += 1,
            _ => return false,
        }
    }
    true
}

fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (text, shown) in [
            ("http://h", "http://h"),
            ("HTTP://H.Example.:80/", "http://h.example"),
            ("https://h:443/a/b/", "https://h/a/b"),
            ("https://h:80", "https://h:80"),
            ("http://[::0001]:9000/", "http://[::1]:9000"),
            ("http://10.0.0.1/dav%20x", "http://10.0.0.1/dav%20x"),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url), "{text}");
        }
        let bare = BaseUrl::parse("s3.example:9000", Some(false)).unwrap();
        assert_eq!((bare.to_string().as_str(), bare.port()), ("http://s3.example:9000", 9000));
        assert!(
            !BaseUrl::parse("http://h", Some(true)).unwrap().is_tls(),
            "the scheme that is written counts"
        );
    }

    #[test]
    fn what_is_no_server_of_ours() {
        for text in [
            "",
            "h",
            "file:///etc/passwd",
            "gopher://h/",
            "ftp://h",
            "http://",
            "http:///x",
            "http://user@h",
            "http://user:secret@h/",
            "http://h:0",
            "http://h:22",
            "http://h:5432",
            "http://h:65536",
            "http://h:-1",
            "http://h:+80",
            "http://h:",
            "http://2130706433",
            "http://0x7f000001",
            "http://127.1",
            "http://0177.0.0.1",
            "http://1.2.3.4.5",
            "http://[::1",
            "http://[::1]x",
            "http://[fe80::1%25eth0]",
            "http://[h]",
            "http://h?q",
            "http://h/#f",
            "http://h/a?b",
            "http://h\\x",
            "http://h/a\\b",
            "http://a\r\nb",
            "http://h/a\r\nb",
            "http://h/a b",
            "http://h/..",
            "http://h/a/../b",
            "http://h/%2e%2E/b",
            "http://h/.%2e",
            "http://h/a//b",
            "http://h/a%2fb",
            "http://h/a%5cb",
            "http://h/a%00",
            "http://h/a%252e",
            "http://h/%",
            "http://h/%g0",
            "http://exämple.org",
            "http://xn--.-",
            "http://a..b",
            "http://-a",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text:?}");
        }
        assert!(format!("http://{}", "a".repeat(300)).parse::<BaseUrl>().is_err());
        assert!(format!("http://h/{}", "a".repeat(2_048)).parse::<BaseUrl>().is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_reads_its_own_words(text in "\\PC{0,40}", is_tls: Option<bool>) {
            for text in [text.clone(), format!("http://{text}"), format!("https://h/{text}"), format!("http://h:{text}")] {
                if let Ok(url) = BaseUrl::parse(&text, is_tls) {
                    prop_assert_eq!(url.to_string().parse(), Ok(url));
                }
            }
        }
    }
}
