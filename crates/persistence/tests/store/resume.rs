//! Uploads that outlive their streams: found, taken over, recorded, finished, cancelled; and what a stale epoch may not do.

use coffer_domain::content::{Codec, Pipeline, SavedState};
use coffer_domain::error::{Conflict, Error, Resource, State as Forbidden};
use coffer_domain::id::{NodeId, RequestId, UploadId};
use coffer_domain::operation::OperationKind;
use coffer_domain::quota::Hold;
use coffer_domain::request::Request;
use coffer_domain::store::{NodeStart, Store};
use coffer_domain::time::now;
use coffer_domain::upload::{Checkpoint, Held, State, Upload as Row};
use futures_util::future::join_all;
use std::time::Duration;

use crate::rig::{Actor, Rig, Upload, operation, start_request};

/// The state of the hashes after `size` bytes.
fn state(size: u64) -> SavedState {
    let pipeline = Pipeline::new(Codec::Identity);
    let content = bytes::Bytes::from(vec![7; usize::try_from(size).unwrap()]);
    pipeline.encode(vec![content.into()]);
    pipeline.save()
}

fn checkpoint(held: Held, size: u64) -> Checkpoint {
    Checkpoint { held, persisted_size: size, state: state(size) }
}

fn ann() -> Actor {
    Actor::user("ann")
}

async fn open(rig: &Rig, path: &str) -> (Upload, Row) {
    let upload = rig.upload(&ann(), path, 100).resumable(&start_request()).holding();
    let row = rig.open(&upload).await;
    (upload, row)
}

fn is_fenced<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Conflict(Conflict::Fenced))), "{outcome:?}");
}

fn is_in_flight<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Conflict(Conflict::InFlight))), "{outcome:?}");
}

fn has_ended<T: std::fmt::Debug>(outcome: Result<T, Error>, how: &str) {
    let Err(Error::State(Forbidden::UploadEnded(found))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found, how);
}

