//! What opens an endpoint.

use super::{Server, violation};
use crate::{
    error::{FieldViolation, Resource},
    id::{CredentialId, EndpointId},
    secret::Secret,
    time::{Timestamp, now},
};
use serde::{Deserialize, Serialize};

/// Most bytes of each text of a login.
const MAX_SECRET_BYTES: usize = 4_096;
/// Most bytes of a user's name, an access key or the name of a header.
const MAX_NAME_BYTES: usize = 256;

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
        }
    }

    /// Whether it can open such a server.
    pub fn opens(&self, server: &Server) -> bool {
        match server {
            Server::S3Bucket(_) => matches!(self, Self::S3 { .. }),
            Server::Http(_) => !matches!(self, Self::S3 { .. }),
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
}
