//! Honest clients: they do what users do, check every answer, and note how long it took.
//!
//! They run on a thread of their own, so that whoever else works in this process delays them no more than the machine does.

use coffer_proto::v1;
use coffer_tests::grpc::{Clients, at, by_path, noise};
use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Where they come from, and those among them who connect anew for every call.
const SOURCE: [u8; 4] = [127, 0, 0, 2];
const NEWCOMERS: [u8; 4] = [127, 0, 0, 3];
/// Longer than anything may take: then it has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two calls of one client.
const PAUSE: Duration = Duration::from_millis(2);
const SMALL_BYTES: usize = 4 * 1024;
const LARGE_BYTES: usize = 1024 * 1024;

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A small call over a connection that is there.
    Call,
    /// A connection and a small call.
    Newcomer,
    /// An upload of 4 KiB.
    Upload,
    /// A download of 1 MiB.
    Download,
}

/// What was noted since it was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    times: Vec<(Work, Duration)>,
    pub(crate) errors: Vec<String>,
}

impl Notes {
    /// How long this work took, from the shortest.
    pub(crate) fn times(&self, work: Work) -> Vec<Duration> {
        let mut times: Vec<_> = self.times.iter().filter(|(w, _)| *w == work).map(|(_, t)| *t).collect();
        times.sort();
        times
    }
}

/// Who works at the same time: two who call, and one for each of the others.
const WORKERS: [Work; 5] = [Work::Call, Work::Call, Work::Newcomer, Work::Upload, Work::Download];

/// Clients at work until this is dropped.
pub(crate) struct Load {
    notes: Arc<Mutex<Notes>>,
    /// How often each worker has done its work, well or not.
    done: Arc<[AtomicU64; WORKERS.len()]>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts them against the service at `addr` in the name of `token`.
    pub(crate) fn start(addr: &str, token: &str) -> Self {
        let (notes, done, ends) =
            (Arc::<Mutex<Notes>>::default(), Arc::default(), Arc::<AtomicBool>::default());
        let small = noise(SMALL_BYTES);
        let honest = Honest {
            addr: addr.to_owned(),
            token: token.to_owned(),
            small_sha256: HEXLOWER.encode(&Sha256::digest(&small)),
            small,
            large: noise(LARGE_BYTES),
            notes: Arc::clone(&notes),
            done: Arc::clone(&done),
            ends: Arc::clone(&ends),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(honest.work());
        });
        Self { notes, done, ends, thread: Some(thread) }
    }

    /// What was noted since this was last called, with the work that is under way now.
    pub(crate) async fn take(&self) -> Notes {
        let count = || self.done.each_ref().map(|done| done.load(Ordering::Relaxed));
        let before = count();
        let since = Instant::now();
        // Whoever has not begun is waited for as well, so that nothing is said of work that nobody did.
        while count().iter().zip(before).any(|(now, before)| *now == before) && since.elapsed() < 2 * PATIENCE
        {
            tokio::time::sleep(PAUSE).await;
        }
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed, and what it had noted is there.
            let _ = thread.join();
        }
    }
}

struct Honest {
    addr: String,
    token: String,
    small: Vec<u8>,
    small_sha256: String,
    large: Vec<u8>,
    notes: Arc<Mutex<Notes>>,
    done: Arc<[AtomicU64; WORKERS.len()]>,
    ends: Arc<AtomicBool>,
}

impl Honest {
    async fn work(self) {
        let clients = self.clients(SOURCE.into());
        clients.upload(at("honest/small"), &self.small).await.unwrap();
        clients.upload(at("honest/large"), &self.large).await.unwrap();
        let workers =
            WORKERS.into_iter().zip(self.done.iter()).map(|(work, done)| self.repeat(work, done, &clients));
        join_all(workers).await;
    }

    /// A lazy connection: it is made with the first call, and that counts.
    fn clients(&self, source: IpAddr) -> Clients {
        Clients::from(&self.addr, source, Some(&self.token))
    }

    async fn repeat(&self, work: Work, done: &AtomicU64, clients: &Clients) {
        while !self.ends.load(Ordering::Relaxed) {
            let (count, since) = (done.load(Ordering::Relaxed), Instant::now());
            let outcome = timeout(PATIENCE, self.once(work, count, clients)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            {
                let mut notes = self.notes.lock().unwrap();
                match outcome {
                    Ok(()) => notes.times.push((work, since.elapsed())),
                    Err(error) => notes.errors.push(format!("{work:?} {count}: {error}")),
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, work: Work, count: u64, clients: &Clients) -> Result<(), String> {
        match work {
            Work::Call => self.call(clients).await,
            Work::Newcomer => self.call(&self.clients(NEWCOMERS.into())).await,
            Work::Upload => self.upload(clients, count).await,
            Work::Download => self.download(clients).await,
        }
    }

    async fn call(&self, clients: &Clients) -> Result<(), String> {
        let request = v1::GetFileRequest { file: by_path("honest/small") };
        let answer = clients.files.clone().get_file(request).await.map_err(|status| status.to_string())?;
        let sha256 = answer.into_inner().file.map(|file| file.sha256);
        expect(sha256.as_ref() == Some(&self.small_sha256), "another file was answered")
    }

    async fn upload(&self, clients: &Clients, count: u64) -> Result<(), String> {
        // A few paths, so that the volume does not grow with the length of the run.
        let path = format!("honest/upload-{}", count % 8);
        let file = clients.upload(at(&path), &self.small).await.map_err(|status| status.to_string())?;
        expect(file.sha256 == self.small_sha256 && file.path == path, "something else was stored")
    }

    async fn download(&self, clients: &Clients) -> Result<(), String> {
        let request = v1::ReadFileRequest { file: by_path("honest/large"), ..Default::default() };
        let (_, content) = clients.read(request).await.map_err(|status| status.to_string())?;
        expect(content == self.large, "other bytes came")
    }
}

fn expect(holds: bool, problem: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem.to_owned()) }
}
