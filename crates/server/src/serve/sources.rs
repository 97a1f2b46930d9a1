//! Where connections come from, and how many each of these has open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that one customer is given at least (RFC 6177): who has them has as many addresses as he likes.
const NETWORK_BITS: u32 = 64;

/// Open connections by source. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limit: usize,
}

/// One of the connections its source may have. Given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// Each source may have `limit` connections.
    pub(super) fn new(limit: usize) -> Self {
        Self { open: Arc::default(), limit }
    }

    /// A place for a connection of a peer; `None` if its source has all it may have.
    pub(super) fn place(&self, peer: IpAddr) -> Option<Place> {
        let source = source(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { sources: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sources.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

/// The address, or of an IPv6 address its network.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::MAX >> NETWORK_BITS;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::Sources;
    use std::net::IpAddr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_gets_what_it_gave_back_and_others_are_not_touched() {
        let sources = Sources::new(2);
        let (first, second) =
            (sources.place(ip("10.0.0.1")).unwrap(), sources.place(ip("10.0.0.1")).unwrap());
        assert!(sources.place(ip("10.0.0.1")).is_none());
        assert!(sources.place(ip("10.0.0.2")).is_some());
        drop(first);
        let again = sources.place(ip("10.0.0.1")).unwrap();
        assert!(sources.place(ip("10.0.0.1")).is_none());
        drop((second, again));
        assert!(sources.open.lock().unwrap().is_empty(), "nothing is kept of sources without connections");
    }

    #[test]
    fn one_source_is_one_however_its_address_is_written_and_whatever_hosts_its_network_has() {
        for (one, other, is_same) in [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            let sources = Sources::new(1);
            let _place = sources.place(ip(one)).unwrap();
            assert_eq!(sources.place(ip(other)).is_none(), is_same, "{one} and {other}");
        }
    }
}
