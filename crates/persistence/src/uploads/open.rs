//! Intents, recorded before the first byte: any number of them in one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};

use coffer_domain::error::{Error, Limited, Resource};
use coffer_domain::file::Payer;
use coffer_domain::id::{OperationId, RequestId, VolumeId};
use coffer_domain::operation::Operation;
use coffer_domain::quota::{Charge, Hold};
use coffer_domain::request::in_flight;
use coffer_domain::store::Intent;
use coffer_domain::time::Timestamp;
use coffer_domain::upload::{State, Upload};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Binary, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::{Failure, Step, too_large};
use crate::operations;
use crate::pipeline::{Decided, Work};
use crate::quotas::{self, Change, Ledger};

/// The work of `open_upload`.
pub(crate) struct Opens;

/// An intent, and the record of its beginning if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) intent: Intent,
    pub(crate) operation: Option<Operation>,
}

/// What a batch writes.
pub(crate) struct Writes {
    ledger: Ledger,
    /// Places of the accepted ones.
    accepted: Vec<usize>,
}

impl Work for Opens {
    type Item = Open;
    type Answer = Upload;
    type Claim = (String, RequestId);
    type Writes = Writes;

    const NAME: &'static str = "open_upload";

    fn claims(open: &Open) -> Vec<(String, RequestId)> {
        open.intent.request.iter().map(|request| (open.intent.scope.clone(), request.id)).collect()
    }

    fn settles(open: &Open) -> Option<OperationId> {
        open.operation.as_ref().map(|operation| operation.id)
    }

    fn is_durable(open: &Open) -> bool {
        // Without a request nobody will ask for it after a loss of power, and its bytes are found by comparing.
        open.intent.request.is_some() || open.operation.is_some()
    }

    async fn decide(c: &AsyncPgConnection, opens: &[&Open], _is_again: bool) -> Step<Decided<Self>> {
        let (holding, free): (Vec<&Intent>, Vec<&Intent>) =
            opens.iter().map(|open| &open.intent).partition(|intent| intent.hold != Hold::default());
        let keys =
            |of: &[&Intent]| of.iter().flat_map(|intent| intent.payer.quotas()).collect::<BTreeSet<_>>();
        let (locked, looked_at) = (keys(&holding), keys(&free));
        // Where nothing is held, nothing is counted yet, so nothing has to be locked.
        let (ledger, peeked, volumes, live, resumable) = try_join!(
            Ledger::lock(c, &locked),
            Ledger::peek(c, &looked_at),
            volumes(c, opens),
            live(c, opens),
            resumable(c, opens),
        )?;
        let mut batch = Batch { ledger, peeked, volumes, live, resumable, accepted: Vec::new() };
        let mut outcomes = Vec::with_capacity(opens.len());
        for (n, open) in opens.iter().enumerate() {
            match batch.judge(n, &open.intent) {
                Ok(upload) => outcomes.push(Ok(upload)),
                Err(Failure::Refused(error)) => outcomes.push(Err(error)),
                Err(failure) => return Err(failure),
            }
        }
        Ok((outcomes, Writes { ledger: batch.ledger, accepted: batch.accepted }))
    }

    async fn write(c: &AsyncPgConnection, opens: &[&Open], writes: &Writes) -> Step<()> {
        let accepted: Vec<&Open> = writes.accepted.iter().filter_map(|n| opens.get(*n).copied()).collect();
        let intents = column(&accepted, |open| &open.intent);
        try_join!(
            insert(c, &intents),
            writes.ledger.write(c),
            operations::insert(c, accepted.iter().filter_map(|open| open.operation.as_ref())),
        )?;
        Ok(())
    }
}

/// What is known of a batch, and what was decided so far.
struct Batch {
    ledger: Ledger,
    /// Quotas of those that hold nothing.
    peeked: Ledger,
    /// Those that are there, each with the present moment.
    volumes: HashMap<VolumeId, Timestamp>,
    /// Places of those whose request is being worked on.
    live: HashSet<usize>,
    /// How many resumable uploads are open in each scope; of more than may be, at least as many as that.
    resumable: HashMap<String, usize>,
    accepted: Vec<usize>,
}

