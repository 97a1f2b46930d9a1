//! A crash between each two steps of the commit protocol, and uploads that the reconciler takes away while they run.

use super::crash::{settle, sha256};
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    dice::number_of_run,
    grpc::{Clients, at, by_path, data, finish, first, noise, of_upload, pieces, refusal},
};
use futures_util::future::join_all;
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tonic::{Code, Status};

/// Where the process dies, in the order of the protocol.
const STEPS: [&str; 14] = [
    // Begun: recorded, written, durable on the backend, its progress recorded.
    "opened",
    "written",
    "durable",
    "recorded",
    // Finished: recorded, published under its key, committed.
    "finishing",
    "published",
    "committed",
    // Refused: the intent ended, the bytes removed.
    "aborted",
    "swept",
    // The reconciler: uploads fenced, objects about to be deleted, deleted.
    "fenced",
    "reclaiming",
    "deleted",
    // At the start of a node that finds what the one before has left.
    "fenced",
    "deleted",
];
/// Crashes at each step in the run of the suite; `COFFER_KILLS` asks for more.
const KILLS: u64 = 2;
/// Of every upload that is written in two parts: more than one message, so that a part is really written.
const PART_BYTES: usize = 200_000;

/// What may be at a path: the contents that were sent there, and whether one of them was acknowledged.
#[derive(Default)]
struct Expected {
    possible: HashSet<String>,
    is_acknowledged: bool,
}

/// What was asked and answered.
#[derive(Default)]
struct Ledger {
    files: HashMap<String, Expected>,
    /// Uploads that were begun and whose end is not known, with their content.
    begun: Vec<(v1::UploadSpec, Vec<u8>)>,
}

impl Ledger {
    fn sent(&mut self, path: &str, content: &[u8]) {
        self.files.entry(path.to_owned()).or_default().possible.insert(sha256(content));
    }

    fn acknowledged(&mut self, path: &str, file: &v1::File) {
        let possible = HashSet::from([file.sha256.clone()]);
        self.files.insert(path.to_owned(), Expected { possible, is_acknowledged: true });
    }
}

