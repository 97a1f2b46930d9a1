//! Uploads looked up: by id, by request, in pages.

use coffer_domain::Error;
use coffer_domain::id::UploadId;
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::request::Request;
use coffer_domain::upload::{ENDED_TTL_HOURS, Filter, Scope, State, Upload};
use diesel::dsl::sql;
use diesel::sql_types::{Bool, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::row::Row;
use crate::error::Step;
use crate::schema::storage_uploads;

/// An upload, also one that has ended, until it is tidied away.
pub(crate) async fn find(c: &AsyncPgConnection, id: UploadId) -> Step<Option<Upload>> {
    row(c, id).await?.map(Row::into_upload).transpose()
}

pub(super) async fn row(c: &AsyncPgConnection, id: UploadId) -> Step<Option<Row>> {
    let row =
        storage_uploads::table.find(id.uuid()).select(Row::as_select()).first(&mut &*c).await.optional()?;
    Ok(row)
}

/// The newest upload of a request that may still become a file or, not long ago, has become one.
pub(crate) async fn requested(c: &AsyncPgConnection, request: &Request) -> Step<Option<Upload>> {
    use storage_uploads::dsl;
    let row: Option<Row> = dsl::storage_uploads
        .filter(dsl::principal.eq(&request.scope))
        .filter(dsl::request_id.eq(request.id.uuid()))
        .filter(
            sql::<Bool>("(state = 'OPEN' AND expire_time > now() OR state = 'FINISHING' OR state = 'COMMITTED' AND updated_at > now() - make_interval(hours => ")
                .bind::<diesel::sql_types::Integer, _>(ended_ttl_hours())
                .sql("))"),
        )
        .order(dsl::id.desc())
        .select(Row::as_select())
        .first(&mut &*c)
        .await
        .optional()?;
    let upload = row.map(Row::into_upload).transpose()?;
    match upload {
        Some(upload)
            if upload.request.as_ref().is_none_or(|first| first.fingerprint != request.fingerprint) =>
        {
            Err(Error::RequestIdReused.into())
        }
        found => Ok(found),
    }
}

/// A page of the uploads that have a request, newest first.
pub(crate) async fn list(
    c: &AsyncPgConnection,
    scope: &Scope,
    filter: &Filter,
    page: &PageRequest,
) -> Step<Page<Upload>> {
    use storage_uploads::dsl;
    let Filter { state, path } = filter;
    let mut query = dsl::storage_uploads
        .filter(dsl::request_id.is_not_null())
        .select(Row::as_select())
        .order(dsl::id.desc())
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    query = match scope {
        Scope::Own(principal) => query.filter(dsl::principal.eq(principal)),
        Scope::Organisation(organisation) => query.filter(dsl::organisation_id.eq(organisation)),
    };
    if let Some(state) = state {
        query = query.filter(dsl::state.eq(state.as_str()));
    }
    if let Some(path) = path {
        query = query.filter(sql::<Bool>("spec ->> 'path' = ").bind::<Text, _>(path));
    }
    if let Some(after) = &page.after {
        query = query.filter(dsl::id.lt(after.id));
    }
    let rows: Vec<Row> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    let items =
        rows.into_iter().take(page.size as usize).map(Row::into_upload).collect::<Step<Vec<Upload>>>()?;
    let next =
        items.last().filter(|_| is_more).map(|upload| Cursor { value: String::new(), id: upload.id.uuid() });
    Ok(Page { items, next })
}

/// How an upload ended, for the refusal of who is too late.
pub(super) fn ended(state: State) -> &'static str {
    match state {
        State::Open | State::Expired => "expired",
        State::Finishing => "being finished",
        State::Committed => "committed",
        State::Aborted => "aborted",
    }
}

pub(super) fn ended_ttl_hours() -> i32 {
    const { assert!(ENDED_TTL_HOURS <= i32::MAX as i64) };
    ENDED_TTL_HOURS as i32
}
