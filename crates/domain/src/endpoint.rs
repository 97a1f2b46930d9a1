//! Servers that volumes stand on, and what opens them.

mod account;
mod credential;
mod folder;
mod ftp;
mod host;
mod sftp;
mod url;

pub use credential::{Credential, CredentialChanges, CredentialKind, Login};
pub use folder::{BadFolder, Folder};
pub use ftp::{FtpSecurity, FtpServer};
pub use host::{BadHost, Host};
pub use sftp::{DEFAULT_SFTP_PORT, HostKey, NotAHostKey, SftpServer, SshLogin};
pub use url::{BadUrl, BaseUrl, MAX_URL_BYTES};

use crate::{
    error::{FieldViolation, Resource},
    id::EndpointId,
    name::check_description,
    time::{Timestamp, now},
    volume::Provider,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The region requests are signed for where nobody names one.
pub const DEFAULT_REGION: &str = "us-east-1";

/// A server that volumes may stand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Identity.
    pub id: EndpointId,
    /// Where it is.
    pub server: Server,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where a server is, and what it speaks. Which, never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// A bucket on S3 or what speaks like it.
    S3Bucket(S3Bucket),
    /// An HTTP or WebDAV server.
    Http(HttpServer),
    /// An FTP server.
    Ftp(FtpServer),
    /// An SFTP server.
    Sftp(SftpServer),
}

/// A bucket on S3 or what speaks like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Bucket {
    /// The API, without a path.
    pub url: BaseUrl,
    /// The bucket's name.
    pub name: String,
    /// The region requests are signed for.
    pub region: String,
    /// Whether the bucket stands in the path of requests, and not before the host.
    pub use_path_style: bool,
}

/// An HTTP or WebDAV server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpServer {
    /// What keys are put behind.
    pub url: BaseUrl,
}

/// Changes of an endpoint; `None` leaves a part as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointChanges {
    /// Where it is, as a whole; of the kind it was.
    pub server: Option<Server>,
    /// New description.
    pub description: Option<String>,
}

impl Endpoint {
    /// An endpoint that is made now.
    pub fn new(server: Server, description: String) -> Self {
        Self { id: EndpointId::new(), server, description, created_at: now() }
    }

    /// Every malformed field, named as in the contract's `Endpoint`.
    pub fn violations(&self) -> Vec<FieldViolation> {
        let mut found = self.server.violations();
        if let Err(problem) = check_description(&self.description) {
            found.push(violation("endpoint.description", problem));
        }
        found
    }

    /// For a refusal.
    pub fn resource(id: EndpointId) -> Resource {
        Resource::Endpoint(id.to_string())
    }
}

impl Server {
    /// The kind of backend behind it.
    pub fn provider(&self) -> Provider {
        match self {
            Self::S3Bucket(_) => Provider::S3,
            Self::Http(_) => Provider::Http,
            Self::Ftp(_) => Provider::Ftp,
            Self::Sftp(_) => Provider::Sftp,
        }
    }

    /// Where keys without a prefix are: no two volumes have places of which one begins with the other.
    pub fn place(&self) -> String {
        match self {
            Self::S3Bucket(S3Bucket { url, name, .. }) => format!("s3+{url}/{name}/"),
            Self::Http(HttpServer { url }) => format!("{url}/"),
            Self::Ftp(server) => server.place(),
            Self::Sftp(server) => server.place(),
        }
    }

    /// Whether both are the same place under another description.
    pub fn is_where(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3Bucket(one), Self::S3Bucket(other)) => one.url == other.url && one.name == other.name,
            (Self::Http(one), Self::Http(other)) => one == other,
            (Self::Ftp(one), Self::Ftp(other)) => one.is_where(other),
            (Self::Sftp(one), Self::Sftp(other)) => one.is_where(other),
            (Self::S3Bucket(_) | Self::Http(_) | Self::Ftp(_) | Self::Sftp(_), _) => false,
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::S3Bucket(bucket) => bucket.violations(),
            Self::Http(_) => Vec::new(),
            Self::Ftp(server) => server.violations(),
            Self::Sftp(server) => server.violations(),
        }
    }
}

impl S3Bucket {
    fn violations(&self) -> Vec<FieldViolation> {
        let Self { url, name, region, use_path_style } = self;
        let mut found = Vec::new();
        let mut check = |is_valid: bool, field: &str, problem: &str| {
            if !is_valid {
                found.push(violation(&format!("endpoint.s3_bucket.{field}"), problem));
            }
        };
        check(url.path().is_empty(), "endpoint_url", "must not have a path");
        check(
            is_bucket(name),
            "bucket_name",
            "must be 3 to 255 of A-Z a-z 0-9 . _ - beginning with a letter or digit, without ..",
        );
        check(
            *use_path_style || url.host().parse::<IpAddr>().is_err(),
            "use_path_style",
            "must be true where the host is an address, which has nothing before it",
        );
        let is_region = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        check(
            (1..=50).contains(&region.len()) && region.bytes().all(is_region),
            "region",
            "must be at most 50 of A-Z a-z 0-9 _ -",
        );
        found
    }
}

fn is_bucket(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("..")
}

