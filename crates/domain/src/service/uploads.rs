//! Contents on their way in: intent, bytes, publish, commit.
//!
//! A [`Writing`] is the stream's end. The work is done by a task of its own, which owns the writer and ends in a commit, in an abort,
//! or with all that has arrived recorded, whatever becomes of the stream.

mod plan;
mod recorder;
mod sessions;
mod whole;
mod worker;
mod writing;

pub(super) use recorder::Recorder;
pub(super) use sessions::Sessions;
pub use whole::{MAX_WHOLE_BYTES, Whole};
pub use writing::Writing;

use super::{Coffer, Trail};
use crate::{
    Error, Result,
    caller::{Caller, Principal},
    content::{Arrival, Codec, Pipeline},
    error::{Conflict, Resource, State as StateError},
    file::{Changes, File, FileRef, Sha256Sum},
    id::UploadId,
    operation::OperationKind,
    page::{Page, PageRequest},
    request::Request,
    store::Lookup,
    upload::{self, State, Upload},
    volume::VolumeRef,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use writing::{Mode, Pending};

/// How often it is looked again for an upload that another stream of the same request has begun, or ended, meanwhile.
const MAX_REQUEST_RACES: usize = 10;

/// What a caller wants stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UploadSpec {
    /// Volume of a new file; `None`: the default one.
    pub volume: Option<VolumeRef>,
    /// Place of the file; `None`: one of its own.
    pub path: Option<String>,
    /// An existing file that gets a version.
    pub file: Option<FileRef>,
    /// The caller's name for a new file.
    pub file_id: Option<String>,
    /// What was said of the description. For a new version, what was not said stays as it is.
    pub changes: Changes,
    /// Project that is charged as well.
    pub project: Option<String>,
    /// Bytes to come.
    pub size: Option<u64>,
    /// SHA-256 of what is to come.
    pub sha256: Option<Sha256Sum>,
    /// Refuse if the path is taken.
    pub create_only: bool,
    /// The version that is meant to be replaced.
    pub if_etag: Option<String>,
    /// Why this version is made.
    pub change_description: String,
    /// Protection against being sent twice; makes the upload resumable. Kept beside the spec, not in it.
    #[serde(skip)]
    pub request: Option<Request>,
}

