//! What each operation does to the model, and how it has to be answered.

use super::books::{
    Asked, Charge, Content, Counts, Expected, File, Life, Place, Refusal, Spec, State, Upload, is_charged,
    refusal,
};
use super::operations::{self, Cut, How, Operation};
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use tonic::Code;

pub(super) struct Machine;

impl ReferenceStateMachine for Machine {
    type State = State;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<State> {
        any::<bool>().prop_map(State::new).boxed()
    }

    fn transitions(state: &State) -> BoxedStrategy<Operation> {
        operations::of(state)
    }

    fn apply(mut state: State, operation: &Operation) -> State {
        state.expected = match state.carry_out(operation) {
            Ok(expected) => expected,
            Err(refusal) => Expected::Refused(refusal),
        };
        state
    }

    fn preconditions(state: &State, operation: &Operation) -> bool {
        let open = |n: &usize| state.uploads.get(*n).is_some_and(|upload| upload.life == Life::Open);
        match operation {
            Operation::Write(n, to, Cut::Ended) => match state.uploads.get(*n) {
                Some(Upload { life: Life::Open, persisted, spec, .. }) => {
                    (*persisted..=spec.content.size).contains(to)
                }
                Some(upload) => upload.life == Life::Aborted,
                None => false,
            },
            // What is cut off goes on, and then is as if it had not been: so it must not be refused.
            Operation::Write(n, to, Cut::Dropped | Cut::Killed(_)) => open(n) && state.can_take(*n, *to),
            Operation::TakeOver(n, first, second) => {
                open(n) && first <= second && state.can_take(*n, *first) && state.can_take(*n, *second)
            }
            Operation::Finish(n, How::Killed(_)) => open(n) && state.succeeds(operation),
            Operation::Finish(n, how) => {
                open(n) && is_possible(*how, state.uploads[*n].spec, state.uploads[*n].persisted)
            }
            Operation::FinishAgain(n) => {
                state.uploads.get(*n).is_some_and(|upload| matches!(upload.life, Life::Committed(_)))
            }
            Operation::StartKilled(..) => state.succeeds(operation),
            Operation::OneShot(_, How::Killed(_), has_request) => *has_request && state.succeeds(operation),
            // As it is one stream with its spec anyhow.
            Operation::OneShot(_, How::BySpec, _) => false,
            Operation::OneShot(spec, how, _) => is_possible(*how, *spec, 0),
            Operation::OneShotCut(_, cut) => *cut != Cut::Ended,
            Operation::StartAgain(n) | Operation::Cancel(n) | Operation::Look(n) => *n < state.uploads.len(),
            Operation::Delete(n) | Operation::Undelete(n) | Operation::Purge(n) => *n < state.files.len(),
            Operation::Repeat(n) | Operation::Reuse(n) => *n < state.asked.len(),
            Operation::Start(_) | Operation::SetQuota(..) | Operation::Kill => true,
        }
    }
}

/// A size can be wrong only where one was declared, and too small only where not all is there.
fn is_possible(how: How, spec: Spec, persisted: usize) -> bool {
    match how {
        How::Short => spec.is_declared && spec.content.size > persisted,
        How::Long => spec.is_declared,
        _ => true,
    }
}

impl State {
    /// Whether an operation, were it done now, would not be refused.
    fn succeeds(&self, operation: &Operation) -> bool {
        self.clone().carry_out(operation).is_ok()
    }

