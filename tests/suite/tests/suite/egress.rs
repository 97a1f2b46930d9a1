//! Where the service connects to on somebody's word: not to itself, not to its machine, not to its cloud, and not where a server sends it.

#[path = "egress/canaries.rs"]
mod canaries;
#[path = "egress/hostile.rs"]
mod hostile;

use crate::endpoints::{self, basic, s3, store};
use canaries::{Canaries, is_known};
use coffer_proto::v1::{self, endpoint::Server, volume::Backend};
use coffer_test_servers::Kind;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, refusal},
    proxy::Proxy,
};
use hostile::{Hostile, Says};
use std::net::IpAddr;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How an endpoint is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// A bucket in the path.
    S3,
    /// A bucket before the host.
    S3BeforeHost,
    /// Keys are paths; the server decides whether it is WebDAV.
    Http,
    /// Keys are queries.
    HttpByQuery,
}

const ALL: [How; 3] = [How::S3, How::Http, How::HttpByQuery];

/// Hosts that are the machine itself, and what may be taken for it.
const HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "127.0.0.1.",
    "127.0.0.1..",
    "127.1",
    "127.0.1",
    "127",
    "0",
    "0.0.0.0",
    "0.1.2.3",
    "0177.0.0.1",
    "127.000.000.001",
    "0x7f.0.0.1",
    "0x7f000001",
    "0X7F000001",
    "127.0.0.0x1",
    "017700000001",
    "2130706433",
    "4294967295",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "LocalHost.",
    "localhost..",
    ".localhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:102:304::80ff:fffe]",
    "[2001:db8::5efe:127.0.0.1]",
    "[::1%25lo]",
    "[fe80::1%25lo]",
    "[127.0.0.1]",
    "[localhost]",
    "[::1",
    "::1",
    "127.0.0.1%00.example.org",
    "%31%32%37.0.0.1",
    "loc%61lhost",
    "127。0。0。1",
    "１２７.０.０.１",
    "１２７。０。０。１",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "loca\u{ad}lhost",
    "l\u{43e}calhost",
    "\u{430}pple.com",
    " 127.0.0.1",
    "127.0.0.1\t",
    "127.0.0.1\r\nx: y",
    "a\r\nb",
];

/// Names of the machine that not every machine has.
const NAMES: &[&str] = &["ip6-localhost", "ip6-loopback", "localhost.localdomain", "localhost6"];

/// Whole URLs; `{port}` is one that canaries listen on.
const URLS: &[&str] = &[
    "http://169.254.169.254",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]:{port}",
    "http://[64:ff9b::169.254.169.254]",
    "http://[2002:a9fe:a9fe::1]",
    "http://[fd00:ec2::254]",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200",
    "http://192.0.0.192",
    "http://224.0.0.1:{port}",
    "http://[ff02::1]:{port}",
    "http://[fe80::1]:{port}",
    "http://240.0.0.1:{port}",
    "http://255.255.255.255:{port}",
    "https://127.0.0.1:{port}",
    "https://[::1]:{port}",
    "HTTP://LOCALHOST:{port}",
    "http://127.0.0.1:{port}/a/b",
    "http://127.0.0.1:{port}/%2e%2e/",
    "file:///etc/passwd",
    "file://127.0.0.1:{port}/etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "ftp://127.0.0.1:{port}",
    "dict://127.0.0.1:{port}",
    "ldap://127.0.0.1:{port}",
    "unix:///run/x",
    "javascript:alert(1)",
    "http+unix://127.0.0.1:{port}",
    "ht\ttp://127.0.0.1:{port}",
    " http://127.0.0.1:{port}",
    "//127.0.0.1:{port}",
    "http:/127.0.0.1:{port}",
    "http:127.0.0.1:{port}",
    "http:///127.0.0.1:{port}",
    "http:\\\\127.0.0.1:{port}",
    "http://127.0.0.1:{port}\\@example.org",
    "http://example.org\\@127.0.0.1:{port}",
    "http://127.0.0.1:{port}#@example.org",
    "http://example.org#@127.0.0.1:{port}",
    "http://127.0.0.1:{port}?@example.org",
    "http://example.org?@127.0.0.1:{port}",
    "http://127.0.0.1:{port}@example.org",
    "http://example.org@127.0.0.1:{port}",
    "http://example.org:80@127.0.0.1:{port}",
    "http://user:password@127.0.0.1:{port}",
    "http://@127.0.0.1:{port}",
    "http://127.0.0.1:{port}:80",
    "http://127.0.0.1:{port} @example.org",
    "http://127.0.0.1:{port}\r\nhost: example.org",
    "http://127.0.0.1\u{0}:{port}",
    "http://127.0.0.1:0",
    "http://127.0.0.1:22",
    "http://127.0.0.1:5432",
    "http://127.0.0.1:6379",
    "http://example.org:22",
    "http://127.0.0.1:65536",
    "http://127.0.0.1:4295032833",
    "http://127.0.0.1:-1",
    "http://127.0.0.1:+80",
    "http://127.0.0.1:",
    "http://:{port}",
    "http://",
];

