//! What is looked at before anything is changed, so that an operator reads what to do and not an SQL error.

use diesel::sql_types::{Array, Bool, Integer, Text};
use diesel::{OptionalExtension, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Error;
use crate::database::SchemaName;

/// Functions with SQL-standard bodies came with it.
pub(super) const OLDEST_MAJOR: i32 = 14;

/// diesel's table of records, in the schema whose migrations they are.
const RECORDS: &str = "__diesel_schema_migrations";

/// Names that are ours in the schema. The tests hold them against the catalogue.
pub(super) const RELATIONS: [&str; 28] = [
    "app_quotas",
    "audit_pending",
    "cluster",
    "files",
    "ftp_endpoints",
    "http_credentials",
    "http_endpoints",
    "local_paths",
    "nodes",
    "outbox_events",
    // Made and dropped again on the way.
    "quota_reservations",
    "request_results",
    "s3_buckets",
    "s3_credentials",
    "storage_file_shares",
    "storage_file_versions",
    "storage_files",
    "storage_links",
    "storage_objects",
    "storage_operations",
    "storage_operations_default",
    "storage_quotas",
    "storage_reclaims",
    "storage_uploads",
    "storage_volumes",
    "tasks",
    "user_quotas",
    "users",
];

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Server {
    #[diesel(sql_type = Integer)]
    major: i32,
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    database: String,
}

/// Whether the server is one that the migrations were written for.
pub(super) async fn server(connection: &mut AsyncPgConnection) -> Result<(), Error> {
    let server: Server = sql_query(
        "SELECT current_setting('server_version_num')::integer / 10000 AS major,
                current_setting('server_version') AS version,
                current_setting('server_encoding') AS encoding,
                current_database()::text AS database",
    )
    .get_result(connection)
    .await?;
    if server.major < OLDEST_MAJOR {
        return Err(Error::Version { found: server.version });
    }
    if server.encoding != "UTF8" {
        return Err(Error::Encoding { database: server.database, found: server.encoding });
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Rights {
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Text)]
    database: String,
    #[diesel(sql_type = Bool)]
    may_create_schema: bool,
}

#[derive(QueryableByName)]
struct SchemaRights {
    #[diesel(sql_type = Bool)]
    may_create_tables: bool,
}

/// Whether we may make the schema, or the tables in it where it is there. Answers whether it is.
pub(super) async fn rights(connection: &mut AsyncPgConnection, schema: &SchemaName) -> Result<bool, Error> {
    let rights: Rights = sql_query(
        "SELECT current_user::text AS role, current_database()::text AS database,
                has_database_privilege(current_database(), 'CREATE') AS may_create_schema",
    )
    .get_result(connection)
    .await?;
    let in_schema: Option<SchemaRights> = sql_query(
        "SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') AS may_create_tables
         FROM pg_namespace WHERE nspname = $1",
    )
    .bind::<Text, _>(schema.as_str())
    .get_result(connection)
    .await
    .optional()?;
    let schema = schema.to_string();
    match in_schema {
        None if !rights.may_create_schema => {
            Err(Error::MayNotCreateSchema { role: rights.role, schema, database: rights.database })
        }
        Some(SchemaRights { may_create_tables: false }) => {
            Err(Error::MayNotCreateTables { role: rights.role, schema })
        }
        in_schema => Ok(in_schema.is_some()),
    }
}

/// Whether something that has no record of ours has one of our names.
pub(super) async fn conflicts(connection: &mut AsyncPgConnection, schema: &SchemaName) -> Result<(), Error> {
    let found: Vec<Name> = sql_query(
        "SELECT relname::text AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
         WHERE nspname = $1 AND relname = ANY ($2) ORDER BY relname",
    )
    .bind::<Text, _>(schema.as_str())
    .bind::<Array<Text>, _>(RELATIONS.as_slice())
    .load(connection)
    .await?;
    if found.is_empty() {
        return Ok(());
    }
    let relations = found.into_iter().map(|relation| relation.name).collect();
    Err(Error::Conflict { schema: schema.to_string(), relations })
}

/// Versions of the migrations that were applied, oldest first; none where there are no records yet.
pub(super) async fn recorded_versions(
    connection: &mut AsyncPgConnection,
    schema: &SchemaName,
) -> Result<Vec<String>, Error> {
    let records: Option<Name> = sql_query(
        "SELECT relname::text AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
         WHERE nspname = $1 AND relname = $2",
    )
    .bind::<Text, _>(schema.as_str())
    .bind::<Text, _>(RECORDS)
    .get_result(connection)
    .await
    .optional()?;
    if records.is_none() {
        return Ok(Vec::new());
    }
    let versions: Vec<Name> = sql_query(format!(
        "SELECT version::text AS name FROM {}.{RECORDS} ORDER BY version",
        schema.quoted()
    ))
    .load(connection)
    .await?;
    Ok(versions.into_iter().map(|version| version.name).collect())
}