/// One of everything that can become of an upload. Ends early when the service dies.
async fn everything(
    clients: &Clients,
    cofferd: &Cofferd,
    name: &str,
    ledger: &mut Ledger,
) -> Result<(), Status> {
    let content = noise(2 * PART_BYTES + name.len());
    // In two streams, the first of which is left.
    let (path, id) = (format!("{name}/parts"), uuid::Uuid::now_v7().to_string());
    let spec = v1::UploadSpec { request_id: id, size_bytes: Some(content.len() as i64), ..at(&path) };
    ledger.sent(&path, &content);
    ledger.begun.push((spec.clone(), content.clone()));
    let upload = clients.start_upload(spec).await?;
    let mut messages = vec![of_upload(&upload.id)];
    messages.extend(pieces(&content, 0..PART_BYTES));
    let left = clients.write(messages).await.expect_err("a stream without its end");
    if left.code() != Code::InvalidArgument {
        return Err(left);
    }
    let file = finish_upload(clients, &upload.id, PART_BYTES, &content).await?;
    ledger.acknowledged(&path, &file);
    ledger.begun.pop();
    // In one stream, and once more: what is replaced is reclaimed.
    let path = format!("{name}/one");
    for content in [&content[..1_000], &content[..PART_BYTES]] {
        ledger.sent(&path, content);
        let file = clients.upload(at(&path), content).await?;
        ledger.acknowledged(&path, &file);
    }
    // Refused at its end.
    let spec = v1::UploadSpec { sha256: sha256(b"another"), ..at(&format!("{name}/wrong")) };
    let refused = clients.upload(spec, &content[..PART_BYTES]).await.expect_err("the checksum is wrong");
    if refused.code() != Code::InvalidArgument {
        return Err(refused);
    }
    // Left until it expires.
    let id = uuid::Uuid::now_v7().to_string();
    let spec = v1::UploadSpec { request_id: id, ..at(&format!("{name}/left")) };
    let mut messages = vec![first(spec.clone())];
    messages.extend(pieces(&content, 0..PART_BYTES));
    let left = clients.write(messages).await.expect_err("a stream without its end");
    if left.code() != Code::InvalidArgument {
        return Err(left);
    }
    let upload = clients.start_upload(spec).await?;
    expire(cofferd).await;
    // What the reconciler does is waited for: it may be what dies.
    loop {
        let is_reclaimed = cofferd.database.number("SELECT count(*) FROM storage_reclaims").await == 0;
        if clients.get_upload(&upload.id).await?.state() == v1::UploadState::Expired && is_reclaimed {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn expire(cofferd: &Cofferd) {
    let sql = cofferd.database.connect().await;
    let expire = "UPDATE storage_uploads SET expire_time = now() - interval '1 second' WHERE state = 'OPEN'";
    sql.batch_execute(expire).await.unwrap();
}

async fn finish_upload(clients: &Clients, id: &str, from: usize, content: &[u8]) -> Result<v1::File, Status> {
    let mut messages = vec![of_upload(id)];
    messages.extend(pieces(content, from..content.len()));
    messages.push(finish(content.len() as i64));
    Ok(clients.write(messages).await?.file.expect("a finished upload answers its file"))
}

/// Goes on with what a crash has interrupted, as a client would.
async fn go_on(clients: &Clients, ledger: &mut Ledger) {
    for (spec, content) in std::mem::take(&mut ledger.begun) {
        let since = Instant::now();
        let file = loop {
            assert!(since.elapsed() < Duration::from_secs(20), "an interrupted upload can be finished");
            let upload = clients.start_upload(spec.clone()).await.unwrap();
            match finish_upload(clients, &upload.id, upload.persisted_size as usize, &content).await {
                Ok(file) => break file,
                // Its node was finishing it when it died, and the reconciler has not seen it yet.
                Err(status) if status.code() == Code::Aborted => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        };
        assert_eq!(file.sha256, sha256(&content));
        ledger.acknowledged(&spec.path, &file);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_loses_nothing_and_leaves_nothing() {
    let kills = number_of_run("COFFER_KILLS", KILLS);
    let mut cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let (mut ledger, mut crashes) = (Ledger::default(), HashMap::<&str, u64>::new());
    for (n, step) in STEPS.into_iter().enumerate() {
        let is_at_start = n >= 12;
        for kill in 0..kills {
            if is_at_start {
                // Something for the next start to find.
                let clients = cofferd.clients_with(Some(&token)).await;
                clients.upload(at("found/one"), b"first").await.unwrap();
                let open = clients.writing();
                assert!(open.send(first(at("found/open"))).await && open.send(data(0, b"more")).await);
                let file = clients.upload(at("found/one"), &noise(kill as usize + 1)).await.unwrap();
                ledger.acknowledged("found/one", &file);
                cofferd.kill();
            } else {
                assert!(cofferd.terminate().await.success());
            }
            cofferd.crash_at(Some(format!("{step}:{}", 1 + kill % 3)));
            cofferd.launch().await;
            let mut round = 0;
            while !cofferd.is_dead() {
                assert!(round < 10, "{step} is passed");
                let clients = Clients::at(cofferd.grpc_addr(), Some(&token));
                let name = format!("{step}/{n}/{kill}/{round}");
                let outcome = everything(&clients, &cofferd, &name, &mut ledger).await;
                if let Err(status) = outcome {
                    let since = Instant::now();
                    while !cofferd.is_dead() {
                        assert!(
                            since.elapsed() < Duration::from_secs(5),
                            "{step}: refused while alive: {status:?}"
                        );
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                round += 1;
            }
            cofferd.kill();
            *crashes.entry(step).or_default() += 1;
            cofferd.crash_at(None);
            cofferd.launch().await;
            let clients = cofferd.clients_with(Some(&token)).await;
            go_on(&clients, &mut ledger).await;
        }
        let clients = cofferd.clients_with(Some(&token)).await;
        expire(&cofferd).await;
        settle(&cofferd).await;
        for (path, expected) in ledger.files.drain() {
            let read = clients.read(v1::ReadFileRequest { file: by_path(&path), ..Default::default() }).await;
            match read {
                Ok((_, content)) => assert!(expected.possible.contains(&sha256(&content)), "{step}: {path}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::NotFound, "{step}: {path}: {status:?}");
                    assert!(!expected.is_acknowledged, "{step}: {path} was acknowledged and is lost");
                }
            }
        }
        super::quotas::nothing_drifts(&cofferd).await;
        for counter in [
            "SELECT coalesce(sum(quota_reserved), 0)::bigint FROM storage_volumes",
            "SELECT coalesce(sum(quota_reserved), 0)::bigint FROM user_quotas",
            "SELECT coalesce(sum(reserved_storage_bytes + reserved_files), 0)::bigint FROM storage_quotas",
        ] {
            assert_eq!(cofferd.database.number(counter).await, 0, "{step}: {counter}");
        }
    }
    println!("{} crashes, by step: {crashes:?}", crashes.values().sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_taken_away_commits_nothing() {
    const RACES: usize = 100;
    let cofferd = Cofferd::start().await;
    let clients = cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = noise(PART_BYTES);
    let begun = join_all((0..RACES).map(async |n| {
        let request_id = if n % 2 == 0 { String::new() } else { uuid::Uuid::now_v7().to_string() };
        let stream = clients.writing();
        let message = first(v1::UploadSpec { request_id, ..at(&format!("slow/{n}")) });
        assert!(stream.send(message).await);
        for piece in pieces(&content, 0..content.len()) {
            assert!(stream.send(piece).await);
        }
        stream
    }))
    .await;
    // Until each has its row: what is taken away has to be there.
    let rows = "SELECT count(*) FROM storage_uploads WHERE state = 'OPEN'";
    let since = Instant::now();
    while cofferd.database.number(rows).await < RACES as i64 {
        assert!(since.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The node seems to be gone, and those with a request seem to be left: the reconciler, in its rounds of a second, fences all.
    let sql = cofferd.database.connect().await;
    let seem_gone = tokio::spawn(async move {
        loop {
            sql.batch_execute(
                "UPDATE storage_uploads SET expire_time = now() WHERE state = 'OPEN' AND request_id IS NOT NULL;
                 UPDATE nodes SET lease_until = now()",
            )
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    // They finish all along, the second half not before a quarter is fenced. That may take several rounds: one passes over what the
    // statement above has locked.
    let (begins, has_begun) = watch::channel(false);
    let fenced = "SELECT count(*) FROM storage_uploads WHERE state IN ('ABORTED', 'EXPIRED')";
    let since = Instant::now();
    let round = async {
        while cofferd.database.number(fenced).await < (RACES / 4) as i64 {
            assert!(since.elapsed() < Duration::from_secs(20), "too little is fenced");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begins.send_replace(true);
    };
    let finished = join_all(begun.into_iter().enumerate().map(async |(n, stream)| {
        tokio::time::sleep(Duration::from_millis(n as u64 * 20)).await;
        if n >= RACES / 2 {
            has_begun.clone().wait_for(|begun| *begun).await.unwrap();
        }
        let end =
            v1::WriteFileRequest { write_offset: content.len() as i64, finish: true, ..Default::default() };
        stream.send(end).await;
        (n, stream.end().await)
    }));
    let ((), outcomes) = tokio::join!(round, finished);
    seem_gone.abort();
    let (mut committed, mut aborted) = (0, 0);
    for (n, outcome) in outcomes {
        let request = v1::ReadFileRequest { file: by_path(&format!("slow/{n}")), ..Default::default() };
        let read = clients.read(request).await;
        match outcome {
            Ok(_) => {
                assert_eq!(read.unwrap().1, content, "{n}");
                committed += 1;
            }
            Err(status) => {
                assert_eq!(refusal(&status), (Code::Aborted, "UPLOAD_FENCED".to_owned()), "{n}");
                assert_eq!(read.unwrap_err().code(), Code::NotFound, "{n}");
                aborted += 1;
            }
        }
    }
    println!("{RACES} races: {aborted} aborted, {committed} committed before");
    assert!(aborted >= RACES / 4, "what was fenced commits nothing");
    settle(&cofferd).await;
    super::quotas::nothing_drifts(&cofferd).await;
}