impl Coffer {
    /// Starts an upload whose content comes later, and reserves what it needs. The same request again answers the same upload as it is now.
    pub async fn start_upload(&self, caller: &Caller, spec: UploadSpec) -> Result<Upload> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::StartUpload), move |me, trail| async move {
            me.must_be_open()?;
            caller.known()?;
            let request = spec
                .request
                .clone()
                .ok_or_else(|| Error::invalid("spec.request_id", "is required to start an upload"))?;
            for _ in 0..MAX_REQUEST_RACES {
                // Whether the id belongs to another request is known to both: to answers, and to uploads.
                me.recall::<serde_json::Value>(Some(&request)).await?;
                if let Some(upload) = me.store().requested_upload(&request).await? {
                    return Ok(upload);
                }
                let plan = me.plan(&caller, spec.clone(), &trail).await?;
                me.driver_for(&plan).await?;
                let intent = plan.intent(UploadId::new(), me.0.start, me.0.settings.open_uploads, None);
                let operation = trail.operation().with("upload", intent.id.to_string());
                match me.store().open_upload(&intent, Some(&operation)).await {
                    Err(Error::Conflict(Conflict::InFlight)) => {}
                    outcome => return outcome,
                }
            }
            Err(Error::Conflict(Conflict::InFlight))
        })
        .await
    }

    /// Begins to write an upload of its own, or goes on with the one the same request has started.
    pub async fn begin_upload(&self, caller: Caller, spec: UploadSpec) -> Result<Writing> {
        let trail = Trail::new(caller.operation(OperationKind::Upload), self.0.start);
        let outcome = self.try_begin(&caller, spec, &trail).await;
        self.begun(outcome, &trail).await
    }

    /// Goes on with an upload. A stream that writes it ends: what has arrived by it is kept.
    pub async fn continue_upload(&self, caller: Caller, id: UploadId) -> Result<Writing> {
        let trail = Trail::new(caller.operation(OperationKind::Upload), self.0.start);
        let outcome = async {
            self.must_be_open()?;
            let upload = self.own_upload(caller.known()?, id).await?;
            self.go_on(&caller, upload, &trail, false).await
        };
        self.begun(outcome.await, &trail).await
    }

    /// Records why a stream was refused at its beginning.
    async fn begun(&self, outcome: Result<Writing, Refusal>, trail: &Trail) -> Result<Writing> {
        match outcome {
            Ok(writing) => Ok(writing),
            Err(Refusal::Recorded(error)) => Err(error),
            Err(Refusal::Unrecorded(error)) => Err(self.failed(trail.operation(), error).await),
        }
    }

    async fn try_begin(&self, caller: &Caller, spec: UploadSpec, trail: &Trail) -> Result<Writing, Refusal> {
        self.must_be_open()?;
        caller.known()?;
        for _ in 0..MAX_REQUEST_RACES {
            if let Some(request) = &spec.request {
                if let Some(answer) = self.recall(Some(request)).await? {
                    let id = self.store().requested_upload(request).await?.map(|upload| upload.id);
                    return Ok(self.replay(answer, id, trail, true));
                }
                if let Some(upload) = self.store().requested_upload(request).await? {
                    match self.go_on(caller, upload, trail, true).await {
                        // It has ended without a file since we looked: the request has another answer by now, or none.
                        Err(Refusal::Unrecorded(Error::State(StateError::UploadEnded(_)))) => continue,
                        outcome => return outcome,
                    }
                }
            }
            let plan = self.plan(caller, spec.clone(), trail).await?;
            match self.write_new(plan, trail).await {
                Err(Error::Conflict(Conflict::InFlight)) if spec.request.is_some() => {}
                outcome => return Ok(outcome?),
            }
        }
        Err(Error::Conflict(Conflict::InFlight).into())
    }

    /// Goes on with an upload of the caller. With `from_start` the content is sent from its beginning, and has to be the same.
    async fn go_on(
        &self,
        caller: &Caller,
        upload: Upload,
        trail: &Trail,
        from_start: bool,
    ) -> Result<Writing, Refusal> {
        trail.update(|operation| operation.volume_id = Some(upload.volume));
        let mut upload = upload;
        if matches!(upload.state, State::Open | State::Finishing) {
            let seat = self.0.sessions.take(upload.id).await?;
            match self.store().take_upload(upload.id, self.0.start).await {
                Ok(taken) => {
                    let expected = taken.state_at_persisted.clone().filter(|_| from_start);
                    let plan = match self.plan_of(caller, &taken, trail).await {
                        Ok(plan) => plan,
                        Err(error) if error.refuses_content() => {
                            let operation = trail.operation().failed(&error);
                            self.store().abort_upload(taken.held_by_epoch(), &operation).await?;
                            return Err(Refusal::Recorded(error));
                        }
                        Err(error) => return Err(error.into()),
                    };
                    let mut writing = self.write_on(plan, taken, seat, trail).await?;
                    if let Some(expected) = expected {
                        writing.arrival = writing.arrival.compared_with(expected);
                    }
                    return Ok(writing);
                }
                // It has ended while we waited for our turn.
                Err(Error::State(StateError::UploadEnded(how))) => {
                    let ended = || Error::State(StateError::UploadEnded(how));
                    upload = self.store().upload(upload.id).await?.ok_or_else(ended)?;
                    if upload.state == State::Open {
                        return Err(ended().into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        match upload.state {
            State::Open | State::Finishing => Err(Error::Conflict(Conflict::InFlight).into()),
            State::Aborted => Err(Error::State(StateError::UploadEnded("given up")).into()),
            State::Expired => Err(Error::State(StateError::UploadEnded("expired")).into()),
            State::Committed => {
                let id = upload.id;
                let answer = self.committed(caller, upload).await?;
                Ok(self.replay(answer, Some(id), trail, from_start))
            }
        }
    }

    /// The file an upload became, as it was answered.
    async fn committed(&self, caller: &Caller, upload: Upload) -> Result<File> {
        if let Some(answer) = self.recall(upload.request.as_ref()).await? {
            return Ok(answer);
        }
        let absent = || Error::NotFound(Resource::Upload(upload.id.to_string()));
        let file = self.store().file(&Lookup::Id(upload.file.ok_or_else(absent)?)).await?;
        file.filter(|file| caller.access(file) == crate::caller::FileAccess::Own).ok_or_else(absent)
    }

    /// A stream for what is a file already.
    fn replay(&self, answer: File, id: Option<UploadId>, trail: &Trail, from_start: bool) -> Writing {
        let size = answer.content.size;
        let comparison = from_start.then(|| Pipeline::new(Codec::Identity));
        Writing {
            coffer: self.clone(),
            trail: trail.clone(),
            id,
            pending: Pending::new(&self.0.settings.budget, Some(0)),
            arrival: match from_start {
                true => Arrival::new(0, None, None),
                // A longer content under the same request id is another content.
                false => Arrival::new(size, Some(size), None),
            },
            persisted: watch::channel(size).1,
            mode: Mode::Replay { answer: Box::new(answer), comparison },
        }
    }

    /// One upload the caller has started or, as an admin or operator, one of his organisation.
    pub async fn get_upload(&self, caller: &Caller, id: UploadId) -> Result<Upload> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ViewUpload), move |me, _trail| async move {
            me.seen_upload(caller.known()?, id).await
        })
        .await
    }

    /// Uploads with a request, newest first.
    pub async fn list_uploads(
        &self,
        caller: &Caller,
        own_only: bool,
        filter: &upload::Filter,
        page: &PageRequest,
    ) -> Result<Page<Upload>> {
        let (caller, filter, page) = (caller.clone(), filter.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewUpload), move |me, _trail| async move {
            let principal = caller.known()?;
            let scope = if manages(principal) && !own_only {
                upload::Scope::Organisation(principal.organisation.clone())
            } else {
                upload::Scope::Own(principal.scope())
            };
            me.store().uploads(&scope, &filter, &page).await
        })
        .await
    }

    /// Gives an open upload up: its quota goes back at once, its bytes are removed.
    pub async fn cancel_upload(
        &self,
        caller: &Caller,
        id: UploadId,
        request: Option<Request>,
    ) -> Result<Upload> {
        let caller = caller.clone();
        self.audited_once(caller.operation(OperationKind::CancelUpload), request.clone(), move |me, trail| async move {
            let principal = caller.known()?;
            let upload = me.seen_upload(principal, id).await?;
            trail.update(|operation| {
                operation.volume_id = Some(upload.volume);
                operation.metadata.insert("upload".to_owned(), id.to_string().into());
            });
            let cancelled = me.store().cancel_upload(id, &trail.operation(), request.as_ref()).await?;
            // Whoever writes it learns it now; what he had written is removed after him.
            me.0.sessions.stop(id).await;
            if let Err(problem) = me.sweep_upload(&cancelled).await {
                tracing::warn!(upload.id = %id, problem = %problem, "the bytes of a cancelled upload are left to the reconciler");
            }
            Ok(cancelled)
        })
        .await
    }

    /// Removes the bytes of an upload that has ended without a file.
    async fn sweep_upload(&self, upload: &Upload) -> Result<()> {
        let volume = self.volume(Some(&VolumeRef::Id(upload.volume))).await?;
        let driver = self.driver(&volume).await?;
        driver.sweep(upload.id).await?;
        driver.delete(&upload.key).await?;
        self.store().upload_swept(upload.id).await
    }

    async fn own_upload(&self, principal: &Principal, id: UploadId) -> Result<Upload> {
        let found = self
            .store()
            .upload(id)
            .await?
            .filter(|upload| upload.request.is_some() && upload.scope == principal.scope());
        found.ok_or_else(|| Error::NotFound(Resource::Upload(id.to_string())))
    }

    async fn seen_upload(&self, principal: &Principal, id: UploadId) -> Result<Upload> {
        let found = self.store().upload(id).await?.filter(|upload| {
            upload.request.is_some()
                && (upload.scope == principal.scope()
                    || manages(principal) && upload.payer.organisation == principal.organisation)
        });
        found.ok_or_else(|| Error::NotFound(Resource::Upload(id.to_string())))
    }
}

/// Why a stream was refused at its beginning.
enum Refusal {
    /// The trail knows already: the upload ended with it.
    Recorded(Error),
    /// The trail does not know yet.
    Unrecorded(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Unrecorded(error)
    }
}

/// May look at and give up what others of his organisation upload.
fn manages(principal: &Principal) -> bool {
    principal.roles.is_admin || principal.roles.is_operator
}
