//! Servers that answer what they should not.

use super::{
    Scripted, assert_kind, open_http, open_s3,
    scripted::{Asked, answer, xml},
};
use crate::{
    servers,
    support::{fresh_key, kind, noise, read},
};
use coffer_domain::{
    driver::{Driver, ErrorKind, PieceSize, WriteOptions},
    endpoint::Login,
    id::UploadId,
    path::Key,
    secret::Secret,
};
use coffer_drivers::http;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// S3 that refuses wrong sums, as it should, and answers everything else so.
pub(super) async fn s3(
    script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
) -> (Arc<dyn Driver>, Scripted) {
    let server = Scripted::start(move |asked| {
        if asked.line().contains("/.coffer/check/") {
            assert_eq!(asked.header("x-amz-checksum-crc32c"), Some("AAAAAA=="));
            return xml(400, "<Error><Code>BadDigest</Code></Error>");
        }
        if asked.is("GET") && asked.line().contains("?versioning") {
            return xml(200, "<VersioningConfiguration/>");
        }
        script(asked)
    })
    .await;
    let driver = open_s3(servers::s3_config(&server.url(), "bucket")).await.unwrap();
    (driver, server)
}

const DATE: &str = "last-modified: Sun, 22 Nov 2026 19:07:46 GMT\r\n";

pub(super) fn listing(contents: &str) -> String {
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
}

pub(super) fn object(key: &str, size: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-22T19:07:46.000Z</LastModified></Contents>"
    )
}

/// An empty listing would make somebody believe that everything is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_is_none_is_never_an_empty_one() {
    let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaaaaaa\">]>{}", listing(&object("&a;", "1")));
    let page_without_end = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    for (status, body, expected) in [
        (200, "<Error><Code>InternalError</Code></Error>".to_owned(), ErrorKind::Unavailable),
        (200, "<Error><Code>AccessDenied</Code></Error>".to_owned(), ErrorKind::Denied),
        (200, String::new(), ErrorKind::BadAnswer),
        (200, "<html>Please log in</html>".to_owned(), ErrorKind::BadAnswer),
        (200, "{}".to_owned(), ErrorKind::BadAnswer),
        (200, listing(&object("a", "abc")), ErrorKind::BadAnswer),
        (200, listing(&object("a", "-1")), ErrorKind::BadAnswer),
        (200, listing(&(object("b", "1") + &object("a", "1"))), ErrorKind::BadAnswer),
        (200, "<ListBucketResult></ListBucketResult>".to_owned(), ErrorKind::BadAnswer),
        (200, page_without_end.to_owned(), ErrorKind::BadAnswer),
        (200, listing("")[..20].to_owned(), ErrorKind::BadAnswer),
        (200, bomb, ErrorKind::BadAnswer),
        (200, format!("<ListBucketResult>{}", "<a>".repeat(1000)), ErrorKind::BadAnswer),
        (200, listing(&" ".repeat(9 * 1024 * 1024)), ErrorKind::BadAnswer),
        (404, "<Error><Code>NoSuchBucket</Code></Error>".to_owned(), ErrorKind::Unavailable),
        (503, "<Error><Code>SlowDown</Code></Error>".to_owned(), ErrorKind::Unavailable),
        (503, "busy".to_owned(), ErrorKind::Unavailable),
        (500, String::new(), ErrorKind::Unavailable),
        (403, String::new(), ErrorKind::Denied),
    ] {
        let of = format!("{status} {}", &body[..body.len().min(100)]);
        let (driver, _server) = s3(move |_| xml(status, &body)).await;
        assert_kind(driver.list("", None, 10).await, expected, &of);
    }
    let (driver, _server) = s3(|_| xml(200, &listing(&object("a%2Fb+c", "5")))).await;
    let found = driver.list("", None, 10).await.unwrap();
    assert_eq!((found[0].key.as_str(), found[0].stat.size), ("a/b c", 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let other = Scripted::start(|_| answer(200, "", b"")).await;
    let headers = format!("location: {}/elsewhere\r\n", other.url());
    let (driver, _server) = s3({
        let headers = headers.clone();
        move |_| answer(307, &headers, b"")
    })
    .await;
    assert_kind(driver.stat(&fresh_key()).await, ErrorKind::BadAnswer, "S3");
    let server = Scripted::start(move |_| answer(302, &headers, b"")).await;
    let config = http::Config {
        wire: servers::loopback(),
        ..http::Config::new(server.url(), Some(Login::Bearer { token: Secret::new("secret") }))
    };
    assert_kind(open_http(config).await, ErrorKind::BadAnswer, "HTTP");
    assert_eq!(other.asked().len(), 0, "the secret goes nowhere else");
}

/// Versions of a bucket that does not tell about them are not relied upon; one that is busy is not taken for such a bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_tell_keeps_no_versions() {
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    for (status, body, expected) in [
        (200, enabled, Ok(true)),
        (200, "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>", Ok(false)),
        (200, "<VersioningConfiguration/>", Ok(false)),
        (501, "<Error><Code>NotImplemented</Code></Error>", Ok(false)),
        (403, "<Error><Code>AccessDenied</Code></Error>", Ok(false)),
        (400, "<Error><Code>InvalidRequest</Code></Error>", Ok(false)),
        (200, "<html/>", Err(ErrorKind::BadAnswer)),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", Err(ErrorKind::Unavailable)),
        (503, "<Error><Code>SlowDown</Code></Error>", Err(ErrorKind::Unavailable)),
    ] {
        let server = Scripted::start(move |asked| match asked.line() {
            line if line.contains("?versioning") => xml(status, body),
            _ => xml(400, "<Error><Code>BadDigest</Code></Error>"),
        })
        .await;
        let opened = open_s3(servers::s3_config(&server.url(), "bucket")).await;
        let found = opened.map(|driver| driver.capabilities().versions).map_err(|failure| failure.kind);
        assert_eq!(found, expected, "{status} {body}");
    }
}