impl Batch {
    /// Accepts or refuses an intent beside those that were accepted before.
    fn judge(&mut self, n: usize, intent: &Intent) -> Step<Upload> {
        let created_at = *self
            .volumes
            .get(&intent.volume)
            .ok_or_else(|| Error::NotFound(Resource::Volume(intent.volume.to_string())))?;
        if self.live.contains(&n) {
            return Err(in_flight().into());
        }
        let open = self.resumable.get(&intent.scope).filter(|_| intent.request.is_some());
        if open.is_some_and(|open| *open >= intent.open_limit) {
            return Err(Error::LimitReached { of: Limited::OpenUploads, limit: intent.open_limit }.into());
        }
        if intent.hold == Hold::default() {
            exhausted(&self.peeked, &intent.payer, expected(intent))?;
        } else {
            let Hold { bytes, files } = intent.hold;
            let file_bytes = intent.file_bytes;
            let charge = Charge { add_bytes: bytes, add_files: files, file_bytes, ..Charge::default() };
            exhausted(&self.ledger, &intent.payer, charge)?;
            let held = Change::held(intent.hold)?;
            for key in intent.payer.quotas() {
                self.ledger.note(key, held);
            }
        }
        if let Some(open) = self.resumable.get_mut(&intent.scope).filter(|_| intent.request.is_some()) {
            *open += 1;
        }
        self.accepted.push(n);
        Ok(opened(intent, created_at))
    }
}

/// Refuses what does not fit into every quota.
fn exhausted(ledger: &Ledger, payer: &Payer, charge: Charge) -> Step<()> {
    let mut exhausted = Vec::new();
    for key in payer.quotas() {
        exhausted.extend(ledger.exhausted(&key, charge)?);
    }
    quotas::refuse(exhausted)
}

/// What an upload that holds nothing will need, as far as that is known.
fn expected(intent: &Intent) -> Charge {
    Charge {
        add_bytes: intent.file_bytes,
        free_bytes: intent.replaced_bytes,
        add_files: u64::from(intent.file.is_none()),
        file_bytes: intent.file_bytes,
        ..Charge::default()
    }
}

fn opened(intent: &Intent, created_at: Timestamp) -> Upload {
    Upload {
        id: intent.id,
        state: State::Open,
        epoch: 1,
        volume: intent.volume,
        key: intent.key.clone(),
        version: intent.version,
        file: intent.file,
        payer: intent.payer.clone(),
        scope: intent.scope.clone(),
        request: intent.request.clone(),
        spec: intent.spec.clone(),
        declared_size: intent.declared_size,
        persisted_size: 0,
        state_at_persisted: None,
        held: intent.hold,
        created_at,
        updated_at: created_at,
        expires_at: intent.expires_at,
    }
}

/// The volumes that are there, held against being deleted meanwhile.
async fn volumes(c: &AsyncPgConnection, opens: &[&Open]) -> Step<HashMap<VolumeId, Timestamp>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Timestamptz)]
        at: Timestamp,
    }
    const HOLD: &str = "SELECT v.id, now() AS at FROM unnest($1) AS k (id) CROSS JOIN LATERAL (
            SELECT id FROM storage_volumes WHERE id = k.id AND deleted_at IS NULL FOR KEY SHARE
        ) AS v";
    let ids: BTreeSet<Uuid> = opens.iter().map(|open| open.intent.volume.uuid()).collect();
    let hold = diesel::sql_query(HOLD).bind::<Array<SqlUuid>, _>(ids.into_iter().collect::<Vec<_>>());
    let rows: Vec<Row> = Cached(hold).load(&mut &*c).await?;
    Ok(rows.into_iter().map(|Row { id, at }| (VolumeId::from(id), at)).collect())
}

/// Those whose request another upload that has not ended works on.
async fn live(c: &AsyncPgConnection, opens: &[&Open]) -> Step<HashSet<usize>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        n: i32,
    }
    const LIVE: &str = "SELECT k.n FROM unnest($1, $2, $3) AS k (n, principal, request_id)
        WHERE (
            SELECT true FROM storage_uploads u
            WHERE u.principal = k.principal AND u.request_id = k.request_id AND u.request_id IS NOT NULL
                AND u.state IN ('OPEN', 'FINISHING')
        )";
    let asked: Vec<(i32, &str, Uuid)> = (0..)
        .zip(opens)
        .filter_map(|(n, open)| {
            Some((n, open.intent.scope.as_str(), open.intent.request.as_ref()?.id.uuid()))
        })
        .collect();
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let query = diesel::sql_query(LIVE)
        .bind::<Array<Integer>, _>(column(&asked, |(n, _, _)| *n))
        .bind::<Array<Text>, _>(column(&asked, |(_, scope, _)| *scope))
        .bind::<Array<SqlUuid>, _>(column(&asked, |(_, _, id)| *id));
    let rows: Vec<Row> = Cached(query).load(&mut &*c).await?;
    Ok(rows.into_iter().filter_map(|row| usize::try_from(row.n).ok()).collect())
}

