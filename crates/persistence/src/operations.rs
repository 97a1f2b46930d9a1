//! The audit trail: records in, records out.

use std::borrow::Cow;
use std::collections::HashSet;

use coffer_domain::id::OperationId;
use coffer_domain::operation::{Filter, Operation, OperationKind, OperationStatus};
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::time::Timestamp;
use diesel::sql_types::{
    Array, BigInt, Binary, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::Step;
use crate::schema::storage_operations;

// One statement for operations and their places in the sealer's queue. A file that never came to be has no row to refer
// to; the record has its id all the same.
macro_rules! insert_operations {
    ($on_conflict:literal) => {
        concat!(
            "WITH operation AS (
            INSERT INTO storage_operations (id, file_id, operation, status, provider, bytes_transferred, duration_ms,
                client_ip, user_agent, user_id, session_id, correlation_id, error_code, error_message, error_details,
                purpose, metadata, created_at, app_id, volume_id, node_id, trace_id, organisation_id, completes, record,
                on_behalf_of)
            SELECT o.id, (SELECT id FROM storage_files WHERE id = o.file_id), o.operation, o.status, o.provider,
                o.bytes_transferred, o.duration_ms, o.client_ip, o.user_agent, o.user_id, o.session_id, o.correlation_id,
                o.error_code, o.error_message, o.error_details, o.purpose, o.metadata, o.created_at, o.app_id, o.volume_id,
                o.node_id, o.trace_id, o.organisation_id, o.completes, o.record, o.on_behalf_of
            FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24, $25, $26) AS o (id, file_id, operation, status, provider, bytes_transferred, duration_ms,
                client_ip, user_agent, user_id, session_id, correlation_id, error_code, error_message, error_details,
                purpose, metadata, created_at, app_id, volume_id, node_id, trace_id, organisation_id, completes, record,
                on_behalf_of) ",
            $on_conflict,
            " RETURNING id)
            INSERT INTO audit_pending (operation_id) SELECT id FROM operation"
        )
    };
}

const INSERT: &str = insert_operations!("");
const INSERT_ONCE: &str = insert_operations!("ON CONFLICT (id) DO NOTHING");

/// Records operations with the transaction of what they did. A second time fails: then their effect is there already.
pub(crate) async fn insert<'o>(
    c: &AsyncPgConnection,
    operations: impl IntoIterator<Item = &'o Operation>,
) -> Step<()> {
    write(c, INSERT, &operations.into_iter().collect::<Vec<_>>()).await
}

/// Records operations that have no effect beside their record; a second time changes nothing.
pub(crate) async fn insert_once<'o>(
    c: &AsyncPgConnection,
    operations: impl IntoIterator<Item = &'o Operation>,
) -> Step<()> {
    write(c, INSERT_ONCE, &operations.into_iter().collect::<Vec<_>>()).await
}

async fn write(c: &AsyncPgConnection, statement: &'static str, operations: &[&Operation]) -> Step<()> {
    if operations.is_empty() {
        return Ok(());
    }
    let ids = |of: fn(&Operation) -> Option<Uuid>| column(operations, |operation| of(operation));
    let texts = |of: fn(&Operation) -> &Option<String>| column(operations, |operation| text(of(operation)));
    let query = diesel::sql_query(statement)
        .bind::<Array<SqlUuid>, _>(column(operations, |o| o.id.uuid()))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.file_id.map(Uuid::from)))
        .bind::<Array<Text>, _>(column(operations, |o| o.kind.as_str()))
        .bind::<Array<Text>, _>(column(operations, |o| o.status.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(operations, |o| o.provider.map(|p| p.as_str())))
        .bind::<Array<Nullable<BigInt>>, _>(column(operations, |o| bytes(o)))
        .bind::<Array<Nullable<Integer>>, _>(column(operations, |o| duration(o)))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.client_ip))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.user_agent))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.user_id.map(Uuid::from)))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.session_id))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.correlation_id))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.error_code))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.error_message))
        .bind::<Array<Nullable<Jsonb>>, _>(column(operations, |o| o.error_details.clone().map(without_nul)))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.purpose))
        .bind::<Array<Jsonb>, _>(column(operations, |o| without_nul(Value::Object(o.metadata.clone()))))
        .bind::<Array<Timestamptz>, _>(column(operations, |o| o.created_at))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.app_id))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.volume_id.map(Uuid::from)))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.node_id.map(Uuid::from)))
        .bind::<Array<Nullable<Text>>, _>(texts(|o| &o.trace_id))
        .bind::<Array<Text>, _>(column(operations, |o| replace_nul(&o.organisation)))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.completes.map(Uuid::from)))
        .bind::<Array<Binary>, _>(column(operations, |o| o.record()))
        .bind::<Array<Nullable<SqlUuid>>, _>(ids(|o| o.on_behalf_of.map(Uuid::from)));
    Cached(query).execute(&mut &*c).await?;
    Ok(())
}