/// A busy server is asked again, and what it was sent the first time is sent again whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_asked_again() {
    let puts = Arc::new(AtomicUsize::new(0));
    let content = noise(100_000, 1);
    let (sent, counted) = (content.clone(), Arc::clone(&puts));
    let (driver, server) = s3(move |asked| match asked {
        _ if asked.is("PUT") && counted.fetch_add(1, Ordering::SeqCst) < 2 => {
            xml(503, "<Error><Code>SlowDown</Code></Error>")
        }
        _ if asked.is("PUT") => answer(200, "etag: \"x\"\r\n", b""),
        _ if asked.is("HEAD") && counted.load(Ordering::SeqCst) < 3 => answer(404, "", b""),
        _ => format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: 100000\r\n{DATE}\r\n")
            .into_bytes(),
    })
    .await;
    assert_eq!(
        driver.store(UploadId::new(), &fresh_key(), vec![content.clone()]).await.unwrap().size,
        100_000
    );
    assert_eq!(puts.load(Ordering::SeqCst), 3);
    let bodies: Vec<_> =
        server.asked().into_iter().filter(|asked| asked.is("PUT") && asked.body.len() > 60).collect();
    assert_eq!(bodies.len(), 3);
    for asked in bodies {
        assert!(asked.body == sent);
        let sum = data_encoding::BASE64.encode(&crc32c::crc32c(&sent).to_be_bytes());
        assert_eq!(asked.header("x-amz-checksum-crc32c"), Some(sum.as_str()));
        assert_eq!(asked.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
        assert!(
            asked.header("authorization").unwrap().contains("x-amz-checksum-crc32c"),
            "what is sent is signed"
        );
    }
}

