//! The life of a process: draining, the embedded database, configuration that is wrong.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    cofferd::command,
    grpc::{at, by_id, messages, noise},
};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_uploads_finish() {
    let mut cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(3_000_000);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut transfers = ann.transfers.clone();
    let upload = tokio::spawn(async move {
        transfers.write_file(tokio_stream::wrappers::ReceiverStream::new(receiver)).await
    });
    let mut sent = messages(at("drained.bin"), &content).into_iter();
    for message in sent.by_ref().take(10) {
        sender.send(message).await.unwrap();
    }
    let since = Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_uploads WHERE state = 'OPEN'").await == 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "the upload begins");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cofferd.ask_to_end();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for message in sent {
        sender.send(message).await.unwrap();
    }
    drop(sender);
    let file = upload.await.unwrap().unwrap().into_inner().file.unwrap();
    assert_eq!(file.size_bytes, 3_000_000);
    drop(ann);
    assert!(cofferd.end().await.success());
    cofferd.launch().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    assert!(
        ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap().1
            == content
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_database_outlives_its_owner_and_is_taken_over() {
    let mut cofferd = Cofferd::start_with(&[("database.url", ""), ("database.mode", "embedded")]).await;
    let ann = Token::user("ann", "clinic");
    let file = cofferd.clients(&ann).await.upload(at("kept.bin"), &noise(100_000)).await.unwrap();
    cofferd.kill();
    cofferd.launch().await;
    let (_, content) = cofferd
        .clients(&ann)
        .await
        .read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() })
        .await
        .unwrap();
    assert!(content == noise(100_000));
    // A second owner of the same data directory is refused.
    let second = command("cofferd")
        .arg("serve")
        .arg("--data-dir")
        .arg(cofferd.data_dir())
        .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(cofferd.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_the_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coffer.toml");
    std::fs::write(&file, "[grpc]\naddr = \"nowhere\"\n[shutdown]\ngrace = \"soon\"\n[typo]\nx = 1\n")
        .unwrap();
    let output = command("cofferd")
        .args(["check-config", "--config"])
        .arg(&file)
        .args(["--set", "database.mode=external"])
        .env("COFFER_TRANSFER_STALL_TIMEOUT", "-3")
        .env("COFFER_NO_SUCH_SETTING", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    for mistake in [
        "grpc.addr",
        "shutdown.grace",
        "typo",
        "transfer.stall_timeout",
        "COFFER_NO_SUCH_SETTING",
        "database.url",
    ] {
        assert!(said.contains(mistake), "{mistake} is not in:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_data_can_be_looked_at() {
    let cofferd = Cofferd::start().await;
    let seed = || {
        let output = command("cofferd")
            .arg("seed")
            .arg("--data-dir")
            .arg(cofferd.data_dir())
            .arg("--set")
            .arg(format!("database.url={}", url(&cofferd)))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fn url(cofferd: &Cofferd) -> String {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(cofferd.database.url()))
    }
    seed();
    let files = cofferd.database.number("SELECT count(*) FROM storage_files").await;
    assert!(files >= 5);
    seed();
    assert_eq!(
        cofferd.database.number("SELECT count(*) FROM storage_files").await,
        files,
        "seeding twice adds nothing"
    );
    super::quotas::nothing_drifts(&cofferd).await;
}
