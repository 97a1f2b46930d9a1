//! Finished uploads become files, or versions of files: any number of them in one transaction.
//!
//! Rows are locked in one order: the intents, the users, the quotas, the files. Then each upload is judged, in the order in
//! which they came, beside what those before it have taken; what was accepted is written together.
//!
//! What an upload holds is settled: it is given back to the payer of the intent, and what was stored is charged to that of
//! the file. These are nearly always the same; but the path, or the file, may have been somebody else's meanwhile.

mod found;
mod write;

use std::collections::BTreeSet;

use coffer_domain::error::{Conflict, Error, State, Taken};
use coffer_domain::file::{Changes, Content, File, Payer, Status};
use coffer_domain::id::{FileId, OperationId, RequestId, UploadId, VolumeId};
use coffer_domain::quota::{Charge, Hold, QuotaKey};
use coffer_domain::request::to_answer;
use coffer_domain::store::{Commit, NewFile, Target};
use diesel_async::AsyncPgConnection;
use futures_util::try_join;

use super::row::Holding;
use crate::error::{Failure, Step, too_large, unreadable};
use crate::events::Happened;
use crate::files;
use crate::pipeline::{Decided, Work};
use crate::quotas::{self, Change};
use found::{Found, Met, Previous, Shared, shareable};
use write::{Accepted, Writes};

/// The work of `commit_upload`.
pub(crate) struct Commits;

/// What two uploads may not touch in one transaction.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Touched {
    Upload(UploadId),
    File(FileId),
    Path(VolumeId, String, String),
    Name(String, String),
    Request(String, RequestId),
}

impl Work for Commits {
    type Item = Commit;
    type Answer = File;
    type Claim = Touched;
    type Writes = Writes;

    const NAME: &'static str = "commit_upload";

    fn claims(commit: &Commit) -> Vec<Touched> {
        let mut claims = vec![Touched::Upload(commit.held.upload)];
        claims.extend(
            commit.request.as_ref().map(|request| Touched::Request(request.scope.clone(), request.id)),
        );
        match &commit.target {
            Target::New(new) => claims.extend([
                Touched::Path(commit.volume, new.organisation.clone(), new.path.nfc()),
                Touched::Name(new.organisation.clone(), new.file_id.clone()),
            ]),
            Target::Version { file, .. } => claims.push(Touched::File(*file)),
        }
        claims
    }

    fn settles(commit: &Commit) -> Option<OperationId> {
        Some(commit.operation.id)
    }

    fn is_durable(_: &Commit) -> bool {
        true
    }

    async fn decide(c: &AsyncPgConnection, commits: &[&Commit], is_again: bool) -> Step<Decided<Self>> {
        let payers: Option<Vec<Payer>> = commits.iter().map(|commit| new_payer(commit)).collect();
        let (met, found) = match payers {
            // Whose quotas a new file is charged to is known, and nearly always the intent holds those: one round trip.
            Some(payers) if !is_again => {
                let keys = payers.iter().flat_map(Payer::quotas).collect();
                try_join!(Met::with(c, commits), Found::by(c, commits, &keys))?
            }
            _ => {
                let met = Met::with(c, commits).await?;
                let found = Found::by(c, commits, &met.quotas(commits)).await?;
                (met, found)
            }
        };
        if !met.holdings().all(|holding| found.ledger.has(&holding.payer.quotas())) {
            return Err(Failure::Again);
        }
        let mut batch = Batch { met, found, accepted: Vec::new(), abandoned: Vec::new() };
        let mut outcomes = Vec::with_capacity(commits.len());
        for (n, commit) in commits.iter().enumerate() {
            match batch.judge(n, commit) {
                Ok(file) => outcomes.push(Ok(file)),
                Err(Failure::Refused(error)) => outcomes.push(Err(error)),
                Err(failure) => return Err(failure),
            }
        }
        let Batch { met, found, accepted, abandoned } = batch;
        Ok((outcomes, Writes { ledger: found.ledger, requests: met.requests, accepted, abandoned }))
    }