async fn operator(cofferd: &Cofferd) -> Clients {
    cofferd.clients(&Token::user("olga", "clinic").role("operator")).await
}

fn server(how: How, url: &str) -> Server {
    match how {
        How::S3 | How::S3BeforeHost => Server::S3Bucket(v1::S3Bucket {
            endpoint_url: url.into(),
            bucket_name: "photos".into(),
            use_path_style: Some(how == How::S3),
            ..Default::default()
        }),
        How::Http | How::HttpByQuery => endpoints::http(url),
    }
}

fn on(how: How, endpoint: &str) -> v1::Volume {
    let backend = match how {
        How::S3 | How::S3BeforeHost => {
            Backend::S3(v1::S3Backend { bucket_id: endpoint.into(), ..Default::default() })
        }
        How::Http | How::HttpByQuery => Backend::Http(v1::HttpBackend {
            endpoint_id: endpoint.into(),
            use_query_params: how == How::HttpByQuery,
            ..Default::default()
        }),
    };
    v1::Volume { name: "far".into(), backend: Some(backend), ..Default::default() }
}

/// Makes an endpoint, stores what opens it, and makes a volume on it; where that ends, and how.
async fn tried(operator: &Clients, how: How, url: &str) -> (&'static str, Status) {
    let endpoint = match endpoints::create(operator, server(how, url)).await {
        Ok(endpoint) => endpoint.id,
        Err(status) => return ("endpoint", status),
    };
    let login = if matches!(how, How::S3 | How::S3BeforeHost) { s3("swordfish") } else { basic("swordfish") };
    store(operator, &endpoint, login).await.unwrap();
    let status = crate::volumes::create(operator, on(how, &endpoint)).await.unwrap_err();
    // The next row may be the same place in other words.
    let delete = v1::DeleteEndpointRequest { id: endpoint, ..Default::default() };
    operator.volumes.clone().delete_endpoint(delete).await.unwrap();
    ("volume", status)
}

/// Code and reason, with the details that belong to them.
fn explained(status: &Status, of: &str) -> (Code, String) {
    match status.code() {
        Code::InvalidArgument => assert_eq!(bad_fields(status).len(), 1, "{of}: {status:?}"),
        Code::FailedPrecondition => {
            let failure = status.get_details_precondition_failure();
            assert!(failure.is_some_and(|failure| !failure.violations.is_empty()), "{of}: {status:?}");
        }
        Code::Unavailable => assert!(status.get_details_retry_info().is_some(), "{of}: {status:?}"),
        code => panic!("{of}: {code:?} {status:?}"),
    }
    refusal(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_endpoints_are_refused_before_anybody_is_called() {
    let canaries = Canaries::start().await;
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let port = canaries.port().to_string();
    let mut urls: Vec<String> = HOSTS.iter().map(|host| format!("http://{host}:{port}")).collect();
    urls.extend(URLS.iter().map(|url| url.replace("{port}", &port)));
    urls.push(format!("http://{}.localhost:{port}", "a".repeat(300)));
    urls.push(format!("http://127.0.0.1:{port}/{}", "a".repeat(3_000)));
    for name in NAMES {
        match is_known(name).await {
            true => urls.push(format!("http://{name}:{port}")),
            false => println!("{name}: nothing has this name here"),
        }
    }
    let mut tries: Vec<(How, String)> =
        urls.iter().flat_map(|url| ALL.map(|how| (how, url.clone()))).collect();
    // Nothing can stand before an address.
    for host in ["127.0.0.1", "[::1]", "0.0.0.0", "169.254.169.254"] {
        tries.push((How::S3BeforeHost, format!("http://{host}:{port}")));
    }
    // Without a scheme, which a bucket may leave out.
    for host in ["127.0.0.1", "localhost", "[::1]", "example.org@127.0.0.1"] {
        tries.push((How::S3, format!("{host}:{port}")));
    }
    for (how, url) in &tries {
        let (step, status) = tried(&operator, *how, url).await;
        let (code, reason) = explained(&status, url);
        assert!(
            matches!(
                (step, code, reason.as_str()),
                ("endpoint", Code::InvalidArgument, "FIELD_INVALID")
                    | ("volume", Code::FailedPrecondition, "ADDRESS_FORBIDDEN")
            ),
            "{how:?} {url:?}: {step} {status:?}"
        );
        let begin: String = url.chars().take(80).collect();
        println!("{:12} {:18} at the {step:8} {begin:?}", format!("{how:?}"), format!("{code:?}"));
    }
    let made = "SELECT count(*) FROM storage_volumes WHERE name = 'far'";
    assert_eq!(cofferd.database.number(made).await, 0);
    println!("{} endpoints, {} connections", tries.len(), canaries.connections());
    assert_eq!(canaries.connections(), 0);

    // The same endpoints, where they are allowed: the canaries would have told.
    let open = Cofferd::start_with(&[("egress.allow", "127.0.0.0/8,::1/128")]).await;
    let operator = self::operator(&open).await;
    for (address, count) in canaries.counts() {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        for how in ALL {
            let before = count();
            let (step, status) = tried(&operator, how, &format!("http://{host}:{port}")).await;
            let found = count() - before;
            assert!(found > 0, "{how:?} {host}");
            assert_eq!((step, status.code()), ("volume", Code::Unavailable), "{how:?} {host}: {status:?}");
            println!("{:12} {host} where it is allowed: {found} connections", format!("{how:?}"));
        }
    }
}

/// A volume whose server may not be connected to any more: after a change of the settings, and so after a change of a name too.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_may_not_be_reached_any_more_is_not() {
    let Some(server) = Kind::Nginx.shared() else { return };
    let mut cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.1/32")]).await;
    let clients = operator(&cofferd).await;
    let proxy = Proxy::start(&server.address().to_string()).await;
    let url = format!("http://{}/{}", proxy.addr(), server.place());
    let endpoint = endpoints::create(&clients, endpoints::http(&url)).await.unwrap().id;
    crate::volumes::create(&clients, on(How::Http, &endpoint)).await.unwrap();
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let on_far = |path| v1::UploadSpec { volume: "far".into(), ..at(path) };
    let file = ann.upload(on_far("before"), b"hello").await.unwrap();
    cofferd.terminate().await;
    let before = proxy.traffic().connections;
    assert!(before > 0, "it counts");

    cofferd.set("egress.allow", "");
    cofferd.launch().await;
    let (clients, ann) =
        (operator(&cofferd).await, cofferd.clients(&Token::user("ann", "clinic").ttl("1h")).await);
    let check = v1::CheckVolumeRequest { volume: "far".into() };
    let check = clients.volumes.clone().check_volume(check).await.unwrap().into_inner();
    let steps: Vec<_> =
        check.steps.iter().map(|step| (step.name.as_str(), step.passed, step.problem.as_str())).collect();
    assert_eq!((check.is_healthy, steps), (false, vec![("marker", false, "ADDRESS_FORBIDDEN")]));
    let read = v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() };
    let reconcile = v1::ReconcileVolumeRequest { volume: "far".into(), dry_run: true };
    for (of, status) in [
        ("upload", ann.upload(on_far("after"), b"hello").await.unwrap_err()),
        ("read", ann.read(read).await.unwrap_err()),
        ("reconcile", clients.volumes.clone().reconcile_volume(reconcile).await.unwrap_err()),
    ] {
        assert_eq!(
            explained(&status, of),
            (Code::FailedPrecondition, "ADDRESS_FORBIDDEN".to_owned()),
            "{of}: {status:?}"
        );
        // Which address it is, is for those who run the service.
        assert_eq!(of == "reconcile", status.message().contains("127.0.0.1"), "{of}: {status:?}");
    }
    assert_eq!(proxy.traffic().connections, before, "nobody has called");
    // Nothing else is hurt.
    ann.upload(at("on the disk"), b"hello").await.unwrap();
}

