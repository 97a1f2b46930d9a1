//! Tokens of a configured issuer, verified with its key file.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{at, refusal},
};
use data_encoding::BASE64URL_NOPAD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Code;

const ISSUER: &str = "https://login.example";

fn key() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

fn jwt(key: &Ed25519KeyPair, header: Value, claims: Value) -> String {
    let signed = format!(
        "{}.{}",
        BASE64.encode(header.to_string().as_bytes()),
        BASE64.encode(claims.to_string().as_bytes())
    );
    let signature = BASE64.encode(key.sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

fn claims(changes: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({"iss": ISSUER, "aud": "coffer", "sub": "ann", "org": "clinic", "iat": now, "nbf": now, "exp": now + 600});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_configured_issuer_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (key, other) = (key(), key());
    let jwks = directory.path().join("keys.json");
    let public = BASE64.encode(key.public_key().as_ref());
    std::fs::write(&jwks, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": public}]}).to_string()).unwrap();
    let settings =
        [("auth.issuer", ISSUER), ("auth.audience", "coffer"), ("auth.jwks_file", jwks.to_str().unwrap())];
    let cofferd = Cofferd::start_with(&settings).await;
    let good = json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"});

    let ann = cofferd.clients_with(Some(&jwt(&key, good.clone(), claims(json!({}))))).await;
    let file = ann.upload(at("a.txt"), b"abc").await.unwrap();
    assert_eq!(file.organisation_id, "clinic");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let list = |token: String| {
        let cofferd = &cofferd;
        async move {
            cofferd
                .clients_with(Some(&token))
                .await
                .files
                .clone()
                .list_files(v1::ListFilesRequest::default())
                .await
        }
    };
    let cases = [
        ("alg none", jwt(&key, json!({"alg": "none", "kid": "k1"}), claims(json!({})))),
        ("another algorithm", jwt(&key, json!({"alg": "HS256", "kid": "k1"}), claims(json!({})))),
        ("another key", jwt(&other, good.clone(), claims(json!({})))),
        ("unknown kid", jwt(&key, json!({"alg": "EdDSA", "kid": "../../etc/passwd"}), claims(json!({})))),
        (
            "a key of its own",
            jwt(
                &other,
                json!({"alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(other.public_key().as_ref())}}),
                claims(json!({})),
            ),
        ),
        ("another issuer", jwt(&key, good.clone(), claims(json!({"iss": "https://evil.example"})))),
        ("another audience", jwt(&key, good.clone(), claims(json!({"aud": ["mail"]})))),
        ("not yet", jwt(&key, good.clone(), claims(json!({"nbf": now + 600})))),
        ("no end", jwt(&key, good.clone(), claims(json!({"exp": null})))),
        ("end as text", jwt(&key, good.clone(), claims(json!({"exp": "never"})))),
        ("nobody", jwt(&key, good.clone(), claims(json!({"sub": null})))),
        ("organisations", jwt(&key, good.clone(), claims(json!({"org": ["clinic", "lab"]})))),
        ("development key", cofferd.token(&Token::user("ann", "clinic"))),
    ];
    assert_eq!(cases.len(), 13);
    for (name, token) in cases {
        let status = list(token).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()), "{name}");
    }
    let status = list(jwt(&key, good.clone(), claims(json!({"exp": now - 1})))).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    assert_eq!(
        list(jwt(&key, good, claims(json!({"roles": ["admin"], "sub": "ada"}))))
            .await
            .unwrap()
            .into_inner()
            .files
            .len(),
        1
    );
}
