//! Against a real HTTP server that misbehaves as it is told.

use super::*;
use crate::auth::{Authenticator, TrustedIssuer, fetch::Problem};
use bytes::Bytes;
use coffer_domain::{Error as Refusal, caller::Principal, time::now};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, time};

const ISSUER: &str = "https://id.example";

/// What the issuer's server does with a request.
#[derive(Clone)]
enum Answer {
    Body(StatusCode, Bytes),
    Redirect(String),
    Never,
}

/// An issuer that publishes its keys.
struct Idp {
    url: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    _server: AbortOnDropHandle<()>,
}

struct Key {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self { id, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn jwk(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "alg": "EdDSA", "use": "sig", "x": x})
    }

    fn token(&self) -> String {
        self.token_of(self.id)
    }

    fn token_of(&self, kid: &str) -> String {
        let encode = |part: Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
        let claims = json!({"iss": ISSUER, "aud": "coffer", "sub": "ann", "exp": now().timestamp() + 600});
        let signed = format!("{}.{}", encode(json!({"alg": "EdDSA", "kid": kid})), encode(claims));
        format!("{signed}.{}", BASE64URL_NOPAD.encode(self.pair.sign(signed.as_bytes()).as_ref()))
    }
}

fn set(keys: &[&Key]) -> Answer {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    Answer::Body(StatusCode::OK, json!({"keys": keys}).to_string().into())
}

impl Idp {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?v=1", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (says, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (says, counts) = (Arc::clone(&says), Arc::clone(&counts));
                let service = service_fn(move |request: Request<Incoming>| {
                    assert_eq!(request.uri(), "/keys?v=1");
                    counts.fetch_add(1, Ordering::SeqCst);
                    let answer = says.lock().unwrap().clone();
                    async move {
                        Ok::<_, Infallible>(match answer {
                            Answer::Body(status, body) => {
                                Response::builder().status(status).body(Full::new(body)).unwrap()
                            }
                            Answer::Redirect(to) => Response::builder()
                                .status(StatusCode::FOUND)
                                .header("location", to)
                                .body(Full::default())
                                .unwrap(),
                            Answer::Never => std::future::pending().await,
                        })
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, answer, asked, _server: AbortOnDropHandle::new(server) }
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn keys(&self) -> KeysUrl {
        KeysUrl {
            url: self.url.clone(),
            refresh: Duration::from_secs(900),
            max_age: Duration::from_secs(3_600),
            root_certificates: None,
            policy: Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() },
        }
    }

    fn trusted(&self) -> Authenticator {
        trusting(self.keys())
    }
}

fn trusting(keys: KeysUrl) -> Authenticator {
    let issuer = TrustedIssuer::with_jwks_url(ISSUER, vec!["coffer".to_owned()], keys).unwrap();
    Authenticator::new(vec![issuer]).unwrap()
}

async fn ask(authenticator: &Authenticator, token: &str) -> Result<Principal, &'static str> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let known = authenticator.authenticate(&headers, None).await;
    known.map(Option::unwrap).map_err(|refusal: Refusal| refusal.reason())
}

const INVALID: &str = "TOKEN_INVALID";
const UNAVAILABLE: &str = "ISSUER_KEYS_UNAVAILABLE";

