//! Who is calling: bearer tokens of trusted issuers, and client certificates.
//!
//! A token names its issuer; the issuer's configured keys, each pinned to one algorithm, decide whether it is true. Nothing in a token's
//! header chooses a key or an algorithm: `kid` only looks a configured key up.

mod certificate;
mod development;
mod fetch;
mod identity;
mod jwks;
mod key;
mod remote;
mod token;

pub use certificate::{Certificates, ClientCertificate};
pub use development::{Claims, DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DevelopmentKey};
pub use key::{Algorithm, PublicKey};
pub use remote::KeysUrl;

use certificate::may_present;
use coffer_domain::{
    Result,
    caller::Principal,
    error::{Error as Refusal, Unauthenticated, Unavailable},
    time::{Timestamp, now},
};
use http::{HeaderMap, header::AUTHORIZATION};
use jwks::Keys;
use remote::{Asked, RemoteKeys};
use std::{collections::HashMap, io, path::PathBuf, sync::Arc};
use token::{Problem, Unverified};

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
    /// Not a URL that a JWK set can be fetched from.
    #[error("{url} is not a usable URL of a JWK set: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of certificates to trust.
    #[error("the certificates in {path}: {problem}")]
    Roots {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Not a certificate that can be read.
    #[error("not a readable certificate: {0}")]
    Certificate(String),
    /// Not a list of client certificates.
    #[error("not a usable list of client certificates: {0}")]
    Certificates(String),
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
    keys: IssuerKeys,
}

#[derive(Debug)]
enum IssuerKeys {
    Fixed(Arc<Keys>),
    Remote(RemoteKeys),
}

impl IssuerKeys {
    /// Those that count at the moment, without waiting.
    fn at_hand(&self) -> Option<Arc<Keys>> {
        match self {
            Self::Fixed(keys) => Some(Arc::clone(keys)),
            Self::Remote(keys) => keys.current(),
        }
    }
}

impl TrustedIssuer {
    /// An issuer with the keys of a JWK set (RFC 7517), as JSON. Keys for encryption and of other algorithms are left out; a key that
    /// contradicts itself, a private key, or keys that cannot be told apart make the set unusable.
    pub fn with_jwks(name: impl Into<String>, audiences: Vec<String>, json: &[u8]) -> Result<Self, Error> {
        Self::new(name.into(), audiences, IssuerKeys::Fixed(Arc::new(Keys::from_jwks(json)?)))
    }

    /// An issuer with the JWK set under a URL, which is fetched now and again from now on, in a task of its own. Until it is here,
    /// and after it has become too old, tokens of the issuer cannot be verified ([`Unavailable::IssuerKeys`]).
    ///
    /// # Panics
    ///
    /// Without a runtime of tokio.
    pub fn with_jwks_url(
        name: impl Into<String>,
        audiences: Vec<String>,
        keys: KeysUrl,
    ) -> Result<Self, Error> {
        Self::new(name.into(), audiences, IssuerKeys::Remote(RemoteKeys::start(keys)?))
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
        Self::new(name.into(), audiences, IssuerKeys::Fixed(Arc::new(keys)))
    }

    fn new(name: String, audiences: Vec<String>, keys: IssuerKeys) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::Issuer { issuer: name, problem: "must have a name" });
        }
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(Error::Issuer { issuer: name, problem: "must have an audience" });
        }
        Ok(Self { name, audiences, keys })
    }
}

/// Knows callers.
#[derive(Debug)]
pub struct Authenticator {
    issuers: HashMap<String, TrustedIssuer>,
    certificates: Option<Certificates>,
}

impl Authenticator {
    /// Trusts these issuers. With none, only public files can be read. Client certificates say nothing.
    pub fn new(issuers: Vec<TrustedIssuer>) -> Result<Self, Error> {
        let mut by_name = HashMap::new();
        for issuer in issuers {
            if let Some(twice) = by_name.insert(issuer.name.clone(), issuer) {
                return Err(Error::Issuer { issuer: twice.name, problem: "is configured twice" });
            }
        }
        Ok(Self { issuers: by_name, certificates: None })
    }

