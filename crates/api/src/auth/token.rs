//! Tokens: JSON Web Tokens in compact form (RFC 7515, RFC 7519), hardened as RFC 8725 asks.

use super::{
    MAX_TOKEN_BYTES,
    identity::{self, Identity},
    jwks::is_key_id,
    key::PublicKey,
};
use chrono::{DateTime, TimeDelta};
use coffer_domain::{caller::Principal, time::Timestamp};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, de::IgnoredAny};

/// How far clocks may differ for what lies in the future. An expiry is kept to the second.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// The latest expiry that is believed: the end of year 9999.
const MAX_EXPIRY_SECONDS: i64 = 253_402_300_799;

/// Why a token is refused. For the log and the tests: callers learn only whether it has expired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("more than one authorization")]
    Duplicate,
    #[error("authorization is not a bearer token")]
    Scheme,
    #[error("longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("not three parts of base64url, the first two of them texts")]
    Form,
    #[error("header: {0}")]
    Header(String),
    #[error("header names {0}")]
    HeaderKey(&'static str),
    #[error("kid has a form that no key has")]
    KeyId,
    #[error("claims: {0}")]
    Claims(String),
    #[error("issuer is not trusted")]
    Issuer,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("the issuer's keys cannot be had")]
    NoKeys,
    #[error("algorithm is not the key's")]
    Algorithm,
    #[error("signature is wrong")]
    Signature,
    #[error("meant for another audience")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet, or issued in the future")]
    Early,
    #[error("expiry is out of bounds")]
    Expiry,
    #[error("names neither a user nor an app")]
    Nobody,
    #[error("claim {0} is malformed")]
    Claim(&'static str),
}

/// A token whose signature has not been looked at: good for finding the key, and for nothing else.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    header: Header,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    // What would have the token choose its own key, or change what the signature means.
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    crit: Option<IgnoredAny>,
}

/// What a true token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    sub: Option<String>,
    org: Option<String>,
    app: Option<String>,
    #[serde(default)]
    projects: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, Problem> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Problem::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Problem::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(Problem::Form)?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Problem::Form);
        // Texts first: of members that nobody asks for, the reader of JSON does not look at each byte.
        let text = |part: &str| String::from_utf8(decode(part)?).map_err(|_| Problem::Form);
        let (header, claims, signature) = (text(header)?, text(claims)?, decode(signature)?);
        let header: Header = serde_json::from_str(&header).map_err(|e| Problem::Header(e.to_string()))?;
        header.check()?;
        let claims = serde_json::from_str(&claims).map_err(|e| Problem::Claims(e.to_string()))?;
        Ok(Self { header, claims, signed, signature })
    }

    /// Who is said to have issued it.
    pub(super) fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Which of the issuer's keys is said to have signed it.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The claims, if `key` signed them with its own algorithm.
    pub(super) fn verify(self, key: &PublicKey) -> Result<Claims, Problem> {
        if self.header.alg != key.algorithm().name() {
            return Err(Problem::Algorithm);
        }
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(Problem::Signature);
        }
        Ok(self.claims)
    }
}

impl Header {
    fn check(&self) -> Result<(), Problem> {
        let Self { alg: _, kid, typ, jku, jwk, x5u, x5c, crit } = self;
        for (name, member) in [("jku", jku), ("jwk", jwk), ("x5u", x5u), ("x5c", x5c), ("crit", crit)] {
            if member.is_some() {
                return Err(Problem::HeaderKey(name));
            }
        }
        if kid.as_ref().is_some_and(|id| !is_key_id(id)) {
            return Err(Problem::KeyId);
        }
        // Other kinds of signed token of the same issuer, such as a logout token, are not access tokens.
        let is_access = |typ: &String| {
            ["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
        };
        if typ.as_ref().is_some_and(|typ| !is_access(typ)) {
            return Err(Problem::HeaderKey("another typ"));
        }
        Ok(())
    }
}

impl Claims {
    /// The principal at a moment, for one of the audiences.
    pub(super) fn principal(self, audiences: &[String], at: Timestamp) -> Result<Principal, Problem> {
        let Self { iss, aud, exp, nbf, iat, sub, org, app, projects, roles } = self;
        let is_meant = match aud {
            Audience::One(audience) => audiences.contains(&audience),
            Audience::Many(named) => named.iter().any(|audience| audiences.contains(audience)),
        };
        if !is_meant {
            return Err(Problem::Audience);
        }
        let moment = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(Problem::Expiry);
        let is_future = |claim: Option<i64>| {
            claim.map(moment).transpose().map(|time| time.is_some_and(|time| time > at + LEEWAY))
        };
        if is_future(nbf)? || is_future(iat)? {
            return Err(Problem::Early);
        }
        if !(0..=MAX_EXPIRY_SECONDS).contains(&exp) {
            return Err(Problem::Expiry);
        }
        let expires_at = moment(exp)?;
        let identity = Identity { subject: sub, organisation: org, app, projects, roles };
        identity.check().map_err(|problem| match problem {
            identity::Problem::Nobody => Problem::Nobody,
            identity::Problem::Claim(claim) => Problem::Claim(claim),
        })?;
        if expires_at <= at {
            return Err(Problem::Expired);
        }
        Ok(identity.principal(iss, expires_at))
    }
}
