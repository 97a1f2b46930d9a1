//! Bad transfers: refused with the right code, and nothing is left behind.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, data, finish, first, messages, noise, refusal},
};
use prost_types::{Struct, Value, value::Kind};
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Waits until nothing is under way, then shows that nothing was stored, charged or left open.
async fn nothing_is_left(cofferd: &Cofferd, expected_files: i64) {
    let since = Instant::now();
    loop {
        let busy = cofferd
            .database
            .number(
                "SELECT count(*) FROM storage_uploads WHERE state NOT IN ('COMMITTED') AND swept_at IS NULL",
            )
            .await;
        if busy == 0 {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{busy} uploads stay open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_files").await, expected_files, "files");
    assert_eq!(cofferd.objects().len() as i64, expected_files, "objects");
    let staged = coffer_tests::cofferd::files_below(&cofferd.main_volume().join(".coffer/staging"));
    assert!(staged.is_empty(), "{staged:?}");
    let used =
        cofferd.database.number("SELECT coalesce(sum(quota_used), 0)::bigint FROM storage_volumes").await;
    let stored =
        cofferd.database.number("SELECT coalesce(sum(size), 0)::bigint FROM storage_file_versions").await;
    assert_eq!(used, stored, "bytes charged");
    assert_eq!(super::uploads::held(cofferd).await, 0, "quota held");
}

async fn send(clients: &Clients, messages: Vec<v1::WriteFileRequest>) -> Status {
    clients
        .transfers
        .clone()
        .write_file(tokio_stream::iter(messages))
        .await
        .expect_err("this upload is refused")
}

fn with_sha256(message: v1::WriteFileRequest, sha256: &str) -> v1::WriteFileRequest {
    v1::WriteFileRequest { sha256: sha256.to_owned(), ..message }
}

fn with_crc32c(message: v1::WriteFileRequest, crc32c: u32) -> v1::WriteFileRequest {
    let data = message.data.clone().map(|data| v1::ChecksummedData { crc32c: Some(crc32c), ..data });
    v1::WriteFileRequest { data, ..message }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_break_the_protocol() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let declared = |size: i64| v1::UploadSpec { size_bytes: Some(size), ..at("bad.bin") };
    let other = "ab".repeat(32);
    let invalid = (Code::InvalidArgument, "FIELD_INVALID");
    let cases: Vec<(&str, Vec<v1::WriteFileRequest>, (Code, &str))> = vec![
        ("first message is a chunk", vec![data(0, b"abc"), finish(3)], invalid),
        ("no message", vec![], invalid),
        ("two specs", vec![first(at("bad.bin")), first(at("bad.bin")), finish(0)], invalid),
        (
            "spec after chunks",
            vec![first(at("bad.bin")), data(0, b"abc"), first(at("bad.bin")), finish(3)],
            invalid,
        ),
        ("ends without finish", vec![first(at("bad.bin")), data(0, b"abc")], invalid),
        (
            "fewer bytes than declared",
            vec![first(declared(10)), data(0, b"123456789"), finish(9)],
            (Code::OutOfRange, "SIZE_MISMATCH"),
        ),
        (
            "more bytes than declared",
            vec![first(declared(10)), data(0, b"12345678901"), finish(11)],
            (Code::OutOfRange, "SIZE_MISMATCH"),
        ),
        (
            "declared size is beyond any disk",
            vec![first(declared(i64::MAX)), finish(0)],
            (Code::ResourceExhausted, "FILE_TOO_LARGE"),
        ),
        ("declared size is negative", vec![first(declared(-1)), finish(0)], invalid),
        (
            "sha256 of other content",
            vec![first(at("bad.bin")), data(0, b"abc"), with_sha256(finish(3), &other)],
            (Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        ),
        (
            "sha256 of other content, declared",
            vec![
                first(v1::UploadSpec { sha256: other.clone(), ..at("bad.bin") }),
                data(0, b"abc"),
                finish(3),
            ],
            (Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        ),
        ("sha256 too short", vec![first(at("bad.bin")), with_sha256(finish(0), "abcd")], invalid),
        (
            "sha256 in capitals",
            vec![first(v1::UploadSpec { sha256: other.to_uppercase(), ..at("bad.bin") }), finish(0)],
            invalid,
        ),
        (
            "crc32c of other bytes",
            vec![first(at("bad.bin")), with_crc32c(data(0, b"abc"), 1), finish(3)],
            (Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        ),
        (
            "a gap",
            vec![first(at("bad.bin")), data(0, b"abc"), data(4, b"e"), finish(5)],
            (Code::OutOfRange, "OFFSET_GAP"),
        ),
        ("a negative offset", vec![first(at("bad.bin")), data(-1, b"abc"), finish(2)], invalid),
        (
            "a message over 2 MiB",
            vec![first(at("bad.bin")), data(0, &noise(2 * 1024 * 1024 + 1)), finish(0)],
            (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        ),
        (
            "a message over 4 MiB",
            vec![first(at("bad.bin")), data(0, &noise(4 * 1024 * 1024 + 1)), finish(0)],
            (Code::OutOfRange, ""),
        ),
        (
            "endless empty messages",
            std::iter::once(first(at("bad.bin"))).chain((0..3_000).map(|_| data(0, b""))).collect(),
            invalid,
        ),
    ];
    assert_eq!(cases.len(), 19);
    for (name, messages, (code, reason)) in cases {
        let status = send(&ann, messages).await;
        assert_eq!(refusal(&status), (code, reason.to_owned()), "{name}: {status:?}");
    }
    nothing_is_left(&cofferd, 0).await;
    // The connection survived all of it.
    ann.upload(at("good.bin"), b"abc").await.unwrap();
    nothing_is_left(&cofferd, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_with_bad_fields() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let object = |fields: Vec<(String, Value)>| Some(Struct { fields: fields.into_iter().collect() });
    let nested = |levels: usize| {
        (0..levels).fold(text("x"), |inner, _| Value {
            kind: Some(Kind::StructValue(Struct { fields: [("a".to_owned(), inner)].into() })),
        })
    };
    let number = |n: f64| Value { kind: Some(Kind::NumberValue(n)) };
    let base = || at("spec.bin");
    let cases: Vec<(&str, v1::UploadSpec)> = vec![
        ("spec.mime_type", v1::UploadSpec { mime_type: "text/html\r\nX: y".into(), ..base() }),
        ("spec.mime_type", v1::UploadSpec { mime_type: "x".repeat(10_240), ..base() }),
        ("spec.tags", v1::UploadSpec { tags: (0..10_000).map(|n| n.to_string()).collect(), ..base() }),
        ("spec.tags", v1::UploadSpec { tags: vec!["x".repeat(10_240)], ..base() }),
        ("spec.tags", v1::UploadSpec { tags: vec!["a".into(), "a".into()], ..base() }),
        (
            "spec.custom_metadata",
            v1::UploadSpec {
                custom_metadata: object(vec![("a".into(), text(&"x".repeat(1_000_000)))]),
                ..base()
            },
        ),
        (
            "spec.custom_metadata",
            v1::UploadSpec { custom_metadata: object(vec![("a".into(), nested(20))]), ..base() },
        ),
        (
            "spec.custom_metadata",
            v1::UploadSpec { custom_metadata: object(vec![("a".into(), number(f64::NAN))]), ..base() },
        ),
        (
            "spec.custom_metadata",
            v1::UploadSpec { custom_metadata: object(vec![("a".into(), text("x\0y"))]), ..base() },
        ),
        (
            "spec.custom_metadata",
            v1::UploadSpec {
                custom_metadata: object((0..2_000).map(|n| (n.to_string(), text(""))).collect()),
                ..base()
            },
        ),
        ("spec.classification", v1::UploadSpec { classification: 99, ..base() }),
        ("spec.request_id", v1::UploadSpec { request_id: "not-a-uuid".into(), ..base() }),
        ("spec.request_id", v1::UploadSpec { request_id: "x".repeat(10_240), ..base() }),
        ("spec.file_id", v1::UploadSpec { file_id: "file_mine".into(), ..base() }),
        ("spec.file_id", v1::UploadSpec { file_id: "a b".into(), ..base() }),
        ("spec.volume", v1::UploadSpec { volume: "No Such Name".into(), ..base() }),
        (
            "spec.file.id",
            v1::UploadSpec { path: String::new(), file: by_id("nonsense"), ..Default::default() },
        ),
        ("spec.filename", v1::UploadSpec::default()),
        ("spec.path", v1::UploadSpec { file: by_id(&uuid::Uuid::now_v7().to_string()), ..base() }),
    ];
    assert_eq!(cases.len(), 19);
    for (field, spec) in cases {
        let status = ann.upload(spec, b"x").await.unwrap_err();
        assert_eq!(
            refusal(&status),
            (Code::InvalidArgument, "FIELD_INVALID".to_owned()),
            "{field}: {status:?}"
        );
        assert_eq!(bad_fields(&status), [field]);
    }
    for path in [
        ".",
        "..",
        "a/../b",
        "/etc/x",
        "C:\\x",
        "a\0b",
        "a\r\nDELE x",
        &"x".repeat(256),
        &vec!["abcdefgh"; 600].join("/"),
        &vec!["a"; 200].join("/"),
        "a/b ",
        "a/b.",
        "CON",
        "a\u{202E}b",
        "a\u{200B}b",
        ".coffer/volume.json",
        "a//b",
        "a/",
    ] {
        let status = ann.upload(at(path), b"x").await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, bad_fields(&status)),
            (Code::InvalidArgument, vec!["spec.path".to_owned()]),
            "{path:?}"
        );
    }
    // All bad fields at once.
    let status = ann
        .upload(
            v1::UploadSpec { classification: 99, request_id: "x".into(), sha256: "y".into(), ..base() },
            b"",
        )
        .await
        .unwrap_err();
    let mut fields = bad_fields(&status);
    fields.sort();
    assert_eq!(fields, ["spec.classification", "spec.request_id", "spec.sha256"]);
    nothing_is_left(&cofferd, 0).await;
    let literal = ann.upload(at("%2e%2e%2f"), b"x").await.unwrap();
    assert_eq!(literal.path, "%2e%2e%2f");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stalls_is_cut() {
    let cofferd = Cofferd::start_with(&[("transfer.stall_timeout", "1s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for sent in [vec![first(at("stall.bin"))], vec![first(at("stall.bin")), data(0, &noise(1_500_000))]] {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        for message in sent {
            sender.send(message).await.unwrap();
        }
        let status = ann
            .transfers
            .clone()
            .write_file(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
            .unwrap_err();
        assert_eq!(refusal(&status), (Code::DeadlineExceeded, "STREAM_STALLED".to_owned()));
        drop(sender);
    }
    nothing_is_left(&cofferd, 0).await;

    let file = ann.upload(at("large.bin"), &noise(60_000_000)).await.unwrap();
    let mut stream = ann
        .transfers
        .clone()
        .read_file(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a consumer that took nothing for three seconds was served"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "STREAM_STALLED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_leaves_nothing() {
    let cofferd = Cofferd::start().await;
    let (address, token) =
        (format!("http://{}", cofferd.grpc_addr()), cofferd.token(&Token::user("ann", "clinic")));
    for sent in [0, 1, 3, 30] {
        let (address, token) = (address.clone(), token.clone());
        // A runtime of its own, so that its end closes the connection as the end of a process would.
        let client = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let channel =
                    tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
                let mut transfers = v1::transfer_service_client::TransferServiceClient::new(channel);
                let messages = messages(at("left.bin"), &noise(sent * 65_536)).into_iter().take(sent + 1);
                let stream =
                    tokio_stream::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::pending());
                let mut request = tonic::Request::new(stream);
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
                let outcome =
                    tokio::time::timeout(Duration::from_millis(300), transfers.write_file(request)).await;
                assert!(outcome.is_err(), "the upload is under way");
            });
        });
        tokio::task::spawn_blocking(|| client.join()).await.unwrap().unwrap();
    }
    let since = Instant::now();
    while cofferd
        .database
        .number("SELECT count(*) FROM storage_operations WHERE error_code = 'CLIENT_LEFT'")
        .await
        < 4
    {
        let seen = cofferd
            .database
            .connect()
            .await
            .query("SELECT operation, status, error_code FROM storage_operations", &[])
            .await
            .unwrap();
        let seen: Vec<_> = seen
            .iter()
            .map(|row| (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, Option<String>>(2)))
            .collect();
        assert!(since.elapsed() < Duration::from_secs(10), "every left upload is in the trail: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    nothing_is_left(&cofferd, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_and_bytes_one_by_one() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let spec = v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..at("slow.bin") };
    let earlier = ann.writing();
    assert!(earlier.send(first(spec.clone())).await);
    let since = Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_uploads WHERE state = 'OPEN'").await == 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "the first stream begins");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another stream of the same request takes over, and goes on undisturbed, a byte at a time.
    let slow = ann.writing();
    assert!(slow.send(first(spec)).await);
    let status = earlier.answer().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Aborted, "UPLOAD_TAKEN_OVER".to_owned()));
    for n in 0..5_000 {
        assert!(slow.send(data(n, &[n as u8])).await);
    }
    assert!(slow.send(finish(5_000)).await);
    assert_eq!(slow.end().await.unwrap().persisted_size, 5_000);
    nothing_is_left(&cofferd, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_the_stream() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").ttl("2s")).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let _ = sender.send(first(at("late.bin"))).await;
        for n in 0.. {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if sender.send(data(n * 3, b"abc")).await.is_err() {
                break;
            }
        }
    });
    let status = ann
        .transfers
        .clone()
        .write_file(tokio_stream::wrappers::ReceiverStream::new(receiver))
        .await
        .unwrap_err();
    assert_eq!(refusal(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    nothing_is_left(&cofferd, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_so() {
    if !rustix::process::geteuid().is_root() {
        return coffer_tests::missing::ignore("the right to mount a small file system");
    }
    let cofferd = Cofferd::start().await;
    let disk = cofferd.disks().join("small");
    std::fs::create_dir(&disk).unwrap();
    let mount =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).status().unwrap().success();
    let target = disk.to_str().unwrap();
    assert!(mount(&["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", target]));
    struct Unmount<'a>(&'a str);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").args(["--lazy", self.0]).status();
        }
    }
    let _mounted = Unmount(target);
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let volume = super::volumes::local_volume(&operator, "small", target, v1::VersioningMode::None).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for size in [None, Some(5_000_000)] {
        let spec = v1::UploadSpec { volume: volume.name.clone(), size_bytes: size, ..at("big.bin") };
        let status = ann.upload(spec, &noise(5_000_000)).await.unwrap_err();
        assert_eq!(
            refusal(&status),
            (Code::ResourceExhausted, "VOLUME_FULL".to_owned()),
            "declared {size:?}"
        );
    }
    nothing_is_left(&cofferd, 0).await;
    let left: Vec<_> = coffer_tests::cofferd::files_below(&disk)
        .into_iter()
        .filter(|f| !f.ends_with("volume.json"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    ann.upload(v1::UploadSpec { volume: volume.name, ..at("small.bin") }, &noise(100_000)).await.unwrap();
}
