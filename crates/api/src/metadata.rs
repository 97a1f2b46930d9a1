//! From a request's metadata and peer to the domain's [`Caller`].

use crate::{auth::ClientCertificate, fields::Fields};
use coffer_domain::{
    caller::{Caller, Principal},
    network::Network,
    path::is_deceptive,
};
use http::HeaderMap;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::time::Instant;
use tonic::{
    Request,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

/// Most bytes of a value that callers may set.
pub const MAX_VALUE_BYTES: usize = 256;

/// Where proxies say whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Most entries of `x-forwarded-for` that are looked at.
const MAX_FORWARDS: usize = 32;

/// The other end of a request's connection: an extension that the accept loop sets on each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Of TCP.
    pub address: SocketAddr,
    /// What it has shown to be its own in the TLS handshake, and was verified there.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Where a request comes from: an extension that [`crate::edge`] sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientIp(pub(crate) IpAddr);

/// The W3C trace id of a request, 32 hexadecimal digits: an extension that [`crate::edge`] sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) String);

/// When the time is over that the caller gave the RPC: an extension that [`crate::edge`] sets, which also ends the RPC then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) Instant);

/// Where a request comes from: the peer, or, where that is one of the `proxies`, the last address in `x-forwarded-for` that is none.
///
/// Each proxy adds the address it saw at the end, so from the end on entries are believed as long as those who wrote them are. An entry that
/// is no address ends that. An IPv4 address that came in over IPv6 is told as what it is.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_proxy(client) {
        return client;
    }
    let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let entries = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.take(MAX_FORWARDS) {
        let Some(address) = forwarded(entry) else { break };
        client = address.to_canonical();
        if !is_proxy(client) {
            break;
        }
    }
    client
}

/// An address, with or without a port.
fn forwarded(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse();
    address.ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// The caller of a request. What is wrong with its metadata goes to `fields`.
pub(crate) fn caller<T>(request: &Request<T>, principal: Option<Principal>, fields: &mut Fields) -> Caller {
    let metadata = request.metadata();
    Caller {
        principal,
        client_ip: request.extensions().get().map(|ClientIp(address)| *address),
        user_agent: metadata.get("user-agent").and_then(sanitised),
        session_id: text(metadata, "coffer-session-id", fields),
        correlation_id: text(metadata, "coffer-correlation-id", fields),
        purpose: text(metadata, "coffer-purpose", fields),
        trace_id: request.extensions().get().map(|TraceId(id)| id.clone()),
    }
}

/// A value that goes into the audit trail as the caller wrote it; so it must be one that can.
pub(crate) fn text(metadata: &MetadataMap, key: &'static str, fields: &mut Fields) -> Option<String> {
    let mut values = metadata.get_all(key).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return fields.take(key, Err("must be given once"));
    }
    match value.to_str() {
        Ok("") => None,
        Ok(text) if text.len() > MAX_VALUE_BYTES => {
            fields.take(key, Err(format!("must have at most {MAX_VALUE_BYTES} bytes")))
        }
        Ok(text) if !text.chars().any(is_deceptive) => Some(text.to_owned()),
        _ => fields.take(key, Err("must be printable ASCII")),
    }
}

