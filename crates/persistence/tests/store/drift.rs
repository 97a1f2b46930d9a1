//! Counters that are wrong: found in every dimension, and set right while others go on.

use std::sync::atomic::{AtomicBool, Ordering};

use coffer_domain::error::{Error, Resource};
use coffer_domain::id::VolumeId;
use coffer_domain::operation::OperationKind;
use coffer_domain::quota::{Drift, QuotaKey};
use coffer_domain::store::Store;
use futures_util::future::{join, join_all};

use crate::rig::{Actor, Rig, WAITING, operation, request};

fn ann() -> Actor {
    Actor::user("ann").through("chat").on("trial")
}

fn project() -> QuotaKey {
    QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() }
}

fn organisation() -> QuotaKey {
    QuotaKey::Organisation("clinic".to_owned())
}

async fn recalculate(rig: &Rig, keys: &[QuotaKey]) -> Vec<Drift> {
    rig.store.recalculate_quotas(keys, &operation(OperationKind::RecalculateQuotas), None).await.unwrap()
}

/// 10 bytes in two versions of a file and 70 that an upload holds; nothing is counted right.
async fn planted() -> (Rig, Vec<Drift>) {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 7).await;
    rig.version(&ann(), &file, 3).keeping_versions().run(&rig.store).await.unwrap();
    rig.open(&rig.upload(&ann(), "b.txt", 70).holding()).await;
    rig.assert_no_drift().await;
    rig.run(
        "UPDATE storage_volumes SET quota_used = 11; UPDATE user_quotas SET quota_reserved = 71;
         UPDATE app_quotas SET quota_used = 13, quota_reserved = 0;
         UPDATE storage_quotas SET used_storage_bytes = 14, reserved_files = 0 WHERE entity_type = 'user';
         UPDATE storage_quotas SET used_files = 2, reserved_storage_bytes = 72 WHERE entity_type = 'organization';
         DELETE FROM storage_quotas WHERE entity_type = 'project'",
    )
    .await;
    let (user, volume) = (ann().id(), rig.volume.id);
    let drift = |key, counted: [i64; 4], files| Drift {
        key,
        counted_bytes: counted[0],
        actual_bytes: 10,
        counted_files: counted[1],
        actual_files: files,
        counted_reserved_bytes: counted[2],
        actual_reserved_bytes: 70,
        counted_reserved_files: counted[3],
        actual_reserved_files: files,
    };
    let expected = vec![
        drift(QuotaKey::Volume(volume), [11, 0, 70, 0], 0),
        drift(QuotaKey::UserOnVolume(user, volume), [10, 0, 71, 0], 0),
        drift(QuotaKey::AppOnVolume("chat".to_owned(), volume), [13, 0, 0, 0], 0),
        drift(QuotaKey::User { organisation: "clinic".to_owned(), user }, [14, 1, 70, 0], 1),
        drift(organisation(), [10, 2, 72, 1], 1),
        drift(project(), [0, 0, 0, 0], 1),
    ];
    (rig, expected)
}

#[tokio::test]
async fn drift_is_found_in_every_dimension() {
    let (rig, expected) = planted().await;
    assert_eq!(rig.store.quota_drift().await.unwrap(), expected);
}

#[tokio::test]
async fn what_drifted_is_set_right_and_nothing_else_is_touched() {
    let (rig, expected) = planted().await;
    rig.put(&Actor::user("bob").of("lab"), "b.txt", 5).await;
    rig.run("UPDATE storage_quotas SET used_storage_bytes = 6 WHERE organisation_id = 'lab'; UPDATE storage_volumes SET quota_limit = 500").await;
    let lab = "SELECT string_agg(q::text, ' ' ORDER BY entity_type) FROM storage_quotas q WHERE organisation_id = 'lab'";
    let before = rig.text(lab).await;
    let volume = rig.store.volume(&rig.volume_ref()).await.unwrap().unwrap();
    // In any order, and twice: they are locked in theirs, once.
    let mut keys: Vec<_> = expected.iter().rev().map(|drift| drift.key.clone()).collect();
    keys.push(keys[0].clone());
    let mut found = recalculate(&rig, &keys).await;
    // The volume has Bob's file too.
    assert_eq!((found[0].counted_bytes, found[0].actual_bytes), (16, 15));
    (found[0].counted_bytes, found[0].actual_bytes) = (11, 10);
    assert_eq!(found, expected);
    assert_eq!(rig.text(lab).await, before);
    let left = rig.store.quota_drift().await.unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|drift| drift.counted_bytes == 6 && drift.actual_bytes == 5));
    // Its limit stays, and so does what says when its settings last changed.
    let after = rig.store.volume(&rig.volume_ref()).await.unwrap().unwrap();
    assert_eq!((after.quota_used, after.quota_reserved, after.updated_at), (15, 70, volume.updated_at));
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_quotas WHERE last_calculated_at IS NOT NULL").await,
        "3"
    );

    assert_eq!(recalculate(&rig, &keys).await, []);
    let keys: Vec<_> = left.into_iter().map(|drift| drift.key).collect();
    assert_eq!(recalculate(&rig, &keys).await.len(), 2);
    rig.assert_no_drift().await;
    assert_eq!(
        rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'recalculate_quotas'").await,
        "3"
    );
}