fn violation(field: &str, problem: &str) -> FieldViolation {
    FieldViolation { field: field.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str, url: &str) -> Server {
        Server::S3Bucket(S3Bucket {
            url: url.parse().unwrap(),
            name: name.to_owned(),
            region: DEFAULT_REGION.to_owned(),
            use_path_style: true,
        })
    }

    fn fields(server: Server) -> Vec<String> {
        Endpoint::new(server, String::new())
            .violations()
            .into_iter()
            .map(|violation| violation.field)
            .collect()
    }

    #[test]
    fn buckets_have_names_that_are_no_paths() {
        assert_eq!(fields(bucket("photos.2026_A", "https://s3.example")), Vec::<String>::new());
        for name in ["", "ab", "a/b", "..a", "a..b", "-abc", "a b", "büc", "a\r\nb", &"a".repeat(256)] {
            assert_eq!(
                fields(bucket(name, "https://s3.example")),
                ["endpoint.s3_bucket.bucket_name"],
                "{name:?}"
            );
        }
        assert_eq!(fields(bucket("abc", "https://s3.example/x")), ["endpoint.s3_bucket.endpoint_url"]);
        for (url, bad) in [
            ("http://10.0.0.1", &["endpoint.s3_bucket.use_path_style"][..]),
            ("http://[fd00::1]", &["endpoint.s3_bucket.use_path_style"]),
            ("http://s3.example", &[]),
        ] {
            let Server::S3Bucket(server) = bucket("abc", url) else { panic!("a bucket") };
            assert_eq!(fields(Server::S3Bucket(S3Bucket { use_path_style: false, ..server })), bad, "{url}");
        }
    }

    #[test]
    fn places_within_each_other_begin_with_each_other() {
        let http = |url: &str| Server::Http(HttpServer { url: url.parse().unwrap() }).place();
        assert!(http("http://h/a/b").starts_with(&http("http://h/a/")));
        assert!(!http("http://h/ab").starts_with(&http("http://h/a")));
        assert!(!bucket("abcd", "http://h").place().starts_with(&bucket("abc", "http://h").place()));
        assert_ne!(bucket("abc", "http://h").place(), http("http://h/abc"));
    }
    const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s";

    fn ftp(username: &str, folder: &str) -> FtpServer {
        let (host, folder) = ("Files.example".parse().unwrap(), folder.parse().unwrap());
        FtpServer { host, port: 21, security: FtpSecurity::Explicit, username: username.to_owned(), folder }
    }

    fn sftp(username: &str, folder: &str) -> SftpServer {
        let FtpServer { host, username, folder, .. } = ftp(username, folder);
        SftpServer { host, port: DEFAULT_SFTP_PORT, username, host_key: HOST_KEY.parse().unwrap(), folder }
    }

    #[test]
    fn whoever_logs_in_has_a_name_and_a_port() {
        let others = "\u{fc}".repeat(100);
        for username in ["ann", "a b", "ann@clinic", others.as_str()] {
            assert_eq!(fields(Server::Ftp(ftp(username, ""))), Vec::<String>::new(), "{username:?}");
            assert_eq!(fields(Server::Sftp(sftp(username, ""))), Vec::<String>::new(), "{username:?}");
        }
        for username in ["", "a\r\nb", "a\nb", "a\0b", &"a".repeat(101)] {
            assert_eq!(fields(Server::Ftp(ftp(username, ""))), ["endpoint.ftp.username"], "{username:?}");
            assert_eq!(fields(Server::Sftp(sftp(username, ""))), ["endpoint.sftp.username"], "{username:?}");
        }
        assert_eq!(fields(Server::Ftp(FtpServer { port: 0, ..ftp("ann", "") })), ["endpoint.ftp.port"]);
        assert_eq!(fields(Server::Sftp(SftpServer { port: 0, ..sftp("ann", "") })), ["endpoint.sftp.port"]);
    }

    #[test]
    fn a_folder_may_be_the_same_as_one_from_the_root() {
        let place = |folder: &str| Server::Ftp(ftp("ann", folder)).place();
        assert_eq!(place("/"), place(""));
        assert_eq!(place("/in"), place("in"));
        assert!(place("in/new").starts_with(&place("in")) && place("in").starts_with(&place("")));
        assert!(!place("inbox").starts_with(&place("in")));
        for other in [
            Server::Ftp(ftp("anna", "")),
            Server::Ftp(ftp("ann\"/", "")),
            Server::Ftp(FtpServer { port: 2_121, ..ftp("ann", "") }),
            Server::Sftp(sftp("ann", "")),
        ] {
            let other = other.place();
            assert!(!other.starts_with(&place("")) && !place("").starts_with(&other), "{other}");
        }
    }

    #[test]
    fn a_server_is_where_it_was_whatever_it_shows() {
        let (one, key) = (Server::Sftp(sftp("ann", "in")), HOST_KEY.replace('u', "v"));
        assert!(
            one.is_where(&Server::Sftp(SftpServer { host_key: key.parse().unwrap(), ..sftp("ann", "in") }))
        );
        let plain = FtpServer { security: FtpSecurity::Plain, ..ftp("ann", "in") };
        assert!(Server::Ftp(plain.clone()).is_where(&Server::Ftp(ftp("ann", "in"))));
        for (one, other) in [
            (one.clone(), Server::Sftp(sftp("ann", "/in"))),
            (one.clone(), Server::Sftp(sftp("bob", "in"))),
            (one, Server::Ftp(plain.clone())),
            (Server::Ftp(plain.clone()), Server::Ftp(FtpServer { port: 2_121, ..plain })),
        ] {
            assert!(!one.is_where(&other), "{other:?}");
        }
    }
}
