use super::*;
use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

const ISSUER: &str = "https://id.example";

/// An identity provider with one key of each kind.
struct Provider {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

#[derive(Clone, Copy)]
enum With {
    Ed,
    Ec,
    Rsa,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

fn unsigned(header: &Value, claims: &str) -> String {
    format!("{}.{}", b64(header.to_string()), b64(claims))
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pem = include_bytes!("../../tests/rsa-private-key.pem");
        let (_, rsa) = spki::der::pem::decode_vec(pem).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(&rsa).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa: ring::rsa::PublicKeyComponents<Vec<u8>> = self.rsa.public_key().into();
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": b64(self.ed.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "RSA", "kid": "rsa", "alg": "RS256", "key_ops": ["verify"], "n": b64(&rsa.n), "e": b64(&rsa.e)},
            {"kty": "RSA", "kid": "enc", "alg": "RSA-OAEP", "use": "enc", "n": b64(&rsa.n), "e": b64(&rsa.e)},
            {"kty": "RSA", "kid": "ps", "alg": "PS256", "n": b64(&rsa.n), "e": b64(&rsa.e)},
        ]})
    }

    fn sign(&self, with: With, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match with {
            With::Ed => self.ed.sign(message).as_ref().to_vec(),
            With::Ec => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            With::Rsa => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token over exactly these bytes of claims.
    fn token_of(&self, with: With, header: &Value, claims: &str) -> String {
        let signed = unsigned(header, claims);
        let signature = self.sign(with, signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    fn token(&self, with: With, claims: &Value) -> String {
        let (alg, kid) = match with {
            With::Ed => ("EdDSA", "ed"),
            With::Ec => ("ES256", "ec"),
            With::Rsa => ("RS256", "rsa"),
        };
        self.token_of(with, &json!({"alg": alg, "kid": kid, "typ": "JWT"}), &claims.to_string())
    }

    fn authenticator(&self) -> Authenticator {
        let audiences = vec!["coffer".to_owned(), "https://files.example".to_owned()];
        let issuer = TrustedIssuer::with_jwks(ISSUER, audiences, self.jwks().to_string().as_bytes()).unwrap();
        Authenticator::new(vec![issuer]).unwrap()
    }
}

fn at() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "coffer", "exp": at().timestamp() + 600, "iat": at().timestamp(), "nbf": at().timestamp(),
        "sub": "ann", "org": "clinic", "app": "scanner", "projects": ["study"], "roles": ["admin", "janitor"],
    })
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn each_algorithm_is_verified_and_claims_become_a_principal() {
    let provider = Provider::new();
    for kind in [With::Ed, With::Ec, With::Rsa] {
        let principal = provider.authenticator().examine(&provider.token(kind, &claims()), at()).unwrap();
        let user = principal.user.as_ref().unwrap();
        assert_eq!((user.issuer.as_str(), user.subject.as_str()), (ISSUER, "ann"));
        assert_eq!(user.id, coffer_domain::id::UserId::of_subject(ISSUER, "ann"));
        assert_eq!(principal.app.as_deref(), Some("scanner"));
        assert_eq!(principal.organisation, "clinic");
        assert_eq!(principal.projects, ["study"]);
        assert!(principal.roles.is_admin && !principal.roles.is_operator && !principal.roles.is_auditor);
        assert_eq!(principal.expires_at.timestamp(), at().timestamp() + 600);
    }
}

#[test]
fn an_app_alone_is_a_principal_and_nobody_is_not() {
    let provider = Provider::new();
    let examine = |claims: &Value| provider.authenticator().examine(&provider.token(With::Ed, claims), at());
    assert_eq!(examine(&without("sub")).unwrap().user, None);
    assert_eq!(examine(&without("app")).unwrap().app, None);
    assert_eq!(examine(&without("org")).unwrap().organisation, "");
    let nobody = with(json!({"sub": null, "app": null}));
    assert_eq!(examine(&nobody), Err(Problem::Nobody));
}

#[test]
fn forged_signatures_and_confused_algorithms_are_refused() {
    let provider = Provider::new();
    let (authenticator, claims) = (provider.authenticator(), claims().to_string());
    let examine = |token: &str| authenticator.examine(token, at()).unwrap_err();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});

    for alg in ["none", "None", "NONE", ""] {
        let bare = unsigned(&header(alg, "ed"), &claims);
        assert_eq!(examine(&format!("{bare}.")), Problem::Algorithm);
        assert_eq!(
            examine(&format!("{bare}.{}", b64(provider.sign(With::Ed, bare.as_bytes())))),
            Problem::Algorithm
        );
    }
    // The classic confusion: the public key's bytes used as the secret of an HMAC.
    let rsa_public = provider.rsa.public_key().as_ref().to_vec();
    let ed_public = provider.ed.public_key().as_ref().to_vec();
    for (kid, public) in [("rsa", rsa_public), ("ed", ed_public)] {
        let bare = unsigned(&header("HS256", kid), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), bare.as_bytes());
        assert_eq!(examine(&format!("{bare}.{}", b64(tag.as_ref()))), Problem::Algorithm);
        let honest = unsigned(&header(if kid == "rsa" { "RS256" } else { "EdDSA" }, kid), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), honest.as_bytes());
        assert_eq!(examine(&format!("{honest}.{}", b64(tag.as_ref()))), Problem::Signature);
    }
    // An RSA signature said to be ES256's, and the other way round.
    assert_eq!(examine(&provider.token_of(With::Rsa, &header("ES256", "rsa"), &claims)), Problem::Algorithm);
    assert_eq!(examine(&provider.token_of(With::Rsa, &header("ES256", "ec"), &claims)), Problem::Signature);
    assert_eq!(examine(&provider.token_of(With::Ec, &header("RS256", "rsa"), &claims)), Problem::Signature);
    assert_eq!(examine(&provider.token_of(With::Ed, &header("EdDSA", "ec"), &claims)), Problem::Algorithm);
    // Another provider's key under the same id.
    assert_eq!(examine(&Provider::new().token(With::Ed, &self::claims())), Problem::Signature);

    let token = provider.token(With::Ed, &self::claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let altered = with(json!({"org": "bank"})).to_string();
    assert_eq!(examine(&format!("{head}.{}.{signature}", b64(altered))), Problem::Signature);
    assert_eq!(examine(&format!("{signed}.")), Problem::Signature);
}

