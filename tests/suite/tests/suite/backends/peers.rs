//! Coffer on a server beside a client that speaks to the same server itself: `rclone copyto` to a bucket, `curl` to HTTP.
//!
//! A pair is one file up and down again by each, one after the other; they take turns in being first. `coffer` sends it, and where nothing
//! can be resumed, which `coffer` asks for, messages made here. `coffer download` waits for the disk, so the peers' copies are synced too.

use super::{Remote, content::Content, on_far};
use crate::resume::{coffer, ended, sha256_of_file};
use coffer_proto::v1::{self, volume::Backend};
use coffer_test_servers::{ACCESS_KEY, Kind, PASSWORD, SECRET_KEY, USER, find};
use coffer_tests::{dice::number_of_run, grpc::first};
use futures_util::stream;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const MIB: u64 = 1024 * 1024;
/// Size and pairs in the run of all tests, which shows that all of it works; `COFFER_SIZE_MIB` and `COFFER_PAIRS` ask for more.
const SIZE_MIB: u64 = 20;
const PAIRS: u64 = 1;
/// What the rate is to be of the peer's, in both directions, for a file of this size.
const GOAL: f64 = 0.8;
const GOAL_MIB: u64 = 1024;
/// Time a disk is given to free what was removed.
const PAUSE: Duration = Duration::from_secs(1);

/// Another client of the server.
struct Peer {
    /// Of a bucket: then it is rclone.
    is_of_bucket: bool,
    program: PathBuf,
    /// What its names for the volume's objects begin with.
    place: String,
    url: String,
}

impl Peer {
    /// `None` where it is missing.
    fn of(far: &Remote) -> Option<Self> {
        let url = far.server.url();
        let name = &far.name;
        let is_of_bucket = matches!(far.backend, Backend::S3(_));
        let (program, place) =
            if is_of_bucket { ("rclone", format!(":s3:{name}")) } else { ("curl", format!("{url}/{name}")) };
        Some(Self { is_of_bucket, program: find(program)?, place, url })
    }

    fn name(&self) -> &'static str {
        if self.is_of_bucket { "rclone copyto" } else { "curl" }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.is_of_bucket {
            // None of the user's settings.
            command.env("RCLONE_CONFIG", "/notfound").env("RCLONE_S3_PROVIDER", "Other");
            command.env("RCLONE_S3_ENDPOINT", &self.url).env("RCLONE_S3_NO_CHECK_BUCKET", "true");
            command.env("RCLONE_S3_ACCESS_KEY_ID", ACCESS_KEY).env("RCLONE_S3_SECRET_ACCESS_KEY", SECRET_KEY);
        } else {
            // Without Expect: nobody's PUT begins with a wait.
            command.args(["--silent", "--show-error", "--fail", "--header", "Expect:"]);
            command.args(["--user", &format!("{USER}:{PASSWORD}")]);
        }
        command
    }

    async fn put(&self, source: &Path) -> Duration {
        let (mut command, name) = (self.command(), self.object());
        if self.is_of_bucket {
            command.arg("copyto").arg(source).arg(name);
        } else {
            command.args(["--output", "/dev/null", "--upload-file"]).arg(source).arg(name);
        }
        run(command).await
    }

    async fn get(&self, copy: &Path) -> Duration {
        let (mut command, name) = (self.command(), self.object());
        if self.is_of_bucket {
            command.args(["copyto", &name]).arg(copy);
        } else {
            command.arg("--output").arg(copy).arg(name);
        }
        run(command).await
    }

    async fn remove(&self) {
        let (mut command, name) = (self.command(), self.object());
        if self.is_of_bucket {
            command.args(["deletefile", &name]);
        } else {
            command.args(["--request", "DELETE", &name]);
        }
        run(command).await;
    }

    fn object(&self) -> String {
        format!("{}/peer.bin", self.place)
    }
}

/// How long a command takes that succeeds.
async fn run(mut command: Command) -> Duration {
    command.stdin(Stdio::null());
    let since = Instant::now();
    let ran = tokio::task::spawn_blocking(move || (command.output().unwrap(), command));
    let (output, command) = ran.await.unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    since.elapsed()
}

/// What was measured of one of them.
#[derive(Default)]
struct Times {
    up: Vec<Duration>,
    /// Until the copy is on the disk.
    down: Vec<Duration>,
    /// Until the command ends.
    unsynced: Vec<Duration>,
}

/// A file, and where copies of it go.
struct Transfer {
    far: Remote,
    peer: Peer,
    content: Content,
    size_mib: u64,
    sha256: String,
    source: PathBuf,
    copy: PathBuf,
    can_resume: bool,
}

