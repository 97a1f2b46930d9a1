//! People known by their tokens.

use coffer_domain::caller::User;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::cached::Cached;
use crate::error::Step;

/// Makes the row of a user that others will refer to, unless it is there.
pub(crate) async fn ensure(c: &AsyncPgConnection, user: Option<&User>, organisation: &str) -> Step<()> {
    const INSERT: &str = "INSERT INTO users (id, issuer, subject, organisation_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let Some(user) = user else { return Ok(()) };
    let insert = diesel::sql_query(INSERT)
        .bind::<SqlUuid, _>(user.id.uuid())
        .bind::<Text, _>(&user.issuer)
        .bind::<Text, _>(&user.subject)
        .bind::<Text, _>(organisation);
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}
