//! How a server is told who asks.

use super::client::unusable;
use crate::remote::Failure;
use coffer_domain::{endpoint::Login, secret::Secret};
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

/// The header that tells it; `None` if nobody asks.
pub(super) fn secret(login: Option<&Login>) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
    let Some(login) = login else { return Ok(None) };
    if !login.violations().is_empty() {
        return Err(unusable("what opens the server is nothing that a request can say"));
    }
    let (name, value) = match login {
        Login::S3 { .. } | Login::Password { .. } | Login::PrivateKey { .. } | Login::KeyFile { .. } => {
            return Err(unusable("the credential is one of another kind of server"));
        }
        Login::Basic { username, password } => {
            let both = Secret::new(format!("{username}:{}", password.expose()));
            let encoded = Secret::new(BASE64.encode(both.expose().as_bytes()));
            (AUTHORIZATION, Secret::new(format!("Basic {}", encoded.expose())))
        }
        Login::Bearer { token } => (AUTHORIZATION, Secret::new(format!("Bearer {}", token.expose()))),
        Login::CustomHeader { name, value } => {
            let name = HeaderName::from_bytes(name.as_bytes());
            (name.map_err(|_| unusable("the header has no name"))?, value.clone())
        }
    };
    let mut value =
        HeaderValue::from_str(value.expose()).map_err(|_| unusable("a secret holds what no header can"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}
