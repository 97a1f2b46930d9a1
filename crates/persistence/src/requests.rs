//! Answers already given, so that a request sent twice has one effect.

use coffer_domain::request::{ANSWER_TTL_HOURS, Answered, Request, in_flight, to_answer};
use diesel::sql_types::{Binary, Integer, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, dsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cached::Cached;
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