/// Neither to an address that may not be connected to, nor to one that may: a secret goes to the configured server alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_anywhere() {
    let canaries = Canaries::start().await;
    let cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.1/32")]).await;
    let operator = operator(&cofferd).await;
    let mut count = 0;
    for status in [301, 302, 303, 307, 308] {
        for target in ["127.0.0.2", "127.0.0.1", "[::1]", "169.254.169.254"] {
            let location = format!("http://{target}:{}/elsewhere?x=1", canaries.port());
            let server = Hostile::start(Says::Redirect(status, location)).await;
            for how in ALL {
                let seen = server.requests();
                let (step, refused) = tried(&operator, how, &server.url()).await;
                let of = format!("{how:?} {status} to {target}");
                assert_eq!(
                    (step, explained(&refused, &of)),
                    ("volume", (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned())),
                    "{of}: {refused:?}"
                );
                assert!(server.requests() > seen, "{of}: it was asked");
                count += 1;
            }
            assert!(server.was_told_a_secret(), "the credential belongs to this server");
        }
    }
    println!("{count} redirects, {} connections", canaries.connections());
    assert_eq!(canaries.connections(), 0);
}

/// A server that answers everything with too much, or with what is meant to blow up: no more than a mebibyte of it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_too_much_is_not_listened_to() {
    let cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.1/32")]).await;
    let operator = operator(&cofferd).await;
    for says in
        [Says::Gibibyte, Says::GibibyteOfDav, Says::Bomb, Says::BombOfDav, Says::Endless, Says::EndlessOfDav]
    {
        for how in ALL {
            let server = Hostile::start(says.clone()).await;
            let (step, status) = tried(&operator, how, &server.url()).await;
            let of = format!("{how:?} {says:?}");
            let (code, reason) = explained(&status, &of);
            let expected = ("volume", Code::Unavailable, "BACKEND_UNAVAILABLE");
            assert_eq!((step, code, reason.as_str()), expected, "{of}: {status:?}");
            // What is under way in sockets counts as said.
            let said = server.most_said();
            println!("{of}: at most {} KiB were taken of an answer", said / 1024);
            assert!(said <= hostile::MOST_TAKEN, "{of}: {said}");
        }
    }
}
