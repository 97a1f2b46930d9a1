//! Killed services, killed clients and lost connections: contents arrive whole, and little is sent twice.

use super::uploads::sha256;
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    cofferd::command,
    dice::{Dice, number_of_run},
    grpc::by_path,
    proxy::{Fault, Proxy},
};
use serde_json::Value;
use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

const MIB: u64 = 1024 * 1024;
/// Content of the large upload; `COFFER_RESUME_MIB` asks for another.
const LARGE_MIB: u64 = 256;
/// Kills in the middle of it.
const KILLS: u64 = 10;
/// What may be sent again after a kill: an interval between checkpoints, the transport's window, and what lies in between.
const MAX_RESENT_PER_KILL: u64 = (16 + 4 + 2) * MIB;
/// Lost connections of an upload and of a download; `COFFER_CUTS` asks for others.
const CUTS: u64 = 25;
/// What may be sent again after a lost connection: the message that was cut, with frames and the calls that find out where to go on.
pub(crate) const MAX_RESENT_PER_CUT: u64 = 256 * 1024 + 8 * 1024;
/// The same of a download, whose reset loses what the client had not taken yet: the transport's window.
const MAX_FETCHED_AGAIN_PER_CUT: u64 = 4 * MIB;
/// Longest that one transfer may take, with everything that happens to it.
const PATIENCE: Duration = Duration::from_secs(240);

/// A `coffer` command of a caller against an address.
pub(crate) fn coffer(addr: &str, token: &str, arguments: &[&str]) -> Command {
    let mut command = Command::from(command("coffer"));
    command.args(arguments).env("COFFER_ADDR", format!("http://{addr}")).env("COFFER_TOKEN", token);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn upload(addr: &str, token: &str, source: &Path, path: &str) -> Child {
    let source = source.to_str().unwrap();
    let mut command = coffer(addr, token, &["upload", source, path, "--resume", "--json"]);
    command.spawn().expect("the command can be started")
}

/// The document that a command ends with.
pub(crate) async fn ended(child: Child) -> Value {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends in time").unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("with --json it prints a document")
}

/// A file of so many MiB that differ from each other, and its SHA-256.
pub(crate) fn content(directory: &Path, mib: u64, dice: &mut Dice) -> (PathBuf, String) {
    use sha2::Digest as _;
    let path = directory.join("source.bin");
    let mut file = File::create(&path).unwrap();
    let mut block = vec![0; MIB as usize];
    dice.fill(&mut block);
    let mut hash = sha2::Sha256::new();
    for n in 0..mib {
        for page in block.chunks_mut(4096) {
            page[..8].copy_from_slice(&n.to_le_bytes());
        }
        file.write_all(&block).unwrap();
        hash.update(&block);
    }
    (path, data_encoding::HEXLOWER.encode(&hash.finalize()))
}

pub(crate) fn sha256_of_file(path: &Path) -> String {
    use sha2::Digest as _;
    let (mut file, mut hash, mut buffer) = (File::open(path).unwrap(), sha2::Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            return data_encoding::HEXLOWER.encode(&hash.finalize());
        }
        hash.update(&buffer[..read]);
    }
}

/// The one file there is has this content, on the disk too, and nothing else is left.
async fn is_whole(cofferd: &Cofferd, token: &str, path: &str, sha256: &str) {
    let clients = cofferd.clients_with(Some(token)).await;
    let request = v1::GetFileRequest { file: by_path(path) };
    let file = clients.files.clone().get_file(request).await.unwrap().into_inner().file.unwrap();
    assert_eq!(file.sha256, sha256);
    let objects = cofferd.objects();
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert_eq!(sha256_of_file(&cofferd.main_volume().join(&objects[0])), sha256);
    assert_eq!(super::uploads::staged(cofferd), [""; 0]);
    assert_eq!(super::uploads::held(cofferd).await, 0);
    assert_eq!(
        cofferd.database.number("SELECT count(*) FROM storage_uploads").await,
        1,
        "one upload all along"
    );
    super::quotas::nothing_drifts(cofferd).await;
}