    async fn write(c: &AsyncPgConnection, commits: &[&Commit], writes: &Writes) -> Step<()> {
        writes.write(c, commits).await
    }
}

/// Who pays for a new file.
fn new_payer(commit: &Commit) -> Option<Payer> {
    match &commit.target {
        Target::New(new) => Some(Payer {
            volume: commit.volume,
            user: new.owner.user,
            app: new.owner.app.clone(),
            organisation: new.organisation.clone(),
            project: new.project.clone(),
        }),
        Target::Version { .. } => None,
    }
}

/// What is known of a batch, and what was decided so far.
struct Batch {
    met: Met,
    found: Found,
    accepted: Vec<Accepted>,
    abandoned: Vec<UploadId>,
}

impl Batch {
    /// Accepts or refuses a commit beside those that were accepted before.
    fn judge(&mut self, n: usize, commit: &Commit) -> Step<File> {
        let answered =
            commit.request.as_ref().and_then(|request| Some((request, self.met.requests.answer(request)?)));
        if let Some((request, answered)) = answered {
            let file = answered.to(request)?;
            self.abandon(commit)?;
            return Ok(file);
        }
        let intent = self.met.intent(commit).filter(|intent| intent.is_committable);
        let holding = intent.ok_or(Error::Conflict(Conflict::Fenced))?.holding.clone();
        let accepted = match &commit.target {
            Target::New(new) => self.create(n, commit, new, &holding)?,
            Target::Version { file, if_revision, changes } => {
                self.replace(n, commit, *file, *if_revision, changes, &holding)?
            }
        };
        let file = accepted.file.clone();
        self.accepted.push(accepted);
        Ok(file)
    }

    /// The first one's file is the answer to both; the second one's bytes are nobody's.
    fn abandon(&mut self, commit: &Commit) -> Step<()> {
        let Some(intent) = self.met.intent(commit) else { return Ok(()) };
        let Holding { payer, hold } = &intent.holding;
        let released = Change::released(*hold)?;
        for key in payer.quotas() {
            self.found.ledger.note(key, released);
        }
        self.abandoned.push(commit.held.upload);
        Ok(())
    }

    fn create(&mut self, n: usize, commit: &Commit, new: &NewFile, holding: &Holding) -> Step<Accepted> {
        let payer = new_payer(commit).unwrap_or_else(|| holding.payer.clone());
        let size_bytes = commit.stored.size;
        let charge =
            Charge { add_bytes: size_bytes, add_files: 1, file_bytes: size_bytes, ..Charge::default() };
        let changes = self.changes(&payer, holding, charge)?;
        match self.found.taken.get(&n) {
            Some(taken) if taken.is_name => return Err(Error::AlreadyExists(Taken::FileName).into()),
            Some(taken) if taken.is_path => return Err(Error::AlreadyExists(Taken::Path).into()),
            _ => {}
        }
        let by = commit.by.as_ref().map(|user| user.id);
        let file = File {
            id: new.id,
            file_id: new.file_id.clone(),
            volume: commit.volume,
            owner: new.owner.clone(),
            organisation: new.organisation.clone(),
            project: new.project.clone(),
            path: new.path.clone(),
            original_name: new.description.filename.clone(),
            description: new.description.clone(),
            content: self.content(commit, 1),
            status: Status::Active,
            is_public: new.is_public,
            provider: new.provider,
            created_by: by,
            updated_by: by,
            created_at: commit.at,
            updated_at: commit.at,
            deleted_at: None,
            purged_at: None,
            last_accessed_at: None,
            access_count: 0,
            revision: 1,
        };
        self.accept(n, commit, file, Happened::Created, None, changes)
    }

