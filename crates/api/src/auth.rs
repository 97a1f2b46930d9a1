//! Who is calling: bearer tokens of trusted issuers.
//!
//! A token names its issuer; the issuer's configured keys, each pinned to one algorithm, decide whether it is true. Nothing in a token's
//! header chooses a key or an algorithm: `kid` only looks a configured key up.

mod development;
mod jwks;
mod key;
mod token;

pub use development::{Claims, DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DevelopmentKey};
pub use key::{Algorithm, PublicKey};

use coffer_domain::{
    caller::Principal,
    error::Unauthenticated,
    time::{Timestamp, now},
};
use jwks::Keys;
use std::{collections::HashMap, io};
use token::{Problem, Unverified};
use tonic::metadata::MetadataMap;

/// Most bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why keys or issuers cannot be used: correct the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a public key in PEM or DER (`SubjectPublicKeyInfo`), or a damaged one.
    #[error("not a public key in PEM or DER form: {0}")]
    NotAKey(String),
    /// Not one of the algorithms that are trusted.
    #[error("keys must be Ed25519, P-256, or RSA of 2048 to 8192 bits; this one is {0}")]
    Algorithm(String),
    /// Not a JWK set, or one that contradicts itself.
    #[error("not a usable JWK set: {0}")]
    KeySet(String),
    /// An issuer without name or audience, or named twice.
    #[error("issuer {issuer:?} {problem}")]
    Issuer {
        /// The issuer.
        issuer: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The development key's file.
    #[error("the development key {path}: {source}")]
    File {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The development key's file can be read by others, or does not hold a key.
    #[error("the development key {path} {problem}")]
    DevelopmentKey {
        /// Where.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Who is believed about which users and apps.
#[derive(Debug)]
pub struct TrustedIssuer {
    name: String,
    audiences: Vec<String>,
    keys: Keys,
}

impl TrustedIssuer {
    /// An issuer with the keys of a JWK set (RFC 7517), as JSON. Keys for encryption and of other algorithms are left out; a key that
    /// contradicts itself, a private key, or keys that cannot be told apart make the set unusable.
    pub fn with_jwks(name: impl Into<String>, audiences: Vec<String>, json: &[u8]) -> Result<Self, Error> {
        Self::new(name.into(), audiences, Keys::from_jwks(json)?)
    }

    /// An issuer with one key. With an id, tokens must name it as their `kid`; without, the key verifies every token of the issuer.
    pub fn with_key(
        name: impl Into<String>,
        audiences: Vec<String>,
        id: Option<String>,
        key: PublicKey,
    ) -> Result<Self, Error> {
        let keys = match id {
            Some(id) => Keys::ById([(id, key)].into()),
            None => Keys::Only(key),
        };
        Self::new(name.into(), audiences, keys)
    }

    fn new(name: String, audiences: Vec<String>, keys: Keys) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::Issuer { issuer: name, problem: "must have a name" });
        }
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(Error::Issuer { issuer: name, problem: "must have an audience" });
        }
        Ok(Self { name, audiences, keys })
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    issuers: HashMap<String, TrustedIssuer>,
}

impl Authenticator {
    /// Trusts these issuers. With none, only public files can be read.
    pub fn new(issuers: Vec<TrustedIssuer>) -> Result<Self, Error> {
        let mut by_name = HashMap::new();
        for issuer in issuers {
            if let Some(twice) = by_name.insert(issuer.name.clone(), issuer) {
                return Err(Error::Issuer { issuer: twice.name, problem: "is configured twice" });
            }
        }
        Ok(Self { issuers: by_name })
    }

    /// The principal of a request. `None`: it has no `authorization`.
    pub fn authenticate(&self, metadata: &MetadataMap) -> Result<Option<Principal>, Unauthenticated> {
        match bearer(metadata) {
            Ok(None) => Ok(None),
            Ok(Some(token)) => self.verify(token, now()).map(Some),
            Err(problem) => Err(refused(&problem)),
        }
    }

    /// The principal a token names at a moment.
    pub fn verify(&self, token: &str, at: Timestamp) -> Result<Principal, Unauthenticated> {
        self.examine(token, at).map_err(|problem| refused(&problem))
    }

    fn examine(&self, token: &str, at: Timestamp) -> Result<Principal, Problem> {
        let token = Unverified::parse(token)?;
        let issuer = self.issuers.get(token.issuer()).ok_or(Problem::Issuer)?;
        let key = issuer.keys.find(token.key_id()).ok_or(Problem::UnknownKey)?;
        token.verify(key)?.principal(&issuer.audiences, at)
    }
}

/// The caller learns no more than whether to fetch a new token; the log says why, without the token.
fn refused(problem: &Problem) -> Unauthenticated {
    tracing::debug!(problem = %problem, "token refused");
    match problem {
        Problem::Expired => Unauthenticated::Expired,
        _ => Unauthenticated::Invalid,
    }
}

fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, Problem> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::Duplicate);
    }
    let text = value.to_str().map_err(|_| Problem::Scheme)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token)),
        _ => Err(Problem::Scheme),
    }
}

#[cfg(test)]
mod tests;