#[test]
fn a_key_id_only_looks_a_key_up() {
    let provider = Provider::new();
    let (authenticator, claims) = (provider.authenticator(), claims().to_string());
    let examine = |header: Value| {
        authenticator.examine(&provider.token_of(With::Ed, &header, &claims), at()).unwrap_err()
    };
    for kid in ["../../etc/passwd", "' OR 1=1--", "", "ed\u{0}", "ü", &"x".repeat(65)] {
        assert_eq!(examine(json!({"alg": "EdDSA", "kid": kid})), Problem::KeyId, "{kid:?}");
    }
    assert_eq!(examine(json!({"alg": "EdDSA", "kid": "x".repeat(10 * 1024)})), Problem::TooLong);
    assert_eq!(examine(json!({"alg": "EdDSA", "kid": "unknown"})), Problem::UnknownKey);
    assert_eq!(examine(json!({"alg": "EdDSA", "kid": "enc"})), Problem::UnknownKey);
    assert_eq!(examine(json!({"alg": "EdDSA"})), Problem::UnknownKey);
    assert!(matches!(examine(json!({"alg": "EdDSA", "kid": 7})), Problem::Header(_)));
    assert!(matches!(examine(json!({"alg": "EdDSA", "kid": ["ed"]})), Problem::Header(_)));
}

