//! What accepted commits write: one statement per table, all sent together.

use coffer_domain::file::File;
use coffer_domain::id::UploadId;
use coffer_domain::operation::Operation;
use coffer_domain::store::Commit;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use super::found::Previous;
use crate::cached::{Cached, column};
use crate::error::Step;
use crate::events::{self, Happened};
use crate::links::{self, Changed};
use crate::quotas::Ledger;
use crate::{files, objects, operations, requests};

/// A commit that was accepted.
pub(crate) struct Accepted {
    /// Its place among all.
    pub(super) n: usize,
    /// The file as it will be.
    pub(super) file: File,
    pub(super) size_bytes: i64,
    pub(super) happened: Happened,
    /// The content it takes the place of.
    pub(super) previous: Option<Previous>,
    /// What is kept for its request.
    pub(super) answer: Option<Vec<u8>>,
}

/// All that a batch writes.
pub(crate) struct Writes {
    pub(super) ledger: Ledger,
    pub(super) requests: requests::Known,
    pub(super) accepted: Vec<Accepted>,
    /// Uploads whose request was answered before: nobody can commit them any more, and their bytes are swept.
    pub(super) abandoned: Vec<UploadId>,
}

impl Writes {
    pub(super) async fn write(&self, c: &AsyncPgConnection, commits: &[&Commit]) -> Step<()> {
        let accepted: Vec<(&Accepted, &Commit)> =
            self.accepted.iter().filter_map(|accepted| Some((accepted, *commits.get(accepted.n)?))).collect();
        let with = |wanted: Happened| {
            let files = accepted.iter().filter(move |(accepted, _)| accepted.happened == wanted);
            files.map(|(accepted, _)| &accepted.file).collect::<Vec<_>>()
        };
        let (mut kept, mut gone, mut given_up) = (Vec::new(), Vec::new(), Vec::new());
        for (accepted, commit) in &accepted {
            match accepted.previous {
                Some(previous) if commit.keeps_versions => kept.push(previous.version),
                Some(previous) => {
                    gone.push(previous.version);
                    given_up.push(previous.object);
                }
                None => {}
            }
        }
        let (stored, unneeded): (Vec<_>, Vec<_>) = accepted
            .iter()
            .map(|(accepted, commit)| (accepted.file.content.object, *commit))
            .partition(|(object, commit)| *object == commit.object);
        let (stored, shared) =
            (column(&stored, |(_, commit)| *commit), column(&unneeded, |(object, _)| *object));
        let unneeded = column(&unneeded, |(_, commit)| *commit);
        let (new, replaced) = (with(Happened::Created), with(Happened::VersionCreated));
        let versions = column(&accepted, |(accepted, commit)| files::NewVersion {
            file: &accepted.file,
            why: &commit.change_description,
            // The id is one of this commit's object: another that is shared has its own.
            native: commit.native_version.as_ref().filter(|_| accepted.file.content.object == commit.object),
        });
        let records = column(&accepted, |(accepted, commit)| Operation {
            file_id: Some(accepted.file.id),
            volume_id: commit.operation.volume_id.or(Some(commit.volume)),
            ..commit.operation.clone()
        });
        let answers: Vec<_> = accepted
            .iter()
            .filter_map(|(accepted, commit)| Some((commit.request.as_ref()?, accepted.answer.as_deref()?)))
            .collect();
        let linked: Vec<_> = accepted
            .iter()
            .filter(|(_, commit)| commit.is_linked)
            .map(|(accepted, _)| (&accepted.file, accepted.file.path.nfc()))
            .collect();
        let linked = column(&linked, |(file, nfc)| Changed {
            volume: file.volume,
            organisation: &file.organisation,
            nfc,
        });
        try_join!(
            self.end(c, &accepted),
            self.ledger.write(c),
            objects::insert(c, &stored),
            objects::discard(c, &unneeded),
            objects::share(c, &shared),
            files::insert(c, &new),
            files::retire(c, &kept, &gone),
            files::insert_versions(c, &versions),
            files::replace(c, &replaced),
            objects::give_up(c, &given_up),
            operations::insert(c, &records),
            events::tell(c, accepted.iter().map(|(accepted, _)| (accepted.happened, &accepted.file))),
            self.requests.keep(c, &answers),
            links::due(c, &linked),
        )?;
        Ok(())
    }

    /// Ends the intents, which then hold nothing.
    async fn end(&self, c: &AsyncPgConnection, accepted: &[(&Accepted, &Commit)]) -> Step<()> {
        const END: &str = "UPDATE storage_uploads u
            SET state = e.state, epoch = u.epoch + e.step, file_id = coalesce(e.file_id, u.file_id),
                persisted_size = coalesce(e.persisted_size, u.persisted_size), reserved_bytes = 0, reserved_files = 0,
                updated_at = now()
            FROM unnest($1, $2, $3, $4, $5) AS e (id, state, step, file_id, persisted_size)
            WHERE u.id = e.id AND u.id = ANY ($1)";
        type Ended = (UploadId, &'static str, i64, Option<Uuid>, Option<i64>);
        let committed = accepted.iter().map(|(accepted, commit)| {
            let (file, size) = (accepted.file.id.uuid(), accepted.size_bytes);
            (commit.held.upload, "COMMITTED", 0, Some(file), Some(size))
        });
        let abandoned = self.abandoned.iter().map(|upload| (*upload, "ABORTED", 1, None, None));
        let ended: Vec<Ended> = committed.chain(abandoned).collect();
        let end = diesel::sql_query(END)
            .bind::<Array<SqlUuid>, _>(column(&ended, |ended| ended.0.uuid()))
            .bind::<Array<Text>, _>(column(&ended, |ended| ended.1))
            .bind::<Array<BigInt>, _>(column(&ended, |ended| ended.2))
            .bind::<Array<Nullable<SqlUuid>>, _>(column(&ended, |ended| ended.3))
            .bind::<Array<Nullable<BigInt>>, _>(column(&ended, |ended| ended.4));
        Cached(end).execute(&mut &*c).await?;
        Ok(())
    }
}
