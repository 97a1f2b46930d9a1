//! How connections are set up, and what happens when there is none.

use std::num::NonZeroUsize;
use std::time::Duration;

use coffer_persistence::Database;
use coffer_persistence::database::{Error, Options};
use diesel_async::SimpleAsyncConnection;

use crate::support::{Empty, texts};

const SETTINGS: &str = "SELECT current_setting(name) FROM unnest(ARRAY['search_path', 'statement_timeout', 'lock_timeout',
    'idle_in_transaction_session_timeout', 'application_name', 'lc_messages', 'TimeZone', 'client_encoding']) AS name";

#[tokio::test]
async fn every_connection_has_the_settings() {
    let options = Options {
        schema: "user".parse().unwrap(),
        statement_timeout: Duration::from_secs(7),
        lock_timeout: Duration::from_millis(1500),
        idle_in_transaction_timeout: Duration::ZERO,
        application_name: "a name with blanks".to_owned(),
        ..Options::default()
    };
    let empty = Empty::new().await;
    let database = empty.database_with(options);
    let mut wanted = ["\"user\"", "7s", "1500ms", "0", "a name with blanks", "C", "UTC", "UTF8"];
    assert_eq!(texts(&mut database.get().await.unwrap(), SETTINGS).await, wanted);
    let mut dedicated =
        database.dedicated(&[("enable_seqscan", "off"), ("lock_timeout", "3s")]).await.unwrap();
    wanted[2] = "3s";
    assert_eq!(texts(&mut dedicated, SETTINGS).await, wanted);
    assert_eq!(texts(&mut dedicated, "SELECT current_setting('enable_seqscan')").await, ["off"]);
}

#[tokio::test]
async fn who_may_not_set_the_language_gets_a_connection_in_english() {
    let empty = Empty::new().await;
    let admin = empty.database();
    admin.get().await.unwrap().batch_execute("CREATE ROLE connections_plain_role").await.unwrap();
    let plain = Database::new(&empty.url_as("connections_plain_role"), Options::default()).unwrap();
    let mut connection = plain.get().await.unwrap();
    let set = connection.batch_execute("SET lc_messages TO 'C'").await;
    assert!(set.is_err(), "the role was meant to lack this right");
    assert_eq!(texts(&mut connection, "SELECT current_user::text").await, ["connections_plain_role"]);
    drop((connection, plain));
    admin.get().await.unwrap().batch_execute("DROP ROLE connections_plain_role").await.unwrap();
}

#[tokio::test]
async fn statements_and_locks_have_their_time() {
    let options = Options {
        statement_timeout: Duration::from_millis(50),
        lock_timeout: Duration::from_millis(20),
        ..Options::default()
    };
    let empty = Empty::new().await;
    let database = empty.database_with(options);
    let (mut a, mut b) = (database.get().await.unwrap(), database.get().await.unwrap());
    let slow = a.batch_execute("SELECT pg_sleep(60)").await.unwrap_err();
    assert_eq!(slow.to_string(), "canceling statement due to statement timeout");
    a.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let locked = b.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap_err();
    assert_eq!(locked.to_string(), "canceling statement due to lock timeout");
}

#[tokio::test]
async fn a_pool_in_use_says_so() {
    let options = Options {
        pool_size: NonZeroUsize::MIN,
        wait_timeout: Duration::from_millis(20),
        ..Options::default()
    };
    let empty = Empty::new().await;
    let database = empty.database_with(options);
    let only = database.get().await.unwrap();
    let refused = database.get().await.map(drop);
    assert!(matches!(refused, Err(Error::Busy { pool_size: 1, .. })), "{refused:?}");
    drop(only);
    drop(database.get().await.unwrap());
    assert_eq!(database.pool_status().open, 1);
}

#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let empty = Empty::new().await;
    let (database, admin) = (empty.database(), empty.database());
    let pid = "SELECT pg_backend_pid()::text";
    let first = texts(&mut database.get().await.unwrap(), pid).await.remove(0);
    let mut connection = admin.get().await.unwrap();
    // Waits until it is gone.
    assert_eq!(
        texts(&mut connection, &format!("SELECT pg_terminate_backend({first}, 10000)::text")).await,
        ["true"]
    );
    let mut second = database.get().await.unwrap();
    while let Err(error) = second.batch_execute("SELECT 1").await {
        // Our side may not have read the goodbye yet; then the connection is broken and is not handed out again.
        assert!(!error.to_string().is_empty());
        drop(second);
        second = database.get().await.unwrap();
    }
    assert_ne!(texts(&mut second, pid).await, [first]);
}

#[tokio::test]
async fn idle_connections_can_be_dropped() {
    let empty = Empty::new().await;
    let database = empty.database();
    let (used, idle) = (database.get().await.unwrap(), database.get().await.unwrap());
    drop(idle);
    assert_eq!((database.pool_status().open, database.pool_status().idle), (2, 1));
    database.drop_idle();
    assert_eq!((database.pool_status().open, database.pool_status().idle), (1, 0));
    drop(used);
    assert_eq!(database.pool_status().idle, 1);
}

#[tokio::test]
async fn a_closed_pool_gives_nothing() {
    let empty = Empty::new().await;
    let database = empty.database();
    drop(database.get().await.unwrap());
    database.close();
    let refused = database.get().await.map(drop);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn refusals_of_the_server_say_why() {
    let empty = Empty::new().await;
    let (server, _) = empty.url().rsplit_once('/').unwrap();
    let database = Database::new(&format!("{server}/no_such_database"), Options::default()).unwrap();
    match database.get().await.map(drop) {
        Err(Error::Unavailable(reason)) => assert!(reason.contains("no_such_database"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_settings_name_that_is_none_is_refused() {
    let empty = Empty::new().await;
    let database = empty.database();
    let refused = database.dedicated(&[("no_such_setting", "1")]).await.map(drop);
    assert!(
        matches!(&refused, Err(Error::Unavailable(reason)) if reason.contains("no_such_setting")),
        "{refused:?}"
    );
}