/// Lets time pass at once. What was due is begun when this returns; the clock then runs on, since a real server needs real time.
async fn pass(elapsed: Duration) {
    time::pause();
    time::advance(elapsed + Duration::from_millis(1)).await;
    time::resume();
    // Timers of before come first, and whoever they wake goes on before this does.
    sleep(Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_keys() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    let authenticator = idp.trusted();
    assert_eq!(ask(&authenticator, &key.token()).await.unwrap().user.unwrap().subject, "ann");
    assert_eq!(ask(&authenticator, &Key::new("k1").token()).await, Err(INVALID), "another key of that name");
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_for_the_first_token_that_names_it_and_a_withdrawn_one_counts_no_more() {
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    let idp = Idp::start(set(&[&old])).await;
    let authenticator = idp.trusted();
    ask(&authenticator, &old.token()).await.unwrap();
    idp.says(set(&[&new]));
    pass(FLOOR).await;
    ask(&authenticator, &new.token()).await.unwrap();
    assert_eq!(ask(&authenticator, &old.token()).await, Err(INVALID));
    assert_eq!(idp.asked(), 2);
}

#[tokio::test]
async fn a_storm_of_unknown_keys_is_one_fetch_in_ten_seconds() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    let authenticator = Arc::new(idp.trusted());
    ask(&authenticator, &key.token()).await.unwrap();
    let storm = async || {
        let asked: Vec<_> = (0..1_000)
            .map(|n| {
                let (authenticator, token) =
                    (Arc::clone(&authenticator), key.token_of(&format!("random-{n}")));
                tokio::spawn(async move { ask(&authenticator, &token).await })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Err(INVALID));
        }
    };
    storm().await;
    assert_eq!(idp.asked(), 1, "the floor since the first fetch");
    pass(FLOOR).await;
    storm().await;
    storm().await;
    assert_eq!(idp.asked(), 2);
    ask(&authenticator, &key.token()).await.unwrap();
    // Ids that are none of a key do not even ask.
    pass(FLOOR).await;
    for kid in ["../../etc/passwd", "", "a b"] {
        assert_eq!(ask(&authenticator, &key.token_of(kid)).await, Err(INVALID));
    }
    let asked = idp.asked();
    assert!(asked <= 3, "one more for what the second storm had asked for: {asked}");
}

#[tokio::test]
async fn the_last_keys_count_while_the_issuer_is_away_until_they_are_too_old() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    let authenticator = idp.trusted();
    ask(&authenticator, &key.token()).await.unwrap();
    idp.says(Answer::Body(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()));
    pass(FLOOR).await;
    assert_eq!(ask(&authenticator, &key.token_of("k2")).await, Err(UNAVAILABLE), "nobody can say");
    ask(&authenticator, &key.token()).await.unwrap();
    assert_eq!(idp.asked(), 2);
    pass(Duration::from_secs(3_601)).await;
    assert_eq!(ask(&authenticator, &key.token()).await, Err(UNAVAILABLE));
    idp.says(set(&[&key]));
    pass(FLOOR).await;
    ask(&authenticator, &key.token()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_good_set_changes_nothing() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    let authenticator = idp.trusted();
    ask(&authenticator, &key.token()).await.unwrap();
    let elsewhere = Idp::start(set(&[&Key::new("k2")])).await;
    let ok = |body: Value| Answer::Body(StatusCode::OK, body.to_string().into());
    let changed = |name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[name] = value;
        ok(json!({"keys": [jwk]}))
    };
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    let bad = [
        ("moved", Answer::Redirect(elsewhere.url.clone())),
        ("huge", Answer::Body(StatusCode::OK, huge.into())),
        ("a page", Answer::Body(StatusCode::OK, Bytes::from_static(b"<html>log in</html>"))),
        ("nothing", Answer::Body(StatusCode::OK, Bytes::new())),
        ("no keys", ok(json!({"keys": []}))),
        ("a private key", changed("d", json!("AAAA"))),
        ("a secret", ok(json!({"keys": [{"kty": "oct", "kid": "k1", "k": "AAAA"}]}))),
        ("alg none", changed("alg", json!("none"))),
        ("another algorithm", changed("alg", json!("HS256"))),
        ("not found", Answer::Body(StatusCode::NOT_FOUND, Bytes::new())),
        ("no content", Answer::Body(StatusCode::NO_CONTENT, Bytes::new())),
    ];
    let before = idp.asked();
    for (name, answer) in &bad {
        idp.says(answer.clone());
        pass(FLOOR).await;
        assert_eq!(ask(&authenticator, &key.token_of("k2")).await, Err(UNAVAILABLE), "{name}");
        ask(&authenticator, &key.token()).await.unwrap();
    }
    assert_eq!(idp.asked() - before, bad.len(), "each was looked at");
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
}

#[tokio::test]
async fn a_slow_issuer_is_given_up_and_hurts_nobody_whose_key_is_known() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    let authenticator = Arc::new(idp.trusted());
    ask(&authenticator, &key.token()).await.unwrap();
    idp.says(Answer::Never);
    pass(FLOOR).await;
    let (waiting, token) = (Arc::clone(&authenticator), key.token_of("k2"));
    let waiting = tokio::spawn(async move { ask(&waiting, &token).await });
    while idp.asked() < 2 {
        tokio::task::yield_now().await;
    }
    ask(&authenticator, &key.token()).await.unwrap();
    assert!(!waiting.is_finished());
    pass(Duration::from_secs(11)).await;
    assert_eq!(waiting.await.unwrap(), Err(UNAVAILABLE));
}

#[tokio::test]
async fn without_the_issuer_no_token_can_be_verified_and_the_first_answer_ends_that() {
    let key = Key::new("k1");
    let idp = Idp::start(Answer::Body(StatusCode::BAD_GATEWAY, Bytes::new())).await;
    let authenticator = idp.trusted();
    assert_eq!(ask(&authenticator, &key.token()).await, Err(UNAVAILABLE));
    assert_eq!(ask(&authenticator, "no.to.ken").await, Err(INVALID));
    idp.says(set(&[&key]));
    pass(FLOOR).await;
    ask(&authenticator, &key.token()).await.unwrap();
}

#[tokio::test]
async fn forbidden_addresses_are_not_connected_to() {
    let key = Key::new("k1");
    let idp = Idp::start(set(&[&key])).await;
    for policy in [
        Policy::default(),
        Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: vec!["127.0.0.1".parse().unwrap()] },
    ] {
        let authenticator = trusting(KeysUrl { policy, ..idp.keys() });
        assert_eq!(ask(&authenticator, &key.token()).await, Err(UNAVAILABLE));
    }
    assert_eq!(idp.asked(), 0);
}

#[test]
fn urls_that_keys_must_not_come_from() {
    for bad in [
        "",
        "id.example/keys",
        "ftp://id.example/keys",
        "https:///keys",
        "https://user:pw@id.example/keys",
        "file:///keys",
    ] {
        assert!(matches!(Source::new(bad, None, Policy::default()), Err(Error::Url { .. })), "{bad}");
    }
    assert!(Source::new("https://id.example/keys", None, Policy::default()).is_ok());
    let missing = PathBuf::from("/nowhere/roots.pem");
    let roots = Source::new("https://id.example/keys", Some(&missing), Policy::default());
    assert!(matches!(roots, Err(Error::Roots { .. })));
}

#[tokio::test]
async fn plain_http_does_not_leave_the_machine() {
    let policy = Policy::default();
    let source = Source::new("http://10.255.255.1/keys", None, policy).unwrap();
    let problem = source.get().await.unwrap_err();
    assert!(matches!(problem, Problem::NotLoopback), "{problem}");
}
