//! What opens an endpoint.

use super::{Server, violation};
use crate::{
    error::{FieldViolation, Resource},
    id::{CredentialId, EndpointId},
    path::is_deceptive,
    secret::Secret,
    time::{Timestamp, now},
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Most bytes of each text of a login.
const MAX_SECRET_BYTES: usize = 4_096;
/// Most bytes of a user's name, an access key or the name of a header.
const MAX_NAME_BYTES: usize = 256;

/// Most bytes of a private key: more than one of RSA with 8,192 bits has.
const MAX_PRIVATE_KEY_BYTES: usize = 8_192;
/// Most bytes of the path of a key's file.
const MAX_KEY_PATH_BYTES: usize = 4_096;

/// What private keys that no passphrase protects are called in their first and last line.
const PRIVATE_KEYS: [&str; 5] =
    ["OPENSSH PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"];
/// What a key of OpenSSH begins with that has no passphrase: its form, and `none` for how it is encrypted.
const OPENSSH_IN_CLEAR: &[u8] = b"openssh-key-v1\0\0\0\0\x04none";

/// Headers that say something about a request or its body, which is the driver's to say.
const HEADERS_OF_DRIVERS: [&str; 23] = [
    "accept-encoding",
    "connection",
    "date",
    "depth",
    "destination",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "if",
    "keep-alive",
    "lock-token",
    "overwrite",
    "range",
    "te",
    "timeout",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
/// Beginnings of such headers.
const PREFIXES_OF_DRIVERS: [&str; 3] = ["content-", "if-", "proxy-"];

/// That there is something which opens an endpoint; what it is, is with the store alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Identity.
    pub id: CredentialId,
    /// What it opens.
    pub endpoint: EndpointId,
    /// How.
    pub kind: CredentialKind,
    /// For people.
    pub description: String,
    /// When it was made: the newest is used where a volume names none.
    pub created_at: Timestamp,
}

/// How a credential opens its endpoint, without what is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// Requests are signed.
    S3 {
        /// Access key id.
        access_key: String,
    },
    /// User and password.
    Basic,
    /// A token.
    Bearer,
    /// A header of its own.
    CustomHeader,
    /// The password of the user that the endpoint names.
    Password,
    /// A private key of that user.
    PrivateKey,
    /// One in a file of the host.
    KeyFile {
        /// Where, below the folder for such files.
        path: String,
    },
}

/// What opens an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Requests are signed.
    S3 {
        /// Access key id.
        access_key: String,
        /// Secret access key.
        secret_key: Secret,
    },
    /// User and password (RFC 7617).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token (RFC 6750).
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A header of its own.
    CustomHeader {
        /// Its name in lowercase.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// The password of the user that the endpoint names.
    Password {
        /// The password.
        password: Secret,
    },
    /// A private key of that user, without a passphrase.
    PrivateKey {
        /// The key, in OpenSSH's or another PEM form.
        key: Secret,
    },
    /// One in a file of the host, which is read when a session is opened.
    KeyFile {
        /// Where, below the folder for such files: from there or absolute.
        path: String,
    },
}

/// Changes of a credential; `None` leaves a part as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialChanges {
    /// What opens the endpoint, as a whole.
    pub login: Option<Login>,
    /// New description.
    pub description: Option<String>,
}

impl Credential {
    /// A credential that is made now.
    pub fn new(endpoint: EndpointId, login: &Login, description: String) -> Self {
        Self { id: CredentialId::new(), endpoint, kind: login.kind(), description, created_at: now() }
    }

    /// For a refusal.
    pub fn resource(id: CredentialId) -> Resource {
        Resource::Credential(id.to_string())
    }
}

