//! What the reconciler asks for.

use std::time::Duration;

use coffer_domain::error::{Conflict, Error};
use coffer_domain::id::NodeId;
use coffer_domain::operation::OperationKind;
use coffer_domain::path::Key;
use coffer_domain::store::{NodeStart, Store};
use coffer_domain::time::now;

use crate::rig::{Actor, Rig, Upload, operation};

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