#[test]
fn a_token_does_not_bring_its_own_key() {
    let provider = Provider::new();
    let authenticator = provider.authenticator();
    let own = provider.jwks()["keys"][0].clone();
    for (name, value) in [
        ("jku", json!("http://127.0.0.1:9/keys.json")),
        ("x5u", json!("http://127.0.0.1:9/cert.pem")),
        ("jwk", own),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
    ] {
        let mut header = json!({"alg": "EdDSA", "kid": "ed"});
        header[name] = value;
        let token = provider.token_of(With::Ed, &header, &claims().to_string());
        assert_eq!(authenticator.examine(&token, at()), Err(Problem::HeaderKey(name)));
    }
    let logout = json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"});
    let token = provider.token_of(With::Ed, &logout, &claims().to_string());
    assert_eq!(authenticator.examine(&token, at()), Err(Problem::HeaderKey("another typ")));
}

#[test]
fn times_are_whole_seconds_within_bounds() {
    let provider = Provider::new();
    let authenticator = provider.authenticator();
    let examine = |claims: &str| {
        let token = provider.token_of(With::Ed, &json!({"alg": "EdDSA", "kid": "ed"}), claims);
        authenticator.examine(&token, at())
    };
    let now = at().timestamp();
    let problem = |claims: Value| examine(&claims.to_string()).unwrap_err();
    assert_eq!(problem(with(json!({"exp": now - 1}))), Problem::Expired);
    assert_eq!(problem(with(json!({"exp": now}))), Problem::Expired);
    assert!(examine(&with(json!({"exp": now + 1})).to_string()).is_ok());
    assert_eq!(problem(with(json!({"exp": i64::MAX}))), Problem::Expiry);
    assert_eq!(problem(with(json!({"exp": -1}))), Problem::Expiry);
    assert!(matches!(problem(without("exp")), Problem::Claims(_)));
    let text = claims().to_string();
    for exp in
        ["1e308", "\"1900000000\"", "1900000000.5", "null", "[1900000000]", "true", "99999999999999999999"]
    {
        let forged = text.replace(&format!("\"exp\":{}", now + 600), &format!("\"exp\":{exp}"));
        assert_ne!(forged, text);
        assert!(matches!(examine(&forged), Err(Problem::Claims(_))), "{exp}");
    }
    assert_eq!(problem(with(json!({"nbf": now + 61}))), Problem::Early);
    assert_eq!(problem(with(json!({"iat": 4_070_908_800i64}))), Problem::Early);
    assert!(examine(&with(json!({"nbf": now + 60, "iat": now + 60})).to_string()).is_ok());
}

#[test]
fn claims_must_be_what_they_should() {
    let provider = Provider::new();
    let authenticator = provider.authenticator();
    let examine = |claims: &Value| authenticator.examine(&provider.token(With::Ed, claims), at());
    assert_eq!(examine(&with(json!({"iss": "https://id.example/"}))), Err(Problem::Issuer));
    assert!(matches!(examine(&without("iss")), Err(Problem::Claims(_))));
    assert!(matches!(examine(&without("aud")), Err(Problem::Claims(_))));
    assert_eq!(examine(&with(json!({"aud": "other"}))), Err(Problem::Audience));
    assert_eq!(examine(&with(json!({"aud": []}))), Err(Problem::Audience));
    assert!(examine(&with(json!({"aud": ["other", "https://files.example"]}))).is_ok());
    assert!(matches!(examine(&with(json!({"org": ["clinic", "bank"]}))), Err(Problem::Claims(_))));
    assert!(matches!(examine(&with(json!({"projects": "study"}))), Err(Problem::Claims(_))));
    assert!(matches!(examine(&with(json!({"sub": {"a": 1}}))), Err(Problem::Claims(_))));
    for (name, value) in [
        ("org", json!("")),
        ("org", json!("a/b")),
        ("org", json!("x".repeat(101))),
        ("app", json!("a b")),
        ("sub", json!("")),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("x".repeat(256))),
        ("projects", json!(["study", ""])),
    ] {
        assert_eq!(examine(&with(json!({name: value}))), Err(Problem::Claim(name)));
    }
    // A claim said twice could mean one thing to the issuer and another here.
    let twice = claims().to_string().replacen('{', "{\"org\":\"bank\",", 1);
    let token = provider.token_of(With::Ed, &json!({"alg": "EdDSA", "kid": "ed"}), &twice);
    assert!(matches!(authenticator.examine(&token, at()), Err(Problem::Claims(_))));
}

