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
    #[error("{0}")]
    Forbidden(#[from] Forbidden),
}

/// An address that may not be dialled. It tells of the networks the service is in: for operators and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address}, which may not be connected to: {rule}")]
pub struct Forbidden {
    /// The name.
    pub host: String,
    /// The first of its addresses.
    pub address: IpAddr,
    /// What refuses it.
    pub rule: Rule,
}

impl Forbidden {
    /// That which an error comes from, however deep it lies.
    pub fn behind<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

/// What of the policy refuses an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// It is in a network that is denied by name.
    #[error("egress.deny has {0}")]
    Denied(Network),
    /// It is of a kind that is refused unless a network that has it is allowed by name.
    #[error("it is {0}, and no network of egress.allow has it")]
    Reserved(Kind),
}

/// Kinds of addresses that belong to a machine, its link or its cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// Of this machine.
    #[error("a loopback address")]
    Loopback,
    /// Of this link, where clouds keep their metadata services.
    #[error("a link-local address")]
    LinkLocal,
    /// Of a cloud's metadata service elsewhere.
    #[error("an address of a cloud's metadata service")]
    Metadata,
    /// Of many.
    #[error("a multicast address")]
    Multicast,
    /// Of nobody.
    #[error("a reserved address")]
    Reserved,
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
        // The first is told with its rule, should there be none that may.
        let rule = self.check(first);
        let allowed: Vec<_> =
            found.into_iter().filter(|address| self.permits(address.ip())).take(MAX_ADDRESSES).collect();
        match rule {
            Err(rule) if allowed.is_empty() => {
                Err(Forbidden { host: host.to_owned(), address: first, rule }.into())
            }
            _ => Ok(allowed),
        }
    }

    /// Whether an address may be dialled, however it is written.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.check(address).is_ok()
    }

    /// What refuses an address, if anything does.
    fn check(&self, address: IpAddr) -> Result<(), Rule> {
        let found = |networks: &[Network]| networks.iter().find(|network| network.contains(address)).copied();
        match (found(&self.deny), found(&self.allow)) {
            (Some(network), _) => Err(Rule::Denied(network)),
            (None, Some(_)) => Ok(()),
            (None, None) => kind(address).map_or(Ok(()), |kind| Err(Rule::Reserved(kind))),
        }
    }
}

/// What the system's resolver finds for a name or a literal address, nothing of it checked.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Ok(tokio::net::lookup_host((literal, port)).await?.collect())
}

/// The kind of an address that is not ordinary.
fn kind(address: IpAddr) -> Option<Kind> {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => kind_v4(inner),
            None => kind_v6(address),
        },
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<Kind> {
    match address.octets() {
        _ if address.is_loopback() => Some(Kind::Loopback),
        _ if address.is_link_local() => Some(Kind::LinkLocal),
        _ if address.is_multicast() => Some(Kind::Multicast),
        // Oracle's is at 192.0.0.192, Alibaba's at 100.100.100.200.
        [192, 0, 0, _] | [100, 100, 100, _] => Some(Kind::Metadata),
        // 240.0.0.0/4 is reserved, with the broadcast address at its end.
        [0 | 240.., ..] => Some(Kind::Reserved),
        _ => None,
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<Kind> {
    /// The metadata service of EC2.
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let is_site_local = address.segments()[0] & 0xffc0 == 0xfec0;
    // NAT64 of a network's own (RFC 8215), which has the IPv4 address at a place that only the network knows.
    let is_translated = address.segments()[..3] == [0x64, 0xff9b, 1];
    match address {
        _ if address.is_loopback() => Some(Kind::Loopback),
        _ if address.is_unicast_link_local() || is_site_local => Some(Kind::LinkLocal),
        _ if address.is_multicast() => Some(Kind::Multicast),
        EC2 => Some(Kind::Metadata),
        _ if address.is_unspecified() || is_translated => Some(Kind::Reserved),
        _ => None,
    }
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
        assert!(
            matches!(&refused, Refused::Forbidden(forbidden) if forbidden.address.is_loopback()),
            "{refused}"
        );
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

    #[tokio::test]
    async fn a_refusal_names_the_address_and_the_rule() {
        let policy = Policy { allow: Vec::new(), deny: networks(&["10.0.0.0/8"]) };
        for (host, said) in [
            (
                "10.1.2.3",
                "10.1.2.3 is at 10.1.2.3, which may not be connected to: egress.deny has 10.0.0.0/8",
            ),
            (
                "0x7f.1",
                "0x7f.1 is at 127.0.0.1, which may not be connected to: it is a loopback address, and no \
                 network of egress.allow has it",
            ),
        ] {
            let refused = policy.resolve(host, 80).await.unwrap_err();
            assert_eq!(refused.to_string(), said);
            assert_eq!(Forbidden::behind(&refused).map(ToString::to_string).as_deref(), Some(said));
        }
        for (address, kind) in [
            ("169.254.169.254", Kind::LinkLocal),
            ("fe80::1", Kind::LinkLocal),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("64:ff9b::169.254.169.254", Kind::LinkLocal),
            ("100.100.100.200", Kind::Metadata),
            ("fd00:ec2::254", Kind::Metadata),
            ("ff02::1", Kind::Multicast),
            ("0.0.0.0", Kind::Reserved),
            ("::", Kind::Reserved),
            ("255.255.255.255", Kind::Reserved),
        ] {
            assert_eq!(
                Policy::default().check(address.parse().unwrap()),
                Err(Rule::Reserved(kind)),
                "{address}"
            );
        }
        let unknown = Policy::default().resolve("no such name.invalid", 80).await.unwrap_err();
        assert_eq!(Forbidden::behind(&unknown), None);
    }
}