/// The size that the backend has is told, whatever it is: the caller compares.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_is_another_is_told() {
    let is_put = Arc::new(AtomicUsize::new(0));
    let (driver, _server) = s3(move |asked| match asked {
        _ if asked.is("PUT") => {
            is_put.store(1, Ordering::SeqCst);
            answer(200, "etag: \"x\"\r\n", b"")
        }
        _ if is_put.load(Ordering::SeqCst) == 0 => answer(404, "", b""),
        _ => format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: 999\r\n{DATE}\r\n").into_bytes(),
    })
    .await;
    assert_eq!(driver.store(UploadId::new(), &fresh_key(), vec![noise(1000, 1)]).await.unwrap().size, 999);
}

/// A multipart upload in the form that S3 has it, with sums for every part; its end may fail with status 200.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_fails_with_status_200_publishes_nothing() {
    let (driver, server) = s3(|asked| match asked.line() {
        line if line.starts_with("POST") && line.contains("?uploads") => {
            assert_eq!(asked.header("x-amz-checksum-algorithm"), Some("CRC32C"));
            let id = "<UploadId>u1</UploadId>";
            xml(200, &format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"))
        }
        line if line.starts_with("POST") => xml(200, "<Error><Code>InvalidPart</Code></Error>"),
        line if line.starts_with("PUT") => answer(200, "etag: \"x\"\r\n", b""),
        line if line.starts_with("DELETE") => answer(204, "", b""),
        _ => answer(404, "", b""),
    })
    .await;
    let mut writer = driver.begin(UploadId::new(), &fresh_key(), WriteOptions::default()).await.unwrap();
    for n in 0..10 {
        writer.write(vec![noise(1024 * 1024, n)].into()).await.unwrap();
    }
    assert_kind(writer.finish().await, ErrorKind::Other, "finish");
    let asked = server.asked();
    let end =
        asked.iter().find(|asked| asked.line().starts_with("POST") && asked.line().contains("uploadId=u1"));
    let end = String::from_utf8(end.unwrap().body.clone()).unwrap();
    assert_eq!(end.matches("<ChecksumCRC32C>").count(), 2);
    let is_abort = |asked: &Asked| asked.is("DELETE") && asked.line().contains("uploadId=u1");
    assert!(asked.iter().any(is_abort), "parts that somebody replaced are of no use");
}

/// Answers to reads that are not of the range that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_is_another_is_no_content() {
    for (headers, expected) in [
        ("content-range: bytes 0-9/100\r\n", ErrorKind::BadAnswer),
        ("content-range: bytes 50-58/100\r\n", ErrorKind::BadAnswer),
        ("content-range: nonsense\r\n", ErrorKind::BadAnswer),
        ("", ErrorKind::Unsupported),
    ] {
        let status = if headers.is_empty() { 200 } else { 206 };
        let (driver, _server) = s3(move |_| answer(status, headers, b"0123456789")).await;
        assert_kind(driver.read(&fresh_key(), 50..60, PieceSize::default()).await, expected, headers);
    }
}

/// An object that is replaced while it is read, and a server that does not look at the condition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_is_the_same_object_or_nothing() {
    let reads = AtomicUsize::new(0);
    let (driver, _server) = s3(move |_| match reads.fetch_add(1, Ordering::SeqCst) {
        0 => {
            // Half of what it says.
            let mut short = answer(200, "etag: \"one\"\r\n", &[1; 1000]);
            short.truncate(short.len() - 500);
            short
        }
        _ => answer(206, "etag: \"two\"\r\ncontent-range: bytes 500-999/1000\r\n", &[2; 500]),
    })
    .await;
    assert_eq!(kind(read(&*driver, &fresh_key()).await), Some(ErrorKind::BadAnswer));
}