#[test]
fn what_is_no_token_is_refused() {
    let provider = Provider::new();
    let authenticator = provider.authenticator();
    let token = provider.token(With::Ed, &claims());
    for bad in
        ["", ".", "a.b", "a.b.c.d", &format!("{token}="), &format!("{token}.x"), &token.replace('.', "")]
    {
        assert_eq!(authenticator.examine(bad, at()), Err(Problem::Form), "{bad}");
    }
    assert_eq!(authenticator.examine(&"x".repeat(MAX_TOKEN_BYTES + 1), at()), Err(Problem::TooLong));
    for bad in ["..".to_owned(), format!("{}.{}.", b64("[]"), b64("{}"))] {
        assert!(matches!(authenticator.examine(&bad, at()), Err(Problem::Header(_))), "{bad}");
    }
    for at_byte in 0..token.len() {
        let mut mutated = token.clone().into_bytes();
        mutated[at_byte] = if mutated[at_byte] == b'A' { b'B' } else { b'A' };
        let mutated = String::from_utf8(mutated).unwrap();
        assert!(authenticator.examine(&mutated, at()).is_err(), "byte {at_byte}");
    }
}

fn metadata(values: &[&str]) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for value in values {
        metadata.append(AUTHORIZATION, value.parse().unwrap());
    }
    metadata
}

#[tokio::test]
async fn one_bearer_token_or_none() {
    let provider = Provider::new();
    let authenticator = provider.authenticator();
    let token = provider.token(With::Ed, &with(json!({"exp": now().timestamp() + 60, "iat": 0, "nbf": 0})));
    let ask = async |values: &[&str]| {
        authenticator.authenticate(&metadata(values), None).await.map_err(|refusal| refusal.reason())
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&[]).await, Ok(None));
    assert!(ask(&[&bearer]).await.unwrap().is_some());
    assert!(ask(&[&format!("bearer {token}")]).await.unwrap().is_some());
    let invalid = Err("TOKEN_INVALID");
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YW5uOnB3",
        &token,
        &format!("Bearer  {token}"),
        &format!("Bearer {token} x"),
    ] {
        assert_eq!(ask(&[bad]).await, invalid, "{bad}");
    }
    assert_eq!(ask(&[&bearer, &bearer]).await, invalid);
    assert_eq!(bearer_problem(&[&bearer, &bearer]), Problem::Duplicate);
    assert_eq!(bearer_problem(&["Basic YW5uOnB3"]), Problem::Scheme);
    let expired = provider.token(With::Ed, &with(json!({"exp": now().timestamp() - 1, "iat": 0, "nbf": 0})));
    assert_eq!(ask(&[&format!("Bearer {expired}")]).await, Err("TOKEN_EXPIRED"));
}

fn bearer_problem(values: &[&str]) -> Problem {
    bearer(&metadata(values)).unwrap_err()
}

#[test]
fn key_sets_that_contradict_themselves_are_refused() {
    let provider = Provider::new();
    let load = |keys: Value| Keys::from_jwks(json!({"keys": keys}).to_string().as_bytes());
    let keys = provider.jwks()["keys"].clone();
    let (ed, ec) = (keys[0].clone(), keys[1].clone());
    let changed = |key: &Value, changes: Value| {
        let mut key = key.clone();
        changes.as_object().unwrap().iter().for_each(|(name, value)| key[name] = value.clone());
        key
    };
    assert!(load(keys).is_ok());
    assert!(
        load(json!([ed, {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}])).is_ok(),
        "of a kind to come"
    );
    for (bad, why) in [
        (json!([]), "no key"),
        (json!([ed, ed]), "another key has its kid"),
        (json!([changed(&ed, json!({"alg": "RS256"}))]), "does not go with"),
        (json!([changed(&ed, json!({"kty": "RSA"}))]), "does not go with"),
        (json!([changed(&ed, json!({"alg": "none"}))]), "does not go with"),
        (json!([changed(&ed, json!({"d": "AAAA"}))]), "secret"),
        (json!([{"kty": "oct", "k": "AAAA", "kid": "x"}]), "secret"),
        (json!([changed(&ed, json!({"x": "AAAA"}))]), "32 bytes"),
        (json!([changed(&ed, json!({"kid": "../x"}))]), "kid must be"),
        (json!([ed, changed(&ec, json!({"kid": null}))]), "each must have a kid"),
        (json!([{"kty": "RSA", "kid": "r", "n": b64([255; 128]), "e": "AQAB"}]), "1024 bits"),
        (json!([changed(&ed, json!({"use": "enc"}))]), "no key"),
    ] {
        let problem = load(bad).unwrap_err().to_string();
        assert!(problem.contains(why), "{problem}");
    }
    assert!(matches!(load(json!([changed(&ed, json!({"kid": null}))])), Ok(Keys::Only(_))));
    assert!(Keys::from_jwks(b"not json").is_err());
}

