//! What the reconciler asks for.

use std::time::Duration;

use coffer_domain::error::{Conflict, Error};
use coffer_domain::id::NodeId;
use coffer_domain::operation::{self, Operation, OperationKind};
use coffer_domain::page::PageRequest;
use coffer_domain::path::Key;
use coffer_domain::store::{NodeStart, Store};
use coffer_domain::time::now;
use coffer_domain::upload::State;
use diesel_async::SimpleAsyncConnection;

use crate::rig::{Actor, Rig, Upload, operation, start_request};

async fn open(rig: &Rig, path: &str, change: impl FnOnce(&mut Upload)) -> Upload {
    let mut upload = rig.upload(&Actor::user("ann"), path, 1);
    change(&mut upload);
    rig.open(&upload).await;
    upload
}

fn held_by(start: NodeStart) -> impl FnOnce(&mut Upload) {
    move |upload| upload.intent.start = start
}

#[tokio::test]
async fn uploads_that_nobody_can_finish_are_fenced_and_the_living_are_not() {
    let rig = Rig::new().await;
    let long = Duration::from_secs(600);
    let restarted = rig.store.start_node(NodeId::new(), "test", long).await.unwrap();
    let lapsed = rig.store.start_node(NodeId::new(), "test", Duration::ZERO).await.unwrap();
    let living = open(&rig, "living", |_| {}).await;
    let expired =
        open(&rig, "expired", |u| u.intent.expires_at = now() - chrono::TimeDelta::seconds(1)).await;
    let of_restarted = open(&rig, "restarted", held_by(restarted)).await;
    let of_lapsed = open(&rig, "lapsed", held_by(lapsed)).await;
    let again = rig.store.start_node(restarted.node, "test", long).await.unwrap();
    let of_again = open(&rig, "again", held_by(again)).await;

    let dead = rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap();
    let expected = [&expired, &of_restarted, &of_lapsed].map(|upload| upload.intent.id);
    assert_eq!(dead.iter().map(|upload| upload.id).collect::<Vec<_>>(), expected);
    assert_eq!((dead[0].volume, &dead[0].key), (rig.volume.id, &expired.intent.key));
    assert_eq!(
        rig.texts("SELECT concat_ws(' ', state, epoch) FROM storage_uploads ORDER BY id").await,
        ["OPEN 1", "EXPIRED 2", "ABORTED 2", "ABORTED 2", "OPEN 1"]
    );
    for upload in [&expired, &of_restarted, &of_lapsed] {
        let refused = rig.store.commit_upload(&upload.commit).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::Fenced))), "{refused:?}");
    }
    // They come back until they are swept.
    assert_eq!(rig.store.dead_uploads(&operation(OperationKind::Reconcile), 2).await.unwrap(), dead[..2]);
    rig.store.upload_swept(expired.intent.id).await.unwrap();
    assert_eq!(rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap(), dead[1..]);
    rig.store.upload_swept(living.intent.id).await.unwrap();
    for upload in [&living, &of_again] {
        rig.store.commit_upload(&upload.commit).await.unwrap();
    }
    assert_eq!(rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap(), dead[1..]);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn what_can_be_resumed_outlives_its_node_and_not_its_time() {
    let rig = Rig::new().await;
    let lapsed = rig.store.start_node(NodeId::new(), "test", Duration::ZERO).await.unwrap();
    let ann = Actor::user("ann");
    let open = async |path: &str, start: NodeStart, is_finishing: bool, is_expired: bool| {
        let mut upload = rig.upload(&ann, path, 10).resumable(&start_request()).holding().on(start);
        if is_expired {
            upload.intent.expires_at = now();
        }
        rig.open(&upload).await;
        if is_finishing {
            rig.store.finish_upload(upload.held(), None).await.unwrap();
        }
        upload
    };
    let open_of_dead = open("a", lapsed, false, false).await;
    let finishing_of_dead = open("b", lapsed, true, false).await;
    let expired_of_dead = open("c", lapsed, false, true).await;
    let expired = open("d", rig.start, false, true).await;
    // Their node lives: however long that takes.
    let finishing = open("e", rig.start, true, true).await;

    let cause = operation(OperationKind::Reconcile);
    let dead = rig.store.dead_uploads(&cause, 10).await.unwrap();
    let ended = [&expired_of_dead, &expired].map(|upload| upload.intent.id);
    assert_eq!(dead.iter().map(|upload| upload.id).collect::<Vec<_>>(), ended);
    let rows = [&open_of_dead, &finishing_of_dead, &expired_of_dead, &expired, &finishing];
    let mut found = Vec::new();
    for upload in rows {
        let row = rig.row(upload).await;
        found.push((row.state, row.epoch, row.held.bytes, row.held.files));
    }
    assert_eq!(
        found,
        [
            (State::Open, 1, 10, 1),
            (State::Open, 2, 10, 1),
            (State::Expired, 2, 0, 0),
            (State::Expired, 2, 0, 0),
            (State::Finishing, 1, 10, 1)
        ]
    );
    assert_eq!(rig.text("SELECT quota_reserved FROM storage_volumes").await, "30");
    rig.assert_no_drift().await;

    // Whoever was finishing it can change nothing any more; whoever takes it goes on.
    let refused = rig.store.commit_upload(&finishing_of_dead.commit).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::Fenced))), "{refused:?}");
    for upload in [&open_of_dead, &finishing_of_dead] {
        let mut commit = upload.commit.clone();
        commit.held = rig.store.take_upload(upload.intent.id, rig.start).await.unwrap().held_by_epoch();
        rig.store.commit_upload(&commit).await.unwrap();
    }
    rig.store.commit_upload(&finishing.commit).await.unwrap();
    assert_eq!(rig.text("SELECT quota_used || ' ' || quota_reserved FROM storage_volumes").await, "30 0");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn every_end_is_recorded_as_what_it_was() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let lapsed = rig.store.start_node(NodeId::new(), "test", Duration::ZERO).await.unwrap();
    let eve = Actor::user("eve").of("lab");
    let mut expired = rig.upload(&Actor::user("ann"), "a", 10).holding();
    expired.intent.expires_at = now();
    rig.open(&expired).await;
    let of_dead = rig.upload_to(&other, &eve, "b", 10).on(lapsed);
    rig.open(&of_dead).await;
    let finishing_of_dead = rig.upload_to(&other, &eve, "c", 10).on(lapsed);
    rig.open(&finishing_of_dead).await;
    rig.store.finish_upload(finishing_of_dead.held(), None).await.unwrap();

    let cause = Operation { node_id: Some(rig.start.node), ..operation(OperationKind::Reconcile) };
    assert_eq!(rig.store.dead_uploads(&cause, 10).await.unwrap().len(), 3);
    let page = PageRequest::new(10, 0, None).unwrap();
    let recorded = async |organisation: &str| {
        let filter = operation::Filter {
            kinds: vec![OperationKind::Upload, OperationKind::ExpireUpload],
            ..Default::default()
        };
        let page = rig.store.operations(organisation, &filter, &page).await.unwrap();
        page.items.iter().map(|record| Operation::from_record(record).unwrap()).rev().collect::<Vec<_>>()
    };
    let of_clinic = recorded("clinic").await;
    assert_eq!(of_clinic.len(), 1);
    let expected = Operation {
        id: of_clinic[0].id,
        kind: OperationKind::ExpireUpload,
        volume_id: Some(rig.volume.id),
        organisation: "clinic".to_owned(),
        ..cause.clone()
    };
    assert_eq!(of_clinic[0], expected.with("upload", expired.intent.id.to_string()));
    let of_lab = recorded("lab").await;
    assert_eq!(of_lab.len(), 2);
    for (found, upload) in of_lab.iter().zip([&of_dead, &finishing_of_dead]) {
        let expected = Operation {
            id: found.id,
            kind: OperationKind::Upload,
            volume_id: Some(other.id),
            organisation: "lab".to_owned(),
            ..cause.clone()
        };
        let expected = expected.failed(&Error::Conflict(Conflict::Fenced));
        assert_eq!(*found, expected.with("upload", upload.intent.id.to_string()));
    }
    assert!(rig.store.recorded(&[cause.id]).await.unwrap().is_empty());
    // Once.
    assert_eq!(rig.store.dead_uploads(&cause, 10).await.unwrap().len(), 3);
    assert_eq!((recorded("clinic").await.len(), recorded("lab").await.len()), (1, 2));
}