/// A server whose addresses are queries, that wants a header of its own, and that knows neither ranges nor dates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_server_with_addresses_that_are_queries_is_enough() {
    let objects = Mutex::new(HashMap::<String, Vec<u8>>::new());
    let server = Scripted::start(move |asked| {
        if asked.header("x-api-key") != Some("secret") {
            return answer(401, "", b"");
        }
        let mut objects = objects.lock().unwrap();
        let address = asked.line().split(' ').nth(1).unwrap().to_owned();
        match asked.line().split(' ').next().unwrap() {
            "PUT" => {
                objects.insert(address, asked.body.clone());
                answer(201, "", b"")
            }
            "DELETE" => answer(if objects.remove(&address).is_some() { 204 } else { 404 }, "", b""),
            "HEAD" => match objects.get(&address) {
                Some(body) => {
                    format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len())
                        .into()
                }
                None => answer(404, "", b""),
            },
            "GET" => objects.get(&address).map_or_else(|| answer(404, "", b""), |body| answer(200, "", body)),
            _ => answer(405, "", b""),
        }
    })
    .await;
    let config = http::Config {
        use_query_params: true,
        wire: servers::loopback(),
        ..http::Config::new(
            format!("{}/api/objects", server.url()),
            Some(Login::CustomHeader { name: "X-Api-Key".to_owned(), value: Secret::new("secret") }),
        )
    };
    let driver = open_http(config).await.unwrap();
    assert!(
        !driver.capabilities().range_read && !driver.capabilities().resume && !driver.capabilities().list
    );
    let (key, content) = (Key::parse("a b/&c=d").unwrap(), noise(100_000, 3));
    assert_eq!(driver.store(UploadId::new(), &key, vec![content.clone()]).await.unwrap().size, 100_000);
    assert_eq!(read(&*driver, &key).await.unwrap(), content);
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked.line().starts_with("PUT /api/objects?id=a%20b%2F%26c%3Dd ")));
    assert_kind(driver.read(&key, 5..10, PieceSize::default()).await, ErrorKind::Unsupported, "a range");
    driver.delete(&key).await.unwrap();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
}

/// A server that is full, and one that keeps less than it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_webdav_that_keeps_less_publishes_nothing() {
    let stored = Mutex::new(HashMap::<String, Vec<u8>>::new());
    let server = Scripted::start(move |asked| {
        let mut stored = stored.lock().unwrap();
        let address = asked.line().split(' ').nth(1).unwrap().to_owned();
        match asked.line().split(' ').next().unwrap() {
            "OPTIONS" => answer(200, "dav: 1\r\n", b""),
            "PUT" if address.contains("full") => answer(507, "", b""),
            "PUT" => {
                let kept = if asked.body.len() > 1000 { asked.body.len() / 2 } else { asked.body.len() };
                stored.insert(address, asked.body[..kept].to_vec());
                answer(201, "", b"")
            }
            "GET" => {
                let body = stored.get(&address).map(Vec::as_slice).unwrap_or_default();
                match asked.header("range") {
                    Some("bytes=10-19") => answer(206, "etag: \"x\"\r\ncontent-range: bytes 10-19/68\r\n", &body[10..20]),
                    _ => answer(200, "etag: \"x\"\r\n", body),
                }
            }
            "PROPFIND" => match stored.get(&address) {
                Some(body) => xml(
                    207,
                    &format!(
                        "<multistatus><response><href>{address}</href><getcontentlength>{}</getcontentlength>\
                         <getlastmodified>Sun, 22 Nov 2026 19:07:46 GMT</getlastmodified></response></multistatus>",
                        body.len()
                    ),
                ),
                None => answer(404, "", b""),
            },
            "MOVE" => panic!("half an object is given no name"),
            _ => answer(204, "", b""),
        }
    })
    .await;
    let config = http::Config { wire: servers::loopback(), ..http::Config::new(server.url(), None) };
    let driver = open_http(config).await.unwrap();
    let stored = driver.store(UploadId::new(), &fresh_key(), vec![noise(5000, 1)]).await;
    assert_kind(stored, ErrorKind::Unavailable, "less was kept");
    assert!(!server.asked().iter().any(|asked| asked.is("MOVE")));
    let put = driver.put(&Key::parse("full").unwrap(), noise(10, 1)).await;
    assert_kind(put, ErrorKind::Full, "a full server");
}