#[test]
fn public_keys_are_read_from_pem_and_der() {
    let provider = Provider::new();
    let ed =
        [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), provider.ed.public_key().as_ref()]
            .concat();
    let ec_prefix = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let ec = [ec_prefix.as_slice(), provider.ec.public_key().as_ref()].concat();
    let rsa = include_bytes!("../../tests/rsa-public-key.pem").to_vec();
    for (file, kind, algorithm) in [
        (ed, With::Ed, Algorithm::EdDsa),
        (ec, With::Ec, Algorithm::Es256),
        (rsa, With::Rsa, Algorithm::Rs256),
    ] {
        let key = PublicKey::from_pem_or_der(&file).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let issuer = TrustedIssuer::with_key(ISSUER, vec!["coffer".to_owned()], None, key).unwrap();
        let authenticator = Authenticator::new(vec![issuer]).unwrap();
        authenticator.examine(&provider.token(kind, &claims()), at()).unwrap();
    }
    let private = include_bytes!("../../tests/rsa-private-key.pem");
    assert!(PublicKey::from_pem_or_der(private).unwrap_err().to_string().contains("PRIVATE KEY"));
    assert!(PublicKey::from_pem_or_der(b"").is_err());
}

#[test]
fn issuers_need_a_name_and_an_audience_and_are_named_once() {
    let key = PublicKey::ed25519(&[0; 32]).unwrap();
    let issuer = |name: &str, audiences: &[&str]| {
        TrustedIssuer::with_key(name, audiences.iter().map(|a| (*a).to_owned()).collect(), None, key.clone())
    };
    assert!(issuer("", &["a"]).is_err());
    assert!(issuer("i", &[]).is_err());
    assert!(issuer("i", &[""]).is_err());
    assert!(Authenticator::new(vec![issuer("i", &["a"]).unwrap(), issuer("i", &["b"]).unwrap()]).is_err());
}

#[test]
fn a_development_key_is_made_once_and_mints_tokens_that_are_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("development-key.pem");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || DevelopmentKey::load_or_create(&path).unwrap())
        })
        .collect();
    let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let authenticator =
        Authenticator::new(vec![DevelopmentKey::load_or_create(&path).unwrap().issuer().unwrap()]).unwrap();
    let said = Claims {
        subject: Some("ann".into()),
        organisation: Some("clinic".into()),
        roles: vec!["operator".into()],
        ..Claims::default()
    };
    for key in &keys {
        let principal =
            authenticator.verify(&key.mint(&said, std::time::Duration::from_secs(60)), now()).unwrap();
        assert_eq!(principal.user.unwrap().issuer, DEVELOPMENT_ISSUER);
        assert!(principal.roles.is_operator);
    }
    let stale = keys[0].mint(&said, std::time::Duration::ZERO);
    assert_eq!(authenticator.verify(&stale, now()).unwrap_err().reason(), "TOKEN_EXPIRED");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(DevelopmentKey::load_or_create(&path), Err(Error::DevelopmentKey { .. })));
    std::fs::write(&path, "not a key").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(DevelopmentKey::load_or_create(&path), Err(Error::DevelopmentKey { .. })));
}
