//! The schema's versions: which there are, up, down.
//!
//! The SQL is compiled in from `migrations/`. Each migration runs in a transaction of its own together with its
//! record, so a failed one leaves nothing, and those before it stay.

mod checks;
mod error;

use std::collections::BTreeMap;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use futures_util::FutureExt;

use crate::database::{Database, SchemaName};
pub use error::Error;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// How long a migration waits for a table. While it waits, everybody else who wants the table waits behind it.
const TABLE_TIMEOUT: &str = "30s";

/// Which migrations are in the database, by the names of their folders, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Known and applied.
    pub applied: Vec<String>,
    /// Known and not applied.
    pub pending: Vec<String>,
    /// Applied and not known, by version: a newer Coffer was here.
    pub unknown: Vec<String>,
}

/// Says which migrations the database has. Changes nothing, and needs no more than the right to read.
///
/// # Errors
///
/// [`Error::Connection`], [`Error::Query`].
pub async fn status(database: &Database) -> Result<Status, Error> {
    let mut connection = database.get().await?;
    read_status(&mut connection, database.schema()).await
}

/// Applies what is pending, oldest first, and answers the names of what it applied.
///
/// Makes the schema if it is not there. Looks first whether everything needed is allowed and no table is in the
/// way. Nodes that start together take turns; the later ones find nothing to do. A database that a newer Coffer has
/// migrated is left as it is, because migrations are written for old code to live on with them.
///
/// Goes on to its end even where the future is dropped.
///
/// # Errors
///
/// Every [`Error`].
pub async fn up(database: &Database) -> Result<Vec<String>, Error> {
    let database = database.clone();
    finish(async move {
        let mut connection = take_turn(&database).await?;
        let schema = database.schema();
        checks::server(&mut connection).await?;
        let status = read_status(&mut connection, schema).await?;
        if status.pending.is_empty() {
            return Ok(Vec::new());
        }
        if !status.unknown.is_empty() {
            return Err(Error::Unknown { versions: status.unknown });
        }
        let schema_is_there = checks::rights(&mut connection, schema).await?;
        if status.applied.is_empty() {
            checks::conflicts(&mut connection, schema).await?;
        }
        // Not IF NOT EXISTS: that asks for the right to make it even where it is there.
        if !schema_is_there {
            connection.batch_execute(&format!("CREATE SCHEMA {}", schema.quoted())).await?;
        }
        each(connection, status.pending, Direction::Up).await
    })
    .await
}

/// Takes back the last `count` migrations, **with the data in their tables**, newest first, and answers the names
/// of what it took back: fewer where there were fewer. The schema itself stays.
///
/// Goes on to its end even where the future is dropped.
///
/// # Errors
///
/// Every [`Error`] but [`Error::Conflict`]; [`Error::Unknown`] where a newer Coffer's migrations lie on top.
pub async fn down(database: &Database, count: usize) -> Result<Vec<String>, Error> {
    let database = database.clone();
    finish(async move {
        let mut connection = take_turn(&database).await?;
        let status = read_status(&mut connection, database.schema()).await?;
        let last: Vec<_> = status.applied.into_iter().rev().take(count).collect();
        if last.is_empty() {
            return Ok(Vec::new());
        }
        if !status.unknown.is_empty() {
            return Err(Error::Unknown { versions: status.unknown });
        }
        checks::rights(&mut connection, database.schema()).await?;
        each(connection, last, Direction::Down).await
    })
    .await
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// In a task of its own: half a series of migrations is a state nobody asked for.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.boxed()).await.map_err(|error| Error::Stopped(error.to_string()))?
}

/// A connection that holds the right to migrate this schema until it is closed.
async fn take_turn(database: &Database) -> Result<AsyncPgConnection, Error> {
    let waited = database.options().migration_turn_timeout;
    let timeout = waited.as_millis().to_string();
    let mut connection =
        database.dedicated(&[("statement_timeout", "0"), ("lock_timeout", &timeout)]).await?;
    diesel::sql_query("SELECT pg_advisory_lock(hashtextextended('coffer migrations of ' || $1, 0))")
        .bind::<diesel::sql_types::Text, _>(database.schema().as_str())
        .execute(&mut connection)
        .await
        .map_err(
            |error| if is_lock_timeout(&error) { Error::Turn { waited } } else { Error::Query(error) },
        )?;
    connection.batch_execute(&format!("SET lock_timeout TO '{TABLE_TIMEOUT}'")).await?;
    Ok(connection)
}

/// By its message, since diesel hands out no SQLSTATE; the message is in English by our connections' settings.
fn is_lock_timeout(error: &diesel::result::Error) -> bool {
    matches!(error, diesel::result::Error::DatabaseError(_, information)
        if information.message() == "canceling statement due to lock timeout")
}

fn known() -> Result<BTreeMap<MigrationVersion<'static>, Box<dyn Migration<Pg>>>, Error> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|source| Error::Migration { name: "(all)".to_owned(), source })?;
    Ok(migrations.into_iter().map(|migration| (migration.name().version().as_owned(), migration)).collect())
}

async fn read_status(connection: &mut AsyncPgConnection, schema: &SchemaName) -> Result<Status, Error> {
    let recorded = checks::recorded_versions(connection, schema).await?;
    let mut known = known()?;
    let mut status = Status::default();
    for version in recorded {
        match known.remove(&MigrationVersion::from(version.clone())) {
            Some(migration) => status.applied.push(migration.name().to_string()),
            None => status.unknown.push(version),
        }
    }
    status.pending = known.into_values().map(|migration| migration.name().to_string()).collect();
    Ok(status)
}

/// Runs the named migrations in the order given. diesel's runner is not asynchronous, so it gets a thread.
async fn each(
    connection: AsyncPgConnection,
    names: Vec<String>,
    direction: Direction,
) -> Result<Vec<String>, Error> {
    let run = move || {
        let mut known: BTreeMap<_, _> =
            known()?.into_values().map(|migration| (migration.name().to_string(), migration)).collect();
        let mut connection = AsyncConnectionWrapper::<AsyncPgConnection>::from(connection);
        // Makes diesel's table of records where it is not there.
        connection
            .applied_migrations()
            .map_err(|source| Error::Migration { name: "(the table of records)".to_owned(), source })?;
        for name in &names {
            let Some(migration) = known.remove(name) else { continue };
            let done = match direction {
                Direction::Up => connection.run_migration(&*migration),
                Direction::Down => connection.revert_migration(&*migration),
            };
            done.map_err(|source| Error::Migration { name: name.clone(), source })?;
            tracing::info!(migration.name = %name, ?direction, "migrated");
        }
        Ok(names)
    };
    tokio::task::spawn_blocking(run).await.map_err(|error| Error::Stopped(error.to_string()))?
}
