//! What is listened on, and who may come in.

use std::net::SocketAddr;
use std::time::Duration;

use super::{DAY, SECOND, Setting, duration, file, networks, path, put, text};
use crate::config::ClientAuth;
use crate::config::value::Value;

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "grpc.addr",
        doc: "Address and port of gRPC. Port 0: any free one, told in `cofferd.json`.",
        set: |c, v| put(&mut c.grpc.addr, address(v)),
        show: |c| text(c.grpc.addr),
    },
    Setting {
        key: "grpc.max_connections",
        doc: "Connections at once, 1 to 100000. More wait to be accepted.",
        set: |c, v| put(&mut c.grpc.max_connections, v.number(1, 100_000)),
        show: |c| Some(c.grpc.max_connections.to_string()),
    },
    Setting {
        key: "grpc.max_connections_per_source",
        doc: "Connections at once from one IPv4 address or IPv6 /64, 1 to 100000. More are closed at once.",
        set: |c, v| put(&mut c.grpc.max_connections_per_source, v.number(1, 100_000)),
        show: |c| Some(c.grpc.max_connections_per_source.to_string()),
    },
    Setting {
        key: "grpc.first_request_timeout",
        doc: "How long a connection may be open before its first request, 1s to 24h.",
        set: |c, v| put(&mut c.grpc.first_request_timeout, v.duration(SECOND, DAY)),
        show: |c| duration(c.grpc.first_request_timeout),
    },
    Setting {
        key: "grpc.idle_timeout",
        doc: "How long a connection may be without a request, 1s to 720h. Pings are no requests. Clients connect again by themselves.",
        set: |c, v| put(&mut c.grpc.idle_timeout, v.duration(SECOND, 30 * DAY)),
        show: |c| duration(c.grpc.idle_timeout),
    },
    Setting {
        key: "grpc.max_connection_age",
        doc: "How old a connection becomes, give or take a tenth, before its client is asked to make another, 0s to 720h; so that clients spread over new nodes. Running streams finish. 0s: any.",
        set: |c, v| put(&mut c.grpc.max_connection_age, v.duration(Duration::ZERO, 30 * DAY)),
        show: |c| duration(c.grpc.max_connection_age),
    },
    Setting {
        key: "grpc.tls.certificate",
        doc: "PEM file of the certificate of gRPC, with the intermediate ones behind it. Like the files below it is looked at again every 10 s and on SIGHUP; new connections use what is in it, and a file that cannot be used is told and changes nothing.",
        set: |c, v| put(&mut c.grpc.tls.certificate, file(v)),
        show: |c| c.grpc.tls.certificate.as_deref().and_then(path),
    },
    Setting {
        key: "grpc.tls.key",
        doc: "PEM file of its private key.",
        set: |c, v| put(&mut c.grpc.tls.key, file(v)),
        show: |c| c.grpc.tls.key.as_deref().and_then(path),
    },
    Setting {
        key: "grpc.tls.client_ca",
        doc: "PEM file of the certificates that sign those of clients. Without it clients are not asked for one.",
        set: |c, v| put(&mut c.grpc.tls.client_ca, file(v)),
        show: |c| c.grpc.tls.client_ca.as_deref().and_then(path),
    },
    Setting {
        key: "grpc.tls.client_auth",
        doc: "Whether a client must show a certificate, health checks included: `optional` or `required`.",
        set: |c, v| put(&mut c.grpc.tls.client_auth, ClientAuth::read(v)),
        show: |c| text(c.grpc.tls.client_auth.word()),
    },
    Setting {
        key: "grpc.tls.client_crl",
        doc: "PEM file with a revocation list of every CA between a client's certificate and `grpc.tls.client_ca`.",
        set: |c, v| put(&mut c.grpc.tls.client_crl, file(v)),
        show: |c| c.grpc.tls.client_crl.as_deref().and_then(path),
    },
    Setting {
        key: "grpc.insecure",
        doc: "`true`: gRPC may listen beyond loopback without a certificate, because something in front of it ends TLS. Tokens are in clear up to here.",
        set: |c, v| put(&mut c.grpc.insecure, v.parse("true or false")),
        show: |c| Some(c.grpc.insecure.to_string()),
    },
    Setting {
        key: "grpc.trusted_proxies",
        doc: "Networks of proxies that are believed about whom they forward (`x-forwarded-for`): a list, or separated by `,`.",
        set: |c, v| put(&mut c.grpc.trusted_proxies, v.networks()),
        show: |c| Some(networks(&c.grpc.trusted_proxies)),
    },
    Setting {
        key: "http.addr",
        doc: "Address and port of `/livez`, `/readyz` and `/metrics`. They need no token: keep them inside.",
        set: |c, v| put(&mut c.http.addr, address(v)),
        show: |c| text(c.http.addr),
    },
];

fn address(value: &Value) -> Result<SocketAddr, String> {
    value.parse("an IP address and a port, such as 127.0.0.1:50051 or [::1]:0")
}
