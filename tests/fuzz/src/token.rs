//! Bearer tokens: only what the issuer has signed is believed, only as it was signed, and only what it may say.

use chrono::DateTime;
use coffer_api::auth::{Authenticator, PublicKey, TrustedIssuer};
use coffer_domain::{caller::Principal, time::Timestamp};
use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, sync::LazyLock};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "coffer";
const KEY_ID: &str = "one";
/// What comes before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// When all tokens are looked at: 2026-01-01.
const NOW_SECONDS: i64 = 1_767_225_600;

/// An issuer, another one whom nobody trusts, and a token of the first.
struct World {
    authenticator: Authenticator,
    issuer: Ed25519KeyPair,
    stranger: Ed25519KeyPair,
    token: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let pair = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes are a seed");
    let (issuer, stranger) = (pair(1), pair(2));
    let spki = [&ED25519[..], issuer.public_key().as_ref()].concat();
    let key = PublicKey::from_pem_or_der(&spki).expect("it is an Ed25519 key");
    let trusted = TrustedIssuer::with_key(ISSUER, vec![AUDIENCE.to_owned()], Some(KEY_ID.to_owned()), key);
    let authenticator = Authenticator::new(vec![trusted.expect("it has a name and an audience")]);
    let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{KEY_ID}"}}"#);
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{},"sub":"ann","org":"clinic"}}"#,
        NOW_SECONDS + 600
    );
    let token = signed(header.as_bytes(), claims.as_bytes(), &issuer);
    World { authenticator: authenticator.expect("there is one issuer"), issuer, stranger, token }
});

/// The first byte says what the rest is.
pub(crate) fn token(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    match form % 4 {
        0 => text(rest),
        1 => said_by_the_issuer(rest),
        2 => said_by_others(rest),
        _ => altered(rest),
    }
}

fn verify(token: &str) -> Option<Principal> {
    WORLD.authenticator.verify(token, now()).ok()
}

fn now() -> Timestamp {
    DateTime::from_timestamp(NOW_SECONDS, 0).expect("a time in this century")
}

/// A token, whatever it looks like. The issuer has signed one.
fn text(token: &[u8]) {
    let Ok(token) = std::str::from_utf8(token) else { return };
    assert!(verify(token).is_none() || token == WORLD.token, "{token:?} was never signed");
}

/// The issuer's token with some bytes changed: pairs of a position and a byte.
fn altered(changes: &[u8]) {
    let mut token = WORLD.token.clone().into_bytes();
    for change in changes.chunks_exact(2) {
        // Positions are spread over the whole token, which is longer than 256 bytes.
        let at = usize::from(change[0]) * token.len() / 256;
        token[at] = change[1];
    }
    let Ok(token) = String::from_utf8(token) else { return };
    assert_eq!(verify(&token).is_some(), token == WORLD.token, "{token}");
}

/// Header and claims of somebody else's, or with no signature at all.
fn said_by_others(data: &[u8]) {
    let Some((header, claims)) = header_and_claims(data) else { return };
    let token = signed(header, claims, &WORLD.stranger);
    assert!(verify(&token).is_none(), "{token}");
    let unsigned = token.rsplit_once('.').expect("it has three parts").0;
    for token in [unsigned.to_owned(), format!("{unsigned}."), format!("{unsigned}.AA")] {
        assert!(verify(&token).is_none(), "{token}");
    }
}

/// Header and claims that the issuer has signed: believed only as far as the rules go.
fn said_by_the_issuer(data: &[u8]) {
    let Some((header, claims)) = header_and_claims(data) else { return };
    let Some(principal) = verify(&signed(header, claims, &WORLD.issuer)) else { return };
    let (header, claims) = (Members::of(header), Members::of(claims));
    let [alg, kid] = ["alg", "kid"].map(|name| header.member(name));
    assert_eq!((alg.as_str(), kid.as_str()), (Some("EdDSA"), Some(KEY_ID)));
    let chooses_key =
        ["jku", "jwk", "x5u", "x5c", "crit"].into_iter().find(|name| !header.member(name).is_null());
    assert_eq!(chooses_key, None);
    let [iss, aud, exp, sub, app, roles] =
        ["iss", "aud", "exp", "sub", "app", "roles"].map(|name| claims.member(name));
    assert_eq!(iss.as_str(), Some(ISSUER));
    let is_meant = |audience: &Value| audience.as_str() == Some(AUDIENCE);
    assert!(is_meant(&aud) || aud.as_array().is_some_and(|named| named.iter().any(is_meant)));
    assert_eq!(exp.as_i64(), Some(principal.expires_at.timestamp()));
    assert!(principal.expires_at > now());
    assert_eq!(principal.user.as_ref().map(|user| user.subject.as_str()), sub.as_str());
    assert_eq!(principal.app.as_deref(), app.as_str());
    assert!(principal.user.is_some() || principal.app.is_some(), "somebody is named");
    let named = |role: &str| roles.as_array().is_some_and(|roles| roles.iter().any(|named| named == role));
    let believed = &principal.roles;
    assert!(!believed.is_admin || named("admin"));
    assert!(!believed.is_operator || named("operator"));
    assert!(!believed.is_auditor || named("auditor"));
}

/// An object that was believed. Only what is asked for is read as text: half a pair of escapes is none, and does not matter elsewhere.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    fn of(object: &'a [u8]) -> Self {
        Self(serde_json::from_slice(object).expect("what was believed is JSON"))
    }

    fn member(&self, name: &str) -> Value {
        let raw = self.0.get(name).map_or("null", |raw| raw.get());
        serde_json::from_str(raw).expect("what was believed is JSON")
    }
}

/// Separated by a line feed.
fn header_and_claims(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == b'\n')?;
    Some((&data[..at], &data[at + 1..]))
}

fn signed(header: &[u8], claims: &[u8], by: &Ed25519KeyPair) -> String {
    let said = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
    let signature = BASE64URL_NOPAD.encode(by.sign(said.as_bytes()).as_ref());
    format!("{said}.{signature}")
}
