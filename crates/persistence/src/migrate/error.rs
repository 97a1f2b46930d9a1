//! Why the schema was not brought to another version.

use std::time::Duration;

use crate::database;

/// Why the schema was not brought to another version. What was done before it stays, whole migration by migration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] database::Error),

    /// The server is too old. Use a newer one.
    #[error("PostgreSQL {found} is too old: Coffer needs {} or later", super::checks::OLDEST_MAJOR)]
    Version {
        /// What the server calls its version.
        found: String,
    },

    /// The database does not hold Unicode. Make another one.
    #[error(
        "the database {database:?} is encoded in {found}: make one with CREATE DATABASE … ENCODING 'UTF8'"
    )]
    Encoding {
        /// The database.
        database: String,
        /// Its encoding.
        found: String,
    },

    /// The schema is not there and we may not make it. An administrator has to do one or the other.
    #[error(
        "role {role:?} may not make the schema {schema:?} in the database {database:?}: let an administrator run \
         CREATE SCHEMA \"{schema}\" AUTHORIZATION \"{role}\", or GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\""
    )]
    MayNotCreateSchema {
        /// Who we are there.
        role: String,
        /// Schema that is missing.
        schema: String,
        /// Where it is missing.
        database: String,
    },

    /// The schema is there and we may not make tables in it. An administrator has to allow it.
    #[error(
        "role {role:?} may not make tables in the schema {schema:?}: let an administrator run \
         GRANT USAGE, CREATE ON SCHEMA \"{schema}\" TO \"{role}\""
    )]
    MayNotCreateTables {
        /// Who we are there.
        role: String,
        /// The schema.
        schema: String,
    },

    /// Somebody else's tables have our names. Use another schema, or move them away.
    #[error(
        "the schema {schema:?} already has {} that Coffer did not make: choose another schema for Coffer, \
         or move them to another one",
        list(relations)
    )]
    Conflict {
        /// The schema.
        schema: String,
        /// Tables, views, indexes and so on with names of ours, in order.
        relations: Vec<String>,
    },

    /// A newer Coffer, or another program that keeps its records in our schema, was here. Run that version, or choose
    /// another schema.
    #[error(
        "the schema has migrations that this version does not know ({}): use the version of Coffer that made \
         them, or a schema that no other program migrates", versions.join(", ")
    )]
    Unknown {
        /// Their versions, in order.
        versions: Vec<String>,
    },

    /// Another node was migrating for too long, or died there with its connection open. Try again later.
    #[error("another node was still migrating after {waited:?}")]
    Turn {
        /// How long was waited.
        waited: Duration,
    },

    /// A migration failed and left nothing behind.
    #[error("migration {name} failed: {source}")]
    Migration {
        /// Name of its folder.
        name: String,
        /// What PostgreSQL, or diesel's runner, said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A question about the state of the schema failed.
    #[error("cannot look at the schema: {0}")]
    Query(#[from] diesel::result::Error),

    /// The runtime ended before the migrations did.
    #[error("stopped in the middle: {0}")]
    Stopped(String),
}

fn list(relations: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = relations.iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match relations.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
