//! The use cases: what callers can do, on top of the two ports.
//!
//! Every use case is audited. What changes something is recorded by the store in the same transaction; what was refused or failed is
//! recorded here, in a task of its own, because a handler may be dropped at any time.

mod audit;
mod delegation;
mod drivers;
mod endpoints;
mod files;
mod links;
mod quotas;
mod reads;
mod reconcile;
mod tasks;
mod uploads;
mod volumes;

pub use audit::Recorded;
pub use files::Seen;
pub use quotas::QuotaQuery;
pub use reads::{Piece, ReadSpec, Reading};
pub use reconcile::{Difference, DifferenceKind, Report, Scan, VolumeReport};
pub use uploads::{MAX_WHOLE_BYTES, UploadSpec, Whole, Writing};
pub use volumes::{Check, CheckProblem, CheckStep};

use crate::{
    Error, Result,
    budget::Budget,
    caller::Caller,
    driver,
    error::{Unauthenticated, Unavailable},
    file::{File, FileRef},
    id::{ClusterId, OperationId},
    operation::{Operation, OperationKind},
    path::PathRules,
    request::Request,
    store::{Lookup, NodeStart, Store},
    time::now,
    volume::{Volume, VolumeRef},
};
use serde::de::DeserializeOwned;
use std::{
    future::Future,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// How much of the grace period at shutdown streams have to end by themselves.
const GRACE_OF_STREAMS: f64 = 0.7;

/// What an operator sets about the use cases.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the volume that is meant when none is named.
    pub default_volume: String,
    /// Directories below which local paths may be approved.
    pub allowed_roots: Vec<PathBuf>,
    /// The folder below which files of private keys may be used; `None`: none may.
    pub key_folder: Option<PathBuf>,
    /// How long a stream may make no progress.
    pub stall_timeout: Duration,
    /// Age below which an object without a row is left alone: longer than any commit, and than the age of a backup that may be restored.
    pub orphan_grace: Duration,
    /// How long a node is believed to live after its last sign.
    pub lease: Duration,
    /// Most resumable uploads that a principal may have open at once.
    pub open_uploads: usize,
    /// Memory that transfers may take; connections take theirs of the same.
    pub budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_volume: "main".to_owned(),
            allowed_roots: Vec::new(),
            key_folder: None,
            stall_timeout: Duration::from_secs(30),
            orphan_grace: Duration::from_secs(24 * 3_600),
            lease: Duration::from_secs(15),
            open_uploads: 10_000,
            budget: Budget::default(),
        }
    }
}

/// The use cases. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Coffer(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    drivers: drivers::Drivers,
    start: NodeStart,
    cluster: ClusterId,
    settings: Settings,
    refusals: audit::Refusals,
    sessions: uploads::Sessions,
    recorder: OnceLock<uploads::Recorder>,
    tasks: TaskTracker,
    /// Nothing new is begun.
    closing: CancellationToken,
    /// Streams end where they are.
    evicting: CancellationToken,
}

