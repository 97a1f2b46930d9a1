//! Transactions that meet.

use std::collections::BTreeSet;
use std::time::Duration;

use coffer_domain::error::{Conflict, Error, Taken};
use coffer_domain::operation::OperationKind;
use coffer_domain::store::Store;
use coffer_persistence::database::Options;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::{join, join_all};

use crate::rig::{Actor, Rig, WAITING, operation};

#[tokio::test]
async fn of_many_new_files_at_one_path_one_wins() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let uploads: Vec<_> = (0..32).map(|n| rig.upload(&ann, "same.txt", n)).collect();
    let outcomes = join_all(uploads.iter().map(|upload| upload.run(&rig.store))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(refused, Error::AlreadyExists(Taken::Path)), "{refused:?}");
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn many_versions_of_one_file_have_a_number_each() {
    for keeps in [true, false] {
        let rig = Rig::new().await;
        let ann = Actor::user("ann");
        let file = rig.put(&ann, "a.txt", 100).await;
        let uploads: Vec<_> = (0..32)
            .map(|n| {
                let upload = rig.version(&ann, &file, n);
                if keeps { upload.keeping_versions() } else { upload }
            })
            .collect();
        let outcomes = join_all(uploads.iter().map(|upload| upload.run(&rig.store))).await;
        let numbers: BTreeSet<_> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().content.number).collect();
        assert_eq!(numbers, (2..=33).collect());
        let current = rig.text("SELECT version_number FROM storage_file_versions WHERE is_current").await;
        assert_eq!(current, "33");
        let left = rig.text("SELECT count(*) FROM storage_file_versions").await;
        assert_eq!(left, if keeps { "33" } else { "1" });
        let live = rig.text("SELECT count(*) FROM storage_objects WHERE state = 'live' AND refs = 1").await;
        assert_eq!(live, left);
        rig.assert_no_drift().await;
    }
}

#[tokio::test]
async fn a_commit_and_a_fence_never_both_happen() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let (mut committed, mut fenced) = (0, 0);
    for n in 0..50 {
        let upload = rig.upload(&ann, &format!("{n}.txt"), 1);
        rig.open(&upload).await;
        let why = operation(OperationKind::Upload).failed(&Error::DeadlineExceeded);
        // Either may be a little later than the other, so that both come to win.
        let pause = Duration::from_micros(n * 60);
        let commit = async {
            if n % 2 == 0 {
                tokio::time::sleep(pause).await;
            }
            rig.store.commit_upload(&upload.commit).await
        };
        let abort = async {
            if n % 2 == 1 {
                tokio::time::sleep(pause).await;
            }
            rig.store.abort_upload(upload.held(), &why).await.unwrap()
        };
        match join(commit, abort).await {
            (Ok(file), false) => {
                committed += 1;
                assert!(rig.file(file.id).await.is_some());
            }
            (Err(Error::Conflict(Conflict::Fenced)), true) => fenced += 1,
            (outcome, is_aborted) => panic!("{outcome:?}, aborted: {is_aborted}"),
        }
    }
    assert_eq!(committed + fenced, 50);
    assert!(committed > 0 && fenced > 0, "{committed} committed, {fenced} fenced: the race was none");
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, committed.to_string());
    assert_eq!(
        rig.store.dead_uploads(&operation(OperationKind::Reconcile), 100).await.unwrap().len(),
        fenced
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 5).await;
    rig.trash(&file).await;
    // Somebody takes the file before the quota: the order the store never takes them in.
    let mut rival = rig.session().await;
    rival
        .batch_execute("SET deadlock_timeout TO '20s'; BEGIN; SELECT 1 FROM storage_files FOR UPDATE")
        .await
        .unwrap();
    let store = rig.store.clone();
    let purge =
        tokio::spawn(async move { store.purge_file(file.id, &operation(OperationKind::Purge), None).await });
    rig.until(WAITING, "1").await;
    rival.batch_execute("UPDATE storage_volumes SET quota_limit = 1000").await.unwrap();
    rival.batch_execute("COMMIT").await.unwrap();
    assert_eq!(purge.await.unwrap().unwrap(), 5);
    rig.until("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", "1").await;
    assert_eq!(rig.text("SELECT quota_limit || ' ' || quota_used FROM storage_volumes").await, "1000 0");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn who_waits_too_long_for_a_lock_is_told_that_the_service_is_busy() {
    let options = Options { lock_timeout: Duration::from_millis(100), ..Options::default() };
    let rig = Rig::with_options(options).await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 5).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let refused = rig.store.delete_file(file.id, None, None, &operation(OperationKind::Delete), None).await;
    assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
    rival.batch_execute("ROLLBACK").await.unwrap();
    rig.trash(&file).await;
}
