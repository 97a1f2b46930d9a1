//! Volumes and the approved directories that local ones stand on.

use super::Coffer;
use crate::{
    Error, Result,
    caller::{Caller, may_use},
    driver::{Capabilities, Driver, PieceSize},
    egress::Forbidden,
    error::{Resource, State},
    id::{LocalPathId, VolumeId},
    name,
    operation::OperationKind,
    page::{Page, PageRequest},
    path::Key,
    request::Request,
    time::now,
    volume::{Backend, Changes, LocalPath, Settings, Volume, VolumeRef},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::{
    path::{Component, Path},
    time::{Duration, Instant},
};

/// Most bytes of an approved directory's path, which is what Linux allows.
const MAX_DIRECTORY_BYTES: usize = 4_096;
/// Volumes that are compared for overlaps when one is made.
const MAX_VOLUMES: u32 = 1_000;

/// What a check of a volume found.
#[derive(Debug, Clone)]
pub struct Check {
    /// In the order they ran; after the first that failed nothing more is tried.
    pub steps: Vec<CheckStep>,
    /// What the driver can do; `None` if it could not be opened.
    pub capabilities: Option<Capabilities>,
}

/// One step of a check.
#[derive(Debug, Clone)]
pub struct CheckStep {
    /// `marker`, `write`, `stat`, `read`, `list`, `delete`.
    pub name: &'static str,
    /// What to look at, if it failed.
    pub outcome: std::result::Result<(), CheckProblem>,
    /// How long it took.
    pub duration: Duration,
}

/// Why a step of a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckProblem {
    /// The name of the reason, as in [`Error::reason`], or what the step found.
    pub reason: &'static str,
    /// The address that may not be connected to, and the rule that refuses it.
    pub forbidden: Option<Forbidden>,
}

impl CheckProblem {
    fn new(reason: &'static str) -> Self {
        Self { reason, forbidden: None }
    }

    fn of(error: &Error) -> Self {
        let forbidden = match error {
            Error::State(State::AddressForbidden(forbidden)) => forbidden.clone(),
            _ => None,
        };
        Self { reason: error.reason(), forbidden }
    }
}

