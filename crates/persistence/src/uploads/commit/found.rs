//! What commits meet: answers, intents, users, quotas, files.

use std::collections::{BTreeSet, HashMap, HashSet};

use coffer_domain::file::{Payer, Sha256Sum};
use coffer_domain::id::{FileId, ObjectId, UploadId, VersionId, VolumeId};
use coffer_domain::path::Key;
use coffer_domain::quota::{Hold, QuotaKey};
use coffer_domain::store::{Commit, NewFile, Target};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use super::super::row::{Holding, HoldingRow, holding};
use super::new_payer;
use crate::cached::{Cached, column};
use crate::error::{Step, too_large, unreadable};
use crate::files::{self, FileRow};
use crate::quotas::Ledger;
use crate::requests;
use crate::schema::storage_file_versions;
use crate::users;

/// An intent that has not ended, locked.
#[derive(Debug)]
pub(super) struct Intent {
    epoch: i64,
    /// It has not expired, or its bytes are all there.
    pub(super) is_committable: bool,
    pub(super) holding: Holding,
}

/// What is looked at before quotas are locked, because it says which.
pub(super) struct Met {
    pub(super) requests: requests::Known,
    intents: HashMap<UploadId, Intent>,
    /// Of the files that get versions; they never change.
    payers: HashMap<FileId, Payer>,
}

impl Met {
    pub(super) async fn with(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<Self> {
        let asked: Vec<_> = commits.iter().filter_map(|commit| commit.request.as_ref()).collect();
        let authors = commits.iter().filter_map(|commit| {
            let organisation = match &commit.target {
                Target::New(new) => &new.organisation,
                Target::Version { .. } => &commit.operation.organisation,
            };
            Some((commit.by.as_ref()?, organisation.as_str()))
        });
        let (requests, intents, (), payers) = try_join!(
            requests::Known::of(c, &asked),
            intents(c, commits),
            users::ensure(c, authors),
            files::payers(c, versioned(commits)),
        )?;
        Ok(Self { requests, intents, payers })
    }

    /// The intent of a commit, if it is still held.
    pub(super) fn intent(&self, commit: &Commit) -> Option<&Intent> {
        self.intents.get(&commit.held.upload).filter(|intent| intent.epoch == commit.held.epoch)
    }

    /// What the intents hold.
    pub(super) fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.intents.values().map(|intent| &intent.holding).filter(|holding| holding.hold != Hold::default())
    }

    /// Every quota in which something changes.
    pub(super) fn quotas(&self, commits: &[&Commit]) -> BTreeSet<QuotaKey> {
        let new = commits.iter().filter_map(|commit| new_payer(commit)).flat_map(|payer| payer.quotas());
        let versions = self.payers.values().flat_map(Payer::quotas);
        let held = self.holdings().flat_map(|holding| holding.payer.quotas());
        new.chain(versions).chain(held).collect()
    }
}

/// The files that get versions.
fn versioned(commits: &[&Commit]) -> BTreeSet<FileId> {
    let file = |commit: &&Commit| match commit.target {
        Target::Version { file, .. } => Some(file),
        Target::New(_) => None,
    };
    commits.iter().filter_map(file).collect()
}

async fn intents(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<HashMap<UploadId, Intent>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        epoch: i64,
        #[diesel(sql_type = Bool)]
        is_committable: bool,
        #[diesel(embed)]
        holding: HoldingRow,
    }
    // The states are no constants, or the planner would also read through the index of all that are open, and of many that were.
    const LOCK: &str = concat!(
        "SELECT u.epoch, u.state = 'FINISHING' OR u.expire_time > now() AS is_committable, ",
        holding!("u"),
        " FROM storage_uploads u WHERE u.id = ANY ($1) AND u.state = ANY ($2) ORDER BY u.id FOR NO KEY UPDATE"
    );
    let lock = diesel::sql_query(LOCK)
        .bind::<Array<SqlUuid>, _>(column(commits, |commit| commit.held.upload.uuid()))
        .bind::<Array<Text>, _>(["OPEN", "FINISHING"].as_slice());
    let rows: Vec<Row> = Cached(lock).load(&mut &*c).await?;
    rows.into_iter()
        .map(|Row { epoch, is_committable, holding }| {
            let id = UploadId::from(holding.id);
            Ok((id, Intent { epoch, is_committable, holding: Holding::try_from(holding)? }))
        })
        .collect()
}

