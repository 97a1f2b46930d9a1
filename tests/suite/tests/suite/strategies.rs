//! How volumes choose keys and read paths.

use super::{
    crash::{settle_at, sha256},
    quotas::nothing_drifts,
    volumes::{create, volume_with},
};
use coffer_proto::v1::{self, PathStrategy};
use coffer_tests::{
    Cofferd, Token,
    cofferd::files_below,
    grpc::{Clients, at, bad_fields, by_id, finish, noise, of_upload, pieces, refusal},
};
use futures_util::{
    StreamExt as _,
    future::{join, join_all},
    stream,
};
use std::path::Path;
use tonic::{Code, Status};

/// What is stored at a path of a volume.
pub(crate) fn on(volume: &str, path: &str) -> v1::UploadSpec {
    v1::UploadSpec { volume: volume.to_owned(), ..at(path) }
}

/// The objects below a volume's place.
pub(crate) fn objects(place: &Path) -> Vec<String> {
    let mut found = files_below(place);
    found.retain(|key| !key.starts_with(".coffer/"));
    found
}

async fn read(clients: &Clients, id: &str, version: i32) -> Result<Vec<u8>, Status> {
    let request = v1::ReadFileRequest { file: by_id(id), version, ..Default::default() };
    Ok(clients.read(request).await?.1)
}

/// Deletes a file and purges it. Answers how many bytes that has freed.
pub(crate) async fn purge(clients: &Clients, id: &str) -> i64 {
    let file = by_id(id);
    let mut files = clients.files.clone();
    files.delete_file(v1::DeleteFileRequest { file: file.clone(), ..Default::default() }).await.unwrap();
    let purged = files.purge_file(v1::PurgeFileRequest { file, ..Default::default() }).await.unwrap();
    purged.into_inner().freed_bytes
}

/// Uploads in one of the ways there are: all at once, declared or not, resumable in two streams.
async fn upload_somehow(clients: &Clients, n: usize, spec: v1::UploadSpec, content: &[u8]) -> v1::File {
    let size_bytes = Some(content.len() as i64);
    match n % 4 {
        0 => clients.upload(spec, content).await.unwrap(),
        1 => clients.upload(v1::UploadSpec { size_bytes, ..spec }, content).await.unwrap(),
        2 => clients.upload(v1::UploadSpec { sha256: sha256(content), ..spec }, content).await.unwrap(),
        _ => {
            let spec = v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..spec };
            let upload = clients.start_upload(spec).await.unwrap();
            let half = content.len() / 2;
            let mut messages = vec![of_upload(&upload.id)];
            messages.extend(pieces(content, 0..half));
            clients.write(messages).await.unwrap_err();
            let mut messages = vec![of_upload(&upload.id)];
            messages.extend(pieces(content, half..content.len()));
            messages.push(finish(content.len() as i64));
            clients.write(messages).await.unwrap().file.unwrap()
        }
    }
}