fn bytes(operation: &Operation) -> Option<i64> {
    let is_transfer = matches!(operation.kind, OperationKind::Upload | OperationKind::Download);
    (is_transfer || operation.bytes_transferred > 0).then(|| clamp(operation.bytes_transferred))
}

fn duration(operation: &Operation) -> Option<i32> {
    (operation.status != OperationStatus::Pending)
        .then(|| i32::try_from(operation.duration_ms).unwrap_or(i32::MAX))
}

/// Of these, those that are recorded.
pub(crate) async fn recorded(c: &AsyncPgConnection, ids: &[OperationId]) -> Step<HashSet<OperationId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let found: Vec<Uuid> = storage_operations::table
        .filter(storage_operations::id.eq_any(ids))
        .select(storage_operations::id)
        .load(&mut &*c)
        .await?;
    Ok(found.into_iter().map(OperationId::from).collect())
}

/// A page of an organisation's records, newest first.
pub(crate) async fn list(
    c: &AsyncPgConnection,
    organisation: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Step<Page<Vec<u8>>> {
    use storage_operations::dsl;
    let Filter { file, user, kinds, status, from, until } = filter;
    let mut query = dsl::storage_operations
        .filter(dsl::organisation_id.eq(organisation))
        .select((dsl::id, dsl::record))
        .order(dsl::id.desc())
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    if let Some(file) = file {
        query = query.filter(dsl::file_id.eq(file.uuid()));
    }
    if let Some(user) = user {
        query = query.filter(dsl::user_id.eq(user.uuid()));
    }
    if !kinds.is_empty() {
        query = query.filter(dsl::operation.eq_any(kinds.iter().map(|kind| kind.as_str())));
    }
    if let Some(status) = status {
        query = query.filter(dsl::status.eq(status.as_str()));
    }
    // Bounds of the id, which is what partitions are made by: the others are not even opened.
    if let Some(from) = from {
        query = query.filter(dsl::id.ge(first_id_at(*from)));
    }
    if let Some(until) = until {
        query = query.filter(dsl::id.lt(first_id_at(*until)));
    }
    if let Some(after) = &page.after {
        query = query.filter(dsl::id.lt(after.id));
    }
    let mut rows: Vec<(Uuid, Vec<u8>)> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    rows.truncate(page.size as usize);
    let next = rows.last().filter(|_| is_more).map(|(id, _)| Cursor { value: String::new(), id: *id });
    Ok(Page { items: rows.into_iter().map(|(_, record)| record).collect(), next })
}

/// The first UUIDv7 of an instant, to the millisecond; times before 1970 are as 1970.
pub(crate) fn first_id_at(instant: Timestamp) -> Uuid {
    const MAX_MILLIS: u64 = (1 << 48) - 1;
    let millis = u64::try_from(instant.timestamp_millis()).unwrap_or(0).min(MAX_MILLIS);
    Uuid::from_u128(u128::from(millis) << 80 | 0x7000_8000_0000_0000_0000)
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// PostgreSQL holds no NUL. The record has the text as it was; the columns are an index over it.
fn replace_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

fn text(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(replace_nul)
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(replace_nul(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (replace_nul(&key).into_owned(), without_nul(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_id_of_an_instant_is_not_after_any_of_its_ids() {
        let id = Uuid::now_v7();
        let (seconds, nanos) = id.get_timestamp().expect("a version 7").to_unix();
        let instant = Timestamp::from_timestamp(seconds.cast_signed(), nanos).expect("a time");
        assert!(first_id_at(instant) <= id);
        assert!(first_id_at(instant + chrono::TimeDelta::milliseconds(1)) > id);
        assert_eq!(first_id_at(Timestamp::MIN_UTC), first_id_at(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn nul_is_replaced_at_every_depth() {
        assert_eq!(
            without_nul(json!({"a\0": [{"b": "c\0"}, 1]})),
            json!({"a\u{FFFD}": [{"b": "c\u{FFFD}"}, 1]})
        );
    }
}
