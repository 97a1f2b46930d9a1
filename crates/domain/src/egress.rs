//! Where the service may connect to on somebody's word: key sets of issuers, and every other endpoint that is configured.
//!
//! A name says nothing: what counts is each address it resolves to at the moment of dialling, and only a checked address is dialled.

use crate::network::Network;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Which addresses may be dialled. The default refuses loopback, link-local (where clouds keep their metadata services), unspecified,
/// multicast and reserved ones; private networks are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Allowed although the default refuses them.
    pub allow: Vec<Network>,
    /// Refused whatever else is said.
    pub deny: Vec<Network>,
}

/// Why no address can be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The name does not resolve.
    #[error("{host} does not resolve: {error}")]
    Unknown {
        /// The name.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// It resolves, but to nothing that may be dialled.
    #[error("{host} is at {address}, which may not be connected to")]
    Forbidden {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
    },
}

impl Policy {
    /// The addresses behind a name or a literal address that may be dialled, in the resolver's order; never none, at most 16. Dial these
    /// and not the name, which may resolve to something else the next time. A redirect to another host has to be asked for again.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        self.choose(host, lookup(host, port).await)
    }

    /// Those that may be dialled of the addresses that a resolver has found.
    pub fn choose(&self, host: &str, found: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, Refused> {
        let unknown = |error| Refused::Unknown { host: host.to_owned(), error };
        let found = found.map_err(unknown)?;
        let Some(first) = found.first().map(SocketAddr::ip) else {
            return Err(unknown(io::Error::from(io::ErrorKind::NotFound)));
        };
        let allowed: Vec<_> =
            found.into_iter().filter(|address| self.permits(address.ip())).take(MAX_ADDRESSES).collect();
        if allowed.is_empty() {
            return Err(Refused::Forbidden { host: host.to_owned(), address: first });
        }
        Ok(allowed)
    }

    /// Whether an address may be dialled, however it is written.
    pub fn permits(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !is_in(&self.deny) && (is_in(&self.allow) || is_ordinary(address))
    }
}

/// What the system's resolver finds for a name or a literal address, nothing of it checked.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Ok(tokio::net::lookup_host((literal, port)).await?.collect())
}

fn is_ordinary(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_ordinary_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_ordinary_v4(inner),
            None => is_ordinary_v6(address),
        },
    }
}

fn is_ordinary_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_refused = a == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        // 240.0.0.0/4 is reserved, with the broadcast address at its end.
        || a >= 240
        // Metadata services outside link-local: Oracle's at 192.0.0.192, Alibaba's at 100.100.100.200.
        || [a, b, c] == [192, 0, 0]
        || [a, b, c] == [100, 100, 100];
    !is_refused
}

fn is_ordinary_v6(address: Ipv6Addr) -> bool {
    /// The metadata service of EC2.
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let is_site_local = address.segments()[0] & 0xffc0 == 0xfec0;
    // NAT64 of a network's own (RFC 8215), which has the IPv4 address at a place that only the network knows.
    let is_translated = address.segments()[..3] == [0x64, 0xff9b, 1];
    let is_refused = address.is_unspecified()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || is_site_local
        || is_translated
        || address == EC2;
    !is_refused
}

/// The IPv4 address that packets to a translating prefix end at: NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380, where it is inverted),
/// ISATAP (RFC 5214), and the old forms that were translated or compatible.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_belongs_to_the_machine_or_its_cloud_is_refused_in_every_spelling() {
        let policy = Policy::default();
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "192.0.0.192",
            "100.100.100.200",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "64:ff9b:1::7f00:1",
            "2001:0:102:304::80ff:fffe",
            "2001:db8::5efe:127.0.0.1",
            "2001:db8::200:5efe:169.254.169.254",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!policy.permits(address.parse().unwrap()), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "93.184.216.34",
            "fd12::1",
            "2001:db8::1",
            "2001:4860:4860::8888",
        ] {
            assert!(policy.permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_by_name_is_allowed_and_what_is_denied_is_denied_even_then() {
        let policy = Policy {
            allow: networks(&["127.0.0.0/8", "::1/128"]),
            deny: networks(&["127.0.0.2/32", "10.0.0.0/8"]),
        };
        for (address, is_permitted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("::1", true),
            ("127.0.0.2", false),
            ("::ffff:10.1.2.3", false),
            ("169.254.169.254", false),
            ("192.168.1.1", true),
        ] {
            assert_eq!(policy.permits(address.parse().unwrap()), is_permitted, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_as_good_as_its_addresses() {
        let refused = Policy::default().resolve("localhost", 80).await.unwrap_err();
        assert!(matches!(&refused, Refused::Forbidden { address, .. } if address.is_loopback()), "{refused}");
        for literal in ["127.0.0.1", "[::1]", "169.254.169.254", "0", "0x7f.1", "2130706433"] {
            assert!(Policy::default().resolve(literal, 80).await.is_err(), "{literal}");
        }
        let policy = Policy { allow: networks(&["127.0.0.0/8"]), deny: Vec::new() };
        let found = policy.resolve("localhost", 80).await.unwrap();
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap()], "::1 is not allowed");
        assert_eq!(
            Policy::default().resolve("10.1.2.3", 443).await.unwrap(),
            ["10.1.2.3:443".parse().unwrap()]
        );
    }
}
