//! Connections that break, and futures that are dropped.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use coffer_domain::error::{Error, Unavailable};
use coffer_domain::id::FileId;
use coffer_domain::operation::OperationKind;
use coffer_domain::page::PageRequest;
use coffer_domain::store::{Lookup, Store};
use coffer_embedded_postgres::{Cluster, Options as ClusterOptions};
use coffer_persistence::database::Options;
use coffer_persistence::{Database, PgStore};
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::proxy::{Mode, Proxy};
use crate::rig::{Actor, Rig, WAITING, migrate, operation};

const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";

fn is_unavailable<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Unavailable(Unavailable::Metadata)))
}

#[tokio::test]
async fn a_future_dropped_in_its_transaction_leaves_none_open() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let (store, id) = (rig.store.clone(), file.id);
    let deletion = tokio::spawn(async move {
        store.delete_file(id, None, None, &operation(OperationKind::Delete), None).await
    });
    rig.until(WAITING, "1").await;
    let open = rig.store.database().pool_status().open;
    deletion.abort();
    assert!(deletion.await.unwrap_err().is_cancelled());
    assert_eq!(
        rig.store.database().pool_status().open,
        open - 1,
        "its connection is not in the pool any more"
    );
    rival.batch_execute("COMMIT").await.unwrap();
    rig.until(IN_TRANSACTION, "0").await;
    assert_eq!(rig.file(id).await, Some(file.clone()));
    rig.trash(&file).await;
}

#[tokio::test]
async fn futures_dropped_anywhere_leave_all_or_nothing() {
    let options = Options { pool_size: NonZeroUsize::new(4).unwrap(), ..Options::default() };
    let rig = Rig::with_options(options).await;
    let ann = Actor::user("ann").through("chat").on("trial");
    // The first ones also open connections and prepare statements.
    let mut whole = Duration::MAX;
    for n in 0..5 {
        let started = Instant::now();
        rig.put(&ann, &format!("first {n}.txt"), 1).await;
        whole = whole.min(started.elapsed());
    }
    let mut dropped = 0;
    for n in 0..100_u32 {
        let upload = rig.upload(&ann, &format!("{n}.txt"), 10);
        if tokio::time::timeout(whole * n / 80, upload.run(&rig.store)).await.is_err() {
            dropped += 1;
        }
    }
    assert!((10..=100).contains(&dropped), "{dropped} of 100 were dropped");
    rig.until(IN_TRANSACTION, "0").await;
    rig.assert_no_drift().await;
    let outcome = join_all((0..16).map(|_| rig.store.ping())).await;
    assert!(outcome.iter().all(Result::is_ok));
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_files").await,
        rig.text("SELECT count(*) FROM storage_uploads WHERE state = 'COMMITTED'").await
    );
}

#[tokio::test]
async fn a_connection_that_breaks_before_its_commit_is_tried_again() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let (store, id) = (rig.store.clone(), file.id);
    let deletion = tokio::spawn(async move {
        store.delete_file(id, None, None, &operation(OperationKind::Delete), None).await
    });
    rig.until(WAITING, "1").await;
    let killed = rig
        .text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
        .await;
    assert_eq!(killed, "true");
    rival.batch_execute("COMMIT").await.unwrap();
    assert!(deletion.await.unwrap().unwrap().deleted_at.is_some());
    assert_eq!(rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'delete'").await, "1");
}

