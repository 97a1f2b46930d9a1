//! Objects of many parts: they arrive, are read from their end, and leave nothing when they are given up.

use super::{
    Remote,
    content::{Content, digest_of},
    resumable,
};
use crate::uploads::until;
use coffer_domain::{
    driver::Driver as _,
    egress::Policy,
    id::{UploadId, VersionId},
    path::Key,
    secret::Secret,
};
use coffer_drivers::{WireOptions, s3};
use coffer_proto::v1::{self, UploadState, volume::Backend};
use coffer_test_servers::{ACCESS_KEY, Kind, SECRET_KEY, find};
use coffer_tests::{
    cofferd::files_below,
    dice::number_of_run,
    grpc::{first, of_upload},
};
use std::time::Instant;
use tokio::process::Command;

const MIB: u64 = 1024 * 1024;
/// Size of the large object; `COFFER_LARGE_MIB` asks for another.
const LARGE_MIB: u64 = 24;
/// What is sent of one that is given up, and how much of it has to be kept before: more than a part.
const ABANDONED_BYTES: u64 = 20 * MIB;
const KEPT_BYTES: u64 = 10 * MIB;

impl Remote {
    /// Keys of the multipart uploads that the bucket's server has under way, as another client is told. `None` where that client is missing,
    /// or this is no bucket.
    async fn multiparts(&self) -> Option<Vec<String>> {
        if !matches!(self.backend, Backend::S3(_)) {
            return None;
        }
        let bucket = format!(":s3:{}", self.name);
        let mut command = Command::new(find("rclone")?);
        command.args(["backend", "list-multipart-uploads", &bucket]).env("RCLONE_CONFIG", "/notfound");
        command.env("RCLONE_S3_PROVIDER", "Other").env("RCLONE_S3_ENDPOINT", self.server.url());
        command.env("RCLONE_S3_ACCESS_KEY_ID", ACCESS_KEY).env("RCLONE_S3_SECRET_ACCESS_KEY", SECRET_KEY);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = found[&self.name].as_array().unwrap_or_else(|| panic!("the bucket is told of: {found}"));
        Some(found.iter().map(|upload| upload["Key"].as_str().unwrap().to_owned()).collect())
    }

    /// What uploads have left below the volume's place.
    fn staged(&self) -> Vec<String> {
        files_below(&self.place.join(".coffer/staging"))
    }
}

async fn a_large_object_arrives_in_parts(kind: Kind) {
    let Some(far) = Remote::beside(kind).await else { return };
    // Its last message, and its last part, are not full.
    let size = number_of_run("COFFER_LARGE_MIB", LARGE_MIB) * MIB + 12_345;
    let content = Content::new(6, size);
    let since = Instant::now();
    let writing = far.ann.writing();
    let spec = v1::UploadSpec { size_bytes: Some(size as i64), ..resumable("large") };
    assert!(writing.send(first(spec)).await);
    for (message, number) in content.messages().zip(0..) {
        if number == content.count() * 3 / 4 {
            until("its parts are on the server", async || {
                far.multiparts().await.is_none_or(|found| found.len() == 1)
            })
            .await;
        }
        assert!(writing.send(message).await, "the service has answered at message {number}");
    }
    assert!(writing.send(content.end()).await);
    let file = writing.end().await.unwrap().file.unwrap();
    let up = since.elapsed();
    assert_eq!(far.multiparts().await.unwrap_or_default(), [""; 0]);
    let last = size - MIB;
    assert!(
        far.read(&file.id, last as i64, 0).await.unwrap() == content.from(last),
        "its last MiB is another"
    );
    let since = Instant::now();
    let read = digest_of(&far.ann, &file.id).await;
    let down = since.elapsed();
    let sha256 = tokio::task::spawn_blocking(move || content.sha256()).await.unwrap();
    assert_eq!((&file.sha256, file.size_bytes), (&sha256, size as i64));
    assert_eq!(read, (sha256, size));
    println!("{kind:?}: {} MiB up in {up:.1?}, down in {down:.1?}, the same SHA-256", size / MIB);
    far.is_settled().await;
    if matches!(far.backend, Backend::S3(_)) {
        is_copied_by_its_bucket(&far, size).await;
    }
    assert_eq!(super::purge(&far.ann, &file.id).await, size as i64);
    far.is_settled().await;
}

/// The bucket makes another object of the only one, of which no byte passes through here.
async fn is_copied_by_its_bucket(far: &Remote, size: u64) {
    let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() };
    let wire = WireOptions { policy, ..WireOptions::default() };
    let config = s3::Config::new(far.server.url(), &far.name, ACCESS_KEY, Secret::new(SECRET_KEY));
    let driver = s3::S3::open(s3::Config { wire, ..config }).await.unwrap();
    let objects = driver.list("", None, 10).await.unwrap();
    let [object] = &objects[..] else { panic!("{objects:?}") };
    let (upload, copy, since) = (UploadId::new(), Key::of_version(VersionId::new()), Instant::now());
    assert_eq!(driver.copy(upload, &object.key, &copy).await.unwrap().size, size);
    println!("copied by its server in {:.1?}", since.elapsed());
    let [object, copied] = [&object.key, &copy].map(|key| far.place.join(key.as_str()));
    assert!(Command::new("cmp").args([object, copied]).status().await.unwrap().success());
    driver.delete(&copy).await.unwrap();
    driver.sweep(upload).await.unwrap();
}

/// The service is killed, and nobody goes on with what it was writing: the reconciler finds it and gives it up.
async fn an_abandoned_upload_is_given_up(kind: Kind) {
    let Some(mut far) = Remote::beside(kind).await else { return };
    let content = Content::new(7, ABANDONED_BYTES);
    let upload = far.ann.start_upload(resumable("abandoned")).await.unwrap();
    let writing = far.ann.writing();
    for message in std::iter::once(of_upload(&upload.id)).chain(content.messages()) {
        assert!(writing.send(message).await);
    }
    let persisted = "SELECT max(persisted_size) FROM storage_uploads";
    let is_kept = async || far.cofferd.database.number(persisted).await >= KEPT_BYTES as i64;
    until("some of it is kept", is_kept).await;
    far.cofferd.kill();
    drop(writing);
    let left = far.staged();
    println!("{kind:?}: left by a killed service: {left:?}, multipart uploads {:?}", far.multiparts().await);
    assert!(!left.is_empty());
    assert!(far.multiparts().await.is_none_or(|found| found.len() == 1));

    far.launch().await;
    let sql = far.cofferd.database.connect().await;
    let expire = "UPDATE storage_uploads SET expire_time = now() - interval '1 second' WHERE state = 'OPEN'";
    sql.batch_execute(expire).await.unwrap();
    let swept = "SELECT count(*) FROM storage_uploads WHERE swept_at IS NOT NULL";
    until("it is swept", async || far.cofferd.database.number(swept).await == 1).await;
    assert_eq!(far.ann.get_upload(&upload.id).await.unwrap().state(), UploadState::Expired);
    assert_eq!(far.multiparts().await.unwrap_or_default(), [""; 0]);
    assert_eq!(far.staged(), [""; 0]);
    far.is_settled().await;
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 => a_large_object_arrives_in_parts, an_abandoned_upload_is_given_up;
    webdav_of_rclone: Kind::RcloneWebdav => an_abandoned_upload_is_given_up;
    webdav_of_apache: Kind::ApacheDav => an_abandoned_upload_is_given_up;
}