/// How many resumable uploads are open in the scopes of those that are to be resumable, counted up to their limit by the index that tells
/// live requests apart. What other nodes open at the same moment is not seen.
async fn resumable(c: &AsyncPgConnection, opens: &[&Open]) -> Step<HashMap<String, usize>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        principal: String,
        #[diesel(sql_type = BigInt)]
        uploads: i64,
    }
    const COUNT: &str = "SELECT k.principal, open.uploads FROM unnest($1, $2) AS k (principal, most) CROSS JOIN LATERAL (
            SELECT count(*) AS uploads FROM (
                SELECT FROM storage_uploads u
                WHERE u.principal = k.principal AND u.request_id IS NOT NULL AND u.state IN ('OPEN', 'FINISHING')
                LIMIT k.most
            ) AS counted
        ) AS open";
    let scopes: HashMap<&str, usize> = opens
        .iter()
        .filter(|open| open.intent.request.is_some())
        .map(|open| (open.intent.scope.as_str(), open.intent.open_limit))
        .collect();
    if scopes.is_empty() {
        return Ok(HashMap::new());
    }
    let scopes: Vec<(&str, usize)> = scopes.into_iter().collect();
    let count = diesel::sql_query(COUNT)
        .bind::<Array<Text>, _>(column(&scopes, |(scope, _)| *scope))
        .bind::<Array<BigInt>, _>(column(&scopes, |(_, most)| i64::try_from(*most).unwrap_or(i64::MAX)));
    let rows: Vec<Row> = Cached(count).load(&mut &*c).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.principal, usize::try_from(row.uploads).unwrap_or(usize::MAX)))
        .collect())
}

async fn insert(c: &AsyncPgConnection, intents: &[&Intent]) -> Step<()> {
    const INSERT: &str = "INSERT INTO storage_uploads (id, kind, volume_id, key, file_id, version_id, user_id, app_id,
            organisation_id, project_id, principal, request_id, fingerprint, spec, declared_size, node_id, node_epoch,
            expire_time, reserved_bytes, reserved_files)
        SELECT u.id, 'upload', u.volume_id, u.key, u.file_id, u.version_id, u.user_id, u.app_id, u.organisation_id,
            u.project_id, u.principal, u.request_id, u.fingerprint, u.spec, u.declared_size, u.node_id, u.node_epoch,
            u.expire_time, u.reserved_bytes, u.reserved_files
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            AS u (id, volume_id, key, file_id, version_id, user_id, app_id, organisation_id, project_id, principal,
                request_id, fingerprint, spec, declared_size, node_id, node_epoch, expire_time, reserved_bytes,
                reserved_files)";
    let declared: Step<Vec<Option<i64>>> = intents
        .iter()
        .map(|intent| intent.declared_size.map(i64::try_from).transpose().map_err(too_large))
        .collect();
    let bytes: Step<Vec<i64>> =
        intents.iter().map(|intent| i64::try_from(intent.hold.bytes).map_err(too_large)).collect();
    let files: Step<Vec<i32>> =
        intents.iter().map(|intent| i32::try_from(intent.hold.files).map_err(too_large)).collect();
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(intents, |i| i.id.uuid()))
        .bind::<Array<SqlUuid>, _>(column(intents, |i| i.volume.uuid()))
        .bind::<Array<Text>, _>(column(intents, |i| i.key.as_str()))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(intents, |i| i.file.map(Uuid::from)))
        .bind::<Array<SqlUuid>, _>(column(intents, |i| i.version.uuid()))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(intents, |i| i.payer.user.map(Uuid::from)))
        .bind::<Array<Nullable<Text>>, _>(column(intents, |i| i.payer.app.as_deref()))
        .bind::<Array<Text>, _>(column(intents, |i| i.payer.organisation.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(intents, |i| i.payer.project.as_deref()))
        .bind::<Array<Text>, _>(column(intents, |i| i.scope.as_str()))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(intents, |i| i.request.as_ref().map(|r| r.id.uuid())))
        .bind::<Array<Nullable<Binary>>, _>(column(intents, |i| {
            i.request.as_ref().map(|request| request.fingerprint.as_slice())
        }))
        .bind::<Array<Jsonb>, _>(column(intents, |i| &i.spec))
        .bind::<Array<Nullable<BigInt>>, _>(declared?)
        .bind::<Array<SqlUuid>, _>(column(intents, |i| i.start.node.uuid()))
        .bind::<Array<BigInt>, _>(column(intents, |i| i.start.epoch))
        .bind::<Array<Timestamptz>, _>(column(intents, |i| i.expires_at))
        .bind::<Array<BigInt>, _>(bytes?)
        .bind::<Array<Integer>, _>(files?);
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}
