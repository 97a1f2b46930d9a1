//! Up, down, and what stands in their way.

use std::time::Duration;

use coffer_persistence::Database;
use coffer_persistence::database::Options;
use coffer_persistence::migrate::{self, Error};
use diesel_async::SimpleAsyncConnection;

use crate::catalogue::dump;
use crate::support::{Empty, Migrated, texts};

/// What the schema holds once everything was taken back: diesel's table of records, which is its own.
const ONLY_RECORDS: &str = "__diesel_schema_migrations";

#[tokio::test]
async fn up_down_and_up_leaves_the_same_catalogue() {
    let empty = Empty::new().await;
    let database = empty.database();
    let before = migrate::status(&database).await.unwrap();
    assert!(before.applied.is_empty() && before.unknown.is_empty(), "{before:?}");
    assert!(before.pending.len() >= 4, "{before:?}");

    let applied = migrate::up(&database).await.unwrap();
    assert_eq!(applied, before.pending);
    assert!(applied.is_sorted());
    let first = dump(&mut database.get().await.unwrap()).await;

    // One by one first: each step back has to leave what the one before needs.
    let last = migrate::down(&database, 1).await.unwrap();
    assert_eq!(last, [applied.last().unwrap().as_str()]);
    let rest = migrate::down(&database, usize::MAX).await.unwrap();
    assert_eq!(rest.len(), applied.len() - 1);
    assert_eq!(migrate::status(&database).await.unwrap(), before);
    let nothing = dump(&mut database.get().await.unwrap()).await;
    assert!(!nothing.is_empty() && nothing.iter().all(|line| line.contains(ONLY_RECORDS)), "{nothing:#?}");

    migrate::up(&database).await.unwrap();
    let second = dump(&mut database.get().await.unwrap()).await;
    assert!(first.len() > 500, "{}", first.len());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
    assert_eq!(first.len(), second.len());
}

#[tokio::test]
async fn a_second_up_does_nothing() {
    let migrated = Migrated::new().await;
    assert!(migrate::up(&migrated.database).await.unwrap().is_empty());
    let status = migrate::status(&migrated.database).await.unwrap();
    assert!(status.pending.is_empty() && status.unknown.is_empty(), "{status:?}");
}

#[tokio::test]
async fn looking_changes_nothing() {
    let empty = Empty::new().await;
    let database = empty.database();
    migrate::status(&database).await.unwrap();
    assert!(migrate::down(&database, 1).await.unwrap().is_empty());
    let schemas = texts(&mut database.get().await.unwrap(), "SELECT nspname::text FROM pg_namespace").await;
    assert!(!schemas.contains(&"coffer".to_owned()), "{schemas:?}");
}

#[tokio::test]
async fn nodes_that_start_together_take_turns() {
    let empty = Empty::new().await;
    // A pool of its own for each, as on machines of their own.
    let (a, b, c) = (empty.database(), empty.database(), empty.database());
    let (a, b, c) = tokio::join!(migrate::up(&a), migrate::up(&b), migrate::up(&c));
    let mut by_node = [a.unwrap(), b.unwrap(), c.unwrap()];
    by_node.sort_by_key(Vec::len);
    let all = migrate::status(&empty.database()).await.unwrap().applied;
    assert_eq!(by_node, [vec![], vec![], all]);
}