impl Login {
    /// The same without what is secret.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::S3 { access_key, .. } => CredentialKind::S3 { access_key: access_key.clone() },
            Self::Basic { .. } => CredentialKind::Basic,
            Self::Bearer { .. } => CredentialKind::Bearer,
            Self::CustomHeader { .. } => CredentialKind::CustomHeader,
            Self::Password { .. } => CredentialKind::Password,
            Self::PrivateKey { .. } => CredentialKind::PrivateKey,
            Self::KeyFile { path } => CredentialKind::KeyFile { path: path.clone() },
        }
    }

    /// Whether it can open such a server.
    pub fn opens(&self, server: &Server) -> bool {
        match server {
            Server::S3Bucket(_) => matches!(self, Self::S3 { .. }),
            Server::Http(_) => {
                matches!(self, Self::Basic { .. } | Self::Bearer { .. } | Self::CustomHeader { .. })
            }
            Server::Ftp(_) => matches!(self, Self::Password { .. }),
            Server::Sftp(_) => {
                matches!(self, Self::Password { .. } | Self::PrivateKey { .. } | Self::KeyFile { .. })
            }
        }
    }

    /// Every malformed field, named as in the contract's `Login`.
    pub fn violations(&self) -> Vec<FieldViolation> {
        const SECRET: &str = "must be 1 to 4,096 bytes without control characters";
        let mut found = Vec::new();
        let mut check = |is_valid: bool, field: &str, problem: &str| {
            if !is_valid {
                found.push(violation(&format!("login.{field}"), problem));
            }
        };
        match self {
            Self::S3 { access_key, secret_key } => {
                let is_key = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b',' | b'=');
                check(
                    is_short(access_key) && access_key.bytes().all(is_key),
                    "s3.access_key",
                    "must be 1 to 256 visible ASCII characters without / , =",
                );
                check(is_text(secret_key), "s3.secret_key", SECRET);
            }
            Self::Basic { username, password } => {
                check(
                    is_short(username) && !username.chars().any(|c| c.is_control() || c == ':'),
                    "basic.username",
                    "must be 1 to 256 bytes without : and control characters",
                );
                check(is_text(password), "basic.password", SECRET);
            }
            Self::Bearer { token } => check(
                is_text(token) && token.expose().bytes().all(|b| b.is_ascii_graphic()),
                "bearer.token",
                "must be 1 to 4,096 visible ASCII characters",
            ),
            Self::CustomHeader { name, value } => {
                check(
                    is_header(name),
                    "custom_header.name",
                    "must be the name of a header that is not about the request, its body or its connection",
                );
                let value = value.expose();
                check(
                    (1..=MAX_SECRET_BYTES).contains(&value.len())
                        && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
                        && value.trim() == value,
                    "custom_header.value",
                    "must be 1 to 4,096 visible ASCII characters, with spaces inside only",
                );
            }
            Self::Password { password } => check(is_text(password), "password.password", SECRET),
            Self::PrivateKey { key } => check(
                is_private_key(key.expose()),
                "private_key.private_key",
                "must be a private key without a passphrase, as ssh-keygen writes it, at most 8,192 bytes",
            ),
            Self::KeyFile { path } => check(
                is_key_path(path),
                "key_file.path",
                "must be a path of at most 4,096 bytes without . and .. segments and control characters",
            ),
        }
        found
    }
}

fn is_short(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
}