impl Coffer {
    /// The service of one start of a node.
    pub fn new(
        store: Arc<dyn Store>,
        opener: Arc<dyn driver::Open>,
        start: NodeStart,
        cluster: ClusterId,
        settings: Settings,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            drivers: drivers::Drivers::new(opener),
            start,
            cluster,
            settings,
            refusals: audit::Refusals::default(),
            sessions: uploads::Sessions::default(),
            recorder: OnceLock::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            evicting: CancellationToken::new(),
        }))
    }

    /// How long a stream may make no progress.
    pub fn stall_timeout(&self) -> Duration {
        self.0.settings.stall_timeout
    }

    /// Which metadata database this service stands on.
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }

    /// Whether the metadata database answers.
    pub async fn ping(&self) -> Result<()> {
        self.0.store.ping().await
    }

    /// Refuses new transfers and waits for what was begun to end. Uploads that take most of the grace period are ended before it is over:
    /// what has arrived of them is recorded, and they go on elsewhere. `false`: the grace period was not enough.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.0.closing.cancel();
        self.0.tasks.close();
        let until = tokio::time::Instant::now() + grace;
        if tokio::time::timeout(grace.mul_f64(GRACE_OF_STREAMS), self.0.tasks.wait()).await.is_ok() {
            return true;
        }
        self.0.evicting.cancel();
        tokio::time::timeout_at(until, self.0.tasks.wait()).await.is_ok()
    }

    /// Records a request that was refused before it reached a use case, and hands the refusal back.
    pub async fn refused(&self, caller: &Caller, kind: OperationKind, error: Error) -> Error {
        self.failed(caller.operation(kind), error).await
    }

    /// Counts refused credentials per source; [`Coffer::tend`] records the counts.
    pub fn unauthenticated(&self, source: Option<IpAddr>, why: Unauthenticated) {
        self.0.refusals.count(source, why);
    }

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    fn must_be_open(&self) -> Result<()> {
        if self.0.closing.is_cancelled() {
            Err(Error::Unavailable(Unavailable::ShuttingDown))
        } else {
            Ok(())
        }
    }

    /// Where uploads record their progress.
    fn recorder(&self) -> uploads::Recorder {
        self.0.recorder.get_or_init(|| uploads::Recorder::start(self.0.store.clone())).clone()
    }

    /// Runs `work` to its end even if the caller leaves, and answers its outcome.
    pub async fn outlive<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = self.0.tasks.spawn(work.in_current_span());
        task.await.map_err(|e| Error::internal("finish a task", e))
    }

    /// Runs `work` as part of a task that its caller cannot end: [`Coffer::drain`] waits for it.
    pub async fn tracked<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.tasks.track_future(work).await
    }

    /// Runs a use case: records it as failed if it fails. `work` completes the operation with what it learns and hands it to the store
    /// where something changes. It goes on if the caller leaves.
    async fn audited<T, W>(&self, operation: Operation, work: impl FnOnce(Self, Trail) -> W) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let trail = Trail::new(operation, self.0.start);
        let work = work(self.clone(), trail.clone());
        let me = self.clone();
        self.outlive(async move {
            match work.await {
                Ok(value) => Ok(value),
                Err(error) => Err(me.failed(trail.operation(), error).await),
            }
        })
        .await?
    }

    /// The same for a request that may be sent twice: one that was answered before is answered the same. A failure is told only if it is not
    /// the effect of the same request, answered meanwhile.
    async fn audited_once<T, W>(
        &self,
        operation: Operation,
        request: Option<Request>,
        work: impl FnOnce(Self, Trail) -> W + Send + 'static,
    ) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        self.audited(operation, move |me, trail| async move {
            if let Some(answer) = me.recall(request.as_ref()).await? {
                return Ok(answer);
            }
            match work(me.clone(), trail).await {
                Ok(value) => Ok(value),
                Err(error) => match me.recall(request.as_ref()).await {
                    Ok(Some(answer)) => Ok(answer),
                    _ => Err(error),
                },
            }
        })
        .await
    }

    /// Records a failed operation and hands the error back. What the database cannot take is logged: nothing was changed then either.
    async fn failed(&self, operation: Operation, error: Error) -> Error {
        let is_anonymous = operation.user_id.is_none() && operation.app_id.is_none();
        let counted = match error {
            Error::Unauthenticated(why) => Some(why),
            // Whoever has no token could fill the trail with malformed requests.
            Error::Invalid(_) if is_anonymous => Some(Unauthenticated::Missing),
            _ => None,
        };
        if let Some(why) = counted {
            let source = operation.client_ip.as_deref().and_then(|ip| ip.parse().ok());
            self.unauthenticated(source, why);
            return error;
        }
        let record = Operation { id: OperationId::new(), created_at: now(), ..operation }.failed(&error);
        let me = self.clone();
        let outcome = self.outlive(async move { me.store().record(&[record]).await }).await;
        if let Err(problem) | Ok(Err(problem)) = outcome {
            tracing::warn!(reason = error.reason(), problem = %problem, "a failed operation could not be recorded");
        }
        error
    }

    /// The answer to the same request, if there was one.
    async fn recall<T: DeserializeOwned>(&self, request: Option<&Request>) -> Result<Option<T>> {
        let Some(request) = request else { return Ok(None) };
        self.store().recall(request).await?.map(|answered| answered.to(request)).transpose()
    }

    /// The volume a request means, whether or not it is active.
    async fn volume(&self, volume: Option<&VolumeRef>) -> Result<Volume> {
        let default = VolumeRef::Name(self.0.settings.default_volume.clone());
        let volume = volume.unwrap_or(&default);
        self.store().volume(volume).await?.ok_or_else(|| Error::NotFound(volume.resource()))
    }

    /// The file a caller names, with its volume's rules applied to paths; whether the caller may see it is not checked yet.
    async fn look_up(&self, caller: &Caller, file: &FileRef) -> Result<File> {
        let absent = || Error::NotFound(file.resource());
        let organisation = || caller.organisation().map(str::to_owned).ok_or_else(absent);
        let lookup = match file {
            FileRef::Id(id) => Lookup::Id(*id),
            FileRef::Name(name) => Lookup::Name { organisation: organisation()?, name: name.clone() },
            FileRef::Path { volume, path } => {
                let volume =
                    volume.clone().unwrap_or_else(|| VolumeRef::Name(self.0.settings.default_volume.clone()));
                let nfc = crate::path::StoragePath::stored(path.clone()).nfc();
                Lookup::Path { organisation: organisation()?, volume, nfc }
            }
        };
        self.store().file(&lookup).await?.ok_or_else(absent)
    }
}

/// An operation in the making, shared by the use case that completes it and whoever records its failure.
#[derive(Clone)]
struct Trail {
    operation: Arc<std::sync::Mutex<Operation>>,
    since: Instant,
}

impl Trail {
    fn new(mut operation: Operation, start: NodeStart) -> Self {
        operation.node_id = Some(start.node);
        Self { operation: Arc::new(std::sync::Mutex::new(operation)), since: Instant::now() }
    }

    /// The operation so far, with the time it took until now.
    fn operation(&self) -> Operation {
        let mut operation = self.operation.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        operation.duration_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        operation
    }

    fn update(&self, change: impl FnOnce(&mut Operation)) {
        change(&mut self.operation.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// One more fact about the operation.
    fn note(&self, name: &str, value: impl std::fmt::Display) {
        self.update(|operation| {
            operation.metadata.insert(name.to_owned(), value.to_string().into());
        });
    }

    /// The operation concerns this file, which the caller may know of.
    fn on(&self, file: &File) {
        self.update(|operation| {
            operation.file_id = Some(file.id);
            operation.volume_id = Some(file.volume);
            operation.provider = Some(file.provider);
        });
    }
}

/// A checked path under the rules of its volume.
fn parse_path(field: &str, path: &str, rules: &PathRules) -> Result<crate::path::StoragePath> {
    crate::path::StoragePath::parse(path, rules).map_err(|problem| Error::invalid(field, problem))
}
