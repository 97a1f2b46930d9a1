//! How a server is told who asks.

use super::{client::unusable, config::Auth};
use crate::remote::Failure;
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

/// Headers that a server may not be told its secret in: those that HTTP, WebDAV or this driver give a meaning.
const RESERVED: [&str; 24] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "range",
    "if",
    "if-match",
    "if-none-match",
    "if-range",
    "destination",
    "depth",
    "overwrite",
    "accept-encoding",
    "user-agent",
    "date",
    "lock-token",
];

/// The header that tells it; `None` if nobody asks.
pub(super) fn secret(auth: &Auth) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
    let (name, value) = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { user, .. } if user.contains(':') => return Err(unusable("a user's name has no colon")),
        Auth::Basic { user, password } => {
            (AUTHORIZATION, format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))
        }
        Auth::Bearer(token) => (AUTHORIZATION, format!("Bearer {token}")),
        Auth::Header { name, value } => {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable("the header has no name"))?;
            if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
                return Err(unusable("the header has a meaning of its own"));
            }
            (name, value.clone())
        }
    };
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| unusable("a secret holds what no header can"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}
