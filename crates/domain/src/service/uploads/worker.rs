//! The task that does an upload's work for one stream and ends it, whatever becomes of the stream.

mod ending;

use super::{
    plan::Plan,
    recorder::{INTERVAL, Urgency},
    sessions::Seat,
    writing::{Mode, Pending, Writing},
};
use crate::{
    Error, Result,
    content::{Arrival, Codec, Piece, Pipeline, Stored},
    driver::{self, Driver, WriteOptions, Writer},
    error::{Conflict, State as StateError},
    file::{File, Sha256Sum},
    id::UploadId,
    service::{Coffer, Trail},
    upload::{Checkpoint, Held, State, Upload},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

/// Bytes after which progress is recorded without waiting for the interval to pass: half of what may be unrecorded, so that as much again
/// is written while one checkpoint becomes durable, and nobody waits for it.
const CHECKPOINT_BYTES: u64 = MAX_UNRECORDED_BYTES / 2;
/// Most bytes that are written ahead of what is recorded: after a crash of the node no more has to be sent again.
const MAX_UNRECORDED_BYTES: u64 = 16 * 1024 * 1024;
/// First step in which an upload of unknown size grows what it holds; each next one is twice as large.
const FIRST_STEP_BYTES: u64 = 1024 * 1024;
/// Largest such step.
const MAX_STEP_BYTES: u64 = 64 * 1024 * 1024;

/// What the stream's end asks of the worker.
pub(super) enum Step {
    /// The next bytes.
    Write(Vec<Piece>),
    /// The last bytes, and the SHA-256 all must have, if it was not declared before.
    Finish(Vec<Piece>, Option<Sha256Sum>),
    /// What has arrived, and why no more will.
    End(Vec<Piece>, Error),
}

pub(super) struct Worker {
    coffer: Coffer,
    trail: Trail,
    plan: Plan,
    upload: Upload,
    driver: Arc<dyn Driver>,
    pipeline: Pipeline,
    held: Held,
    /// Quota held, and by how much more it will grow next time.
    reserved_bytes: u64,
    step_bytes: u64,
    /// Bytes given to the writer.
    written: u64,
    /// Bytes that the last checkpoint covers, and when it began.
    marked: u64,
    marked_at: Instant,
    /// Bytes that are recorded.
    recorded: u64,
    /// The checkpoint under way.
    checkpoint: Option<JoinHandle<Result<u64>>>,
    /// What was stored by a commit whose answer was lost.
    unsettled: Option<Stored>,
    /// What the backend calls the version that was published last.
    native_version: Option<driver::NativeVersion>,
    seat: Option<Seat>,
}

/// The worker's end of what connects it with a stream.
struct Orders {
    inbox: mpsc::Receiver<Step>,
    report: oneshot::Sender<Result<File>>,
    recorded: watch::Sender<u64>,
}

impl Coffer {
    /// The driver of an upload's volume, where that can do what is asked: with a request, go on with it.
    pub(super) async fn driver_for(&self, plan: &Plan) -> Result<Arc<dyn Driver>> {
        let driver = self.driver(&plan.volume).await?;
        if plan.spec.request.is_some() && !driver.capabilities().resume {
            return Err(Error::Unsupported("go on with an upload, which a request_id asks for"));
        }
        Ok(driver)
    }

    /// Records a new upload, and starts its worker.
    pub(super) async fn write_new(&self, plan: Plan, trail: &Trail) -> Result<Writing> {
        let driver = self.driver_for(&plan).await?;
        let intent = plan.intent(UploadId::new(), self.0.start, self.0.settings.open_uploads, None);
        let seat = match &intent.request {
            Some(_) => Some(self.0.sessions.take(intent.id).await?),
            None => None,
        };
        let (writing, orders) = self.connect(&plan, intent.id, 0, seat.as_ref(), trail);
        // From here on a task owns the intent, so that a caller who leaves cannot leave it behind.
        let (opened, is_open) = oneshot::channel();
        let (coffer, trail) = (self.clone(), trail.clone());
        let work = async move {
            let upload = match coffer.store().open_upload(&intent, None).await {
                Ok(upload) => upload,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            crash_point!("opened");
            let options = options(&upload);
            let begun = driver.begin(upload.id, &upload.key, options).await;
            let pipeline = Pipeline::new(Codec::Identity);
            let worker = Worker::new(coffer, trail, plan, upload, driver, pipeline, seat);
            let is_awaited = opened.send(Ok(())).is_ok();
            worker.work(begun, orders, is_awaited).await;
        };
        self.0.tasks.spawn(work.in_current_span());
        is_open.await.map_err(|e| Error::internal("begin an upload", e))??;
        Ok(writing)
    }

    /// Starts the worker of an upload that was taken.
    pub(super) async fn write_on(
        &self,
        plan: Plan,
        upload: Upload,
        seat: Seat,
        trail: &Trail,
    ) -> Result<Writing> {
        let driver = self.driver(&plan.volume).await?;
        let pipeline = match &upload.state_at_persisted {
            None => Some(Pipeline::new(Codec::Identity)),
            Some(saved) => Pipeline::restore(Codec::Identity, saved),
        };
        let (writing, orders) = self.connect(&plan, upload.id, upload.persisted_size, Some(&seat), trail);
        let (coffer, trail) = (self.clone(), trail.clone());
        let work = async move {
            let begun = match &pipeline {
                Some(_) => {
                    driver.resume(upload.id, &upload.key, upload.persisted_size, options(&upload)).await
                }
                // A build of another version has written it.
                None => Err(driver::Error {
                    kind: driver::ErrorKind::NotFound,
                    operation: "resume",
                    key: Some(upload.key.to_string()),
                    source: None,
                }),
            };
            let pipeline = pipeline.unwrap_or_else(|| Pipeline::new(Codec::Identity));
            Worker::new(coffer, trail, plan, upload, driver, pipeline, Some(seat))
                .work(begun, orders, true)
                .await;
        };
        self.0.tasks.spawn(work.in_current_span());
        Ok(writing)
    }

    fn connect(
        &self,
        plan: &Plan,
        upload: UploadId,
        persisted: u64,
        seat: Option<&Seat>,
        trail: &Trail,
    ) -> (Writing, Orders) {
        let (steps, inbox) = mpsc::channel(1);
        let (report, outcome) = oneshot::channel();
        let (recorded, persisted_now) = watch::channel(persisted);
        let stop = seat.map(Seat::stop).unwrap_or_default();
        let writing = Writing {
            coffer: self.clone(),
            trail: trail.clone(),
            id: Some(upload),
            mode: Mode::Store { steps, outcome: Some(outcome), stop },
            pending: Pending::new(&self.0.settings.budget, plan.spec.size),
            arrival: Arrival::new(persisted, plan.spec.size, plan.volume.settings.max_file_bytes),
            persisted: persisted_now,
        };
        (writing, Orders { inbox, report, recorded })
    }
}

fn options(upload: &Upload) -> WriteOptions {
    WriteOptions { declared_size: upload.declared_size, is_resumable: upload.request.is_some() }
}

impl Worker {
    pub(super) fn new(
        coffer: Coffer,
        trail: Trail,
        plan: Plan,
        upload: Upload,
        driver: Arc<dyn Driver>,
        pipeline: Pipeline,
        seat: Option<Seat>,
    ) -> Self {
        trail.update(|operation| {
            operation.metadata.insert("upload".to_owned(), upload.id.to_string().into());
        });
        let written = upload.persisted_size;
        Self {
            coffer,
            trail,
            plan,
            held: upload.held_by_epoch(),
            reserved_bytes: upload.held.bytes,
            upload,
            driver,
            pipeline,
            written,
            marked: written,
            marked_at: Instant::now(),
            recorded: written,
            checkpoint: None,
            unsettled: None,
            native_version: None,
            step_bytes: FIRST_STEP_BYTES,
            seat,
        }
    }

    /// The whole work for a content that is there and went through the pipeline, or was refused there. Its intent is recorded.
    pub(super) async fn store(mut self, encoded: Result<Vec<Bytes>>) -> Result<File> {
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return Err(self.undo(error, None).await),
        };
        let stored = self.pipeline.stored();
        self.written = stored.size;
        let published = self.driver.store(self.upload.id, &self.upload.key, encoded).await;
        let outcome = self.conclude(stored, published).await;
        if let Some(stored) = self.unsettled {
            let tasks = self.coffer.0.tasks.clone();
            tasks.spawn(async move { self.settle(stored).await }.in_current_span());
        }
        outcome
    }

    /// The whole work, and its report. The seat is left before the report: whoever hears it may come back at once.
    async fn work(mut self, begun: driver::Result<Box<dyn Writer>>, orders: Orders, is_awaited: bool) {
        let Orders { mut inbox, report, recorded } = orders;
        let seat = self.seat.take();
        let outcome = match begun {
            Ok(writer) if is_awaited => self.run(writer, &mut inbox, &recorded).await,
            Ok(writer) => Err(self.end(writer, Vec::new(), Error::ClientLeft).await),
            Err(error) if error.kind == driver::ErrorKind::NotFound => {
                let lost = Error::State(StateError::UploadEnded("given up, because its bytes are gone"));
                Err(self.undo(lost, None).await)
            }
            Err(error) if self.is_resumable() => {
                Err(self.coffer.failed(self.trail.operation(), error.into()).await)
            }
            Err(error) => Err(self.undo(error.into(), None).await),
        };
        let Some(stored) = self.unsettled else {
            drop(seat);
            let _ = report.send(outcome);
            return;
        };
        let _ = report.send(outcome);
        self.settle(stored).await;
    }

    async fn run(
        &mut self,
        mut writer: Box<dyn Writer>,
        inbox: &mut mpsc::Receiver<Step>,
        recorded: &watch::Sender<u64>,
    ) -> Result<File> {
        loop {
            let due = self.marked_at + INTERVAL;
            let has_unmarked = self.is_resumable() && self.written > self.marked && self.checkpoint.is_none();
            let outcome = tokio::select! {
                outcome = recorded_by(&mut self.checkpoint), if self.checkpoint.is_some() => self.note(outcome).await,
                () = sleep_until(due), if has_unmarked => {
                    self.mark(&mut *writer, Urgency::InTime);
                    Ok(())
                }
                step = inbox.recv() => match step {
                    Some(Step::Write(pieces)) => self.write(&mut *writer, pieces).await,
                    Some(Step::Finish(pieces, sha256)) => return self.finish(writer, pieces, sha256).await,
                    Some(Step::End(pieces, error)) => return Err(self.end(writer, pieces, error).await),
                    None => return Err(self.end(writer, Vec::new(), Error::ClientLeft).await),
                },
            };
            if let Err(error) = outcome {
                return Err(self.end(writer, Vec::new(), error).await);
            }
            recorded.send_if_modified(|size| std::mem::replace(size, self.recorded) != self.recorded);
        }
    }

    fn is_resumable(&self) -> bool {
        self.upload.request.is_some()
    }

    /// Writes the next bytes, with quota for them, and not too far ahead of what is recorded.
    async fn write(&mut self, writer: &mut dyn Writer, pieces: Vec<Piece>) -> Result<()> {
        let bytes: u64 = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        self.reserve(self.written + bytes).await?;
        writer.write(self.pipeline.batch(pieces)).await?;
        self.written += bytes;
        crash_point!("written");
        if !self.is_resumable() {
            return Ok(());
        }
        while self.checkpoint.is_some() && self.written - self.recorded >= MAX_UNRECORDED_BYTES {
            self.await_checkpoint().await?;
        }
        if self.checkpoint.is_none() && self.written - self.marked >= CHECKPOINT_BYTES {
            self.mark(writer, Urgency::Now);
        }
        Ok(())
    }

    /// Holds quota for a content of `size` bytes.
    async fn reserve(&mut self, size: u64) -> Result<()> {
        let needed = size.saturating_sub(self.plan.replaced_bytes);
        if needed <= self.reserved_bytes {
            return Ok(());
        }
        let wanted = needed.saturating_add(self.step_bytes);
        self.step_bytes = (self.step_bytes * 2).min(MAX_STEP_BYTES);
        match self.coffer.store().grow_upload(self.held, needed, wanted, size).await {
            Ok(bytes) => {
                self.reserved_bytes = bytes;
                Ok(())
            }
            Err(error) => Err(self.why_lost(error).await),
        }
    }

    /// Begins a checkpoint of all that was written; it goes on beside what is written next.
    fn mark(&mut self, writer: &mut dyn Writer, urgency: Urgency) {
        let (durable, size) = (writer.checkpoint(), self.written);
        let checkpoint = Checkpoint { held: self.held, persisted_size: size, state: self.pipeline.save() };
        let recorder = self.coffer.recorder();
        (self.marked, self.marked_at) = (size, Instant::now());
        let work = async move {
            durable.await?;
            crash_point!("durable");
            match recorder.record(checkpoint, urgency).await? {
                true => Ok(size),
                false => Err(Error::Conflict(Conflict::Fenced)),
            }
        };
        self.checkpoint = Some(tokio::spawn(work.in_current_span()));
    }

    async fn await_checkpoint(&mut self) -> Result<()> {
        if self.checkpoint.is_none() {
            return Ok(());
        }
        let outcome = recorded_by(&mut self.checkpoint).await;
        self.note(outcome).await
    }

    /// Takes the outcome of a checkpoint.
    async fn note(&mut self, outcome: Result<u64>) -> Result<()> {
        match outcome {
            Ok(size) => {
                crash_point!("recorded");
                self.recorded = size;
                Ok(())
            }
            Err(error) => Err(self.why_lost(error).await),
        }
    }

    /// Who has the upload, if it is not held any more.
    async fn why_lost(&self, error: Error) -> Error {
        if !matches!(error, Error::Conflict(Conflict::Fenced)) {
            return error;
        }
        match self.coffer.store().upload(self.upload.id).await {
            Ok(Some(upload)) if matches!(upload.state, State::Open | State::Finishing) => {
                Error::Conflict(Conflict::TakenOver)
            }
            Ok(_) => error,
            Err(problem) => problem,
        }
    }
}

/// Waits for the checkpoint under way, which there has to be.
async fn recorded_by(checkpoint: &mut Option<JoinHandle<Result<u64>>>) -> Result<u64> {
    let Some(task) = checkpoint else { return std::future::pending().await };
    let outcome = task.await.unwrap_or_else(|e| Err(Error::internal("record progress", e)));
    *checkpoint = None;
    outcome
}
