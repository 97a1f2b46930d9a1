//! People known by their tokens.

use std::collections::BTreeMap;

use coffer_domain::caller::User;
use coffer_domain::id::UserId;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::cached::Cached;
use crate::error::Step;
use crate::schema::users;

/// Makes the rows of users that others will refer to, unless they are there: each with its tenant.
pub(crate) async fn ensure<'u>(
    c: &AsyncPgConnection,
    users: impl IntoIterator<Item = (&'u User, &'u str)>,
) -> Step<()> {
    const INSERT: &str =
        "INSERT INTO users (id, issuer, subject, organisation_id) SELECT * FROM unnest($1, $2, $3, $4)
        ON CONFLICT DO NOTHING";
    // By id, as several rows are locked everywhere.
    let users: BTreeMap<Uuid, _> =
        users.into_iter().map(|(user, tenant)| (user.id.uuid(), (user, tenant))).collect();
    if users.is_empty() {
        return Ok(());
    }
    let of = |text: fn(&(&'u User, &'u str)) -> &'u str| users.values().map(text).collect::<Vec<_>>();
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(users.keys().copied().collect::<Vec<_>>())
        .bind::<Array<Text>, _>(of(|(user, _)| &user.issuer))
        .bind::<Array<Text>, _>(of(|(user, _)| &user.subject))
        .bind::<Array<Text>, _>(of(|(_, tenant)| tenant));
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

/// The organisation of a user who has a row.
pub(crate) async fn organisation_of(c: &AsyncPgConnection, user: UserId) -> Step<Option<String>> {
    let row = users::table.filter(users::id.eq(user.uuid())).select(users::organisation_id);
    Ok(row.first(&mut &*c).await.optional()?)
}
