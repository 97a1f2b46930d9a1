//! Pages of files: by the last one's sort value and id, so that every page costs the same.

use coffer_domain::Error;
use coffer_domain::file::{File, Filter, Order};
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::path::StoragePath;
use coffer_domain::store::Scope;
use coffer_domain::time::Timestamp;
use coffer_domain::volume::VolumeRef;
use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{current, row};
use crate::error::{Failure, Step};
use crate::schema::{storage_files, storage_volumes};

/// A page of the files in `scope` that match `filter`.
pub(crate) async fn list(
    c: &AsyncPgConnection,
    scope: &Scope,
    filter: &Filter,
    page: &PageRequest,
) -> Step<Page<File>> {
    use storage_files::dsl;
    let Filter { volume, path_prefix, owner, app, is_deleted, order, is_descending } = filter;
    let mut query = current()
        .filter(dsl::purged_at.is_null())
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    // What may be seen comes first: whatever else is asked for can only narrow it.
    query = match scope {
        Scope::Organisation(organisation) => query.filter(dsl::organisation_id.eq(organisation)),
        Scope::User { organisation, user } => query
            .filter(dsl::organisation_id.eq(organisation))
            .filter(dsl::user_id.eq(user.uuid()).and(dsl::namespace.eq("users"))),
        Scope::App { organisation, app } => query
            .filter(dsl::organisation_id.eq(organisation))
            .filter(dsl::app_id.eq(app).and(dsl::namespace.eq("apps"))),
    };
    query = if *is_deleted {
        query.filter(dsl::deleted_at.is_not_null())
    } else {
        query.filter(dsl::deleted_at.is_null())
    };
    match volume {
        None => {}
        Some(VolumeRef::Id(id)) => query = query.filter(dsl::volume_id.eq(id.uuid())),
        Some(VolumeRef::Name(name)) => {
            let named = storage_volumes::table
                .filter(storage_volumes::name.eq(name).and(storage_volumes::deleted_at.is_null()))
                .select(storage_volumes::id);
            query = query.filter(dsl::volume_id.eq_any(named));
        }
    }
    if let Some(owner) = owner {
        query = query.filter(dsl::user_id.eq(owner.uuid()));
    }
    if let Some(app) = app {
        query = query.filter(dsl::app_id.eq(app));
    }
    if let Some(prefix) =
        path_prefix.as_ref().map(|p| StoragePath::stored(p.clone()).nfc()).filter(|p| !p.is_empty())
    {
        // The path collates by bytes, and bytes of UTF-8 sort as characters do: a prefix is a range.
        if let Some(end) = successor(&prefix) {
            query = query.filter(dsl::path_nfc.lt(end));
        }
        query = query.filter(dsl::path_nfc.ge(prefix));
    }

    macro_rules! by {
        ($column:expr, $value:expr) => {{
            if let Some(after) = &page.after {
                let value = $value(&after.value)?;
                // In two parts, of which an index on the column takes the first as its range.
                query = if *is_descending {
                    query.filter($column.le(value.clone()).and($column.lt(value).or(dsl::id.lt(after.id))))
                } else {
                    query.filter($column.ge(value.clone()).and($column.gt(value).or(dsl::id.gt(after.id))))
                };
            }
            if *is_descending {
                query.order(($column.desc(), dsl::id.desc()))
            } else {
                query.order(($column.asc(), dsl::id.asc()))
            }
        }};
    }
    let query = match order {
        Order::Created => by!(dsl::created_at, time),
        Order::Updated => by!(dsl::updated_at, time),
        // By bytes, which is the same in every database.
        Order::Name => by!(sql::<Text>("storage_files.filename COLLATE \"C\""), text),
        Order::Size => by!(dsl::size, number),
    };
    let rows: Vec<row::Rows> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    let items = rows.into_iter().take(page.size as usize).map(row::file).collect::<Step<Vec<File>>>()?;
    let next = items.last().filter(|_| is_more).map(|file| cursor(file, *order));
    Ok(Page { items, next })
}

fn cursor(file: &File, order: Order) -> Cursor {
    let value = match order {
        Order::Created => file.created_at.timestamp_micros().to_string(),
        Order::Updated => file.updated_at.timestamp_micros().to_string(),
        Order::Name => file.description.filename.clone(),
        Order::Size => file.content.size.to_string(),
    };
    Cursor { value, id: file.id.uuid() }
}

fn time(value: &str) -> Step<Timestamp> {
    number(value).and_then(|micros| Timestamp::from_timestamp_micros(micros).ok_or_else(foreign_cursor))
}

fn number(value: &str) -> Step<i64> {
    value.parse().map_err(|_| foreign_cursor())
}

fn text(value: &str) -> Step<String> {
    Ok(value.to_owned())
}

fn foreign_cursor() -> Failure {
    Failure::Refused(Error::invalid("page_token", "is of another list"))
}

/// The least text that is greater than every text that begins with `prefix`; none if there is no such text.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The range of characters skips the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_successor_begins() {
        assert_eq!(successor("a/b"), Some("a/c".to_owned()));
        assert_eq!(successor("a\u{D7FF}"), Some("a\u{E000}".to_owned()));
        assert_eq!(successor("a\u{10FFFF}"), Some("b".to_owned()));
        assert_eq!(successor("\u{10FFFF}"), None);
        assert!("a/b\u{10FFFF}z" < successor("a/b").expect("one").as_str());
    }
}