/// The content a version takes the place of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Previous {
    pub(super) version: VersionId,
    pub(super) object: ObjectId,
    pub(super) size_bytes: u64,
}

/// What of a new file's is another's already.
#[derive(Debug, QueryableByName)]
pub(super) struct TakenRow {
    #[diesel(sql_type = Integer)]
    n: i32,
    /// The tenant's name for it.
    #[diesel(sql_type = Bool)]
    pub(super) is_name: bool,
    #[diesel(sql_type = Bool)]
    pub(super) is_path: bool,
}

/// A content of a volume: its SHA-256 and its size.
pub(super) type ContentKey = (VolumeId, Sha256Sum, u64);

/// The object that holds a content, for all versions of it.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) object: ObjectId,
    pub(super) key: Key,
}

/// The content of a commit that may share its object.
pub(super) fn shareable(commit: &Commit) -> Option<ContentKey> {
    commit.is_shareable.then_some((commit.volume, commit.stored.sha256, commit.stored.size))
}

/// What is decided by, locked: nobody changes it before this transaction ends.
pub(super) struct Found {
    pub(super) ledger: Ledger,
    pub(super) files: HashMap<FileId, FileRow>,
    pub(super) previous: HashMap<FileId, Previous>,
    /// By the places of commits.
    pub(super) taken: HashMap<usize, TakenRow>,
    /// Contents of volumes whose equal contents are one object.
    pub(super) shared: HashMap<ContentKey, Shared>,
}

impl Found {
    pub(super) async fn by(
        c: &AsyncPgConnection,
        commits: &[&Commit],
        quotas: &BTreeSet<QuotaKey>,
    ) -> Step<Self> {
        let versioned = versioned(commits);
        // The later ones run when the rows of the earlier ones are locked, so what they read stays.
        let (ledger, files, previous, taken, shared) = try_join!(
            Ledger::lock(c, quotas),
            files::lock_all(c, &versioned),
            previous(c, &versioned),
            taken(c, commits),
            shared(c, commits),
        )?;
        Ok(Self { ledger, files, previous, taken, shared })
    }
}

async fn previous(c: &AsyncPgConnection, files: &BTreeSet<FileId>) -> Step<HashMap<FileId, Previous>> {
    if files.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = files.iter().map(|id| id.uuid()).collect();
    let rows: Vec<(Uuid, Uuid, Uuid, i64)> = storage_file_versions::table
        .filter(storage_file_versions::file_id.eq_any(ids))
        .filter(storage_file_versions::is_current)
        .select((
            storage_file_versions::file_id,
            storage_file_versions::id,
            storage_file_versions::object_id,
            storage_file_versions::size,
        ))
        .load(&mut &*c)
        .await?;
    let previous = |(file, version, object, size): (Uuid, Uuid, Uuid, i64)| {
        let previous = Previous {
            version: VersionId::from(version),
            object: ObjectId::from(object),
            size_bytes: size.unsigned_abs(),
        };
        (FileId::from(file), previous)
    };
    Ok(rows.into_iter().map(previous).collect())
}

