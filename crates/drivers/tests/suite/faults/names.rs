//! Names in listings that would lead out of a volume.

use super::{
    Scripted,
    hostile::{listing, object, s3},
    open_http,
    scripted::{answer, dav, file, multistatus, xml},
};
use crate::servers;
use coffer_domain::driver::{Driver, ErrorKind};
use coffer_drivers::http;

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is no key, and so it is nobody's.
    Skipped,
    /// The whole listing is not believed.
    Refused,
    /// It is a key like any other: nothing in it is undone a second time.
    Kept(&'static str),
}
use Fate::{Kept, Refused, Skipped};

async fn assert_fate(driver: &dyn Driver, fate: Fate, name: &str) {
    let found = driver.list("", None, 10).await;
    let found = found.map(|found| found.into_iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>());
    match (fate, found) {
        (Refused, Err(failure)) => assert_eq!(failure.kind, ErrorKind::BadAnswer, "{name}"),
        (Skipped, Ok(found)) => assert_eq!(found, ["~good"], "{name}"),
        (Kept(key), Ok(found)) => {
            let mut expected = vec![key.to_owned(), "~good".to_owned()];
            expected.sort();
            assert_eq!(found, expected, "{name}");
        }
        (fate, found) => panic!("{name}: {found:?} and not {fate:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_names_nothing_outside_a_volume() {
    for (name, fate) in [
        ("..", Skipped),
        ("../x", Skipped),
        ("a/../x", Skipped),
        ("a/..", Skipped),
        ("./x", Skipped),
        ("a/./x", Skipped),
        ("/x", Skipped),
        ("/etc/passwd", Skipped),
        ("a//x", Skipped),
        ("%2e%2e/x", Skipped),
        ("%2E%2e%2Fx", Skipped),
        (".%2e/x", Skipped),
        ("..%2fx", Skipped),
        ("..%5cx", Skipped),
        ("..\\x", Skipped),
        ("&#46;&#46;/x", Skipped),
        ("&#x2e;&#x2E;&#47;x", Skipped),
        ("%2Fetc%2Fpasswd", Skipped),
        ("a%00b", Skipped),
        ("a%0d%0ab", Skipped),
        ("%252e%252e/x", Kept("%2e%2e/x")),
        ("%25%32%65%25%32%65/x", Kept("%2e%2e/x")),
        ("..%252fx", Kept("..%2fx")),
        ("%ef%bc%8e%ef%bc%8e/x", Kept("\u{ff0e}\u{ff0e}/x")),
        ("\u{2024}\u{2024}/x", Kept("\u{2024}\u{2024}/x")),
        ("%c0%ae%c0%ae/x", Refused),
        ("%e0%80%ae%e0%80%ae/x", Refused),
        ("%uff0e%uff0e/x", Refused),
        ("..%", Refused),
    ] {
        // In the order that a bucket has them.
        let (bad, good) = (object(name, "1"), object("~good", "1"));
        let is_behind = matches!(fate, Kept(key) if key > "~good");
        let page = if is_behind { listing(&(good + &bad)) } else { listing(&(bad + &good)) };
        let (driver, _server) = s3(move |_| xml(200, &page)).await;
        assert_fate(&*driver, fate, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_names_nothing_outside_itself() {
    for (href, fate) in [
        ("/place/..", Refused),
        ("/place/../x", Refused),
        ("/place/%2e%2e", Refused),
        ("/place/%2E%2e/x", Refused),
        ("/place/..%2fx", Refused),
        ("/place/%2e%2e%2fx", Refused),
        ("/place/a/../../x", Refused),
        ("/place/.", Refused),
        ("/place/./x", Refused),
        ("/place//x", Refused),
        ("/place/&#46;&#46;/x", Refused),
        ("/../x", Refused),
        ("/x", Refused),
        ("/placex/x", Refused),
        ("x", Refused),
        ("../x", Refused),
        ("//127.0.0.2/place/x", Refused),
        ("http://127.0.0.2/place/x", Refused),
        ("file:///place/x", Refused),
        ("/place/%c0%ae%c0%ae", Refused),
        ("/place/%uff0e%uff0e", Refused),
        ("/place/..%5cx", Skipped),
        ("/place/a%00b", Skipped),
        ("/place/a%0d%0ab", Skipped),
        ("/place/%252e%252e", Kept("%2e%2e")),
        ("/place/..%252fx", Kept("..%2fx")),
        ("/place/%ef%bc%8e%ef%bc%8e", Kept("\u{ff0e}\u{ff0e}")),
    ] {
        let rest = dav();
        let folder = multistatus(&(file(href, 1) + &file("/place/~good", 1)));
        let server = Scripted::start(move |asked| match rest(asked) {
            Some(answer) => answer,
            None if asked.line().starts_with("PROPFIND /place/ ") => xml(207, &folder),
            None => answer(404, "", b""),
        })
        .await;
        let url = format!("{}/place", server.url());
        let config = http::Config { wire: servers::loopback(), ..http::Config::new(url, None) };
        let driver = open_http(config).await.unwrap();
        assert_fate(&*driver, fate, href).await;
        let asked = server.asked();
        let is_inside = |line: &str| line.starts_with("OPTIONS /place/ ") || line.contains(" /place/");
        assert!(asked.iter().all(|asked| is_inside(asked.line())), "{href}: nobody looks elsewhere");
    }
}
