//! A crash between each two steps of the commit protocol, and uploads that the reconciler takes away while they run.

use super::{
    crash::{settle, settle_at, sha256},
    volumes::volume_with,
};
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    dice::number_of_run,
    grpc::{Clients, at, by_path, data, finish, first, noise, of_upload, pieces, refusal},
};
use futures_util::future::join_all;
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Code, Status};

/// Where the process dies, in the order of the protocol.
const STEPS: [&str; 12] = [
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
];
/// The same at the start of a node that finds what the one before has left.
const STEPS_AT_START: [&str; 2] = ["fenced", "deleted"];
/// Where files are found at their paths: committed, recorded what will be there, put there.
const STEPS_OF_LINKS: [&str; 6] = ["published", "committed", "linking", "linked", "reclaiming", "deleted"];
/// Crashes at each step in the run of the suite; `COFFER_KILLS` asks for more.
const KILLS: u64 = 2;
/// Of every upload that is written in two parts: more than one message, so that a part is really written.
const PART_BYTES: usize = 200_000;

/// The path that is read all the time, where files are found at their paths.
const POLLED: &str = "read/all/the/time";

/// What may be at a path: the contents that were sent there, and whether one of them was acknowledged.
#[derive(Default)]
struct Expected {
    possible: HashSet<String>,
    is_acknowledged: bool,
}

/// What was asked and answered.
#[derive(Default)]
struct Ledger {
    /// Where everything goes; empty: the default volume.
    volume: String,
    files: HashMap<String, Expected>,
    /// Uploads that were begun and whose end is not known, with their content.
    begun: Vec<(v1::UploadSpec, Vec<u8>)>,
    /// Whether files are found at their paths, and somebody reads one of them all the time.
    is_polled: bool,
}

impl Ledger {
    fn of(volume: &str) -> Self {
        Self { volume: volume.to_owned(), ..Self::default() }
    }

    fn at(&self, path: &str) -> v1::UploadSpec {
        v1::UploadSpec { volume: self.volume.clone(), ..at(path) }
    }

    fn file_at(&self, path: &str) -> Option<v1::FileReference> {
        let path = v1::PathReference { volume: self.volume.clone(), path: path.to_owned() };
        Some(v1::FileReference { by: Some(v1::file_reference::By::Path(path)) })
    }

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
    // First, so that the crash is often here.
    if ledger.is_polled {
        for part in [PART_BYTES, 2 * PART_BYTES] {
            let content = sealed(&content[part / 2..]);
            ledger.sent(POLLED, &content);
            let file = clients.upload(ledger.at(POLLED), &content).await?;
            ledger.acknowledged(POLLED, &file);
        }
    }
    // In two streams, the first of which is left.
    let (path, id) = (format!("{name}/parts"), uuid::Uuid::now_v7().to_string());
    let spec = v1::UploadSpec { request_id: id, size_bytes: Some(content.len() as i64), ..ledger.at(&path) };
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
        let file = clients.upload(ledger.at(&path), content).await?;
        ledger.acknowledged(&path, &file);
    }
    // Refused at its end.
    let spec = v1::UploadSpec { sha256: sha256(b"another"), ..ledger.at(&format!("{name}/wrong")) };
    let refused = clients.upload(spec, &content[..PART_BYTES]).await.expect_err("the checksum is wrong");
    if refused.code() != Code::InvalidArgument {
        return Err(refused);
    }
    // Left until it expires.
    let id = uuid::Uuid::now_v7().to_string();
    let spec = v1::UploadSpec { request_id: id, ..ledger.at(&format!("{name}/left")) };
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
    let mut cofferd = Cofferd::start().await;
    let place = cofferd.main_volume();
    crash_at_each_step(&mut cofferd, Ledger::default(), &place, &STEPS, &STEPS_AT_START).await;
}

/// Where equal contents are one object: the same contents come again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_where_equal_contents_are_shared_loses_nothing_and_leaves_nothing() {
    let mut cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let place = cofferd.disks().join("shared");
    volume_with(&operator, "shared", &place, |volume| volume.set_auto_path_strategy(v1::PathStrategy::Hash))
        .await;
    crash_at_each_step(&mut cofferd, Ledger::of("shared"), &place, &STEPS, &STEPS_AT_START).await;
}