impl Coffer {
    /// Makes a volume and writes its marker.
    pub async fn create_volume(
        &self,
        caller: &Caller,
        settings: Settings,
        request: Option<Request>,
    ) -> Result<Volume> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::CreateVolume),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                valid(&settings)?;
                me.must_not_overlap(&settings, None).await?;
                let volume = Volume::new(settings);
                trail.update(|operation| operation.volume_id = Some(volume.id));
                let driver = me.claim(&volume).await?;
                let outcome = me.store().create_volume(&volume, &trail.operation(), request.as_ref()).await;
                if outcome.as_ref().map_or(true, |created| created.id != volume.id) {
                    driver.delete(&Key::marker()).await?;
                }
                outcome
            },
        )
        .await
    }

    /// A volume that the caller may use or manage. Recorded when refused.
    pub async fn get_volume(&self, caller: &Caller, volume: &VolumeRef) -> Result<Volume> {
        let (caller, volume) = (caller.clone(), volume.clone());
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            let principal = caller.known()?;
            let found = me.volume(Some(&volume)).await?;
            if caller.must_operate().is_ok() || may_use(principal, &found) {
                Ok(found)
            } else {
                Err(Error::NotFound(volume.resource()))
            }
        })
        .await
    }

    /// Volumes by name that the caller may use or manage. A page may hold fewer than asked for though more follow.
    pub async fn list_volumes(&self, caller: &Caller, page: &PageRequest) -> Result<Page<Volume>> {
        let (caller, page) = (caller.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            let principal = caller.known()?;
            let mut found = me.store().volumes(&page).await?;
            if caller.must_operate().is_err() {
                found.items.retain(|volume| may_use(principal, volume));
            }
            Ok(found)
        })
        .await
    }

    /// Changes a volume's settings.
    pub async fn update_volume(
        &self,
        caller: &Caller,
        id: VolumeId,
        changes: Changes,
        request: Option<Request>,
    ) -> Result<Volume> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::UpdateVolume),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                let current = me.volume(Some(&VolumeRef::Id(id))).await?;
                trail.update(|operation| operation.volume_id = Some(id));
                let settings = changes.apply(current.settings.clone());
                valid(&settings)?;
                let is_moved = current.settings.default_prefix != settings.default_prefix;
                if is_moved {
                    me.must_not_overlap(&settings, Some(id)).await?;
                    me.claim(&Volume { settings: settings.clone(), ..current.clone() }).await?;
                }
                let must_be_empty = current.settings.fixed_change(&settings).is_some();
                me.store()
                    .update_volume(
                        id,
                        current.updated_at,
                        &settings,
                        must_be_empty,
                        &trail.operation(),
                        request.as_ref(),
                    )
                    .await
            },
        )
        .await
    }

    /// Removes an empty volume.
    pub async fn delete_volume(
        &self,
        caller: &Caller,
        volume: &VolumeRef,
        request: Option<Request>,
    ) -> Result<()> {
        let (caller, volume) = (caller.clone(), volume.clone());
        self.audited_once(caller.operation(OperationKind::DeleteVolume), request.clone(), move |me, trail| async move {
            caller.must_operate()?;
            let found = me.volume(Some(&volume)).await?;
            trail.update(|operation| operation.volume_id = Some(found.id));
            me.store().delete_volume(found.id, &trail.operation(), request.as_ref()).await?;
            if let Err(problem) = me.disclaim(&found).await {
                tracing::warn!(volume.id = %found.id, problem = %problem, "the marker of a deleted volume could not be removed");
            }
            Ok(())
        })
        .await
    }

    /// Tries the volume: writes, reads, lists and deletes a small object.
    pub async fn check_volume(&self, caller: &Caller, volume: &VolumeRef) -> Result<Check> {
        let (caller, volume) = (caller.clone(), volume.clone());
        self.audited(caller.operation(OperationKind::CheckVolume), move |me, trail| async move {
            caller.must_operate()?;
            let found = me.volume(Some(&volume)).await?;
            trail.update(|operation| operation.volume_id = Some(found.id));
            let check = me.check(&found).await;
            let is_healthy = check.steps.iter().all(|step| step.outcome.is_ok());
            me.store().record(&[trail.operation().with("is_healthy", is_healthy)]).await?;
            Ok(check)
        })
        .await
    }

    async fn check(&self, volume: &Volume) -> Check {
        let mut steps = Vec::new();
        let since = Instant::now();
        let opened = match self.driver_told(volume, Error::to_operator).await {
            Ok(driver) => self.verify(volume, &*driver).await.map(|()| driver),
            Err(error) => Err(error),
        };
        steps.push(CheckStep {
            name: "marker",
            outcome: opened.as_ref().map(drop).map_err(CheckProblem::of),
            duration: since.elapsed(),
        });
        let Ok(driver) = opened else { return Check { steps, capabilities: None } };
        round_trip(&*driver, &mut steps).await;
        Check { steps, capabilities: Some(driver.capabilities()) }
    }

    /// Approves a directory of the host.
    pub async fn create_local_path(
        &self,
        caller: &Caller,
        path: String,
        description: String,
        request: Option<Request>,
    ) -> Result<LocalPath> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::CreateLocalPath),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                name::check_description(&description).map_err(|rule| Error::invalid("description", rule))?;
                check_directory(&path, &me.0.settings.allowed_roots).await?;
                let path = LocalPath { id: LocalPathId::new(), path, description, created_at: now() };
                me.store().create_local_path(&path, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// An approved directory. Recorded when refused.
    pub async fn get_local_path(&self, caller: &Caller, id: LocalPathId) -> Result<LocalPath> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.store()
                .local_path(id)
                .await?
                .ok_or_else(|| Error::NotFound(Resource::LocalPath(id.to_string())))
        })
        .await
    }

    /// Approved directories by path. Recorded when refused.
    pub async fn list_local_paths(&self, caller: &Caller, page: &PageRequest) -> Result<Page<LocalPath>> {
        let (caller, page) = (caller.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.store().local_paths(&page).await
        })
        .await
    }

    /// Describes an approved directory.
    pub async fn update_local_path(
        &self,
        caller: &Caller,
        id: LocalPathId,
        description: String,
        request: Option<Request>,
    ) -> Result<LocalPath> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::UpdateLocalPath),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                name::check_description(&description).map_err(|rule| Error::invalid("description", rule))?;
                me.store().update_local_path(id, &description, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// Withdraws the approval of a directory that no volume stands on.
    pub async fn delete_local_path(
        &self,
        caller: &Caller,
        id: LocalPathId,
        request: Option<Request>,
    ) -> Result<()> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::DeleteLocalPath),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                me.store().delete_local_path(id, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// The default volume, made on a local directory of its own if there is none.
    pub async fn ensure_default_volume(&self, root: &Path) -> Result<Volume> {
        let name = self.0.settings.default_volume.clone();
        if let Some(volume) = self.store().volume(&VolumeRef::Name(name.clone())).await? {
            return Ok(volume);
        }
        tokio::fs::create_dir_all(root)
            .await
            .map_err(|e| Error::internal("make the default volume's directory", e))?;
        let root = tokio::fs::canonicalize(root)
            .await
            .map_err(|e| Error::internal("find the default volume's directory", e))?;
        let text = root
            .to_str()
            .ok_or_else(|| Error::internal("use the default volume's directory", "its path is not UTF-8"))?;
        let service = Caller::service();
        let path = LocalPath {
            id: LocalPathId::new(),
            path: text.to_owned(),
            description: "default volume".to_owned(),
            created_at: now(),
        };
        let operation = service.operation(OperationKind::CreateLocalPath);
        let path = match self.store().create_local_path(&path, &operation, None).await {
            Err(Error::AlreadyExists(_)) => self.approved(text).await?,
            outcome => outcome?,
        };
        let volume = Volume::new(Settings::new(name, Backend::Local { local_path_id: path.id }));
        self.claim(&volume).await?;
        self.store().create_volume(&volume, &service.operation(OperationKind::CreateVolume), None).await
    }

    async fn approved(&self, path: &str) -> Result<LocalPath> {
        let page = PageRequest::new(i32::MAX, 0, None)?;
        let found = self.store().local_paths(&page).await?.items.into_iter().find(|known| known.path == path);
        found.ok_or_else(|| Error::NotFound(Resource::LocalPath(path.to_owned())))
    }

    /// Refuses a place that another volume has, or that lies within another's or around it.
    async fn must_not_overlap(&self, settings: &Settings, except: Option<VolumeId>) -> Result<()> {
        let place = self.place(settings).await?;
        let mut page = PageRequest { size: MAX_VOLUMES, skip: 0, after: None };
        loop {
            let found = self.store().volumes(&page).await?;
            for other in found.items.into_iter().filter(|other| Some(other.id) != except) {
                let theirs = self.place(&other.settings).await?;
                if place.starts_with(&theirs) || theirs.starts_with(&place) {
                    return Err(Error::State(State::VolumeConflict("another volume has this place")));
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Where a volume's keys are, as a text that ends with a slash: a place within another begins with it.
    async fn place(&self, settings: &Settings) -> Result<String> {
        let prefix = &settings.default_prefix;
        match settings.backend {
            Backend::Local { local_path_id: id } => {
                let path = self
                    .store()
                    .local_path(id)
                    .await?
                    .ok_or_else(|| Error::NotFound(Resource::LocalPath(id.to_string())))?;
                // Without doubled separators and one at the end.
                let path: std::path::PathBuf = Path::new(&path.path).components().collect();
                Ok(format!("file://{}/{prefix}", path.display()))
            }
            Backend::S3 { bucket_id: id, .. }
            | Backend::Http { endpoint_id: id, .. }
            | Backend::Ftp { ftp_id: id } => {
                Ok(self.named_server(id, &settings.backend).await?.place() + prefix)
            }
        }
    }
}

fn valid(settings: &Settings) -> Result<()> {
    let violations = settings.violations();
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

async fn round_trip(driver: &dyn Driver, steps: &mut Vec<CheckStep>) {
    let key = Key::check(uuid::Uuid::now_v7());
    let content = Bytes::from_static(b"coffer checks that it can write and read here\n");
    let size = content.len() as u64;
    let mut step = |name, since: Instant, outcome: std::result::Result<(), CheckProblem>| {
        let is_ok = outcome.is_ok();
        steps.push(CheckStep { name, outcome, duration: since.elapsed() });
        is_ok
    };
    let failed = |error| CheckProblem::of(&Error::to_operator(error));

    let since = Instant::now();
    if !step("write", since, driver.put(&key, content.clone()).await.map_err(failed)) {
        return;
    }
    let since = Instant::now();
    let outcome = driver.stat(&key).await.map_err(failed);
    let mut is_ok = step(
        "stat",
        since,
        outcome.and_then(|stat| {
            stat.filter(|stat| stat.size == size).map(drop).ok_or(CheckProblem::new("WRONG_SIZE"))
        }),
    );
    if is_ok {
        let since = Instant::now();
        let outcome = match driver.read(&key, 0..size, PieceSize::default()).await {
            Ok(stream) => stream.try_collect::<Vec<Bytes>>().await,
            Err(error) => Err(error),
        };
        is_ok = step(
            "read",
            since,
            outcome.map_err(failed).and_then(|read| {
                (read.concat() == content).then_some(()).ok_or(CheckProblem::new("WRONG_CONTENT"))
            }),
        );
    }
    if is_ok && driver.capabilities().list {
        let since = Instant::now();
        let outcome = driver.list(key.as_str(), None, 1).await.map_err(failed);
        step(
            "list",
            since,
            outcome.and_then(|found| {
                found.iter().any(|l| l.key == key).then_some(()).ok_or(CheckProblem::new("NOT_LISTED"))
            }),
        );
    }
    let since = Instant::now();
    step("delete", since, driver.delete(&key).await.map_err(failed));
}

/// Refuses a directory that no volume may stand on: not absolute, with `.` or `..`, not below an allowed root, absent, not a directory,
/// or reached through a symbolic link.
async fn check_directory(path: &str, allowed_roots: &[std::path::PathBuf]) -> Result<()> {
    let field = |problem: &str| Error::invalid("path", problem);
    let place = Path::new(path);
    if path.len() > MAX_DIRECTORY_BYTES || path.chars().any(crate::path::is_deceptive) {
        return Err(field("must be at most 4,096 bytes without control characters"));
    }
    if !place.is_absolute()
        || place.components().any(|c| matches!(c, Component::ParentDir | Component::CurDir))
        || path.contains("/./")
    {
        return Err(field("must be an absolute path without . and .. segments"));
    }
    if place.components().count() < 2 {
        return Err(field("must not be the root directory"));
    }
    if !allowed_roots.iter().any(|root| place.starts_with(root)) {
        return Err(field("must lie below a directory that local_paths.allowed_roots names"));
    }
    let absent =
        || Error::State(State::LocalPath("the directory does not exist or cannot be reached by the service"));
    let real = tokio::fs::canonicalize(place).await.map_err(|_| absent())?;
    if real != place {
        return Err(field("must not contain symbolic links or doubled separators"));
    }
    let is_directory = tokio::fs::metadata(&real).await.map_err(|_| absent())?.is_dir();
    if is_directory { Ok(()) } else { Err(Error::State(State::LocalPath("the path is not a directory"))) }
}