/// What clients send by themselves is not worth a refusal: cut, and without what cannot be seen.
fn sanitised(value: &MetadataValue<Ascii>) -> Option<String> {
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut clean = String::new();
    for c in text.chars().filter(|c| !is_deceptive(*c)) {
        if clean.len() + c.len_utf8() > MAX_VALUE_BYTES {
            break;
        }
        clean.push(c);
    }
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_domain::Error;

    fn request(values: &[(&'static str, &[u8])]) -> Request<()> {
        let mut headers = HeaderMap::new();
        for (key, value) in values {
            headers.append(*key, http::HeaderValue::from_bytes(value).unwrap());
        }
        Request::from_parts(MetadataMap::from_headers(headers), http::Extensions::new(), ())
    }

    #[test]
    fn what_the_caller_says_is_taken_as_it_is() {
        let mut request = request(&[
            ("coffer-purpose", b"treatment"),
            ("coffer-session-id", b""),
            ("user-agent", b"grpcurl/1"),
        ]);
        request.extensions_mut().insert(ClientIp("192.0.2.7".parse().unwrap()));
        request.extensions_mut().insert(TraceId("ab".repeat(16)));
        let mut fields = Fields::default();
        let caller = caller(&request, None, &mut fields);
        fields.finish(Some(())).unwrap();
        assert_eq!(caller.purpose.as_deref(), Some("treatment"));
        assert_eq!(caller.session_id, None);
        assert_eq!(caller.user_agent.as_deref(), Some("grpcurl/1"));
        assert_eq!(caller.client_ip, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(caller.trace_id, Some("ab".repeat(16)));
    }

    #[test]
    fn values_that_cannot_stand_in_a_record_are_refused_all_at_once() {
        let long = [b'x'; MAX_VALUE_BYTES + 1];
        let request = request(&[
            ("coffer-purpose", "\u{fc}".as_bytes()),
            ("coffer-session-id", &long),
            ("coffer-correlation-id", b"a\tb"),
        ]);
        let mut fields = Fields::default();
        caller(&request, None, &mut fields);
        let Err(Error::Invalid(violations)) = fields.finish(Some(())) else { panic!("taken") };
        let names: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(names, ["coffer-session-id", "coffer-correlation-id", "coffer-purpose"]);
        let twice = self::request(&[("coffer-purpose", b"a"), ("coffer-purpose", b"b")]);
        let mut fields = Fields::default();
        caller(&twice, None, &mut fields);
        assert!(fields.finish(Some(())).is_err());
    }

    #[test]
    fn a_user_agent_is_cut_and_stays_on_one_line() {
        let sent = [b"a\tb\xff".as_slice(), "\u{fc}".repeat(300).as_bytes()].concat();
        let caller = caller(&request(&[("user-agent", &sent)]), None, &mut Fields::default());
        let agent = caller.user_agent.unwrap();
        assert!(agent.starts_with("ab") && agent.len() <= MAX_VALUE_BYTES && agent.len() > 250, "{agent}");
    }

    fn seen_from(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let proxies: Vec<Network> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_ip(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_says_where_a_request_comes_from() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        for (peer, forwarded, client) in [
            ("203.0.113.9", &["1.2.3.4"][..], "203.0.113.9"),
            ("::ffff:203.0.113.9", &["1.2.3.4"], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            // The client made the first entry up.
            ("10.0.0.1", &["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["9.9.9.9, 1.2.3.4, 10.0.0.2,10.0.0.3"], "1.2.3.4"),
            ("10.0.0.1", &["9.9.9.9, 1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["1.2.3.4:567"], "1.2.3.4"),
            ("10.0.0.1", &["[2001:db8::7]:567"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(seen_from(peer, forwarded, &proxies), client, "{peer} {forwarded:?}");
        }
        assert_eq!(seen_from("10.0.0.1", &["1.2.3.4"], &[]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search_and_nothing_behind_it_counts() {
        let proxies = ["10.0.0.0/8"];
        for bad in [
            "",
            "unknown",
            "1.2.3.4.5",
            "_hidden",
            "1.2.3.4 5.6.7.8",
            "\u{fc}",
            "for=1.2.3.4",
            "1.2.3.4;",
            "[1.2.3.4",
        ] {
            assert_eq!(seen_from("10.0.0.1", &[bad], &proxies), "10.0.0.1", "{bad}");
            let behind: &'static str = format!("9.9.9.9,{bad},10.0.0.2").leak();
            assert_eq!(seen_from("10.0.0.1", &[behind], &proxies), "10.0.0.2", "{bad}");
        }
        let long: &'static str = ["10.0.0.2"; 10_000].join(",").leak();
        assert_eq!(seen_from("10.0.0.1", &["9.9.9.9", long], &proxies), "10.0.0.2");
    }
}