    fn replace(
        &mut self,
        n: usize,
        commit: &Commit,
        id: FileId,
        if_revision: Option<u64>,
        changes: &Changes,
        holding: &Holding,
    ) -> Step<Accepted> {
        let row = self.found.files.get(&id).filter(|row| row.deleted_at.is_none());
        let row = row.ok_or_else(|| files::not_found(id))?;
        files::check_live(row, if_revision)?;
        if row.status == Status::Archived.as_str() {
            return Err(Error::State(State::FileStatus(Status::Archived.as_str())).into());
        }
        let payer = row.payer();
        if payer.volume != commit.volume {
            return Err(
                Error::internal("commit an upload", "its object is in another volume than its file").into()
            );
        }
        let number = u32::try_from(row.version_number).map_err(unreadable)?.saturating_add(1);
        let mut file = files::with_content(row.clone(), self.content(commit, number))?;
        changes.apply(&mut file);
        // New content makes a corrupted file whole.
        file.status = if changes.is_archived == Some(true) { Status::Archived } else { Status::Active };
        file.revision = file.revision.saturating_add(1);
        file.updated_by = commit.by.as_ref().map(|user| user.id);
        file.updated_at = commit.at;

        let previous = self.found.previous.get(&id).copied();
        let given_up = previous.filter(|_| !commit.keeps_versions);
        let charge = Charge {
            add_bytes: commit.stored.size,
            free_bytes: given_up.map_or(0, |previous| previous.size_bytes),
            file_bytes: commit.stored.size,
            ..Charge::default()
        };
        let changes = self.changes(&payer, holding, charge)?;
        self.accept(n, commit, file, Happened::VersionCreated, previous, changes)
    }

    /// The content as its version will name it: in an object of its own, or in the one that equal contents share.
    fn content(&self, commit: &Commit, number: u32) -> Content {
        let shared = shareable(commit).and_then(|content| self.found.shared.get(&content)).cloned();
        let Shared { object, key } =
            shared.unwrap_or_else(|| Shared { object: commit.object, key: commit.key.clone() });
        Content {
            version: commit.version,
            number,
            object,
            key,
            size: commit.stored.size,
            sha256: commit.stored.sha256,
            crc32c: commit.stored.crc32c,
        }
    }

    /// What changes in every quota. What goes beyond the hold has to fit beside all that is used and reserved, of which the
    /// hold is a part as long as it is not settled.
    fn changes(&self, payer: &Payer, holding: &Holding, charge: Charge) -> Step<Vec<(QuotaKey, Change)>> {
        let charged = payer.quotas();
        let held = if holding.hold == Hold::default() { Vec::new() } else { holding.payer.quotas() };
        let (mut changes, mut exhausted) = (Vec::new(), Vec::new());
        for key in charged.iter().chain(&held).collect::<BTreeSet<_>>() {
            let hold = if held.contains(key) { holding.hold } else { Hold::default() };
            let mut change = Change::released(hold)?;
            if charged.contains(key) {
                exhausted.extend(self.found.ledger.exhausted(key, charge.beyond(hold))?);
                change = change + Change::charged(charge)?;
            }
            changes.push((key.clone(), change));
        }
        quotas::refuse(exhausted)?;
        Ok(changes)
    }

    /// From here on it counts for those that come after it.
    fn accept(
        &mut self,
        n: usize,
        commit: &Commit,
        file: File,
        happened: Happened,
        previous: Option<Previous>,
        changes: Vec<(QuotaKey, Change)>,
    ) -> Step<Accepted> {
        let size_bytes = i64::try_from(commit.stored.size).map_err(too_large)?;
        let answer = commit.request.as_ref().map(|_| to_answer(&file)).transpose()?;
        for (key, change) in changes {
            self.found.ledger.note(key, change);
        }
        if let Some(content) = shareable(commit) {
            let Content { object, key, .. } = &file.content;
            self.found.shared.insert(content, Shared { object: *object, key: key.clone() });
        }
        Ok(Accepted { n, file, size_bytes, happened, previous, answer })
    }
}
