//! Contents in and out.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, by_path, messages, noise, refusal},
};
use sha2::Digest as _;
use tonic::Code;

fn sha256(content: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(content))
}

async fn read(clients: &Clients, request: v1::ReadFileRequest) -> Vec<u8> {
    clients.read(request).await.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_bit_for_bit() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for size in [0, 1, 65_536, 262_144, 262_145, 5_000_000] {
        let content = noise(size);
        let file = ann.upload(at(&format!("scans/{size}.bin")), &content).await.unwrap();
        assert_eq!(file.size_bytes, size as i64);
        assert_eq!(file.sha256, sha256(&content));
        assert_eq!(file.crc32c, crc32c::crc32c(&content));
        let (metadata, read) =
            ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap();
        assert!(read == content, "{size} bytes come back as they were");
        assert_eq!(metadata.length, size as i64);
    }
    assert_eq!(cofferd.objects().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_cut_from_either_end() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(1_000_000);
    let file = ann.upload(at("range.bin"), &content).await.unwrap();
    let range = |offset: i64, length: i64| v1::ReadFileRequest {
        file: by_id(&file.id),
        offset,
        length,
        ..Default::default()
    };
    for (offset, length, expected) in [
        (0, 10, &content[..10]),
        (10, 300_000, &content[10..300_010]),
        (999_990, 0, &content[999_990..]),
        (999_990, 100, &content[999_990..]),
        (-10, 0, &content[999_990..]),
        (-10, 3, &content[999_990..999_993]),
        (-5_000_000, 0, &content[..]),
        (1_000_000, 0, &[]),
        (0, i64::MAX, &content[..]),
    ] {
        assert!(read(&ann, range(offset, length)).await == expected, "offset {offset}, length {length}");
    }
    for (offset, length, code, reason) in [
        (1_000_001, 0, Code::OutOfRange, "RANGE_PAST_END"),
        (1, i64::MAX, Code::InvalidArgument, "FIELD_INVALID"),
        (0, -1, Code::InvalidArgument, "FIELD_INVALID"),
    ] {
        let status = ann.read(range(offset, length)).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.to_owned()), "offset {offset}, length {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_says_of_a_file_is_kept() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let metadata = prost_types::Struct {
        fields: [(
            "department".to_owned(),
            prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("cardiology".into())) },
        )]
        .into(),
    };
    let spec = v1::UploadSpec {
        path: "patients/P001/report.pdf".into(),
        file_id: "scan:2026/1".into(),
        encoding: "gzip".into(),
        classification: v1::Classification::Confidential.into(),
        tags: vec!["document".into(), "patient-record".into()],
        custom_metadata: Some(metadata.clone()),
        project_id: "trial".into(),
        size_bytes: Some(3),
        sha256: sha256(b"abc"),
        ..Default::default()
    };
    let file = ann.upload(spec, b"abc").await.unwrap();
    assert_eq!(file.file_id, "scan:2026/1");
    assert_eq!((file.filename.as_str(), file.original_name.as_str()), ("report.pdf", "report.pdf"));
    assert_eq!(file.mime_type, "application/pdf");
    assert_eq!(file.encoding, "gzip");
    assert_eq!(file.classification(), v1::Classification::Confidential);
    assert_eq!(file.tags, ["document", "patient-record"]);
    assert_eq!(file.custom_metadata, Some(metadata));
    assert_eq!(
        (file.organisation_id.as_str(), file.app_id.as_str(), file.project_id.as_str()),
        ("clinic", "viewer", "trial")
    );
    assert_eq!(
        (file.namespace(), file.provider(), file.status()),
        (v1::Namespace::Users, v1::Provider::Local, v1::FileStatus::Active)
    );
    assert_eq!((file.owner_user_id.as_str(), file.version), (file.created_by.as_str(), 1));

    let named = v1::FileReference { by: Some(v1::file_reference::By::FileId("scan:2026/1".into())) };
    for reference in [by_id(&file.id), Some(named), by_path("patients/P001/report.pdf")] {
        let found = ann
            .files
            .clone()
            .get_file(v1::GetFileRequest { file: reference })
            .await
            .unwrap()
            .into_inner()
            .file
            .unwrap();
        assert_eq!(found, file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_path_gets_one_of_its_own() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let spec = v1::UploadSpec { filename: "note.txt".into(), ..Default::default() };
    let (first, second) =
        (ann.upload(spec.clone(), b"1").await.unwrap(), ann.upload(spec, b"2").await.unwrap());
    assert_eq!(first.path, format!("users/{}/{}/note.txt", first.owner_user_id, first.id));
    assert_ne!(first.path, second.path);
    assert_eq!(first.mime_type, "text/plain");
    let bot = cofferd.clients(&Token::app("chat", "clinic")).await;
    let file =
        bot.upload(v1::UploadSpec { filename: "log".into(), ..Default::default() }, b"").await.unwrap();
    assert_eq!((file.namespace(), file.path), (v1::Namespace::Apps, format!("apps/chat/{}/log", file.id)));
    assert_eq!(file.mime_type, "application/octet-stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploading_to_a_live_path_makes_a_version() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let spec = v1::UploadSpec {
        tags: vec!["kept".into()],
        classification: v1::Classification::Restricted.into(),
        ..at("caf\u{e9}.txt")
    };
    let first = ann.upload(spec, b"first").await.unwrap();
    let second = ann
        .upload(
            v1::UploadSpec { mime_type: "text/markdown".into(), ..at("cafe\u{301}.txt") },
            b"second content",
        )
        .await
        .unwrap();
    assert_eq!((second.id.as_str(), second.version), (first.id.as_str(), 2));
    assert_eq!(second.path, first.path, "kept as given first");
    assert_eq!(
        (second.mime_type.as_str(), second.classification()),
        ("text/markdown", v1::Classification::Restricted)
    );
    assert_eq!(second.tags, ["kept"]);
    assert_ne!(second.etag, first.etag);
    assert_eq!(
        read(&ann, v1::ReadFileRequest { file: by_id(&first.id), ..Default::default() }).await,
        b"second content"
    );

    // The default volume keeps no versions: the replaced object goes, and its bytes are given back.
    let status = ann
        .read(v1::ReadFileRequest { file: by_id(&first.id), version: 1, ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(refusal(&status), (Code::NotFound, "NOT_FOUND".to_owned()));
    for _ in 0..200 {
        if cofferd.objects().len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(cofferd.objects().len(), 1);
    assert_eq!(cofferd.database.number("SELECT quota_used FROM storage_volumes").await, 14);

    let status =
        ann.upload(v1::UploadSpec { create_only: true, ..at("caf\u{e9}.txt") }, b"x").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::AlreadyExists, "PATH_TAKEN".to_owned()));
    let stale = v1::UploadSpec { if_etag: first.etag, ..at("caf\u{e9}.txt") };
    assert_eq!(
        refusal(&ann.upload(stale, b"x").await.unwrap_err()),
        (Code::Aborted, "ETAG_MISMATCH".to_owned())
    );
    let current = v1::UploadSpec { file: by_id(&second.id), if_etag: second.etag, ..Default::default() };
    assert_eq!(ann.upload(current, b"third").await.unwrap().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_path_many_uploads_at_once_never_mix() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let uploads = (0..16u8).map(|n| {
        let ann = ann.clone();
        tokio::spawn(async move { ann.upload(at("race.bin"), &vec![n; 300_000]).await.unwrap() })
    });
    let files = futures_util::future::join_all(uploads).await;
    let mut versions: Vec<_> = files.iter().map(|file| file.as_ref().unwrap().version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
    let content = read(&ann, v1::ReadFileRequest { file: by_path("race.bin"), ..Default::default() }).await;
    assert!(
        content.len() == 300_000 && content.iter().all(|byte| *byte == content[0]),
        "one upload's bytes, whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_upload_sent_again_answers_the_same_file() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let spec = v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..at("once.bin") };
    let first = ann.upload(spec.clone(), b"content").await.unwrap();
    assert_eq!(ann.upload(spec.clone(), b"content").await.unwrap(), first);
    let status = ann.upload(spec.clone(), b"another").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    let status =
        ann.upload(v1::UploadSpec { path: "elsewhere.bin".into(), ..spec }, b"content").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_file_versions").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_with_many_contents_is_answered_for_one_of_them_only() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    for round in 0..20 {
        let request_id = uuid::Uuid::now_v7().to_string();
        let uploads = (0..8u8).map(|n| {
            let (ann, request_id) = (ann.clone(), request_id.clone());
            tokio::spawn(async move {
                let spec = v1::UploadSpec { request_id, ..at(&format!("{round}.bin")) };
                (n, ann.upload(spec, &[n; 3]).await)
            })
        });
        let mut stored = 0;
        for outcome in futures_util::future::join_all(uploads).await {
            match outcome.unwrap() {
                (n, Ok(file)) => {
                    assert_eq!(file.sha256, sha256(&[n; 3]), "an answer is for the content that was sent");
                    stored += 1;
                }
                (_, Err(status)) => {
                    let (_, reason) = refusal(&status);
                    // Whoever comes later takes over, or finds it finished, or finds that it ended with another's content.
                    let expected =
                        ["REQUEST_IN_FLIGHT", "REQUEST_ID_REUSED", "UPLOAD_TAKEN_OVER", "UPLOAD_FENCED"];
                    assert!(expected.contains(&reason.as_str()), "{status:?}");
                }
            }
        }
        assert_eq!(stored, 1);
    }
    assert_eq!(cofferd.database.number("SELECT count(*) FROM storage_file_versions").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_is_skipped_and_checksums_are_checked() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(200_000);
    let mut sent = messages(at("overlap.bin"), &content);
    for message in sent.iter_mut().skip(2) {
        // Every message but the first repeats the ten bytes before it.
        let Some(data) = message.data.as_mut() else { continue };
        let from = message.write_offset as usize - 10;
        let whole = &content[from..from + 10 + data.content.len()];
        *data = v1::ChecksummedData { content: whole.to_vec().into(), crc32c: Some(crc32c::crc32c(whole)) };
        message.write_offset -= 10;
    }
    let last = sent.last_mut().unwrap();
    last.sha256 = sha256(&content);
    let file = ann.transfers.clone().write_file(tokio_stream::iter(sent)).await.unwrap().into_inner();
    assert_eq!(file.persisted_size, 200_000);
    assert_eq!(file.file.unwrap().sha256, sha256(&content));
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_bytes_that_change_are_never_served_as_whole() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(700_000);
    type Damage = fn(&std::path::Path);
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let shorten: Damage =
        |path| std::fs::File::options().write(true).open(path).unwrap().set_len(699_999).unwrap();
    let lengthen: Damage =
        |path| std::fs::File::options().write(true).open(path).unwrap().set_len(700_001).unwrap();
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    for (name, damage) in [("flip", flip), ("shorten", shorten), ("lengthen", lengthen), ("remove", remove)] {
        let before = cofferd.objects();
        let file = ann.upload(at(name), &content).await.unwrap();
        let key = cofferd.objects().into_iter().find(|key| !before.contains(key)).unwrap();
        damage(&cofferd.main_volume().join(key));

        let mut received = 0;
        let mut stream = match ann
            .transfers
            .clone()
            .read_file(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() })
            .await
        {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                assert_eq!(refusal(&status), (Code::DataLoss, "CONTENT_CORRUPTED".to_owned()), "{name}");
                continue;
            }
        };
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => received += message.data.map_or(0, |data| data.content.len()),
                Ok(None) => panic!("{name}: a damaged content was served as whole"),
                Err(status) => break status,
            }
        };
        assert_eq!(refusal(&status), (Code::DataLoss, "CONTENT_CORRUPTED".to_owned()), "{name}");
        assert!(received < content.len(), "{name}: refused before the last byte");
        let status =
            ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap_err();
        assert_eq!(
            refusal(&status),
            (Code::FailedPrecondition, "FILE_STATUS".to_owned()),
            "{name}: marked corrupted"
        );
    }
    assert_eq!(
        cofferd.database.number("SELECT count(*) FROM storage_files WHERE status = 'corrupted'").await,
        4
    );
    // New content heals a file.
    let healed = ann.upload(at("flip"), b"whole again").await.unwrap();
    assert_eq!((healed.status(), healed.version), (v1::FileStatus::Active, 2));
}
