//! Who is calling: TLS and client certificates, keys under a URL, apps that act for users, proxies.

#[path = "trust/authority.rs"]
mod authority;
#[path = "trust/callers.rs"]
mod callers;
#[path = "trust/certificates.rs"]
mod certificates;
#[path = "trust/keys.rs"]
mod keys;
#[path = "trust/tls.rs"]
mod tls;
