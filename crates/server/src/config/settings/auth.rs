//! Whose tokens and certificates are trusted, and where the service may connect to.

use std::net::IpAddr;
use std::num::NonZeroU16;

use super::{DAY, MINUTE, SECOND, Setting, duration, file, networks, path, put, text};
use crate::config::Development;
use crate::config::value::Value;

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "auth.issuer",
        doc: "Issuer (`iss`) whose tokens are trusted. Needs an audience, and a file or a URL of its keys.",
        set: |c, v| put(&mut c.auth.issuer, v.text().map(|text| Some(text.to_owned()))),
        show: |c| c.auth.issuer.as_ref().and_then(text),
    },
    Setting {
        key: "auth.audience",
        doc: "Audience (`aud`) that its tokens must name.",
        set: |c, v| put(&mut c.auth.audience, v.text().map(|text| Some(text.to_owned()))),
        show: |c| c.auth.audience.as_ref().and_then(text),
    },
    Setting {
        key: "auth.jwks_file",
        doc: "File with the issuer's public keys (JWKS).",
        set: |c, v| put(&mut c.auth.jwks_file, v.text().map(|text| Some(text.into()))),
        show: |c| c.auth.jwks_file.as_deref().and_then(path),
    },
    Setting {
        key: "auth.jwks_url",
        doc: "The same under a URL: `https://…`, or `http://…` on loopback, which `egress.allow` must then hold. Fetched at start, now and again, and for a key that is not known, at most every 10 s. Until it is here, tokens are answered with UNAVAILABLE.",
        set: |c, v| put(&mut c.auth.jwks_url, jwks_url(v).map(Some)),
        show: |c| c.auth.jwks_url.as_ref().and_then(text),
    },
    Setting {
        key: "auth.jwks_refresh",
        doc: "Pause between fetches of `auth.jwks_url`, 10s to 24h.",
        set: |c, v| put(&mut c.auth.jwks_refresh, v.duration(10 * SECOND, DAY)),
        show: |c| duration(c.auth.jwks_refresh),
    },
    Setting {
        key: "auth.jwks_max_age",
        doc: "How long keys of `auth.jwks_url` count after they were fetched while no newer ones can be had, 1m to 720h.",
        set: |c, v| put(&mut c.auth.jwks_max_age, v.duration(MINUTE, 30 * DAY)),
        show: |c| duration(c.auth.jwks_max_age),
    },
    Setting {
        key: "auth.jwks_root_certificates",
        doc: "PEM file of certificates to trust for `auth.jwks_url`, beside the system's.",
        set: |c, v| put(&mut c.auth.jwks_root_certificates, file(v)),
        show: |c| c.auth.jwks_root_certificates.as_deref().and_then(path),
    },
    Setting {
        key: "auth.certificates_file",
        doc: "File that says whom client certificates stand for (JSON, below). Any other certificate is refused. Without it certificates say nothing.",
        set: |c, v| put(&mut c.auth.certificates_file, file(v)),
        show: |c| c.auth.certificates_file.as_deref().and_then(path),
    },
    Setting {
        key: "auth.development",
        doc: "Whether tokens of `cofferd token` are trusted. `auto`: if there is no issuer and gRPC listens on loopback. `on`: the same, and anything else is a mistake. `off`: never.",
        set: |c, v| put(&mut c.auth.development, Development::read(v)),
        show: |c| text(c.auth.development.word()),
    },
    Setting {
        key: "egress.allow",
        doc: "Networks the service may connect to although it does not by default (loopback, link-local, metadata services of clouds, reserved ones): a list, or separated by `,`.",
        set: |c, v| put(&mut c.egress.allow, v.networks()),
        show: |c| Some(networks(&c.egress.allow)),
    },
    Setting {
        key: "egress.deny",
        doc: "Networks it must not connect to, whatever else is said. Neither concerns PostgreSQL and telemetry.",
        set: |c, v| put(&mut c.egress.deny, v.networks()),
        show: |c| Some(networks(&c.egress.deny)),
    },
];

/// Over the network only with TLS: who can change what comes can make tokens.
fn jwks_url(value: &Value) -> Result<String, String> {
    let url = value.text()?;
    let uri: http::Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    let (authority, host) =
        (uri.authority().map_or("", |authority| authority.as_str()), uri.host().unwrap_or_default());
    // `Uri` takes anything for a port, and what is none for no port.
    let port = authority.strip_prefix(host).filter(|port| !port.is_empty());
    let is_port =
        |port: &str| port.strip_prefix(':').is_some_and(|number| number.parse::<NonZeroU16>().is_ok());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match uri.scheme_str() {
        _ if host.is_empty() => Err("names no host".to_owned()),
        _ if authority.contains('@') => Err("must hold no password".to_owned()),
        _ if port.is_some_and(|port| !is_port(port)) => {
            Err("has no port from 1 to 65535 behind its host".to_owned())
        }
        Some("https") => Ok(url.to_owned()),
        Some("http") if is_loopback => Ok(url.to_owned()),
        _ => Err("must be https://host/path; http:// is for loopback only".to_owned()),
    }
}
