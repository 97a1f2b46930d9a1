//! Answers already given, so that a request sent twice has one effect.

use std::collections::{HashMap, HashSet};

use coffer_domain::request::{ANSWER_TTL_HOURS, Answered, Request, in_flight, to_answer};
use diesel::sql_types::{Array, Binary, Bool, Integer, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::{Failure, Step, Trouble};
use crate::schema::request_results;

/// Takes a request for this transaction, or answers what was answered before.
///
/// Waits for a transaction that has the same request, up to the session's `lock_timeout`. An answer past its keeping is
/// as good as none.
pub(crate) async fn claim<T: DeserializeOwned>(
    c: &AsyncPgConnection,
    request: Option<&Request>,
) -> Step<Option<T>> {
    const CLAIM: &str =
        "INSERT INTO request_results AS r (principal, request_id, method, fingerprint, answer, expires_at)
        VALUES ($1, $2, $3, $4, '', now() + make_interval(hours => $5))
        ON CONFLICT (principal, request_id) DO UPDATE
        SET method = excluded.method, fingerprint = excluded.fingerprint, answer = '', created_at = now(),
            expires_at = excluded.expires_at
        WHERE r.expires_at <= now()";
    let Some(request) = request else { return Ok(None) };
    let claim = diesel::sql_query(CLAIM)
        .bind::<Text, _>(&request.scope)
        .bind::<SqlUuid, _>(request.id.uuid())
        .bind::<Text, _>(request.method)
        .bind::<Binary, _>(request.fingerprint.as_slice())
        .bind::<Integer, _>(ttl_hours());
    let claimed = Cached(claim).execute(&mut &*c).await.map_err(|error| match Trouble::of(&error) {
        Trouble::Timeout => Failure::Refused(in_flight()),
        _ => Failure::Database(error),
    })?;
    if claimed == 1 {
        return Ok(None);
    }
    // Gone again between two statements: its keeping ended just now.
    let answered = recall(c, request).await?.ok_or_else(in_flight)?;
    Ok(Some(answered.to(request)?))
}

/// Keeps the answer of a request that this transaction has claimed.
pub(crate) async fn answer<T: Serialize>(
    c: &AsyncPgConnection,
    request: Option<&Request>,
    value: &T,
) -> Step<()> {
    let Some(request) = request else { return Ok(()) };
    let answer = to_answer(value)?;
    diesel::update(request_results::table.find((&request.scope, request.id.uuid())))
        .set(request_results::answer.eq(answer))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

/// Requests that were answered before, as one of many transactions at once looks at them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    answered: HashMap<(String, Uuid), Answered>,
    forgotten: HashSet<(String, Uuid)>,
}

impl Known {
    /// What was answered to these requests.
    pub(crate) async fn of(c: &AsyncPgConnection, requests: &[&Request]) -> Step<Self> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            principal: String,
            #[diesel(sql_type = SqlUuid)]
            request_id: Uuid,
            #[diesel(sql_type = Text)]
            method: String,
            #[diesel(sql_type = Binary)]
            fingerprint: Vec<u8>,
            #[diesel(sql_type = Binary)]
            answer: Vec<u8>,
            #[diesel(sql_type = Bool)]
            is_kept: bool,
        }
        const KNOWN: &str = "SELECT r.* FROM unnest($1, $2) AS k (principal, request_id)
            CROSS JOIN LATERAL (
                SELECT principal, request_id, method, fingerprint, answer, expires_at > now() AS is_kept
                FROM request_results WHERE principal = k.principal AND request_id = k.request_id
            ) AS r";
        let mut known = Self::default();
        if requests.is_empty() {
            return Ok(known);
        }
        let query = diesel::sql_query(KNOWN)
            .bind::<Array<Text>, _>(column(requests, |request| request.scope.as_str()))
            .bind::<Array<SqlUuid>, _>(column(requests, |request| request.id.uuid()));
        for Row { principal, request_id, method, fingerprint, answer, is_kept } in
            Cached(query).load(&mut &*c).await?
        {
            let key = (principal, request_id);
            if is_kept {
                known.answered.insert(key, Answered { method, fingerprint, answer });
            } else {
                known.forgotten.insert(key);
            }
        }
        Ok(known)
    }

    /// What was answered to one of them.
    pub(crate) fn answer(&self, request: &Request) -> Option<&Answered> {
        self.answered.get(&(request.scope.clone(), request.id.uuid()))
    }

    /// Keeps the answers of those that had none. Another transaction that answers one of them first makes it fail.
    pub(crate) async fn keep(&self, c: &AsyncPgConnection, answers: &[(&Request, &[u8])]) -> Step<()> {
        const FORGET: &str = "DELETE FROM request_results r USING unnest($1, $2) AS k (principal, request_id)
            WHERE r.principal = k.principal AND r.request_id = k.request_id AND r.principal = ANY ($1)
                AND r.request_id = ANY ($2) AND r.expires_at <= now()";
        const KEEP: &str =
            "INSERT INTO request_results (principal, request_id, method, fingerprint, answer, expires_at)
            SELECT k.*, now() + make_interval(hours => $6)
            FROM unnest($1, $2, $3, $4, $5) AS k (principal, request_id, method, fingerprint, answer)";
        let (principals, ids): (Vec<&str>, Vec<Uuid>) =
            self.forgotten.iter().map(|(principal, id)| (principal.as_str(), *id)).unzip();
        let forget = async {
            if ids.is_empty() {
                return Ok(0);
            }
            let forget =
                diesel::sql_query(FORGET).bind::<Array<Text>, _>(&principals).bind::<Array<SqlUuid>, _>(&ids);
            Cached(forget).execute(&mut &*c).await
        };
        let keep = async {
            if answers.is_empty() {
                return Ok(0);
            }
            let keep = diesel::sql_query(KEEP)
                .bind::<Array<Text>, _>(column(answers, |(request, _)| request.scope.as_str()))
                .bind::<Array<SqlUuid>, _>(column(answers, |(request, _)| request.id.uuid()))
                .bind::<Array<Text>, _>(column(answers, |(request, _)| request.method))
                .bind::<Array<Binary>, _>(column(answers, |(request, _)| request.fingerprint.as_slice()))
                .bind::<Array<Binary>, _>(column(answers, |(_, answer)| *answer))
                .bind::<Integer, _>(ttl_hours());
            Cached(keep).execute(&mut &*c).await
        };
        try_join!(forget, keep)?;
        Ok(())
    }
}

/// What was answered to a request, within its keeping.
pub(crate) async fn recall(c: &AsyncPgConnection, request: &Request) -> Step<Option<Answered>> {
    let row: Option<(String, Vec<u8>, Vec<u8>)> = request_results::table
        .find((&request.scope, request.id.uuid()))
        .filter(request_results::expires_at.gt(dsl::now))
        .select((request_results::method, request_results::fingerprint, request_results::answer))
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(row.map(|(method, fingerprint, answer)| Answered { method, fingerprint, answer }))
}

fn ttl_hours() -> i32 {
    const { assert!(ANSWER_TTL_HOURS <= i32::MAX as i64) };
    ANSWER_TTL_HOURS as i32
}