#[tokio::test]
async fn a_quota_that_should_have_a_row_gets_one() {
    let (rig, _) = planted().await;
    let nobody = Actor::user("nobody").id();
    assert_eq!(recalculate(&rig, &[project()]).await.len(), 1);
    let quota = rig.store.quotas(&[project()]).await.unwrap().remove(0);
    assert_eq!((quota.usage.used_bytes, quota.usage.reserved_bytes), (10, 70));
    assert_eq!(recalculate(&rig, &[]).await, []);
    let lost = QuotaKey::UserOnVolume(nobody, VolumeId::new());
    let refused =
        rig.store.recalculate_quotas(&[lost], &operation(OperationKind::RecalculateQuotas), None).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Volume(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_recalculation_sent_twice_is_done_once() {
    let (rig, expected) = planted().await;
    let (keys, request) = ([organisation()], request("RecalculateQuotas"));
    for _ in 0..2 {
        let operation = operation(OperationKind::RecalculateQuotas);
        let found = rig.store.recalculate_quotas(&keys, &operation, Some(&request)).await.unwrap();
        assert_eq!(found, expected[4..5]);
    }
}

#[tokio::test]
async fn files_that_were_purged_and_uploads_that_ended_count_no_more() {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 7).await;
    rig.trash(&file).await;
    rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
    let upload = rig.upload(&ann(), "b.txt", 70).holding();
    rig.open(&upload).await;
    let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
    rig.store.abort_upload(upload.held(), &why).await.unwrap();
    rig.assert_no_drift().await;
    rig.run("UPDATE storage_quotas SET used_storage_bytes = 7, used_files = 1, reserved_storage_bytes = 70, reserved_files = 1").await;
    let found = recalculate(&rig, &[project(), organisation()]).await;
    assert_eq!(found.len(), 2);
    for drift in found {
        assert_eq!((drift.actual_bytes, drift.actual_files), (0, 0));
        assert_eq!((drift.actual_reserved_bytes, drift.actual_reserved_files), (0, 0));
    }
}

#[tokio::test]
async fn what_others_commit_meanwhile_is_counted_once() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 1).await;
    let quotas = rig.upload(&ann(), "x", 0).intent.payer.quotas();
    let is_done = AtomicBool::new(false);
    let work = async {
        join_all((0..8).map(async |task| {
            for n in 0..12 {
                let upload = rig.upload(&ann(), &format!("{task}/{n}.txt"), 10);
                let upload = if n % 2 == 0 { upload.holding() } else { upload };
                rig.open(&upload).await;
                rig.store.grow_upload(upload.held(), 20, 20, 20).await.unwrap();
                if n % 3 == 0 {
                    let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
                    assert!(rig.store.abort_upload(upload.held(), &why).await.unwrap());
                } else {
                    let file = rig.store.commit_upload(&upload.commit).await.unwrap();
                    if n % 5 == 0 {
                        rig.trash(&file).await;
                        rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
                    }
                }
            }
        }))
        .await;
        is_done.store(true, Ordering::Relaxed);
    };
    let count = async {
        let mut counted = 0;
        while !is_done.load(Ordering::Relaxed) {
            assert_eq!(recalculate(&rig, &quotas).await, [], "counted while others committed");
            counted += 1;
        }
        counted
    };
    let ((), counted) = join(work, count).await;
    assert!(counted >= 3, "{counted}");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_recalculation_waits_for_whoever_is_counting() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 1).await;
    let mut rival = rig.session().await;
    use diesel_async::SimpleAsyncConnection;
    // Somebody has the counter and will change what it counts.
    rival
        .batch_execute(
            "BEGIN; UPDATE storage_quotas SET used_storage_bytes = 5 WHERE entity_type = 'organization';
             UPDATE user_quotas SET quota_used = 5; UPDATE storage_volumes SET quota_used = 5",
        )
        .await
        .unwrap();
    let store = rig.store.clone();
    let recalculation = tokio::spawn(async move {
        let operation = operation(OperationKind::RecalculateQuotas);
        store.recalculate_quotas(&[organisation()], &operation, None).await.unwrap()
    });
    rig.until(WAITING, "1").await;
    rival.batch_execute("UPDATE storage_file_versions SET size = 5; COMMIT").await.unwrap();
    assert_eq!(recalculation.await.unwrap(), []);
}
