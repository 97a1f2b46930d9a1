//! Copies in parts, by servers that can and by servers that cannot.

use super::{
    Scripted, assert_kind, open_s3,
    scripted::{Asked, answer, xml},
};
use crate::{
    servers,
    support::{all_keys, fresh_key, noise, read, write},
};
use coffer_domain::{driver::ErrorKind, id::UploadId, path::Key};
use coffer_drivers::s3::{self, LEAST_PART_BYTES};
use coffer_test_servers::Kind;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

const MIB: u64 = 1024 * 1024;

fn head_of(size: u64) -> Vec<u8> {
    let date = "last-modified: Sun, 22 Nov 2026 19:07:46 GMT";
    format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: {size}\r\n{date}\r\n\r\n").into_bytes()
}

fn config(url: &str) -> s3::Config {
    s3::Config { copied_at_once_bytes: LEAST_PART_BYTES, ..servers::s3_config(url, "bucket") }
}

/// S3 with an object "from" of 12 MiB. `part` answers a request to copy a part, `whole` one to copy all of it.
async fn s3(
    part: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    whole: impl Fn() -> Vec<u8> + Send + Sync + 'static,
) -> Scripted {
    let (is_there, stored) = (AtomicBool::new(false), Mutex::new(String::new()));
    Scripted::start(move |asked| {
        let line = asked.line().to_owned();
        let method = line.split(' ').next().unwrap();
        match method {
            _ if line.contains("?versioning") => xml(200, "<VersioningConfiguration/>"),
            _ if line.contains("/.coffer/check/") => xml(400, "<Error><Code>BadDigest</Code></Error>"),
            "HEAD" if line.contains("/from ") => head_of(12 * MIB),
            "HEAD" if line.contains("/to ") && is_there.load(SeqCst) => head_of(12 * MIB),
            "HEAD" => answer(404, "", b""),
            "POST" if line.contains("?uploads") => {
                let id = "<UploadId>u1</UploadId>";
                xml(200, &format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"))
            }
            "POST" => {
                is_there.store(true, SeqCst);
                xml(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
            }
            "PUT" if line.contains("uploadId=u1") => {
                assert_eq!(asked.header("x-amz-copy-source"), Some("bucket/from"));
                let answered = part(asked);
                let range = asked.header("x-amz-copy-source-range").unwrap().strip_prefix("bytes=").unwrap();
                let (start, last) = range.split_once('-').unwrap();
                let size = last.parse::<u64>().unwrap() + 1 - start.parse::<u64>().unwrap();
                let number = start.parse::<u64>().unwrap() / LEAST_PART_BYTES + 1;
                let part = format!(
                    "<Part><PartNumber>{number}</PartNumber><ETag>e{number}</ETag><Size>{size}</Size></Part>"
                );
                stored.lock().unwrap().push_str(&part);
                answered
            }
            "PUT" if asked.header("x-amz-copy-source").is_some() => {
                let answered = whole();
                is_there.store(answered.starts_with(b"HTTP/1.1 200"), SeqCst);
                answered
            }
            "PUT" => answer(200, "etag: \"x\"\r\n", b""),
            "DELETE" => answer(204, "", b""),
            _ if line.contains("uploadId=u1") => {
                let parts = stored.lock().unwrap();
                xml(
                    200,
                    &format!("<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"),
                )
            }
            _ => xml(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        }
    })
    .await
}

fn keys() -> (Key, Key) {
    (Key::parse("from").unwrap(), Key::parse("to").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_is_copied_in_parts() {
    let etag = |_: &Asked| xml(200, "<CopyPartResult><ETag>e</ETag></CopyPartResult>");
    let server = s3(etag, || unreachable!("it is copied in parts")).await;
    let driver = open_s3(config(&server.url())).await.unwrap();
    let (from, to) = keys();
    assert_eq!(driver.copy(UploadId::new(), &from, &to).await.unwrap().size, 12 * MIB);
    let asked = server.asked();
    let mut ranges: Vec<_> =
        asked.iter().filter_map(|asked| asked.header("x-amz-copy-source-range").map(str::to_owned)).collect();
    ranges.sort();
    assert_eq!(ranges, ["bytes=0-5242879", "bytes=10485760-12582911", "bytes=5242880-10485759"]);
    let is_end = |asked: &&Asked| asked.is("POST") && asked.line().contains("uploadId=u1");
    let end = String::from_utf8(asked.iter().find(is_end).unwrap().body.clone()).unwrap();
    assert_eq!(end.matches("<PartNumber>").count(), 3);
    assert!(asked.iter().any(|asked| asked.is("DELETE") && asked.line().contains("/multipart ")));
}

/// Whatever it is that a server does not copy, the upload of the parts ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_copy_parts_copies_the_whole_or_says_so() {
    for (body, whole, expected) in [
        ("", "<CopyObjectResult></CopyObjectResult>", None),
        ("", "<Error><Code>InvalidRequest</Code></Error>", Some(ErrorKind::Unsupported)),
        ("<Error><Code>NotImplemented</Code></Error>", "<CopyObjectResult></CopyObjectResult>", None),
        ("<Error><Code>AccessDenied</Code></Error>", "", Some(ErrorKind::Denied)),
    ] {
        let server = s3(
            move |_| xml(200, body),
            move || match whole.contains("Error") {
                true => xml(400, whole),
                false => xml(200, whole),
            },
        );
        let server = server.await;
        let driver = open_s3(config(&server.url())).await.unwrap();
        let (from, to) = keys();
        let copied = driver.copy(UploadId::new(), &from, &to).await;
        match expected {
            None => assert_eq!(copied.unwrap().size, 12 * MIB),
            Some(kind) => assert_kind(copied, kind, body),
        }
        let is_abort = |asked: &Asked| asked.is("DELETE") && asked.line().contains("uploadId=u1");
        assert!(server.asked().iter().any(is_abort), "{body}");
    }
}

/// The real one stores empty parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone_copies_what_is_larger_than_a_part() {
    let Some(server) = Kind::RcloneS3.shared() else { return };
    let config = servers::s3_config(&server.url(), &server.place());
    let config = s3::Config { copied_at_once_bytes: LEAST_PART_BYTES, ..config };
    let driver = open_s3(config).await.unwrap();
    let (from, to, content) = (fresh_key(), fresh_key(), noise(12_345_678, 1));
    write(&*driver, &from, &content).await.unwrap();
    assert_eq!(driver.copy(UploadId::new(), &from, &to).await.unwrap().size, content.len() as u64);
    assert!(read(&*driver, &to).await.unwrap() == content);
    assert_eq!(all_keys(&*driver, ".coffer/", 10).await, [""; 0]);
}
