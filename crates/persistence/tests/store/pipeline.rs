//! Many callers in one transaction: what waits goes together, and each is accepted or refused on his own.

use std::pin::pin;
use std::time::Duration;

use coffer_domain::Result;
use coffer_domain::error::{Conflict, Error, Resource, Taken};
use coffer_domain::file::File;
use coffer_domain::id::{FileId, ObjectId};
use coffer_domain::operation::OperationKind;
use coffer_domain::store::Store;
use coffer_domain::upload;
use coffer_persistence::PgStore;
use coffer_persistence::database::Options;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::join_all;
use futures_util::poll;

use crate::rig::{Actor, Rig, Upload, WAITING, operation, request};

const TRANSACTIONS: &str = "SELECT count(DISTINCT xmin::text) FROM storage_files WHERE filename <> 'gate'";

fn ann() -> Actor {
    Actor::user("ann")
}

/// Somebody who keeps every commit waiting behind the first one.
async fn lock_volume(rig: &Rig) -> AsyncPgConnection {
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_volumes FOR UPDATE").await.unwrap();
    rival
}

/// Commits these in one batch, in this order: they are queued while the one before them waits.
async fn commit_together(rig: &Rig, uploads: &[Upload]) -> Vec<Result<File>> {
    let gate = rig.upload(&ann(), "gate", 0);
    for upload in uploads.iter().chain([&gate]) {
        rig.open(upload).await;
    }
    let mut rival = lock_volume(rig).await;
    let first = tokio::spawn({
        let (store, commit) = (rig.store.clone(), gate.commit.clone());
        async move { store.commit_upload(&commit).await }
    });
    rig.until(WAITING, "1").await;
    let mut all = pin!(join_all(uploads.iter().map(|upload| rig.store.commit_upload(&upload.commit))));
    assert!(poll!(&mut all).is_pending());
    rival.batch_execute("COMMIT").await.unwrap();
    let outcomes = all.await;
    first.await.unwrap().unwrap();
    outcomes
}

fn uploads(rig: &Rig, number: u64) -> Vec<Upload> {
    (0..number).map(|n| rig.upload(&ann(), &format!("{n}.txt"), n)).collect()
}

#[tokio::test]
async fn what_waits_is_committed_together_and_answered_as_it_is_read() {
    let rig = Rig::new().await;
    let outcomes = commit_together(&rig, &uploads(&rig, 100)).await;
    assert_eq!(rig.text(TRANSACTIONS).await, "1");
    for (n, file) in outcomes.into_iter().enumerate() {
        let file = file.unwrap();
        assert_eq!(file.path.as_str(), format!("{n}.txt"));
        assert_eq!(rig.file(file.id).await, Some(file));
    }
    assert_eq!(
        rig.text("SELECT count(*) FROM outbox_events WHERE type = 'coffer.file.created'").await,
        "101"
    );
    rig.assert_no_drift().await;
}

/// 99 are committed, and the one at fault is alone.
async fn one_is_at_fault(spoil: impl FnOnce(&mut Upload)) {
    let rig = Rig::new().await;
    let mut uploads = uploads(&rig, 100);
    spoil(&mut uploads[37]);
    let outcomes = commit_together(&rig, &uploads).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        if n == 37 {
            assert!(matches!(outcome, Err(Error::Internal { context: "commit_upload", .. })), "{outcome:?}");
        } else {
            assert!(outcome.is_ok(), "{n}: {outcome:?}");
        }
    }
    let transactions: usize = rig.text(TRANSACTIONS).await.parse().unwrap();
    assert!((2..=8).contains(&transactions), "{transactions}");
    assert_eq!(rig.row(&uploads[37]).await.state, upload::State::Open);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_text_that_postgresql_cannot_hold_is_one_items_fault() {
    one_is_at_fault(|upload| upload.new_file().description.filename.push('\0')).await;
}

#[tokio::test]
async fn a_rule_of_a_table_that_is_broken_is_one_items_fault() {
    one_is_at_fault(|upload| upload.new_file().description.mime_type = "x".repeat(101)).await;
}