#[tokio::test]
async fn a_database_that_is_gone_is_unavailable_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let start = {
        let folder = folder.path().to_owned();
        move || Cluster::start(&folder, ClusterOptions::disposable()).unwrap()
    };
    let cluster = tokio::task::spawn_blocking({
        let start = start.clone();
        move || {
            let cluster = start();
            migrate(&cluster.url());
            cluster
        }
    })
    .await
    .unwrap();
    let options = Options { wait_timeout: Duration::from_secs(1), ..Options::default() };
    let rig = Rig::in_database(cluster.url(), options).await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    // Many connections, all of which will be dead.
    for outcome in join_all((0..64).map(|_| rig.store.ping())).await {
        outcome.unwrap();
    }
    assert!(rig.store.database().pool_status().idle > 8);

    tokio::task::spawn_blocking(move || cluster.stop()).await.unwrap().unwrap();
    let gone = Instant::now();
    let lookup = Lookup::Id(file.id);
    for _ in 0..3 {
        assert!(is_unavailable(&rig.store.ping().await));
        assert!(is_unavailable(&rig.store.file(&lookup).await));
        let upload = rig.upload(&Actor::user("ann"), "b.txt", 1);
        assert!(is_unavailable(&rig.store.open_upload(&upload.intent, None).await));
        assert!(is_unavailable(&rig.store.commit_upload(&upload.commit).await));
        assert!(is_unavailable(&rig.store.tidy().await));
    }
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());

    let again = tokio::task::spawn_blocking(start).await.unwrap();
    assert_eq!(rig.file(file.id).await, Some(file));
    rig.put(&Actor::user("ann"), "c.txt", 1).await;
    // A restart that nobody saw: the first who comes after it finds only dead connections, and is served.
    for outcome in join_all((0..64).map(|_| rig.store.ping())).await {
        outcome.unwrap();
    }
    let again = tokio::task::spawn_blocking(move || {
        again.stop().unwrap();
        Cluster::start(folder.path(), ClusterOptions::disposable()).map(|cluster| (cluster, folder))
    })
    .await
    .unwrap()
    .unwrap();
    rig.put(&Actor::user("ann"), "d.txt", 1).await;
    rig.assert_no_drift().await;
    tokio::task::spawn_blocking(move || again.0.stop()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pool_that_stays_busy_is_unavailable_within_its_wait() {
    let options = Options {
        pool_size: NonZeroUsize::new(1).unwrap(),
        wait_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let rig = Rig::with_options(options).await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let store = rig.store.clone();
    let deletion = tokio::spawn(async move {
        store.delete_file(file.id, None, None, &operation(OperationKind::Delete), None).await
    });
    rig.until(WAITING, "1").await;
    let asked = Instant::now();
    assert!(is_unavailable(&rig.store.ping().await));
    assert!((200..2_000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    rival.batch_execute("COMMIT").await.unwrap();
    deletion.await.unwrap().unwrap();
    rig.store.ping().await.unwrap();
}

async fn by_proxy(rig: &Rig) -> (Proxy, PgStore) {
    let proxy = Proxy::to(&rig.url).await;
    let store = PgStore::new(Database::new(&proxy.url(&rig.url), Options::default()).unwrap());
    store.ping().await.unwrap();
    (proxy, store)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_answered_all_the_same() {
    let rig = Rig::new().await;
    let (proxy, store) = by_proxy(&rig).await;
    let upload = rig.upload(&Actor::user("ann"), "a.txt", 5);
    store.open_upload(&upload.intent, None).await.unwrap();
    proxy.set(Mode::CutAfter);
    let file = store.commit_upload(&upload.commit).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!(rig.file(file.id).await, Some(file.clone()));

    proxy.set(Mode::CutAfter);
    let deleted =
        store.delete_file(file.id, None, None, &operation(OperationKind::Delete), None).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!(rig.file(file.id).await, Some(deleted));
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_operations WHERE operation IN ('upload', 'delete')").await,
        "2"
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_unavailable_and_did_nothing() {
    let rig = Rig::new().await;
    let (proxy, store) = by_proxy(&rig).await;
    let upload = rig.upload(&Actor::user("ann"), "a.txt", 5);
    store.open_upload(&upload.intent, None).await.unwrap();
    proxy.set(Mode::CutBefore);
    let outcome = store.commit_upload(&upload.commit).await;
    assert!(proxy.has_cut());
    assert!(is_unavailable(&outcome), "{outcome:?}");
    assert!(store.recorded(&[upload.commit.operation.id]).await.unwrap().is_empty());
    // So the same commit may be sent again.
    store.commit_upload(&upload.commit).await.unwrap();

    // What names no operation cannot be asked for.
    let upload = rig.upload(&Actor::user("ann"), "b.txt", 5);
    proxy.set(Mode::CutAfter);
    assert!(is_unavailable(&store.open_upload(&upload.intent, None).await));
    assert_eq!(rig.text("SELECT count(*) FROM storage_uploads").await, "2");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_probe_does_not_wait_for_a_server_that_is_silent() {
    let rig = Rig::new().await;
    let (proxy, store) = by_proxy(&rig).await;
    proxy.set(Mode::Stall);
    let asked = Instant::now();
    assert!(is_unavailable(&store.ping().await));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(store.database().pool_status().open, 0, "nobody gets the connection of the silent server");
}

#[tokio::test]
async fn a_store_on_tables_that_are_not_there_is_a_fault_of_ours() {
    let rig = Rig::new().await;
    let options = Options { schema: "elsewhere".parse().unwrap(), ..Options::default() };
    let store = rig.other_store(options);
    let outcome = store.file(&Lookup::Id(FileId::new())).await;
    let Err(error @ Error::Internal { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(!error.to_string().contains("storage_files"), "{error}");
    let page = PageRequest::new(1, 0, None).unwrap();
    assert!(matches!(store.volumes(&page).await, Err(Error::Internal { .. })));
}