    /// Whether an upload could be brought to this many bytes now.
    fn can_take(&self, upload: usize, to: usize) -> bool {
        let Upload { persisted, spec, .. } = self.uploads[upload];
        (persisted..=spec.content.size).contains(&to) && self.clone().write(upload, to).is_ok()
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<Expected, Refusal> {
        match operation {
            Operation::Start(spec) | Operation::StartKilled(spec, _) => {
                self.open(*spec, true)?;
                Ok(Expected::Upload(self.uploads.len() - 1))
            }
            Operation::StartAgain(n) => {
                let Upload { spec, request, .. } = self.uploads[*n];
                let is_it = |upload: &Upload| upload.request == request && upload.life != Life::Aborted;
                if let Some(known) = self.uploads.iter().rposition(is_it) {
                    return Ok(Expected::Upload(known));
                }
                // What was refused is started anew, by the same request.
                self.open(spec, true)?;
                let new = self.uploads.len() - 1;
                self.uploads[new].request = request;
                Ok(Expected::Upload(new))
            }
            Operation::Write(n, to, _) => self.write(*n, *to),
            Operation::TakeOver(n, first, second) => {
                self.write(*n, *first)?;
                self.write(*n, *second)
            }
            Operation::Finish(n, how) => self.finish(*n, *how).map(Expected::File),
            Operation::FinishAgain(n) => match self.uploads[*n].life {
                // As it was answered then, whatever became of the file since.
                Life::Committed(_) => Ok(Expected::Nothing),
                _ => unreachable!("preconditions"),
            },
            Operation::Cancel(n) => {
                match self.uploads[*n].life {
                    Life::Committed(_) => {
                        return Err(refusal(Code::FailedPrecondition, "UPLOAD_ENDED"));
                    }
                    Life::Open | Life::Aborted => self.abort(*n),
                }
                self.asked.push(Asked::Cancel(*n));
                Ok(Expected::Upload(*n))
            }
            Operation::Look(n) => Ok(Expected::Upload(*n)),
            Operation::OneShot(spec, how, has_request) => self.one_shot(*spec, *how, *has_request),
            // Whatever it met, nothing is left of it.
            Operation::OneShotCut(..) | Operation::Kill => Ok(Expected::Nothing),
            Operation::Delete(n) => {
                self.must_be(*n, Place::Live)?;
                self.files[*n].place = Place::Trash;
                self.asked.push(Asked::Delete(*n));
                Ok(Expected::File(*n))
            }
            Operation::Undelete(n) => {
                self.must_be(*n, Place::Trash)?;
                if self.live_at(self.files[*n].path).is_some() {
                    return Err(refusal(Code::AlreadyExists, "PATH_TAKEN"));
                }
                self.files[*n].place = Place::Live;
                self.asked.push(Asked::Undelete(*n));
                Ok(Expected::File(*n))
            }
            Operation::Purge(n) => {
                self.must_be(*n, Place::Trash)?;
                let freed = self.files[*n].size();
                self.files[*n].place = Place::Purged;
                self.asked.push(Asked::Purge(*n));
                Ok(Expected::Freed(freed))
            }
            Operation::SetQuota(quota, limits) => {
                self.limits[*quota] = *limits;
                self.asked.push(Asked::SetQuota(*quota, *limits));
                Ok(Expected::Quota(*quota))
            }
            Operation::Repeat(n) => Ok(Expected::Again(*n)),
            Operation::Reuse(_) => Err(refusal(Code::InvalidArgument, "REQUEST_ID_REUSED")),
        }
    }

    fn must_be(&self, file: usize, place: Place) -> Result<(), Refusal> {
        match self.files[file].place {
            found if found == place => Ok(()),
            Place::Live => Err(refusal(Code::FailedPrecondition, "FILE_STATUS")),
            Place::Trash | Place::Purged => Err(refusal(Code::NotFound, "NOT_FOUND")),
        }
    }

    /// What is checked before the first byte; the upload is there afterwards.
    fn open(&mut self, spec: Spec, has_request: bool) -> Result<(), Refusal> {
        self.must_be_free(spec)?;
        let existing = self.live_at(spec.path);
        let declared = if spec.is_declared { spec.content.size as i64 } else { 0 };
        let replaced = self.replaced(spec.path);
        let is_new = i64::from(existing.is_none());
        let hold = if has_request {
            Counts { bytes: (declared - replaced).max(0), files: is_new }
        } else {
            Counts::default()
        };
        let payer = existing.map_or(spec.in_project, |file| self.files[file].in_project);
        let charge = if hold == Counts::default() {
            Charge {
                add: Counts { bytes: declared, files: is_new },
                free_bytes: replaced,
                file_bytes: declared,
            }
        } else {
            Charge { add: hold, free_bytes: 0, file_bytes: declared }
        };
        self.check(payer, |_| charge)?;
        let (request, life) = (self.uploads.len(), Life::Open);
        self.uploads.push(Upload { spec, request, life, persisted: 0, hold, holds_of_project: payer });
        Ok(())
    }

    fn must_be_free(&self, spec: Spec) -> Result<(), Refusal> {
        if spec.create_only && self.live_at(spec.path).is_some() {
            return Err(refusal(Code::AlreadyExists, "PATH_TAKEN"));
        }
        Ok(())
    }

    fn abort(&mut self, upload: usize) {
        let upload = &mut self.uploads[upload];
        (upload.life, upload.hold) = (Life::Aborted, Counts::default());
    }

    /// Brings an upload to this many bytes, by a stream that ends without `finish`.
    fn write(&mut self, upload: usize, to: usize) -> Result<Expected, Refusal> {
        if self.uploads[upload].life == Life::Aborted {
            return Err(refusal(Code::FailedPrecondition, "UPLOAD_ENDED"));
        }
        let spec = self.uploads[upload].spec;
        let outcome = self
            .must_be_free(spec)
            .and_then(|()| if to > self.uploads[upload].persisted { self.grow(upload, to) } else { Ok(()) });
        match outcome {
            Ok(()) => {
                self.uploads[upload].persisted = to;
                Ok(Expected::Open(upload))
            }
            Err(refusal) => {
                self.abort(upload);
                Err(refusal)
            }
        }
    }

    /// The file an open upload becomes.
    fn finish(&mut self, upload: usize, how: How) -> Result<usize, Refusal> {
        let spec = self.uploads[upload].spec;
        let outcome = self.must_be_free(spec).and_then(|()| match how {
            How::Short | How::Long => Err(refusal(Code::OutOfRange, "SIZE_MISMATCH")),
            How::WrongSum => Err(refusal(Code::InvalidArgument, "CHECKSUM_MISMATCH")),
            How::Right | How::Verified | How::BySpec | How::Killed(_) => self.commit(upload),
        });
        if outcome.is_err() {
            self.abort(upload);
        }
        outcome
    }

    fn one_shot(&mut self, spec: Spec, how: How, has_request: bool) -> Result<Expected, Refusal> {
        self.open(spec, has_request)?;
        let upload = self.uploads.len() - 1;
        let outcome = self.finish(upload, how);
        // One that nobody can name is forgotten: without a request, or refused before anybody has heard of it.
        if !has_request || outcome.is_err() {
            self.uploads.pop();
        } else {
            self.asked.push(Asked::Put(upload));
        }
        outcome.map(Expected::File)
    }

    /// Makes a file, or a version of the one at the path, if what goes beyond the hold fits.
    fn commit(&mut self, upload: usize) -> Result<usize, Refusal> {
        let Upload { spec, hold, holds_of_project, .. } = self.uploads[upload].clone();
        let existing = self.live_at(spec.path);
        let payer = existing.map_or(spec.in_project, |file| self.files[file].in_project);
        let size = spec.content.size as i64;
        let growth = (size - self.replaced(spec.path)).max(0);
        self.check(payer, |quota| {
            let held = if is_charged(quota, holds_of_project) { hold } else { Counts::default() };
            let files = i64::from(existing.is_none());
            let add = Counts { bytes: (growth - held.bytes).max(0), files: (files - held.files).max(0) };
            Charge { add, free_bytes: 0, file_bytes: size }
        })?;
        let file = match existing {
            Some(file) => file,
            None => {
                let (place, versions) = (Place::Live, Vec::new());
                self.files.push(File { path: spec.path, in_project: payer, place, versions, number: 0 });
                self.files.len() - 1
            }
        };
        self.store(file, spec.content);
        let done = &mut self.uploads[upload];
        (done.life, done.persisted, done.hold) =
            (Life::Committed(file), spec.content.size, Counts::default());
        Ok(file)
    }

    fn store(&mut self, file: usize, content: Content) {
        let file = &mut self.files[file];
        if !self.keeps_versions {
            file.versions.clear();
        }
        file.versions.push(content);
        file.number += 1;
    }
}