#[tokio::test]
async fn an_object_that_is_there_already_is_one_items_fault() {
    let object = ObjectId::new();
    let rig = Rig::new().await;
    let mut uploads = uploads(&rig, 20);
    for n in [3, 17] {
        uploads[n].commit.object = object;
    }
    let outcomes = commit_together(&rig, &uploads).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 19);
    assert!(outcomes[3].is_ok() && matches!(outcomes[17], Err(Error::Internal { .. })), "{:?}", outcomes[17]);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn of_those_who_want_the_same_the_first_has_it() {
    let rig = Rig::new().await;
    let mut uploads: Vec<_> = (0..8).map(|n| rig.upload(&ann(), "same.txt", n)).collect();
    uploads.extend((8..16).map(|n| rig.upload(&ann(), &format!("{n}.txt"), n)));
    for upload in &mut uploads[10..14] {
        upload.new_file().file_id = "mine".to_owned();
    }
    let outcomes = commit_together(&rig, &uploads).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            1..8 => assert!(matches!(outcome, Err(Error::AlreadyExists(Taken::Path))), "{n}: {outcome:?}"),
            11..14 => {
                assert!(matches!(outcome, Err(Error::AlreadyExists(Taken::FileName))), "{n}: {outcome:?}");
            }
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn of_those_who_do_not_all_fit_the_first_do() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 10).await;
    rig.run("UPDATE storage_volumes SET quota_limit = 100").await;
    // 50 and 30 fit; what was refused before does not count for 10, which fits too.
    let sizes = [50, 60, 30, 41, 10, 1];
    let uploads: Vec<_> =
        sizes.iter().map(|size| rig.upload(&ann(), &format!("{size}.txt"), *size)).collect();
    let outcomes = commit_together(&rig, &uploads).await;
    let are_ok: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(are_ok, [true, false, true, false, true, false], "{outcomes:?}");
    match &outcomes[3] {
        Err(Error::QuotaExceeded(exhausted)) => {
            assert_eq!((exhausted[0].used, exhausted[0].requested), (90, 41));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.text(TRANSACTIONS).await, "2", "with the first file's");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn versions_of_one_file_follow_each_other_in_their_order() {
    for keeps in [true, false] {
        let rig = Rig::new().await;
        let file = rig.put(&ann(), "a.txt", 100).await;
        let other = rig.put(&ann(), "b.txt", 100).await;
        let mut uploads: Vec<_> = (0..6).map(|n| rig.version(&ann(), &file, n)).collect();
        uploads.push(rig.version(&ann(), &other, 7));
        if keeps {
            uploads = uploads.into_iter().map(Upload::keeping_versions).collect();
        }
        let outcomes = commit_together(&rig, &uploads).await;
        let numbers: Vec<u32> = outcomes.iter().map(|file| file.as_ref().unwrap().content.number).collect();
        assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 2]);
        for file in [&outcomes[5], &outcomes[6]].map(|file| file.as_ref().unwrap()) {
            assert_eq!(rig.file(file.id).await.as_ref(), Some(file));
        }
        rig.assert_no_drift().await;
    }
}

#[tokio::test]
async fn a_request_twice_in_one_batch_has_one_effect_and_one_answer() {
    let rig = Rig::new().await;
    let request = request("WriteFile");
    let mut uploads: Vec<_> =
        (0..3).map(|n| rig.upload(&ann(), &format!("{n}.txt"), 5).holding().with_request(&request)).collect();
    let mut other = request.clone();
    other.fingerprint = [8; 32];
    uploads[2].commit.request = Some(other);
    let outcomes = commit_together(&rig, &uploads).await;
    let file = outcomes[0].as_ref().unwrap();
    assert_eq!(outcomes[1].as_ref().unwrap(), file);
    assert!(matches!(outcomes[2], Err(Error::RequestIdReused)), "{:?}", outcomes[2]);
    assert_eq!(rig.row(&uploads[1]).await.state, upload::State::Aborted);
    assert_eq!(rig.row(&uploads[2]).await.state, upload::State::Open);
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, "2", "with the gate");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn an_answer_past_its_keeping_does_not_keep_a_commit_from_its_own() {
    let rig = Rig::new().await;
    let request = request("WriteFile");
    let first = rig.upload(&ann(), "a.txt", 1).with_request(&request).run(&rig.store).await.unwrap();
    rig.run("UPDATE request_results SET expires_at = now()").await;
    let second = rig.upload(&ann(), "b.txt", 1).with_request(&request).run(&rig.store).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(rig.store.recall(&request).await.unwrap().unwrap().to::<File>(&request).unwrap(), second);
}