fn is_text(secret: &Secret) -> bool {
    let text = secret.expose();
    (1..=MAX_SECRET_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text is one private key, and nobody would be asked for its passphrase.
fn is_private_key(text: &str) -> bool {
    let mut lines = text.trim_ascii_end().lines();
    let (Some(first), Some(last)) = (lines.next(), lines.next_back()) else { return false };
    let names =
        |name: &&&str| first == format!("-----BEGIN {name}-----") && last == format!("-----END {name}-----");
    let Some(name) = PRIVATE_KEYS.iter().find(names) else { return false };
    let body: Zeroizing<String> = Zeroizing::new(lines.collect());
    let Ok(key) = BASE64.decode(body.as_bytes()).map(Zeroizing::new) else { return false };
    let is_in_clear = !name.starts_with("OPENSSH") || key.starts_with(OPENSSH_IN_CLEAR);
    text.len() <= MAX_PRIVATE_KEY_BYTES && !key.is_empty() && is_in_clear
}

fn is_key_path(path: &str) -> bool {
    (1..=MAX_KEY_PATH_BYTES).contains(&path.len())
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
        && !path.chars().any(is_deceptive)
}

fn is_header(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = name.to_ascii_lowercase();
    is_short(name)
        && name.bytes().all(is_token)
        && !HEADERS_OF_DRIVERS.contains(&lower.as_str())
        && !PREFIXES_OF_DRIVERS.iter().any(|prefix| lower.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Folder, FtpSecurity, FtpServer, HttpServer, S3Bucket, SftpServer};

    fn fields(login: &Login) -> Vec<String> {
        login.violations().into_iter().map(|violation| violation.field).collect()
    }

    fn header(name: &str, value: &str) -> Login {
        Login::CustomHeader { name: name.to_owned(), value: Secret::new(value) }
    }

    #[test]
    fn a_header_cannot_change_what_a_request_is() {
        assert_eq!(fields(&header("X-Api-Key", "abc def")), Vec::<String>::new());
        assert_eq!(fields(&header("authorization", "Token abc")), Vec::<String>::new());
        for name in [
            "",
            "Host",
            "HOST",
            "Transfer-Encoding",
            "Content-Length",
            "content-type",
            "If-Match",
            "If",
            "User-Agent",
            "Range",
            "a:b",
            "a b",
            "a\r\nb",
            "ü",
            "Proxy-Authorization",
            "Destination",
        ] {
            assert_eq!(fields(&header(name, "abc")), ["login.custom_header.name"], "{name:?}");
        }
        for value in ["", "a\r\nHost: b", "a\0", " a", "a ", "ü", &"a".repeat(4_097)] {
            assert_eq!(fields(&header("x-key", value)), ["login.custom_header.value"], "{value:?}");
        }
    }

    #[test]
    fn logins_hold_no_control_characters() {
        let secret = |text: &str| Secret::new(text);
        for bad in ["", "a\nb", "a\rb", "a\0b", &"a".repeat(4_097)] {
            let s3 = Login::S3 { access_key: "AK".into(), secret_key: secret(bad) };
            assert_eq!(fields(&s3), ["login.s3.secret_key"], "{bad:?}");
            let basic = Login::Basic { username: "u".into(), password: secret(bad) };
            assert_eq!(fields(&basic), ["login.basic.password"], "{bad:?}");
            assert_eq!(fields(&Login::Bearer { token: secret(bad) }), ["login.bearer.token"], "{bad:?}");
            let password = Login::Password { password: secret(bad) };
            assert_eq!(fields(&password), ["login.password.password"], "{bad:?}");
        }
        for bad in ["", "a:b", "a\nb"] {
            let basic = Login::Basic { username: bad.into(), password: secret("p") };
            assert_eq!(fields(&basic), ["login.basic.username"], "{bad:?}");
        }
        for bad in ["", "a/b", "a b", "a\nb", "ü"] {
            let s3 = Login::S3 { access_key: bad.into(), secret_key: secret("s") };
            assert_eq!(fields(&s3), ["login.s3.access_key"], "{bad:?}");
        }
    }

    #[test]
    fn a_login_is_shown_without_its_secret() {
        let login = Login::Basic { username: "ann".into(), password: Secret::new("swordfish") };
        assert!(!format!("{login:?}").contains("swordfish"));
    }
    /// A key in a form whose first line names it so.
    fn key(name: &str, content: &[u8]) -> String {
        let body = BASE64.encode(content);
        let lines: Vec<_> =
            body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", lines.join("\n"))
    }

    #[test]
    fn a_private_key_is_one_whole_key_without_a_passphrase() {
        let openssh = |cipher: &str| {
            let length = [0, 0, 0, u8::try_from(cipher.len()).unwrap()];
            [&b"openssh-key-v1\0"[..], &length, cipher.as_bytes(), &[7; 200]].concat()
        };
        let private = |text: &str| fields(&Login::PrivateKey { key: Secret::new(text) });
        let whole = key("OPENSSH PRIVATE KEY", &openssh("none"));
        for good in [
            whole.clone(),
            whole.trim_end().to_owned(),
            whole.replace('\n', "\r\n"),
            key("RSA PRIVATE KEY", &[1; 2_400]),
            key("EC PRIVATE KEY", &[1; 100]),
            key("PRIVATE KEY", &[1; 100]),
        ] {
            assert_eq!(private(&good), Vec::<String>::new(), "{good}");
        }
        for bad in [
            String::new(),
            "swordfish".to_owned(),
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----".to_owned(),
            key("OPENSSH PRIVATE KEY", &openssh("aes256-ctr")),
            key("ENCRYPTED PRIVATE KEY", &[1; 100]),
            key("PUBLIC KEY", &[1; 100]),
            key("CERTIFICATE", &[1; 100]),
            whole.replace("END OPENSSH", "END RSA"),
            whole.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n"),
            whole.replacen('\n', "\n\0", 1),
            format!("{whole}{whole}"),
            format!("x\n{whole}"),
            key("RSA PRIVATE KEY", &[1; 6_200]),
        ] {
            assert_eq!(private(&bad), ["login.private_key.private_key"], "{bad:?}");
        }
    }

    #[test]
    fn the_path_of_a_key_leads_nowhere_else() {
        let file = |path: &str| fields(&Login::KeyFile { path: path.to_owned() });
        for good in ["id_ed25519", "clinic/id", "/etc/coffer/keys/id"] {
            assert_eq!(file(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "..", "../id", "/keys/../../etc/passwd", "./id", "a\nb", "a\0b", &"a".repeat(4_097)] {
            assert_eq!(file(bad), ["login.key_file.path"], "{bad:?}");
        }
    }

    #[test]
    fn a_login_is_for_servers_of_its_kind() {
        let secret = || Secret::new("swordfish");
        let (host, folder) = (|| "h".parse().unwrap(), Folder::default);
        let username = || "ann".to_owned();
        let s3 = S3Bucket {
            url: "https://h".parse().unwrap(),
            name: "photos".to_owned(),
            region: String::new(),
            use_path_style: true,
        };
        let ftp = FtpServer {
            host: host(),
            port: 21,
            security: FtpSecurity::Explicit,
            username: username(),
            folder: folder(),
        };
        let host_key = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s".parse().unwrap();
        let sftp = SftpServer { host: host(), port: 22, username: username(), host_key, folder: folder() };
        let http = HttpServer { url: "https://h".parse().unwrap() };
        let servers = [Server::S3Bucket(s3), Server::Http(http), Server::Ftp(ftp), Server::Sftp(sftp)];
        for (login, opens) in [
            (Login::S3 { access_key: "AK".to_owned(), secret_key: secret() }, [true, false, false, false]),
            (Login::Basic { username: username(), password: secret() }, [false, true, false, false]),
            (Login::Bearer { token: secret() }, [false, true, false, false]),
            (header("x-key", "swordfish"), [false, true, false, false]),
            (Login::Password { password: secret() }, [false, false, true, true]),
            (Login::PrivateKey { key: secret() }, [false, false, false, true]),
            (Login::KeyFile { path: "id".to_owned() }, [false, false, false, true]),
        ] {
            assert_eq!(servers.each_ref().map(|server| login.opens(server)), opens, "{login:?}");
            assert!(!format!("{login:?} {:?}", login.kind()).contains("swordfish"));
        }
    }
}