#[tokio::test]
async fn an_upload_is_found_as_it_was_opened() {
    let rig = Rig::new().await;
    let request = start_request();
    let mut upload =
        rig.upload(&ann().through("chat").on("trial"), "a.txt", 70).resumable(&request).holding();
    upload.intent.spec = serde_json::json!({"path": "a.txt", "changes": {"tags": ["ü", "x"]}, "size": 70});
    let start = operation(OperationKind::StartUpload);
    let opened = rig.store.open_upload(&upload.intent, Some(&start)).await.unwrap();
    assert_eq!(rig.store.recorded(&[start.id]).await.unwrap().len(), 1);
    let Row { state, epoch, payer, scope, spec, declared_size, held, request: kept, .. } = opened.clone();
    assert_eq!((state, epoch, declared_size), (State::Open, 1, Some(70)));
    assert_eq!(
        (payer, scope, spec),
        (upload.intent.payer.clone(), request.scope.clone(), upload.intent.spec.clone())
    );
    assert_eq!((held, kept), (Hold { bytes: 70, files: 1 }, Some(request.clone())));
    assert_eq!((opened.persisted_size, &opened.state_at_persisted), (0, &None));
    assert_eq!(rig.row(&upload).await, opened);
    assert_eq!(rig.store.requested_upload(&request).await.unwrap(), Some(opened));

    // A version of a file, without a request, holding nothing.
    let file = rig.put(&ann(), "b.txt", 1).await;
    let version = rig.version(&ann(), &file, 5);
    let opened = rig.open(&version).await;
    assert_eq!((opened.file, &opened.request, opened.held), (Some(file.id), &None, Hold::default()));
    assert_eq!(rig.row(&version).await, opened);
    assert_eq!(rig.store.upload(UploadId::new()).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_finds_its_upload_unless_that_ended_without_a_file() {
    let rig = Rig::new().await;
    let request = start_request();
    let found = async |request: &Request| rig.store.requested_upload(request).await;
    assert_eq!(found(&request).await.unwrap(), None);
    let first = rig.upload(&ann(), "a.txt", 1).resumable(&request);
    rig.open(&first).await;
    assert_eq!(found(&request).await.unwrap().unwrap().id, first.intent.id);
    for other in [
        Request { id: RequestId::new(), ..request.clone() },
        Request { scope: "clinic//bob".to_owned(), ..request.clone() },
    ] {
        assert_eq!(found(&other).await.unwrap(), None);
    }
    let reused = Request { fingerprint: [8; 32], ..request.clone() };
    assert!(matches!(found(&reused).await, Err(Error::RequestIdReused)));

    let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
    rig.store.abort_upload(first.held(), &why).await.unwrap();
    assert_eq!(found(&request).await.unwrap(), None);
    // Its id is free for another content.
    assert_eq!(found(&reused).await.unwrap(), None);
    let second = rig.upload(&ann(), "b.txt", 1).resumable(&request);
    rig.open(&second).await;
    rig.store.finish_upload(second.held(), None).await.unwrap();
    assert_eq!(found(&request).await.unwrap().unwrap().state, State::Finishing);
    let file = rig.store.commit_upload(&second.commit).await.unwrap();
    let committed = found(&request).await.unwrap().unwrap();
    assert_eq!(
        (committed.id, committed.state, committed.file),
        (second.intent.id, State::Committed, Some(file.id))
    );
    assert!(matches!(found(&reused).await, Err(Error::RequestIdReused)));
    rig.run("UPDATE storage_uploads SET updated_at = now() - interval '24 hours 1 second'").await;
    assert_eq!(found(&request).await.unwrap(), None);
    rig.run("UPDATE storage_uploads SET updated_at = now() - interval '23 hours 59 minutes'").await;
    assert!(found(&request).await.unwrap().is_some());
}

#[tokio::test]
async fn an_upload_started_eight_times_at_once_is_one() {
    let rig = Rig::new().await;
    let request = start_request();
    let uploads: Vec<_> =
        (0..8).map(|_| rig.upload(&ann(), "a.txt", 10).resumable(&request).holding()).collect();
    let outcomes = join_all(uploads.iter().map(|upload| rig.store.open_upload(&upload.intent, None))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter(Result::is_err) {
        is_in_flight(refused);
    }
    assert_eq!(rig.text("SELECT quota_reserved FROM storage_volumes").await, "10");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn whoever_takes_an_upload_shuts_out_who_had_it() {
    let rig = Rig::new().await;
    let (upload, opened) = open(&rig, "a.txt").await;
    let other = rig.store.start_node(NodeId::new(), "test", Duration::from_secs(60)).await.unwrap();
    let taken = rig.store.take_upload(upload.intent.id, other).await.unwrap();
    assert_eq!(taken, Row { epoch: 2, ..opened });
    assert_eq!(
        rig.text("SELECT concat_ws(' ', node_id, node_epoch, epoch) FROM storage_uploads").await,
        format!("{} {} 2", other.node, other.epoch)
    );
    is_fenced(rig.store.commit_upload(&upload.commit).await);
    let mut commit = upload.commit.clone();
    commit.held = taken.held_by_epoch();
    rig.store.commit_upload(&commit).await.unwrap();
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn of_many_who_take_an_upload_the_last_has_it() {
    let rig = Rig::new().await;
    let (upload, _) = open(&rig, "a.txt").await;
    let taken = join_all((0..16).map(|_| rig.store.take_upload(upload.intent.id, rig.start))).await;
    let mut epochs: Vec<_> = taken.into_iter().map(|taken| taken.unwrap().epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (2..18).collect::<Vec<_>>());
    for epoch in epochs {
        let recorded =
            rig.store.checkpoint_uploads(&[checkpoint(Held { epoch, ..upload.held() }, 1)]).await.unwrap();
        assert_eq!(recorded.len(), usize::from(epoch == 17));
    }
}

#[tokio::test]
async fn only_an_open_upload_can_be_taken() {
    let rig = Rig::new().await;
    let take = async |id| rig.store.take_upload(id, rig.start).await;
    let refused = take(UploadId::new()).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Upload(_)))), "{refused:?}");

    let (upload, _) = open(&rig, "a.txt").await;
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    is_in_flight(take(upload.intent.id).await);
    rig.store.commit_upload(&upload.commit).await.unwrap();
    has_ended(take(upload.intent.id).await, "committed");

    let (upload, _) = open(&rig, "b.txt").await;
    let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
    rig.store.abort_upload(upload.held(), &why).await.unwrap();
    has_ended(take(upload.intent.id).await, "aborted");

    // Its time is over, though nobody has seen it yet.
    let mut upload = rig.upload(&ann(), "c.txt", 1).resumable(&start_request());
    upload.intent.expires_at = now();
    rig.open(&upload).await;
    has_ended(take(upload.intent.id).await, "expired");
    rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap();
    has_ended(take(upload.intent.id).await, "expired");
}

#[tokio::test]
async fn checkpoints_of_many_uploads_are_recorded_at_once() {
    let rig = Rig::new().await;
    let short = rig.make_volume("short", |settings| settings.upload_ttl_seconds = Some(60)).await;
    let (on_main, opened) = open(&rig, "a.txt").await;
    let on_short = rig.upload_to(&short, &ann(), "b.txt", 9).resumable(&start_request());
    rig.open(&on_short).await;
    let (finishing, _) = open(&rig, "c.txt").await;
    rig.store.finish_upload(finishing.held(), None).await.unwrap();
    let (taken, _) = open(&rig, "d.txt").await;
    rig.store.take_upload(taken.intent.id, rig.start).await.unwrap();
    let never_opened = rig.upload(&ann(), "e.txt", 1);

    assert!(rig.store.checkpoint_uploads(&[]).await.unwrap().is_empty());
    let all = [&on_main, &on_short, &finishing, &taken, &never_opened];
    let checkpoints: Vec<_> = all.iter().map(|upload| checkpoint(upload.held(), 50)).collect();
    let recorded = rig.store.checkpoint_uploads(&checkpoints).await.unwrap();
    assert_eq!(recorded, [on_main.intent.id, on_short.intent.id].into());
    let row = rig.row(&on_main).await;
    assert_eq!((row.persisted_size, row.state_at_persisted.clone()), (50, Some(state(50))));
    assert!(row.updated_at > opened.updated_at);
    for untouched in [&finishing, &taken] {
        let row = rig.row(untouched).await;
        assert_eq!((row.persisted_size, row.state_at_persisted), (0, None));
    }
    for (upload, seconds) in [(&on_main, 24 * 3_600), (&on_short, 60)] {
        let row = rig.row(upload).await;
        assert_eq!((row.expires_at - row.updated_at).num_seconds(), seconds);
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_late_checkpoint_takes_nothing_back() {
    let rig = Rig::new().await;
    let (upload, _) = open(&rig, "a.txt").await;
    let record = async |sizes: &[u64]| {
        let checkpoints: Vec<_> = sizes.iter().map(|size| checkpoint(upload.held(), *size)).collect();
        assert_eq!(rig.store.checkpoint_uploads(&checkpoints).await.unwrap().len(), 1);
        let row = rig.row(&upload).await;
        (row.persisted_size, row.state_at_persisted.unwrap())
    };
    assert_eq!(record(&[40]).await, (40, state(40)));
    assert_eq!(record(&[30]).await, (40, state(40)));
    // Several of one upload: the one that says most.
    assert_eq!(record(&[41, 60, 50]).await, (60, state(60)));
    // The same again says the same.
    assert_eq!(record(&[60]).await, (60, state(60)));
}

#[tokio::test]
async fn what_is_being_finished_is_committed_or_opened_again() {
    let rig = Rig::new().await;
    let (upload, _) = open(&rig, "a.txt").await;
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    // A second time, after an answer that was lost.
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    let finishing = rig.row(&upload).await;
    assert_eq!((finishing.state, finishing.epoch), (State::Finishing, 1));
    is_in_flight(rig.store.take_upload(upload.intent.id, rig.start).await);
    // The backend could not do it: bytes can come again.
    assert!(rig.store.reopen_upload(upload.held()).await.unwrap());
    assert_eq!(rig.row(&upload).await.state, State::Open);
    assert_eq!(rig.store.checkpoint_uploads(&[checkpoint(upload.held(), 5)]).await.unwrap().len(), 1);

    // Whose time is over can still be committed while it is being finished, and not while it is open.
    rig.run("UPDATE storage_uploads SET expire_time = now()").await;
    is_fenced(rig.store.commit_upload(&upload.commit).await);
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    rig.store.commit_upload(&upload.commit).await.unwrap();
    is_fenced(rig.store.finish_upload(upload.held(), None).await);
    assert!(!rig.store.reopen_upload(upload.held()).await.unwrap());
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_stale_epoch_changes_nothing() {
    let rig = Rig::new().await;
    let (upload, _) = open(&rig, "a.txt").await;
    let taken = rig.store.take_upload(upload.intent.id, rig.start).await.unwrap();
    let all = "SELECT u.*::text || v.*::text FROM storage_uploads u, storage_volumes v";
    let before = rig.text(all).await;
    for epoch in [0, 1, 3] {
        let held = Held { epoch, ..upload.held() };
        is_fenced(rig.store.grow_upload(held, 200, 200, 200).await);
        assert!(rig.store.checkpoint_uploads(&[checkpoint(held, 5)]).await.unwrap().is_empty());
        is_fenced(rig.store.finish_upload(held, None).await);
        assert!(!rig.store.reopen_upload(held).await.unwrap());
        let mut commit = upload.commit.clone();
        commit.held = held;
        is_fenced(rig.store.commit_upload(&commit).await);
        let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
        assert!(!rig.store.abort_upload(held, &why).await.unwrap());
        assert_eq!(rig.store.recorded(&[why.id]).await.unwrap().len(), 1, "why is recorded all the same");
    }
    assert_eq!(rig.text(all).await, before);
    assert_eq!(rig.store.checkpoint_uploads(&[checkpoint(taken.held_by_epoch(), 5)]).await.unwrap().len(), 1);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn whoever_has_an_upload_it_can_be_cancelled_while_it_is_open() {
    let rig = Rig::new().await;
    let cancel = async |id| rig.store.cancel_upload(id, &operation(OperationKind::CancelUpload), None).await;
    let refused = cancel(UploadId::new()).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Upload(_)))), "{refused:?}");

    let (upload, _) = open(&rig, "a.txt").await;
    rig.store.take_upload(upload.intent.id, rig.start).await.unwrap();
    let cancelled = cancel(upload.intent.id).await.unwrap();
    assert_eq!((cancelled.state, cancelled.epoch, cancelled.held), (State::Aborted, 3, Hold::default()));
    assert_eq!(cancelled, rig.row(&upload).await);
    // It has ended without a file already: as it is.
    assert_eq!(cancel(upload.intent.id).await.unwrap(), cancelled);
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'cancel_upload'").await,
        "2"
    );

    let (upload, _) = open(&rig, "b.txt").await;
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    is_in_flight(cancel(upload.intent.id).await);
    rig.store.commit_upload(&upload.commit).await.unwrap();
    has_ended(cancel(upload.intent.id).await, "committed");

    let (upload, _) = open(&rig, "c.txt").await;
    let request = crate::rig::request("CancelUpload");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let cancel = operation(OperationKind::CancelUpload);
        answers.push(rig.store.cancel_upload(upload.intent.id, &cancel, Some(&request)).await.unwrap());
    }
    assert_eq!((answers[0].id, answers[0].state), (answers[1].id, answers[1].state));
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'cancel_upload'").await,
        "3"
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn live_uploads_are_those_that_have_not_ended() {
    let rig = Rig::new().await;
    let mut ids = vec![UploadId::new()];
    let (open_one, _) = open(&rig, "a.txt").await;
    let (finishing, _) = open(&rig, "b.txt").await;
    rig.store.finish_upload(finishing.held(), None).await.unwrap();
    let (committed, _) = open(&rig, "c.txt").await;
    rig.store.commit_upload(&committed.commit).await.unwrap();
    let (cancelled, _) = open(&rig, "d.txt").await;
    rig.store
        .cancel_upload(cancelled.intent.id, &operation(OperationKind::CancelUpload), None)
        .await
        .unwrap();
    ids.extend([&open_one, &finishing, &committed, &cancelled].map(|upload| upload.intent.id));
    let live = rig.store.live_uploads(&ids).await.unwrap();
    assert_eq!(live, [open_one.intent.id, finishing.intent.id].into());
    assert!(rig.store.live_uploads(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_of_a_node_that_is_not_known_is_a_fault_of_ours() {
    let rig = Rig::new().await;
    let (upload, _) = open(&rig, "a.txt").await;
    let nobody = NodeStart { node: NodeId::new(), epoch: 1 };
    let refused = rig.store.take_upload(upload.intent.id, nobody).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
}
