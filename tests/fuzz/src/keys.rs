//! Keys that an operator or an issuer hands over, as PEM, DER or JWK sets: whatever they are, nothing is believed without a signature.

use coffer_api::auth::{Authenticator, PublicKey, TrustedIssuer};
use coffer_domain::time::now;
use data_encoding::BASE64URL_NOPAD;

const ISSUER: &str = "i";
const AUDIENCE: &str = "a";

/// The first byte says what the rest is.
pub(crate) fn keys(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    let audiences = vec![AUDIENCE.to_owned()];
    let trusted = match form % 2 {
        0 => TrustedIssuer::with_jwks(ISSUER, audiences, rest),
        _ => PublicKey::from_pem_or_der(rest)
            .and_then(|key| TrustedIssuer::with_key(ISSUER, audiences, None, key)),
    };
    let Ok(trusted) = trusted else { return };
    let authenticator = Authenticator::new(vec![trusted]).expect("there is one issuer");
    let claims = BASE64URL_NOPAD.encode(br#"{"iss":"i","aud":"a","exp":253402300799,"sub":"mallory"}"#);
    for algorithm in ["EdDSA", "ES256", "RS256", "HS256", "none"] {
        let header = BASE64URL_NOPAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes());
        // No signature, an empty point, and zeros of the right length.
        for signature in [0, 1, 64, 256] {
            let signature = BASE64URL_NOPAD.encode(&vec![0; signature]);
            let token = format!("{header}.{claims}.{signature}");
            assert!(authenticator.verify(&token, now()).is_err(), "{token}");
        }
    }
}