/// A service with a volume on which equal contents are one object.
async fn sharing(name: &str, versioning: v1::VersioningMode) -> (Cofferd, Clients, std::path::PathBuf) {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let place = cofferd.disks().join(name);
    let volume = volume_with(&operator, name, &place, |volume| {
        volume.set_auto_path_strategy(PathStrategy::Hash);
        volume.set_versioning_mode(versioning);
    })
    .await;
    assert_eq!(volume.auto_path_strategy(), PathStrategy::Hash);
    let clients = cofferd.clients(&Token::user("ann", "clinic")).await;
    (cofferd, clients, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_one_content_at_once_are_one_object_that_goes_with_the_last() {
    const UPLOADS: usize = 32;
    let (cofferd, ann, place) = sharing("shared", v1::VersioningMode::None).await;
    for size in [20, 300_000] {
        let content = noise(size);
        let files = join_all((0..UPLOADS).map(|n| {
            let spec = on("shared", &format!("{size}/{n}"));
            upload_somehow(&ann, n, spec, &content)
        }))
        .await;
        settle_at(&cofferd, &place).await;
        let sum = sha256(&content);
        let [key] = &objects(&place)[..] else { panic!("one object: {:?}", objects(&place)) };
        assert!(key.starts_with(&format!("{}/{sum}.", &sum[..2])), "{key}");
        let refs = "SELECT refs::bigint FROM storage_objects WHERE state = 'live'";
        assert_eq!(cofferd.database.number(refs).await, UPLOADS as i64);
        let used = "SELECT quota_used FROM storage_volumes WHERE name = 'shared'";
        assert_eq!(cofferd.database.number(used).await, (UPLOADS * size) as i64, "each counts in full");

        let (last, others) = files.split_last().unwrap();
        for file in others {
            assert_eq!(purge(&ann, &file.id).await, size as i64);
        }
        settle_at(&cofferd, &place).await;
        assert_eq!(read(&ann, &last.id, 0).await.unwrap(), content);
        purge(&ann, &last.id).await;
        settle_at(&cofferd, &place).await;
        assert_eq!(objects(&place), [""; 0]);
        assert_eq!(cofferd.database.number(used).await, 0);
    }
    nothing_drifts(&cofferd).await;
}

/// A hundred times a content is stored and given up, while one file keeps it: there is one object all along, and each version counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_file_keeps_a_content_its_object_stays_whoever_gives_it_up() {
    const UPLOADS: usize = 100;
    let (cofferd, ann, place) = sharing("shared", v1::VersioningMode::None).await;
    let content = noise(100_000);
    let kept = ann.upload(on("shared", "kept"), &content).await.unwrap();
    let live = "SELECT count(*) FROM storage_objects WHERE state = 'live'";
    let object = objects(&place);
    let (over, mut is_over) = tokio::sync::watch::channel(false);
    let race = async {
        let each = stream::iter(0..UPLOADS).map(async |n| {
            let file = upload_somehow(&ann, n, on("shared", &n.to_string()), &content).await;
            assert_eq!(purge(&ann, &file.id).await, content.len() as i64, "counted in full");
        });
        each.buffer_unordered(32).collect::<()>().await;
        over.send_replace(true);
    };
    let look = async {
        let mut looks = 0;
        while !*is_over.borrow_and_update() {
            nothing_drifts(&cofferd).await;
            assert_eq!(cofferd.database.number(live).await, 1);
            assert_eq!(read(&ann, &kept.id, 0).await.unwrap(), content);
            looks += 1;
        }
        println!("{UPLOADS} equal uploads and deletes, {looks} looks");
        assert!(looks >= 10, "{looks} looks are too few to prove anything");
    };
    join(race, look).await;
    settle_at(&cofferd, &place).await;
    assert_eq!(objects(&place), object, "one, and the same");
    purge(&ann, &kept.id).await;
    settle_at(&cofferd, &place).await;
    assert_eq!(objects(&place), [""; 0]);
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_is_given_up_while_it_comes_again_is_there() {
    const ROUNDS: usize = 12;
    let (cofferd, ann, place) = sharing("shared", v1::VersioningMode::None).await;
    let content = noise(150_000);
    let mut old = ann.upload(on("shared", "old"), &content).await.unwrap();
    for round in 0..ROUNDS {
        // Given up by a purge, and by other content in its place.
        let replaced = ann.upload(on("shared", &format!("{round}/replaced")), &content).await.unwrap();
        let give_up = async {
            let other = noise(150_001 + round);
            let spec = on("shared", &format!("{round}/replaced"));
            join(purge(&ann, &old.id), async { ann.upload(spec, &other).await.unwrap() }).await
        };
        let come_again = join_all((0..4).map(|n| {
            let spec = on("shared", &format!("{round}/{n}"));
            upload_somehow(&ann, n, spec, &content)
        }));
        let (_, files) = join(give_up, come_again).await;
        assert_ne!(read(&ann, &replaced.id, 0).await.unwrap(), content);
        for file in &files {
            assert_eq!(read(&ann, &file.id, 0).await.unwrap(), content, "{round}");
        }
        let (first, others) = files.split_first().unwrap();
        join_all(others.iter().map(|file| purge(&ann, &file.id))).await;
        old = first.clone();
    }
    settle_at(&cofferd, &place).await;
    assert_eq!(read(&ann, &old.id, 0).await.unwrap(), content);
    assert_eq!(objects(&place).len(), 1 + ROUNDS);
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_one_content_are_one_object_and_a_lost_one_is_stored_anew() {
    let (cofferd, ann, place) = sharing("shared", v1::VersioningMode::Source).await;
    let (one, two) = (noise(100_000), noise(100_001));
    let file = ann.upload(on("shared", "a"), &one).await.unwrap();
    ann.upload(on("shared", "a"), &two).await.unwrap();
    ann.upload(on("shared", "a"), &one).await.unwrap();
    for (version, content) in [(1, &one), (2, &two), (3, &one)] {
        assert_eq!(read(&ann, &file.id, version).await.unwrap(), *content);
    }
    settle_at(&cofferd, &place).await;
    assert_eq!(objects(&place).len(), 2);
    // Its bytes vanish: whoever reads it is told, and whoever stores it again has it.
    let lost = objects(&place).into_iter().find(|key| key.contains(&sha256(&one))).unwrap();
    std::fs::remove_file(place.join(&lost)).unwrap();
    assert_eq!(read(&ann, &file.id, 0).await.unwrap_err().code(), Code::DataLoss);
    let again = ann.upload(on("shared", "b"), &one).await.unwrap();
    assert_eq!(read(&ann, &again.id, 0).await.unwrap(), one);
    let healed = ann.upload(on("shared", "a"), &one).await.unwrap();
    assert_eq!((healed.id.as_str(), healed.version), (file.id.as_str(), 4));
    assert_eq!(read(&ann, &file.id, 0).await.unwrap(), one);
    assert_eq!(read(&ann, &file.id, 2).await.unwrap(), two);
}

/// A service with a volume on which files are found at their paths.
async fn at_paths(versioning: v1::VersioningMode) -> (Cofferd, Clients, std::path::PathBuf) {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let place = cofferd.disks().join("paths");
    let volume = volume_with(&operator, "paths", &place, |volume| {
        volume.set_auto_path_strategy(PathStrategy::None);
        volume.set_versioning_mode(versioning);
    })
    .await;
    assert_eq!(volume.auto_path_strategy(), PathStrategy::None);
    let clients = cofferd.clients(&Token::user("ann", "clinic")).await;
    (cofferd, clients, place)
}

pub(crate) async fn move_to(clients: &Clients, id: &str, path: &str) -> Result<v1::File, Status> {
    let request = v1::UpdateFileRequest {
        file: by_id(id),
        changes: Some(v1::FileChanges { path: path.to_owned(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["path".to_owned()] }),
        ..Default::default()
    };
    Ok(clients.files.clone().update_file(request).await?.into_inner().file.unwrap())
}

async fn delete(clients: &Clients, id: &str) {
    let request = v1::DeleteFileRequest { file: by_id(id), ..Default::default() };
    clients.files.clone().delete_file(request).await.unwrap();
}

async fn undelete(clients: &Clients, id: &str, path: &str) -> Result<v1::File, Status> {
    let request = v1::UndeleteFileRequest { file: by_id(id), path: path.to_owned(), ..Default::default() };
    Ok(clients.files.clone().undelete_file(request).await?.into_inner().file.unwrap())
}

/// What other programs find in the volume.
fn found(place: &Path) -> Vec<(String, Vec<u8>)> {
    objects(place).into_iter().map(|path| (path.clone(), std::fs::read(place.join(&path)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_found_at_its_path_through_all_its_life() {
    let (cofferd, ann, place) = at_paths(v1::VersioningMode::Source).await;
    let at = |path: &str, content: &[u8]| vec![(path.to_owned(), content.to_vec())];
    let contents = [noise(20), noise(300_000), noise(150_000), noise(0)];
    let mut id = String::new();
    for (n, content) in contents.iter().enumerate() {
        id = upload_somehow(&ann, n, on("paths", "reports/2026/cafe\u{301}.txt"), content).await.id;
        assert_eq!(found(&place), at("reports/2026/caf\u{e9}.txt", content), "{n}");
    }
    for (n, content) in contents.iter().enumerate() {
        assert_eq!(read(&ann, &id, n as i32 + 1).await.unwrap(), *content);
    }
    settle_at(&cofferd, &place).await;
    let last = &contents[3];
    let moved = move_to(&ann, &id, "elsewhere.txt").await.unwrap();
    assert_eq!(found(&place), at("elsewhere.txt", last));
    // The way is free for others.
    let other = ann.upload(on("paths", "reports/2026"), b"other").await.unwrap();
    assert_eq!(std::fs::read(place.join("reports/2026")).unwrap(), b"other");
    purge(&ann, &other.id).await;
    delete(&ann, &moved.id).await;
    assert_eq!(found(&place), []);
    undelete(&ann, &id, "back/again.txt").await.unwrap();
    assert_eq!(found(&place), at("back/again.txt", last));
    assert_eq!(read(&ann, &id, 2).await.unwrap(), contents[1]);
    purge(&ann, &id).await;
    settle_at(&cofferd, &place).await;
    assert_eq!(files_below(&place), [".coffer/volume.json"]);
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_at_a_path_is_never_touched() {
    let (cofferd, ann, place) = at_paths(v1::VersioningMode::None).await;
    std::fs::create_dir(place.join("folder")).unwrap();
    for path in ["foreign.txt", "folder/inside.txt"] {
        std::fs::write(place.join(path), b"foreign").unwrap();
    }
    let file = ann.upload(on("paths", "file"), b"ours").await.unwrap();
    let occupied = (Code::AlreadyExists, "PATH_OCCUPIED".to_owned());
    for path in ["foreign.txt", "folder", "foreign.txt/below", "file/below"] {
        assert_eq!(refusal(&ann.upload(on("paths", path), b"new").await.unwrap_err()), occupied, "{path}");
        assert_eq!(refusal(&move_to(&ann, &file.id, path).await.unwrap_err()), occupied, "{path}");
        let spec = v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..on("paths", path) };
        assert_eq!(refusal(&ann.start_upload(spec).await.unwrap_err()), occupied, "{path}");
    }
    delete(&ann, &file.id).await;
    assert_eq!(refusal(&undelete(&ann, &file.id, "foreign.txt").await.unwrap_err()), occupied);
    std::fs::write(place.join("file"), b"foreign").unwrap();
    assert_eq!(refusal(&undelete(&ann, &file.id, "").await.unwrap_err()), occupied);
    std::fs::remove_file(place.join("file")).unwrap();
    undelete(&ann, &file.id, "").await.unwrap();
    // Another tenant shares the paths, and is not told more.
    let bob = cofferd.clients(&Token::user("bob", "lab")).await;
    let taken = (Code::AlreadyExists, "PATH_TAKEN".to_owned());
    assert_eq!(refusal(&bob.upload(on("paths", "file"), b"bob's").await.unwrap_err()), taken);
    let mut long = vec!["abcdefgh"; 80].join("/");
    long.push_str(&format!("/{}", "x".repeat(250)));
    long.push_str(&format!("/{}", "y".repeat(250)));
    assert_eq!(bad_fields(&ann.upload(on("paths", &long), b"new").await.unwrap_err()), ["spec.path"]);

    // What somebody puts in the place of a file stays there, and the service still has the file.
    std::fs::remove_file(place.join("file")).unwrap();
    std::fs::write(place.join("file"), b"foreign").unwrap();
    ann.upload(on("paths", "file"), b"newer").await.unwrap();
    assert_eq!(read(&ann, &file.id, 0).await.unwrap(), b"newer");
    delete(&ann, &file.id).await;
    let expected = ["file", "folder/inside.txt", "foreign.txt"];
    assert_eq!(found(&place), expected.map(|path| (path.to_owned(), b"foreign".to_vec())));
    // A comparison tells of them, and leaves them.
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let request = v1::ReconcileVolumeRequest { volume: "paths".to_owned(), dry_run: false };
    let report = operator.volumes.clone().reconcile_volume(request).await.unwrap().into_inner();
    assert_eq!((report.orphans_left, report.orphans_removed, report.objects_missing), (3, 0, 0));
    assert_eq!(objects(&place), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_while_a_file_is_replaced_sees_one_whole_content() {
    const ROUNDS: usize = 30;
    let (cofferd, ann, place) = at_paths(v1::VersioningMode::None).await;
    let contents: Vec<Vec<u8>> = (0..ROUNDS).map(|n| noise(400_000 + n)).collect();
    let sums: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
    let file = ann.upload(on("paths", "a/file"), &contents[0]).await.unwrap();
    let replaced = async {
        for (n, content) in contents.iter().enumerate() {
            upload_somehow(&ann, n, on("paths", "a/file"), content).await;
        }
    };
    let reads = async {
        for _ in 0..ROUNDS {
            assert!(sums.contains(&sha256(&read(&ann, &file.id, 0).await.unwrap())), "by the service");
            let content = tokio::fs::read(place.join("a/file")).await.unwrap();
            assert!(sums.contains(&sha256(&content)), "at its path");
        }
    };
    join(replaced, join(reads, async {})).await;
    settle_at(&cofferd, &place).await;
    assert!(std::fs::read(place.join("a/file")).unwrap() == contents[ROUNDS - 1]);
    // Several at once: what the service says is what is found.
    join_all((0..8).map(|n| ann.upload(on("paths", "a/file"), &contents[n]))).await;
    settle_at(&cofferd, &place).await;
    assert!(std::fs::read(place.join("a/file")).unwrap() == read(&ann, &file.id, 0).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_be_used_again_while_its_old_content_goes() {
    let (cofferd, ann, place) = at_paths(v1::VersioningMode::None).await;
    for round in 0..20 {
        let content = noise(1_000 + round);
        let file = ann.upload(on("paths", "a/file"), &content).await.unwrap();
        assert_eq!(std::fs::read(place.join("a/file")).unwrap(), content);
        // In the trash, the path is another's.
        delete(&ann, &file.id).await;
        let other = ann.upload(on("paths", "a/file"), b"other").await.unwrap();
        let taken = (Code::AlreadyExists, "PATH_TAKEN".to_owned());
        assert_eq!(refusal(&undelete(&ann, &file.id, "").await.unwrap_err()), taken);
        assert_eq!(std::fs::read(place.join("a/file")).unwrap(), b"other");
        let request = v1::PurgeFileRequest { file: by_id(&file.id), ..Default::default() };
        ann.files.clone().purge_file(request).await.unwrap();
        purge(&ann, &other.id).await;
        assert!(!place.join("a/file").exists());
    }
    settle_at(&cofferd, &place).await;
    assert_eq!(files_below(&place), [".coffer/volume.json"]);
    nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_keys_are_chosen_is_fixed_when_a_volume_is_made() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let volume = volume_with(&operator, "one", &cofferd.disks().join("one"), |_| {}).await;
    assert_eq!(volume.auto_path_strategy(), PathStrategy::Uuid);
    let update = v1::UpdateVolumeRequest {
        volume: Some(v1::Volume { auto_path_strategy: PathStrategy::Hash.into(), ..volume.clone() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["auto_path_strategy".to_owned()] }),
        request_id: String::new(),
    };
    let status = operator.volumes.clone().update_volume(update).await.unwrap_err();
    assert_eq!(
        (refusal(&status).0, bad_fields(&status)),
        (Code::InvalidArgument, vec!["update_mask".to_owned()])
    );
    let unknown = v1::Volume { id: String::new(), name: "two".to_owned(), auto_path_strategy: 99, ..volume };
    let status = create(&operator, unknown).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["volume.auto_path_strategy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_reads_paths_by_its_own_rules() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let place = cofferd.disks().join("colons");
    volume_with(&operator, "colons", &place, |volume| {
        volume.path_delimiter = "::".to_owned();
        volume.default_prefix = "tenants/one/".to_owned();
    })
    .await;
    let file = ann.upload(on("colons", "reports::2026::June.txt"), b"june").await.unwrap();
    assert_eq!((file.path.as_str(), file.filename.as_str()), ("reports::2026::June.txt", "June.txt"));
    // Without a path, one of its own by the same rules.
    let own =
        ann.upload(v1::UploadSpec { filename: "own.txt".into(), ..on("colons", "") }, b"own").await.unwrap();
    assert!(own.path.starts_with("users::") && own.path.ends_with("::own.txt"), "{}", own.path);
    for (path, problem) in [
        ("reports::..::x", "a way up"),
        ("reports::", "an empty segment"),
        ("reports/2026", "a separator that is none"),
        (".coffer::x", "reserved"),
    ] {
        let status = ann.upload(on("colons", path), b"x").await.unwrap_err();
        assert_eq!(bad_fields(&status), ["spec.path"], "{problem}");
    }
    // All of it is below the prefix, which neither paths nor keys tell.
    let found = files_below(&place);
    assert!(found.iter().all(|key| key.starts_with("tenants/one/")), "{found:?}");
    assert_eq!(found.iter().filter(|key| !key.contains(".coffer")).count(), 2);
    assert_eq!(
        cofferd.database.number("SELECT count(*) FROM storage_objects WHERE key LIKE 'tenants/%'").await,
        0
    );
    assert_eq!(read(&ann, &file.id, 0).await.unwrap(), b"june");

    volume_with(&operator, "flat", &cofferd.disks().join("flat"), |volume| {
        volume.enforce_hierarchy = Some(false);
    })
    .await;
    let file = ann.upload(on("flat", "one::two.txt"), b"flat").await.unwrap();
    assert_eq!((file.path.as_str(), file.filename.as_str()), ("one::two.txt", "one::two.txt"));
    for path in ["a/b", "..", "\u{202E}txt"] {
        assert_eq!(bad_fields(&ann.upload(on("flat", path), b"x").await.unwrap_err()), ["spec.path"]);
    }
    // Twins in NFC and NFD are one path.
    let first = ann.upload(on("flat", "caf\u{e9}"), b"one").await.unwrap();
    let second = ann.upload(on("flat", "cafe\u{301}"), b"two").await.unwrap();
    assert_eq!((&second.id, second.version), (&first.id, 2));
}