#[tokio::test]
async fn who_waits_for_a_lock_does_not_take_the_others_along() {
    let options = Options { lock_timeout: Duration::from_secs(3), ..Options::default() };
    let rig = Rig::with_options(options).await;
    let file = rig.put(&ann(), "a.txt", 1).await;
    let mut uploads = uploads(&rig, 20);
    uploads[7] = rig.version(&ann(), &file, 2);
    let mut rival = rig.session().await;
    rival
        .batch_execute(&format!("BEGIN; SELECT 1 FROM storage_files WHERE id = '{}' FOR UPDATE", file.id))
        .await
        .unwrap();
    let outcomes = commit_together(&rig, &uploads).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            7 => assert!(matches!(outcome, Err(Error::Overloaded)), "{outcome:?}"),
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    rival.batch_execute("ROLLBACK").await.unwrap();
    rig.store.commit_upload(&uploads[7].commit).await.unwrap();
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn reads_are_counted_together_and_each_is_recorded() {
    let rig = Rig::new().await;
    let (one, other) = (rig.put(&ann(), "a.txt", 1).await, rig.put(&ann(), "b.txt", 1).await);
    let gone = rig.put(&ann(), "c.txt", 1).await;
    rig.trash(&gone).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let reads: Vec<_> = (0..60)
        .map(|n| ([&one, &other, &gone][n % 3].id, ann().operation(OperationKind::Download)))
        .collect();
    let mut all = pin!(join_all(reads.iter().map(|(file, read)| rig.store.begin_read(*file, read))));
    assert!(poll!(&mut all).is_pending());
    rival.batch_execute("COMMIT").await.unwrap();
    for ((file, read), outcome) in reads.iter().zip(all.await) {
        let is_recorded = !rig.store.recorded(&[read.id]).await.unwrap().is_empty();
        assert_eq!(is_recorded, *file != gone.id);
        assert_eq!(
            matches!(outcome, Err(Error::NotFound(Resource::File(_)))),
            *file == gone.id,
            "{outcome:?}"
        );
    }
    let counts = rig.texts("SELECT access_count FROM storage_files ORDER BY filename").await;
    assert_eq!(counts, ["20", "20", "0"]);
    // Other sessions write what the first few of them did not take along.
    let transactions =
        "SELECT count(DISTINCT xmin::text) FROM storage_operations WHERE operation = 'download'";
    assert!(rig.text(transactions).await.parse::<usize>().unwrap() <= 3);
}

#[tokio::test]
async fn a_full_queue_is_too_much_work() {
    const QUEUED: usize = 4_096;
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 1).await;
    let mut rival = rig.session().await;
    rival.batch_execute("BEGIN; SELECT 1 FROM storage_files FOR UPDATE").await.unwrap();
    let store = rig.store.clone();
    let first =
        tokio::spawn(async move { store.begin_read(file.id, &operation(OperationKind::Download)).await });
    rig.until(WAITING, "1").await;
    let records: Vec<_> = (0..QUEUED).map(|_| operation(OperationKind::List)).collect();
    let mut all = pin!(join_all(records.iter().map(|record| rig.store.record(std::slice::from_ref(record)))));
    assert!(poll!(&mut all).is_pending());
    let refused = rig.store.record(&[operation(OperationKind::List)]).await;
    assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
    rival.batch_execute("COMMIT").await.unwrap();
    first.await.unwrap().unwrap();
    for outcome in all.await {
        outcome.unwrap();
    }
    rig.store.record(&[operation(OperationKind::List)]).await.unwrap();
}

#[tokio::test]
async fn what_was_queued_is_done_though_all_have_left() {
    let rig = Rig::new().await;
    let options = Options { application_name: "left".to_owned(), ..Options::default() };
    let store = rig.other_store(options);
    let uploads = uploads(&rig, 10);
    for upload in &uploads {
        rig.open(upload).await;
    }
    let mut rival = lock_volume(&rig).await;
    {
        let mut all = pin!(join_all(uploads.iter().map(|upload| store.commit_upload(&upload.commit))));
        assert!(poll!(&mut all).is_pending());
    }
    drop(store);
    rival.batch_execute("COMMIT").await.unwrap();
    rig.until("SELECT count(*) FROM storage_files", "10").await;
    rig.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left'", "0").await;
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_closed_database_is_unavailable() {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 1).await;
    let upload = rig.upload(&ann(), "b.txt", 1);
    rig.open(&upload).await;
    let store: PgStore = rig.other_store(Options::default());
    store.record(&[operation(OperationKind::List)]).await.unwrap();
    store.database().close();
    for refused in [
        store.commit_upload(&upload.commit).await.map(drop),
        store.begin_read(file.id, &operation(OperationKind::Download)).await,
        store.open_upload(&upload.intent, None).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    rig.store.commit_upload(&upload.commit).await.unwrap();
}

#[tokio::test]
async fn an_intent_that_is_there_already_is_in_flight_beside_others() {
    let rig = Rig::new().await;
    let request = request("WriteFile");
    let uploads: Vec<_> =
        (0..3).map(|n| rig.upload(&ann(), &format!("{n}.txt"), 5).resumable(&request)).collect();
    let other = rig.upload(&ann(), "other.txt", 1);
    let outcomes =
        join_all(uploads.iter().chain([&other]).map(|upload| rig.store.open_upload(&upload.intent, None)))
            .await;
    let in_flight = |outcome: &Result<_>| matches!(outcome, Err(Error::Conflict(Conflict::InFlight)));
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok());
    assert!(in_flight(&outcomes[1]) && in_flight(&outcomes[2]), "{outcomes:?}");
    assert!(rig.file(FileId::new()).await.is_none());
}
