//! Requests that are sent twice.

use std::time::Duration;

use coffer_domain::error::{Conflict, Error, State};
use coffer_domain::file::{Changes, File};
use coffer_domain::operation::OperationKind;
use coffer_domain::request::Request;
use coffer_domain::store::Store;
use coffer_persistence::database::Options;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;

use crate::rig::{Actor, Rig, make_local_path, operation, request, volume_on};

async fn publish(rig: &Rig, file: &File, request: &Request) -> Result<File, Error> {
    let changes = Changes { is_public: Some(true), ..Changes::default() };
    let update = operation(OperationKind::UpdateMetadata);
    rig.store.update_file(file.id, None, &changes, None, &update, Some(request)).await
}

#[tokio::test]
async fn a_request_sent_twice_has_one_effect_and_one_answer() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let request = request("UpdateFile");
    assert_eq!(rig.store.recall(&request).await.unwrap(), None);
    let first = publish(&rig, &file, &request).await.unwrap();
    rig.trash(&file).await;
    assert_eq!(publish(&rig, &file, &request).await.unwrap(), first);
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'update_metadata'").await,
        "1"
    );
    let answered = rig.store.recall(&request).await.unwrap().unwrap();
    assert_eq!(answered.to::<File>(&request).unwrap(), first);
}

#[tokio::test]
async fn every_kind_of_answer_is_given_again() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/more").await;
    let volume = volume_on(&path, "more", |_| {});
    let create = request("CreateVolume");
    for _ in 0..2 {
        let made =
            rig.store.create_volume(&volume, &operation(OperationKind::CreateVolume), Some(&create)).await;
        assert_eq!(made.unwrap(), volume);
    }
    let delete = request("DeleteVolume");
    for _ in 0..2 {
        rig.store
            .delete_volume(volume.id, &operation(OperationKind::DeleteVolume), Some(&delete))
            .await
            .unwrap();
    }
    let file = rig.put(&Actor::user("ann"), "a.txt", 9).await;
    rig.trash(&file).await;
    let purge = request("PurgeFile");
    for _ in 0..2 {
        let freed = rig.store.purge_file(file.id, &operation(OperationKind::Purge), Some(&purge)).await;
        assert_eq!(freed.unwrap(), 9);
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_request_sent_eight_times_at_once_has_one_effect_and_one_answer() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let request = request("WriteFile");
    let uploads: Vec<_> =
        (0..8).map(|n| rig.upload(&ann, &format!("{n}.txt"), 5).with_request(&request)).collect();
    let outcomes = join_all(uploads.iter().map(|upload| upload.run(&rig.store))).await;
    let files: Vec<File> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(files.len(), 8);
    assert!(files.iter().all(|file| *file == files[0]));
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, "1");
    assert_eq!(rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'upload'").await, "1");
    // The bytes of the other seven are swept.
    let dead = rig.store.dead_uploads(&operation(OperationKind::Reconcile), 100).await.unwrap();
    assert_eq!(dead.len(), 7);
    assert!(dead.iter().all(|upload| upload.key != files[0].content.key));
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn another_request_under_the_same_id_is_refused() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let request = request("UpdateFile");
    let first = publish(&rig, &file, &request).await.unwrap();
    let other_content = Request { fingerprint: [8; 32], ..request.clone() };
    let other_method = Request { method: "DeleteFile", ..request.clone() };
    for reused in [&other_content, &other_method] {
        let refused = publish(&rig, &file, reused).await;
        assert!(matches!(refused, Err(Error::RequestIdReused)), "{refused:?}");
    }
    // Somebody else's id is another one.
    let of_bob = Request { scope: "clinic//bob".to_owned(), fingerprint: [8; 32], ..request };
    assert_eq!(publish(&rig, &file, &of_bob).await.unwrap().revision, first.revision + 1);
}

#[tokio::test]
async fn a_refused_request_may_be_sent_again() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let request = request("PurgeFile");
    let purge = operation(OperationKind::Purge);
    let refused = rig.store.purge_file(file.id, &purge, Some(&request)).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus(_)))), "{refused:?}");
    assert_eq!(rig.store.recall(&request).await.unwrap(), None);
    rig.trash(&file).await;
    assert_eq!(rig.store.purge_file(file.id, &purge, Some(&request)).await.unwrap(), 1);
}

#[tokio::test]
async fn an_answer_past_its_keeping_is_forgotten_and_replaced() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let request = request("UpdateFile");
    publish(&rig, &file, &request).await.unwrap();
    assert_eq!(
        rig.text("SELECT round(extract(epoch FROM expires_at - created_at) / 3600) FROM request_results")
            .await,
        "24"
    );
    rig.run("UPDATE request_results SET expires_at = now()").await;
    assert_eq!(rig.store.recall(&request).await.unwrap(), None);
    // Also with other content.
    let other = Request { fingerprint: [8; 32], ..request };
    assert_eq!(publish(&rig, &file, &other).await.unwrap().revision, 3);
    assert!(rig.store.recall(&other).await.unwrap().is_some());
}

#[tokio::test]
async fn a_request_that_is_being_worked_on_for_long_is_in_flight() {
    let options = Options { lock_timeout: Duration::from_millis(200), ..Options::default() };
    let rig = Rig::with_options(options).await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let request = request("UpdateFile");
    let mut worker = rig.session().await;
    let claim = format!(
        "BEGIN; INSERT INTO request_results (principal, request_id, method, fingerprint, answer, expires_at)
         VALUES ('{}', '{}', 'UpdateFile', '', '', now() + interval '1 day')",
        request.scope, request.id
    );
    worker.batch_execute(&claim).await.unwrap();
    let refused = publish(&rig, &file, &request).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::InFlight))), "{refused:?}");
    worker.batch_execute("ROLLBACK").await.unwrap();
    publish(&rig, &file, &request).await.unwrap();
}
