//! Prepared once per connection, although diesel would not; rows as columns.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};

/// A query of constant text whose prepared statement the connection keeps.
///
/// diesel prepares `sql_query`, multi-row inserts and `ON CONFLICT` anew at each use, because their text may
/// differ from one use to the next. Where it does not, the parsing and planning is wasted. Statements are kept by
/// their text, for as long as the connection lives: text that is put together at run time must not be wrapped, or
/// every variant stays for ever.
#[derive(Debug, Clone, Copy)]
pub struct Cached<Q>(pub Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Cached<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    // AstPass of the inner query says no; this is asked first.
    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

// Without a static id the statement is found by its text, which is right for any inner query.
impl<Q> QueryId for Cached<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}

/// A column of rows that are written or asked for by one statement: `unnest` makes rows of columns again.
pub(crate) fn column<'r, R, T>(rows: &'r [R], of: impl FnMut(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