#[tokio::test]
async fn fencing_passes_over_what_is_being_changed_and_ends_a_few_at_a_time() {
    let rig = Rig::new().await;
    let mut uploads = Vec::new();
    for n in 0..5 {
        uploads.push(open(&rig, &n.to_string(), |u| u.intent.expires_at = now()).await);
    }
    let mut rival = rig.session().await;
    rival
        .batch_execute(&format!(
            "BEGIN; SELECT 1 FROM storage_uploads WHERE id = '{}' FOR UPDATE",
            uploads[0].intent.id
        ))
        .await
        .unwrap();
    let cause = operation(OperationKind::Reconcile);
    let ended = async |limit| {
        rig.store.dead_uploads(&cause, limit).await.unwrap();
        rig.texts("SELECT id FROM storage_uploads WHERE state = 'EXPIRED' ORDER BY id").await
    };
    let ids: Vec<_> = uploads.iter().map(|upload| upload.intent.id.to_string()).collect();
    assert_eq!(ended(2).await, ids[1..3]);
    assert_eq!(ended(10).await, ids[1..]);
    rival.batch_execute("COMMIT").await.unwrap();
    assert_eq!(ended(10).await, ids);
}

#[tokio::test]
async fn keys_are_known_by_objects_and_open_uploads_of_their_volume() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let ann = Actor::user("ann");
    let committed = rig.put(&ann, "a.txt", 1).await.content.key;
    let opened = open(&rig, "b.txt", |_| {}).await.intent.key;
    let elsewhere = rig.upload_to(&other, &ann, "c.txt", 1).run(&rig.store).await.unwrap().content.key;
    let given_up = rig.put(&ann, "d.txt", 1).await;
    rig.version(&ann, &given_up, 2).run(&rig.store).await.unwrap();
    let stranger = Key::parse("xx/yy/stranger").unwrap();
    let dead = open(&rig, "e.txt", |u| u.intent.expires_at = now()).await.intent.key;
    rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap();

    let given_up = given_up.content.key;
    let asked = [&committed, &opened, &elsewhere, &given_up, &stranger, &dead].map(Clone::clone);
    let known = rig.store.known_keys(rig.volume.id, &asked).await.unwrap();
    assert_eq!(known, [committed, opened, given_up].into());
    assert!(rig.store.known_keys(rig.volume.id, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn live_objects_are_listed_by_key() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let ann = Actor::user("ann");
    let mut keys = Vec::new();
    for n in 0..9 {
        keys.push(rig.put(&ann, &format!("{n}.txt"), n).await.content.key);
    }
    rig.upload_to(&other, &ann, "elsewhere.txt", 1).run(&rig.store).await.unwrap();
    let replaced = rig.put(&ann, "replaced.txt", 1).await;
    keys.push(rig.version(&ann, &replaced, 3).run(&rig.store).await.unwrap().content.key);
    keys.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let found = rig.store.objects(rig.volume.id, after.as_ref(), 4).await.unwrap();
        seen.extend(found.iter().map(|object| object.key.clone()));
        match found.last() {
            Some(last) => after = Some(last.key.clone()),
            None => break,
        }
    }
    assert_eq!(seen, keys);
    let found = rig.store.objects(rig.volume.id, None, 100).await.unwrap();
    assert_eq!(found.iter().map(|object| object.stored_size).sum::<u64>(), (0..9).sum::<u64>() + 3);
}

#[tokio::test]
async fn trash_is_due_when_its_volume_says_so() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let kept = rig.make_volume("kept", |settings| settings.trash_retention_seconds = Some(3_600)).await;
    let short = rig.make_volume("short", |settings| settings.trash_retention_seconds = Some(0)).await;
    let mut files = Vec::new();
    for (n, volume) in [&rig.volume, &kept, &short, &short, &short].into_iter().enumerate() {
        files.push(rig.upload_to(volume, &ann, &format!("{n}.txt"), 1).run(&rig.store).await.unwrap());
    }
    for file in [&files[3], &files[0], &files[1], &files[2]] {
        rig.trash(file).await;
    }
    assert_eq!(rig.store.expired_trash(10).await.unwrap(), [files[3].id, files[2].id]);
    assert_eq!(rig.store.expired_trash(1).await.unwrap(), [files[3].id]);
}