impl Transfer {
    async fn by_coffer(&self, times: &mut Times) {
        let addr = self.far.cofferd.grpc_addr();
        let command = |arguments: &[&str]| coffer(addr, &self.far.token, arguments).spawn().unwrap();
        let since = Instant::now();
        let id = if self.can_resume {
            let source = self.source.to_str().unwrap();
            let file = ended(command(&["upload", source, "coffer.bin", "--volume", "far", "--json"])).await;
            assert_eq!(file["sha256"], self.sha256.as_str());
            file["id"].as_str().unwrap().to_owned()
        } else {
            let spec =
                v1::UploadSpec { size_bytes: Some((self.size_mib * MIB) as i64), ..on_far("coffer.bin") };
            let messages =
                std::iter::once(first(spec)).chain(self.content.messages()).chain([self.content.end()]);
            let answer = self.far.ann.transfers.clone().write_file(stream::iter(messages)).await;
            let file = answer.unwrap().into_inner().file.unwrap();
            assert_eq!(file.sha256, self.sha256);
            file.id
        };
        times.up.push(since.elapsed());
        sync().await;
        let since = Instant::now();
        let copy = self.copy.to_str().unwrap();
        ended(command(&["download", "coffer.bin", copy, "--volume", "far", "--json"])).await;
        times.down.push(since.elapsed());
        times.unsynced.push(since.elapsed());
        self.is_a_copy();
        assert_eq!(super::purge(&self.far.ann, &id).await, (self.size_mib * MIB) as i64);
    }

    async fn by_peer(&self, times: &mut Times) {
        times.up.push(self.peer.put(&self.source).await);
        sync().await;
        let down = self.peer.get(&self.copy).await;
        let mut command = Command::new("sync");
        command.arg(&self.copy);
        times.down.push(down + run(command).await);
        times.unsynced.push(down);
        self.is_a_copy();
        self.peer.remove().await;
    }

    /// The copy is right, and is not needed any more.
    fn is_a_copy(&self) {
        assert_eq!(sha256_of_file(&self.copy), self.sha256);
        fs::remove_file(&self.copy).unwrap();
    }
}

/// What is still on its way to the disk is none of the next one's business.
async fn sync() {
    run(Command::new("sync")).await;
}

async fn a_file_goes_up_and_down_as_by_a_peer(kind: Kind) {
    let Some(far) = Remote::beside(kind).await else { return };
    let Some(peer) = Peer::of(&far) else { return };
    let (size_mib, pairs) =
        (number_of_run("COFFER_SIZE_MIB", SIZE_MIB), number_of_run("COFFER_PAIRS", PAIRS));
    let content = Content::new(8, size_mib * MIB);
    let (source, copy) = (far.cofferd.data_dir().join("source.bin"), far.cofferd.data_dir().join("copy.bin"));
    content.write_to(&source);
    let (sha256, can_resume) = (content.sha256(), far.check().await.capabilities.unwrap().resume);
    let transfer = Transfer { far, peer, content, size_mib, sha256, source, copy, can_resume };
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for pair in 0..pairs {
        for turn in 0..2 {
            if pair % 2 == turn {
                transfer.by_coffer(&mut ours).await;
            } else {
                transfer.by_peer(&mut theirs).await;
            }
            sync().await;
            tokio::time::sleep(PAUSE).await;
        }
    }
    report(&transfer, kind, &ours, &theirs);
    transfer.far.is_settled().await;
}

fn report(transfer: &Transfer, kind: Kind, ours: &Times, theirs: &Times) {
    let (size_mib, name) = (transfer.size_mib, transfer.peer.name());
    let rates = |times: &[Duration]| {
        let rates = times.iter().map(|time| size_mib as f64 / time.as_secs_f64());
        let (median, least, most) = spread(rates.collect());
        format!("{median:.0} ({least:.0} to {most:.0})")
    };
    println!("{kind:?}, {size_mib} MiB, {} pairs; medians (least to most)", ours.up.len());
    for (who, times) in [("Coffer", ours), (name, theirs)] {
        println!("{who:<14} up {} MiB/s, down {} MiB/s", rates(&times.up), rates(&times.down));
    }
    let ratio = |what: &str, ours: &[Duration], theirs: &[Duration], goal: Option<f64>| {
        let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs.as_secs_f64() / ours.as_secs_f64());
        let (median, least, most) = spread(ratios.collect());
        let goal = goal
            .filter(|_| size_mib >= GOAL_MIB)
            .map(|goal| format!("   goal {goal}: {}", if median >= goal { "reached" } else { "missed" }));
        println!("{what}: {median:.2} ({least:.2} to {most:.2}){}", goal.unwrap_or_default());
    };
    ratio(&format!("up, of the rate of {name}"), &ours.up, &theirs.up, Some(GOAL));
    ratio(&format!("down, of the rate of {name}"), &ours.down, &theirs.down, Some(GOAL));
    ratio(&format!("down, of {name} without a sync"), &ours.unsynced, &theirs.unsynced, None);
}

/// The middle one, the least and the most.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[(figures.len() - 1) / 2], figures[0], figures[figures.len() - 1])
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 => a_file_goes_up_and_down_as_by_a_peer;
    webdav_of_rclone: Kind::RcloneWebdav => a_file_goes_up_and_down_as_by_a_peer;
    webdav_of_apache: Kind::ApacheDav => a_file_goes_up_and_down_as_by_a_peer;
    http_of_nginx: Kind::Nginx => a_file_goes_up_and_down_as_by_a_peer;
}