/// Where files are found at their paths: there is the old content or the new one, never neither and never a part, while it is replaced and
/// while the service is down, and in the end what the service says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_where_files_are_found_at_their_paths_loses_nothing_and_leaves_nothing() {
    let mut cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let place = cofferd.disks().join("paths");
    volume_with(&operator, "paths", &place, |volume| volume.set_auto_path_strategy(v1::PathStrategy::None))
        .await;
    let reader = Reader::start(&place.join(POLLED));
    let ledger = Ledger { is_polled: true, ..Ledger::of("paths") };
    // Fewer steps than elsewhere, so each of them twice as often.
    crash_at_each_step(&mut cofferd, ledger, &place, &[STEPS_OF_LINKS, STEPS_OF_LINKS].concat(), &[]).await;
    let (reads, contents) = reader.stop().await;
    println!("{reads} reads at a path meanwhile, {contents} contents, each whole");
    assert!(
        reads > contents && contents >= STEPS_OF_LINKS.len() as u64,
        "{reads} reads of {contents} contents"
    );
}

/// A content that tells whether it is whole: its SHA-256 comes first.
fn sealed(content: &[u8]) -> Vec<u8> {
    [sha256(content).as_bytes(), content].concat()
}

/// Another program, which reads the file at a path all the time.
struct Reader {
    stop: watch::Sender<bool>,
    task: JoinHandle<(u64, u64)>,
}

impl Reader {
    fn start(path: &Path) -> Self {
        let (path, (stop, is_over)) = (path.to_owned(), watch::channel(false));
        let task = tokio::spawn(async move {
            let (mut reads, mut contents, mut last) = (0, 0, Vec::new());
            while !*is_over.borrow() {
                match tokio::fs::read(&path).await {
                    Ok(found) => {
                        let (sum, content) = found.split_at_checked(64).expect("a whole content");
                        assert!(sum == sha256(content).as_bytes(), "a whole content");
                        reads += 1;
                        contents += u64::from(found != last);
                        last = found;
                    }
                    Err(error) => assert!(last.is_empty(), "the file was there before: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (reads, contents)
        });
        Self { stop, task }
    }

    /// How often it has read, and how many contents.
    async fn stop(self) -> (u64, u64) {
        self.stop.send_replace(true);
        self.task.await.expect("it never found a wrong byte")
    }
}

async fn crash_at_each_step(
    cofferd: &mut Cofferd,
    mut ledger: Ledger,
    place: &Path,
    steps: &[&'static str],
    at_start: &[&'static str],
) {
    let kills = number_of_run("COFFER_KILLS", KILLS);
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let mut crashes = HashMap::<&str, u64>::new();
    for (n, step) in steps.iter().chain(at_start).copied().enumerate() {
        let is_at_start = n >= steps.len();
        for kill in 0..kills {
            if is_at_start {
                // Something for the next start to find.
                let clients = cofferd.clients_with(Some(&token)).await;
                clients.upload(ledger.at("found/one"), b"first").await.unwrap();
                let open = clients.writing();
                assert!(open.send(first(ledger.at("found/open"))).await && open.send(data(0, b"more")).await);
                let file = clients.upload(ledger.at("found/one"), &noise(kill as usize + 1)).await.unwrap();
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
                let outcome = everything(&clients, cofferd, &name, &mut ledger).await;
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
        expire(cofferd).await;
        settle_at(cofferd, place).await;
        for (path, expected) in std::mem::take(&mut ledger.files) {
            let file = ledger.file_at(&path);
            let read = clients.read(v1::ReadFileRequest { file, ..Default::default() }).await;
            match read {
                Ok((_, content)) => {
                    assert!(expected.possible.contains(&sha256(&content)), "{step}: {path}");
                    if ledger.is_polled {
                        let found = std::fs::read(place.join(&path)).unwrap();
                        assert!(found == content, "{step}: {path} is found at its path");
                    }
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::NotFound, "{step}: {path}: {status:?}");
                    assert!(!expected.is_acknowledged, "{step}: {path} was acknowledged and is lost");
                    assert!(!place.join(&path).exists(), "{step}: {path} is no file");
                }
            }
        }
        super::quotas::nothing_drifts(cofferd).await;
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
