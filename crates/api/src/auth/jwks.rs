//! JWK sets (RFC 7517): which of an issuer's keys verifies a token.

use super::{
    Error,
    key::{Algorithm, PublicKey},
};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use std::collections::HashMap;

/// Most keys of a set.
const MAX_KEYS: usize = 256;

/// Most characters of a key id.
const MAX_KEY_ID_CHARS: usize = 64;

/// The keys of an issuer.
#[derive(Debug)]
pub(super) enum Keys {
    /// One key without an id: there is nothing to look up.
    Only(PublicKey),
    /// Keys by id. A token must name one of them.
    ById(HashMap<String, PublicKey>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Keys {
    /// Reads a set.
    pub(super) fn from_jwks(json: &[u8]) -> Result<Self, Error> {
        let unusable = |problem: String| Error::KeySet(problem);
        let Set { keys } = serde_json::from_slice(json).map_err(|e| unusable(e.to_string()))?;
        if keys.len() > MAX_KEYS {
            return Err(unusable(format!("it has more than {MAX_KEYS} keys")));
        }
        let (mut by_id, mut without_id) = (HashMap::new(), Vec::new());
        for (at, key) in keys.into_iter().enumerate() {
            let jwk: Jwk = serde_json::from_value(key).map_err(|e| unusable(format!("key {at}: {e}")))?;
            let Some(algorithm) =
                jwk.algorithm().map_err(|problem| unusable(format!("key {at}: {problem}")))?
            else {
                tracing::debug!(
                    key.index = at,
                    key.kty = jwk.kty,
                    "key of the set left out: not for signatures that are trusted"
                );
                continue;
            };
            let key = jwk.key(algorithm).map_err(|problem| unusable(format!("key {at}: {problem}")))?;
            match jwk.kid {
                None => without_id.push(key),
                Some(id) if !is_key_id(&id) => {
                    return Err(unusable(format!("key {at}: kid must be 1 to 64 of A-Z a-z 0-9 . _ -")));
                }
                Some(id) => {
                    if by_id.insert(id, key).is_some() {
                        return Err(unusable(format!("key {at}: another key has its kid")));
                    }
                }
            }
        }
        match (without_id.pop(), by_id.is_empty()) {
            (None, false) => Ok(Self::ById(by_id)),
            (Some(key), true) if without_id.is_empty() => Ok(Self::Only(key)),
            (None, true) => Err(unusable("it has no key for EdDSA, ES256 or RS256 signatures".to_owned())),
            (Some(_), _) => Err(unusable("of several keys each must have a kid".to_owned())),
        }
    }

    /// The key for a token that names `id`.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&PublicKey> {
        match self {
            Self::Only(key) => Some(key),
            Self::ById(keys) => keys.get(id?),
        }
    }
}

/// Whether a text can be a key id: nothing that means something to a file system, a shell or a database.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl Jwk {
    /// The algorithm that kind of key, curve, use and stated algorithm agree on. `None`: not for signatures that are trusted.
    fn algorithm(&self) -> Result<Option<Algorithm>, String> {
        if self.d.is_some() || self.kty == "oct" {
            return Err("it is a secret key; only public keys belong here".to_owned());
        }
        let is_for_signatures = self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|o| o == "verify"));
        if !is_for_signatures {
            return Ok(None);
        }
        let natural = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("RSA", None) => Algorithm::Rs256,
            ("OKP" | "EC", Some(_)) => return Ok(None),
            // Kinds of keys that are made up later do not spoil the others (RFC 7517, section 5).
            (kty, _) if !["OKP", "EC", "RSA"].contains(&kty) => return Ok(None),
            (kty, crv) => return Err(format!("kty {kty:?} does not go with crv {crv:?}")),
        };
        let family = |alg: &str| match alg {
            "EdDSA" | "Ed25519" => "OKP",
            "ES256" => "EC",
            alg if alg.starts_with("RS") || alg.starts_with("PS") => "RSA",
            _ => "",
        };
        match self.alg.as_deref() {
            None => Ok(Some(natural)),
            Some(alg) if alg == natural.name() => Ok(Some(natural)),
            Some("Ed25519") if natural == Algorithm::EdDsa => Ok(Some(natural)),
            Some(alg) if family(alg) == self.kty => Ok(None),
            Some(alg) => Err(format!("alg {alg:?} does not go with kty {:?}", self.kty)),
        }
    }

    fn key(&self, algorithm: Algorithm) -> Result<PublicKey, String> {
        let member = |name: &str, value: &Option<String>| {
            let text = value.as_deref().ok_or_else(|| format!("{name} is missing"))?;
            BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| format!("{name} is not base64url"))
        };
        let key = match algorithm {
            Algorithm::EdDsa => PublicKey::ed25519(&member("x", &self.x)?),
            Algorithm::Es256 => {
                let point = [vec![4], member("x", &self.x)?, member("y", &self.y)?].concat();
                PublicKey::p256(point.try_into().map_err(|_| "x and y must have 32 bytes each".to_owned())?)
            }
            Algorithm::Rs256 => PublicKey::rsa(member("n", &self.n)?, member("e", &self.e)?),
        };
        key.map_err(|e| e.to_string())
    }
}
