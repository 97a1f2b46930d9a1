//! From a request's metadata and peer to the domain's [`Caller`].

use crate::fields::Fields;
use coffer_domain::{
    caller::{Caller, Principal},
    path::is_deceptive,
};
use std::net::{IpAddr, SocketAddr};
use tokio::time::Instant;
use tonic::{
    Request,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

/// Most bytes of a value that callers may set.
pub const MAX_VALUE_BYTES: usize = 256;

/// The TCP peer: an extension that the accept loop sets on each request. Without it tonic's own connection information is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The W3C trace id of a request, 32 hexadecimal digits: an extension that [`crate::edge`] sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) String);

/// When the time is over that the caller gave the RPC: an extension that [`crate::edge`] sets, which also ends the RPC then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) Instant);

/// Where a request came from. An IPv4 address that came in over IPv6 is told as what it is.
pub(crate) fn client_ip<T>(request: &Request<T>) -> Option<IpAddr> {
    let peer = request.extensions().get().map(|Peer(address)| *address).or_else(|| request.remote_addr());
    peer.map(|address| address.ip().to_canonical())
}

/// The caller of a request. What is wrong with its metadata goes to `fields`.
pub(crate) fn caller<T>(request: &Request<T>, principal: Option<Principal>, fields: &mut Fields) -> Caller {
    let metadata = request.metadata();
    Caller {
        principal,
        client_ip: client_ip(request),
        user_agent: metadata.get("user-agent").and_then(sanitised),
        session_id: text(metadata, "coffer-session-id", fields),
        correlation_id: text(metadata, "coffer-correlation-id", fields),
        purpose: text(metadata, "coffer-purpose", fields),
        trace_id: request.extensions().get().map(|TraceId(id)| id.clone()),
    }
}

/// A value that goes into the audit trail as the caller wrote it; so it must be one that can.
fn text(metadata: &MetadataMap, key: &'static str, fields: &mut Fields) -> Option<String> {
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
        let mut headers = http::HeaderMap::new();
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
        request.extensions_mut().insert(Peer("[::ffff:192.0.2.7]:9".parse().unwrap()));
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
}