/// Distances between random places of a content, so that a connection that ends after each of them ends at random places.
fn gaps(dice: &mut Dice, count: u64, bytes: u64) -> Vec<u64> {
    let mut places: Vec<_> = (0..count).map(|_| dice.below(bytes)).collect();
    places.sort_unstable();
    std::iter::once(0).chain(places.iter().copied()).zip(&places).map(|(from, to)| to - from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_goes_on_after_each_kill() {
    let size = number_of_run("COFFER_RESUME_MIB", LARGE_MIB) * MIB;
    let mut dice = Dice::of_run(1);
    let mut cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic").ttl("1h"));
    let proxy = Proxy::start(cofferd.grpc_addr()).await;
    let (source, sha256) = content(cofferd.data_dir(), size / MIB, &mut dice);
    let begin = || upload(&proxy.addr(), &token, &source, "large.bin");
    let (since, mut resent_bytes, mut client) = (Instant::now(), Vec::new(), begin());
    // Where the content went on, and what had passed by then.
    let (mut resumed_at, mut passed_before) = (0, 0);
    for kill in 0..KILLS {
        let goal = kill * size / KILLS + dice.below(size / KILLS);
        let waited = Instant::now();
        while resumed_at + (proxy.traffic().to_server_bytes - passed_before) < goal {
            if let Some(status) = client.try_wait().unwrap() {
                panic!("the command ended with {status} before kill {kill}: {:?}", ended(client).await);
            }
            assert!(waited.elapsed() < PATIENCE, "the upload gets to {goal} bytes before kill {kill}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cofferd.kill();
        let kills_client = dice.below(2) == 0;
        if kills_client {
            client.kill().await.unwrap();
        }
        let sent = resumed_at + (proxy.traffic().to_server_bytes - passed_before);
        let recorded = "SELECT coalesce(max(persisted_size), 0) FROM storage_uploads WHERE state = 'OPEN'";
        let persisted = u64::try_from(cofferd.database.number(recorded).await).unwrap();
        let resent = sent.saturating_sub(persisted);
        println!(
            "kill {kill}{} at {sent} bytes: {resent} of them again",
            if kills_client { ", the client too," } else { "" }
        );
        assert!(resent <= MAX_RESENT_PER_KILL, "{resent} bytes");
        resent_bytes.push(resent);
        (resumed_at, passed_before) = (persisted, proxy.traffic().to_server_bytes);
        cofferd.launch().await;
        proxy.point_at(cofferd.grpc_addr());
        if kills_client {
            client = begin();
        }
    }
    let file = ended(client).await;
    let seconds = since.elapsed().as_secs_f64();
    let passed = proxy.traffic().to_server_bytes;
    println!(
        "{} MiB in {seconds:.1} s; again per kill: {} KiB in the middle, {} KiB at most; in all {} KiB more than the content",
        size / MIB,
        median(&mut resent_bytes) / 1024,
        resent_bytes.last().unwrap() / 1024,
        (passed - size) / 1024,
    );
    assert!(passed - size <= KILLS * MAX_RESENT_PER_KILL);
    assert_eq!(file["sha256"], sha256.as_str());
    is_whole(&cofferd, &token, "large.bin", &sha256).await;
}

/// The middle one; the numbers are sorted after it.
fn median(numbers: &mut [u64]) -> u64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_arrived_is_sent_again_after_a_lost_connection() {
    const SIZE: u64 = 64 * MIB;
    let cuts = number_of_run("COFFER_CUTS", CUTS);
    let mut dice = Dice::of_run(2);
    let cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic").ttl("1h"));
    let proxy = Proxy::start(cofferd.grpc_addr()).await;
    let (source, sha256) = content(cofferd.data_dir(), SIZE / MIB, &mut dice);

    proxy.plan(gaps(&mut dice, cuts, SIZE).into_iter().map(|after_bytes| Fault::CutRequest { after_bytes }));
    let since = Instant::now();
    let file = ended(upload(&proxy.addr(), &token, &source, "cut.bin")).await;
    let traffic = proxy.traffic();
    let more = traffic.to_server_bytes - SIZE;
    println!(
        "{cuts} cuts of {} MiB up in {:?}: {more} bytes more than the content, {} per cut",
        SIZE / MIB,
        since.elapsed(),
        more / cuts
    );
    assert_eq!((proxy.planned(), traffic.cuts), (0, cuts));
    assert_eq!(file["sha256"], sha256.as_str());
    // Framing of the content itself: some 50 bytes for each message of 256 KiB.
    assert!(more <= cuts * MAX_RESENT_PER_CUT + 64 * 1024, "{more} bytes");
    is_whole(&cofferd, &token, "cut.bin", &sha256).await;

    let before = proxy.traffic();
    proxy.plan(gaps(&mut dice, cuts, SIZE).into_iter().map(|after_bytes| Fault::CutAnswer { after_bytes }));
    let copy = cofferd.data_dir().join("copy.bin");
    let since = Instant::now();
    let arguments = ["download", "cut.bin", copy.to_str().unwrap(), "--json"];
    ended(coffer(&proxy.addr(), &token, &arguments).spawn().unwrap()).await;
    let traffic = proxy.traffic();
    let more = traffic.to_client_bytes - before.to_client_bytes - SIZE;
    println!(
        "{cuts} cuts of {} MiB down in {:?}: {more} bytes more than the content, {} per cut",
        SIZE / MIB,
        since.elapsed(),
        more / cuts
    );
    assert_eq!((proxy.planned(), traffic.cuts - before.cuts), (0, cuts));
    assert!(more <= cuts * MAX_FETCHED_AGAIN_PER_CUT, "{more} bytes");
    assert_eq!(sha256_of_file(&copy), sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_killed_goes_on_by_itself() {
    let cofferd = Cofferd::start().await;
    let token = cofferd.token(&Token::user("ann", "clinic"));
    let proxy = Proxy::start(cofferd.grpc_addr()).await;
    let source = cofferd.data_dir().join("source.bin");
    let content = coffer_tests::grpc::noise(20_000_000);
    std::fs::write(&source, &content).unwrap();
    // The network stops in the middle, and the user gives up.
    proxy.plan([Fault::Stall { after_bytes: 12_000_000 }]);
    let mut client = upload(&proxy.addr(), &token, &source, "killed.bin");
    super::uploads::until("the network has stopped", async || proxy.traffic().to_server_bytes == 12_000_000)
        .await;
    client.kill().await.unwrap();
    proxy.cut();
    let file = ended(upload(&proxy.addr(), &token, &source, "killed.bin")).await;
    assert_eq!(file["sha256"], sha256(&content).as_str());
    let again = proxy.traffic().to_server_bytes - 20_000_000;
    println!("{again} bytes more than the content");
    assert!(again <= MAX_RESENT_PER_CUT + 64 * 1024, "{again} bytes");
    is_whole(&cofferd, &token, "killed.bin", &sha256(&content)).await;
}