/// Who commits into a volume has locked its quota, so among commits nobody takes a path after this looked.
async fn taken(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<HashMap<usize, TakenRow>> {
    // Not EXISTS, which the planner may answer by reading all files into a hash table first.
    const TAKEN: &str = "SELECT k.n,
            (
                SELECT true FROM storage_files f WHERE f.organisation_id = k.organisation_id AND f.file_id = k.file_id
            ) IS NOT NULL AS is_name,
            (
                SELECT true FROM storage_files f
                WHERE f.volume_id = k.volume_id AND f.organisation_id = k.organisation_id AND f.path_nfc = k.path_nfc
                    AND f.deleted_at IS NULL
            ) IS NOT NULL OR k.is_linked AND (
                SELECT true FROM storage_links l
                WHERE l.volume_id = k.volume_id AND l.path = k.path_nfc AND l.organisation_id <> k.organisation_id
            ) IS NOT NULL AS is_path
        FROM unnest($1, $2, $3, $4, $5, $6) AS k (n, volume_id, organisation_id, file_id, path_nfc, is_linked)";
    let new: Vec<(i32, &Commit, &NewFile)> = (0..)
        .zip(commits)
        .filter_map(|(n, commit)| match &commit.target {
            Target::New(new) => Some((n, *commit, &**new)),
            Target::Version { .. } => None,
        })
        .collect();
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let query = diesel::sql_query(TAKEN)
        .bind::<Array<Integer>, _>(column(&new, |(n, _, _)| *n))
        .bind::<Array<SqlUuid>, _>(column(&new, |(_, commit, _)| commit.volume.uuid()))
        .bind::<Array<Text>, _>(column(&new, |(_, _, new)| new.organisation.as_str()))
        .bind::<Array<Text>, _>(column(&new, |(_, _, new)| new.file_id.as_str()))
        .bind::<Array<Text>, _>(column(&new, |(_, _, new)| new.path.nfc()))
        .bind::<Array<Bool>, _>(column(&new, |(_, commit, _)| commit.is_linked));
    let rows: Vec<TakenRow> = Cached(query).load(&mut &*c).await?;
    Ok(rows.into_iter().filter_map(|row| Some((usize::try_from(row.n).ok()?, row))).collect())
}

/// The objects of contents that are there already. Who adds a reference to one of a volume, or takes one back, has locked the volume's quota.
async fn shared(c: &AsyncPgConnection, commits: &[&Commit]) -> Step<HashMap<ContentKey, Shared>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        volume_id: Uuid,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Binary)]
        sha256: Vec<u8>,
        #[diesel(sql_type = BigInt)]
        size_bytes: i64,
    }
    const SHARED: &str = "SELECT o.id, o.volume_id, o.key, o.sha256, o.size_bytes
        FROM unnest($1, $2, $3) AS k (volume_id, sha256, size_bytes) CROSS JOIN LATERAL (
            SELECT * FROM storage_objects
            WHERE volume_id = k.volume_id AND sha256 = k.sha256 AND size_bytes = k.size_bytes AND is_shareable
            FOR NO KEY UPDATE
        ) AS o";
    let wanted: Vec<ContentKey> =
        commits.iter().filter_map(|commit| shareable(commit)).collect::<HashSet<_>>().into_iter().collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let sizes: Vec<i64> =
        wanted.iter().map(|(_, _, size)| i64::try_from(*size).map_err(too_large)).collect::<Step<_>>()?;
    let query = diesel::sql_query(SHARED)
        .bind::<Array<SqlUuid>, _>(column(&wanted, |(volume, _, _)| volume.uuid()))
        .bind::<Array<Binary>, _>(column(&wanted, |(_, sha256, _)| sha256.0.as_slice()))
        .bind::<Array<BigInt>, _>(sizes);
    let rows: Vec<Row> = Cached(query).load(&mut &*c).await?;
    rows.into_iter()
        .map(|row| {
            let sha256 = row.sha256.try_into().map_err(|_| unreadable("a SHA-256 of another length"))?;
            let size = u64::try_from(row.size_bytes).map_err(unreadable)?;
            let shared =
                Shared { object: ObjectId::from(row.id), key: Key::parse(row.key).map_err(unreadable)? };
            Ok(((VolumeId::from(row.volume_id), Sha256Sum(sha256), size), shared))
        })
        .collect()
}