#[tokio::test]
async fn a_turn_that_does_not_come_is_an_error() {
    let empty = Empty::new().await;
    let impatient = Options { migration_turn_timeout: Duration::from_millis(20), ..Options::default() };
    let (patient, impatient) = (empty.database(), empty.database_with(impatient));
    let mut connection = patient.get().await.unwrap();
    connection.batch_execute("CREATE SCHEMA coffer; BEGIN; CREATE TABLE coffer.cluster ()").await.unwrap();
    // Holds its turn while it waits for our transaction to end.
    let first = tokio::spawn(async move { migrate::up(&patient).await });
    let waiting =
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // By another session: a transaction sees the activity of its first look only.
    let mut watch = impatient.get().await.unwrap();
    while texts(&mut watch, waiting).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let refused = migrate::up(&impatient).await;
    assert!(matches!(refused, Err(Error::Turn { .. })), "{refused:?}");
    connection.batch_execute("ROLLBACK").await.unwrap();
    assert!(!first.await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn schemas_live_side_by_side() {
    let empty = Empty::new().await;
    let other = Options { schema: "user".parse().unwrap(), ..Options::default() };
    let (ours, theirs) = (empty.database(), empty.database_with(other));
    migrate::up(&ours).await.unwrap();
    migrate::up(&theirs).await.unwrap();
    let mut connection = theirs.get().await.unwrap();
    let schemas = texts(
        &mut connection,
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'storage_files' ORDER BY 1",
    )
    .await;
    assert_eq!(schemas, ["\"user\"", "coffer"]);
    let mine = texts(
        &mut connection,
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'cluster'::regclass",
    )
    .await;
    assert_eq!(mine, ["\"user\""]);

    migrate::down(&ours, usize::MAX).await.unwrap();
    assert!(migrate::status(&theirs).await.unwrap().pending.is_empty());
    // Functions, too, know the schema that they were made in, whoever calls them from wherever.
    let made = "SELECT \"user\".ensure_operation_partitions(4)::text";
    connection.batch_execute("SET search_path TO public").await.unwrap();
    assert_eq!(texts(&mut connection, made).await, ["1"]);
}

#[tokio::test]
async fn tables_of_somebody_else_are_a_conflict() {
    let empty = Empty::new().await;
    let database = empty.database();
    let mut connection = database.get().await.unwrap();
    connection
        .batch_execute("CREATE SCHEMA coffer; CREATE TABLE coffer.users (name text); INSERT INTO coffer.users VALUES ('anna')")
        .await
        .unwrap();
    let refused = migrate::up(&database).await.unwrap_err();
    let text = refused.to_string();
    let Error::Conflict { schema, relations } = refused else { panic!("{refused:?}") };
    assert_eq!((schema.as_str(), relations.as_slice()), ("coffer", ["users".to_owned()].as_slice()));
    assert!(text.contains("\"users\"") && text.contains("choose another schema"), "{text}");
    assert_eq!(texts(&mut connection, "SELECT name FROM coffer.users").await, ["anna"]);
    let tables =
        texts(&mut connection, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'coffer'").await;
    assert_eq!(tables, ["users"]);
}

#[tokio::test]
async fn every_name_of_ours_is_a_conflict() {
    let mut migrated = Migrated::new().await;
    let ours = migrated
        .texts(
            "SELECT relname::text FROM pg_class
             WHERE relnamespace = 'coffer'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
               AND relname !~ '_\\d{4}_\\d{2}$' AND relname <> '__diesel_schema_migrations'
             ORDER BY relname",
        )
        .await;
    let empty = Empty::new().await;
    let foreign = empty.database();
    let mut connection = foreign.get().await.unwrap();
    connection.batch_execute("CREATE SCHEMA coffer").await.unwrap();
    for name in &ours {
        connection.batch_execute(&format!("CREATE TABLE coffer.{name} ()")).await.unwrap();
    }
    match migrate::up(&foreign).await {
        Err(Error::Conflict { relations, .. }) => assert_eq!(relations, ours),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn missing_rights_are_named() {
    let empty = Empty::new().await;
    let admin = empty.database();
    let mut connection = admin.get().await.unwrap();
    // Roles belong to the cluster, which other tests share.
    connection.batch_execute("CREATE ROLE runner_without_rights").await.unwrap();
    let database = Database::new(&empty.url_as("runner_without_rights"), Options::default()).unwrap();

    let refused = migrate::up(&database).await.unwrap_err();
    assert!(matches!(refused, Error::MayNotCreateSchema { .. }), "{refused:?}");
    assert!(refused.to_string().contains("CREATE SCHEMA \"coffer\" AUTHORIZATION \"runner_without_rights\""));

    connection.batch_execute("CREATE SCHEMA coffer").await.unwrap();
    let refused = migrate::up(&database).await.unwrap_err();
    assert!(matches!(refused, Error::MayNotCreateTables { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("GRANT USAGE, CREATE ON SCHEMA \"coffer\" TO \"runner_without_rights\"")
    );

    connection.batch_execute("GRANT USAGE, CREATE ON SCHEMA coffer TO runner_without_rights").await.unwrap();
    migrate::up(&database).await.unwrap();
    migrate::down(&database, usize::MAX).await.unwrap();
    drop(database);
    connection.batch_execute("DROP SCHEMA coffer CASCADE; DROP ROLE runner_without_rights").await.unwrap();
}

#[tokio::test]
async fn what_a_newer_version_made_is_left_alone() {
    let mut migrated = Migrated::new().await;
    migrated.run("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')").await.unwrap();
    let newer = ["99991231000000".to_owned()];
    assert_eq!(migrate::status(&migrated.database).await.unwrap().unknown, newer);
    // Nothing to do for us: an old node may start on a new schema.
    assert!(migrate::up(&migrated.database).await.unwrap().is_empty());
    match migrate::down(&migrated.database, 1).await {
        Err(Error::Unknown { versions }) => assert_eq!(versions, newer),
        other => panic!("{other:?}"),
    }
    migrated.run("DELETE FROM __diesel_schema_migrations WHERE version < '9999'").await.unwrap();
    match migrate::up(&migrated.database).await {
        Err(Error::Unknown { versions }) => assert_eq!(versions, newer),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing() {
    let empty = Empty::new().await;
    let database = empty.database();
    let mut connection = database.get().await.unwrap();
    connection
        .batch_execute(
            "CREATE SCHEMA coffer;
             CREATE FUNCTION coffer.uuid_v7_floor(instant timestamptz) RETURNS uuid LANGUAGE sql RETURN gen_random_uuid()",
        )
        .await
        .unwrap();
    let refused = migrate::up(&database).await.unwrap_err();
    let Error::Migration { name, source } = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("already exists"), "{source}");
    let status = migrate::status(&database).await.unwrap();
    assert_eq!(status.pending.first(), Some(&name));
    assert_eq!(status.applied.len(), 3, "{status:?}");
    let half =
        texts(&mut connection, "SELECT relname::text FROM pg_class WHERE relname = 'storage_operations'")
            .await;
    assert!(half.is_empty());

    connection.batch_execute("DROP FUNCTION coffer.uuid_v7_floor").await.unwrap();
    let rest = migrate::up(&database).await.unwrap();
    assert_eq!(rest, status.pending);
    assert_eq!(rest.first(), Some(&name));
}

#[tokio::test]
async fn a_database_without_unicode_is_refused() {
    let empty = Empty::new().await;
    let admin = empty.database();
    let mut connection = admin.get().await.unwrap();
    connection
        .batch_execute(
            "CREATE DATABASE test_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        )
        .await
        .unwrap();
    let (server, _) = empty.url().rsplit_once('/').unwrap();
    let ascii = Database::new(&format!("{server}/test_ascii"), Options::default()).unwrap();
    let refused = migrate::up(&ascii).await.unwrap_err();
    assert!(matches!(&refused, Error::Encoding { found, .. } if found == "SQL_ASCII"), "{refused:?}");
    drop(ascii);
    connection.batch_execute("DROP DATABASE test_ascii WITH (FORCE)").await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_migration_error() {
    let folder = tempfile::TempDir::new().unwrap();
    let host = folder.path().to_str().unwrap().replace('/', "%2F");
    let database = Database::new(&format!("postgres://coffer@{host}/coffer"), Options::default()).unwrap();
    for outcome in [migrate::up(&database).await.map(drop), migrate::status(&database).await.map(drop)] {
        assert!(matches!(outcome, Err(Error::Connection(_))), "{outcome:?}");
    }
}