    /// The same, and a client certificate stands for whom this list says. Any other certificate is refused.
    pub fn with_certificates(self, certificates: Certificates) -> Self {
        Self { certificates: Some(certificates), ..self }
    }

    /// The principal of a request on a connection. `None`: it has neither `authorization` nor a certificate that stands for somebody.
    ///
    /// With both, the token says who it is, and the certificate only has to be one that may present it: that of the token's app or user,
    /// or of an app with the role `delegate`. Either may have ended before the other.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unauthenticated`] for bad credentials; [`Unavailable::IssuerKeys`] where they cannot be looked at.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Option<Principal>> {
        let holder = match (certificate, &self.certificates) {
            (Some(certificate), Some(known)) => match known.principal(certificate) {
                Some(holder) => Some(holder),
                None => {
                    tracing::debug!(?certificate, "client certificate refused: it stands for nobody");
                    return Err(Refusal::Unauthenticated(Unauthenticated::Certificate));
                }
            },
            _ => None,
        };
        let token = match bearer(headers) {
            Ok(None) => return Ok(holder),
            Ok(Some(token)) => token,
            Err(problem) => return Err(refused(&problem)),
        };
        let principal = self.establish(token, now()).await.map_err(|problem| refused(&problem))?;
        match holder {
            Some(holder) if !may_present(&holder, &principal) => {
                tracing::debug!(?certificate, "token refused: the client certificate may not present it");
                Err(Refusal::Unauthenticated(Unauthenticated::Certificate))
            }
            Some(holder) => {
                Ok(Some(Principal { expires_at: principal.expires_at.min(holder.expires_at), ..principal }))
            }
            None => Ok(Some(principal)),
        }
    }

    /// The principal a token names at a moment, by the keys that are at hand.
    pub fn verify(&self, token: &str, at: Timestamp) -> Result<Principal> {
        self.examine(token, at).map_err(|problem| refused(&problem))
    }

    fn examine(&self, token: &str, at: Timestamp) -> Result<Principal, Problem> {
        let token = Unverified::parse(token)?;
        let issuer = self.issuers.get(token.issuer()).ok_or(Problem::Issuer)?;
        let keys = issuer.keys.at_hand().ok_or(Problem::NoKeys)?;
        let key = keys.find(token.key_id()).ok_or(Problem::UnknownKey)?;
        token.verify(key)?.principal(&issuer.audiences, at)
    }

    /// The same, after a look for newer keys where those at hand are not enough.
    async fn establish(&self, token: &str, at: Timestamp) -> Result<Principal, Problem> {
        match self.examine(token, at) {
            Err(Problem::UnknownKey | Problem::NoKeys) => {}
            outcome => return outcome,
        }
        let asked = {
            let token = Unverified::parse(token)?;
            match self.issuers.get(token.issuer()).map(|issuer| &issuer.keys) {
                Some(IssuerKeys::Remote(keys)) => keys.ask_for(token.key_id()).await,
                _ => Asked::Absent,
            }
        };
        match asked {
            Asked::Found => self.examine(token, at),
            Asked::Absent => Err(Problem::UnknownKey),
            Asked::Unavailable => Err(Problem::NoKeys),
        }
    }
}

/// The caller learns no more than whether to fetch a new token; the log says why, without the token.
fn refused(problem: &Problem) -> Refusal {
    tracing::debug!(problem = %problem, "token refused");
    match problem {
        Problem::NoKeys => Refusal::Unavailable(Unavailable::IssuerKeys),
        Problem::Expired => Refusal::Unauthenticated(Unauthenticated::Expired),
        _ => Refusal::Unauthenticated(Unauthenticated::Invalid),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
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
