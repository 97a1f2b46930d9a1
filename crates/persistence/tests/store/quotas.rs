//! Quotas: exact under concurrency in every dimension.

use coffer_domain::error::Error;
use coffer_domain::file::File;
use coffer_domain::id::{UserId, VolumeId};
use coffer_domain::quota::{Dimension, Exhausted, QuotaKey, Usage};
use coffer_domain::store::Store;
use futures_util::future::join_all;

use crate::rig::{Actor, Rig, Upload};

const RIVALS: usize = 64;
const FITTING: usize = 10;
const SIZE: u64 = 100;

fn ann() -> Actor {
    Actor::user("ann").through("chat").on("trial")
}

async fn race(rig: &Rig, uploads: Vec<Upload>) -> Vec<Result<File, Error>> {
    join_all(uploads.iter().map(|upload| upload.run(&rig.store))).await
}

/// 64 uploads at once against a quota that has room for 10: 10 are taken, all others say what was exhausted.
async fn assert_exact(limit: &str, dimension: Dimension, key: impl Fn(VolumeId, UserId) -> QuotaKey) {
    let rig = Rig::new().await;
    // Makes every row, and takes a part of the quota.
    rig.put(&ann(), "first.txt", SIZE).await;
    rig.run(limit).await;
    let uploads = (0..RIVALS).map(|n| rig.upload(&ann(), &format!("{n}.txt"), SIZE)).collect();
    let outcomes = race(&rig, uploads).await;
    assert_eq!(outcomes.len(), RIVALS);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), FITTING);
    let key = key(rig.volume.id, ann().id());
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let Error::QuotaExceeded(exhausted) = refused else { panic!("{refused:?}") };
        assert_eq!(exhausted.len(), 1);
        assert_eq!((&exhausted[0].key, exhausted[0].dimension), (&key, dimension));
    }
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, (FITTING + 1).to_string());
    rig.assert_no_drift().await;
    let quota = rig.store.quotas(&[key]).await.unwrap().remove(0);
    assert_eq!(quota.usage.used_bytes, SIZE * (FITTING as u64 + 1));
}

#[tokio::test]
async fn the_volume_is_exact() {
    assert_exact("UPDATE storage_volumes SET quota_limit = 1199", Dimension::Bytes, |volume, _| {
        QuotaKey::Volume(volume)
    })
    .await;
}

#[tokio::test]
async fn a_user_on_a_volume_is_exact() {
    let key = |volume, user| QuotaKey::UserOnVolume(user, volume);
    assert_exact("UPDATE user_quotas SET quota_limit = 1199", Dimension::Bytes, key).await;
}

#[tokio::test]
async fn an_app_on_a_volume_is_exact() {
    let key = |volume, _| QuotaKey::AppOnVolume("chat".to_owned(), volume);
    assert_exact("UPDATE app_quotas SET quota_limit = 1199", Dimension::Bytes, key).await;
}

#[tokio::test]
async fn a_user_is_exact_in_bytes() {
    let key = |_, user| QuotaKey::User { organisation: "clinic".to_owned(), user };
    assert_exact(
        "UPDATE storage_quotas SET max_storage_bytes = 1199 WHERE entity_type = 'user'",
        Dimension::Bytes,
        key,
    )
    .await;
}

#[tokio::test]
async fn a_user_is_exact_in_files() {
    let key = |_, user| QuotaKey::User { organisation: "clinic".to_owned(), user };
    assert_exact(
        "UPDATE storage_quotas SET max_files = 11 WHERE entity_type = 'user'",
        Dimension::Files,
        key,
    )
    .await;
}

#[tokio::test]
async fn an_organisation_is_exact() {
    let key = |_, _| QuotaKey::Organisation("clinic".to_owned());
    assert_exact(
        "UPDATE storage_quotas SET max_storage_bytes = 1199 WHERE entity_type = 'organization'",
        Dimension::Bytes,
        key,
    )
    .await;
}

#[tokio::test]
async fn a_project_is_exact() {
    let key = |_, _| QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() };
    assert_exact(
        "UPDATE storage_quotas SET max_storage_bytes = 1199 WHERE entity_type = 'project'",
        Dimension::Bytes,
        key,
    )
    .await;
}

#[tokio::test]
async fn rows_made_by_many_at_once_are_made_once() {
    let rig = Rig::new().await;
    // Nobody has a row yet; each name shares some of its quotas with the others.
    let actors: Vec<_> = (0..24)
        .map(|n| {
            Actor::user(["ann", "bob", "eve"][n % 3]).of(["clinic", "lab"][n % 2]).through("chat").on("trial")
        })
        .collect();
    let uploads =
        actors.iter().enumerate().map(|(n, actor)| rig.upload(actor, &format!("{n}.txt"), 10)).collect();
    for outcome in race(&rig, uploads).await {
        outcome.unwrap();
    }
    assert_eq!(rig.text("SELECT quota_used FROM storage_volumes").await, "240");
    assert_eq!(rig.text("SELECT count(*) FROM user_quotas").await, "3");
    assert_eq!(rig.text("SELECT count(*) FROM storage_quotas").await, "10");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn the_largest_file_is_limited() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", SIZE).await;
    rig.run("UPDATE storage_quotas SET max_file_size_bytes = 99 WHERE entity_type = 'user'").await;
    let uploads = vec![rig.upload(&ann(), "large.txt", 100), rig.upload(&ann(), "small.txt", 99)];
    let outcomes = race(&rig, uploads).await;
    let Err(Error::QuotaExceeded(exhausted)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(exhausted[0].dimension, Dimension::FileSize);
    assert!(outcomes[1].is_ok());
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn every_exhausted_dimension_is_named_in_order() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", SIZE).await;
    let upload = rig.upload(&ann(), "b.txt", 70);
    rig.open(&upload).await;
    rig.run(
        "UPDATE storage_volumes SET quota_limit = 150; UPDATE user_quotas SET quota_limit = 150;
         UPDATE app_quotas SET quota_limit = 150;
         UPDATE storage_quotas SET max_storage_bytes = 150, max_files = 1, max_file_size_bytes = 60",
    )
    .await;
    let refused = rig.store.commit_upload(&upload.commit).await;
    let Err(Error::QuotaExceeded(exhausted)) = refused else { panic!("{refused:?}") };
    let (volume, user) = (rig.volume.id, ann().id());
    let entities = [
        QuotaKey::User { organisation: "clinic".to_owned(), user },
        QuotaKey::Organisation("clinic".to_owned()),
        QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() },
    ];
    let mut expected: Vec<_> = [
        QuotaKey::Volume(volume),
        QuotaKey::UserOnVolume(user, volume),
        QuotaKey::AppOnVolume("chat".to_owned(), volume),
    ]
    .into_iter()
    .map(|key| (key, Dimension::Bytes))
    .collect();
    for key in entities {
        expected.extend([Dimension::Bytes, Dimension::Files, Dimension::FileSize].map(|d| (key.clone(), d)));
    }
    assert_eq!(exhausted.iter().map(|e| (e.key.clone(), e.dimension)).collect::<Vec<_>>(), expected);
    let first = Exhausted {
        key: QuotaKey::Volume(volume),
        dimension: Dimension::Bytes,
        limit: 150,
        used: 100,
        reserved: 0,
        requested: 70,
    };
    assert_eq!(exhausted[0], first);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_limit_that_is_switched_off_only_counts() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", SIZE).await;
    rig.run("UPDATE storage_quotas SET max_storage_bytes = 0, max_files = 0, is_active = false").await;
    rig.put(&ann(), "second.txt", SIZE).await;
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn over_its_limit_a_file_may_still_shrink_but_not_grow() {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 100).await;
    rig.run("UPDATE storage_volumes SET quota_limit = 10").await;
    let refused = rig.version(&ann(), &file, 101).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
    let refused = rig.version(&ann(), &file, 1).keeping_versions().run(&rig.store).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
    rig.version(&ann(), &file, 60).run(&rig.store).await.unwrap();
    assert_eq!(rig.text("SELECT quota_used FROM storage_volumes").await, "60");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn quotas_are_answered_in_order_and_unused_ones_as_such() {
    let rig = Rig::new().await;
    let (user, volume) = (ann().id(), rig.volume.id);
    let keys = [
        QuotaKey::Organisation("clinic".to_owned()),
        QuotaKey::UserOnVolume(user, volume),
        QuotaKey::Volume(volume),
        QuotaKey::AppOnVolume("chat".to_owned(), volume),
        QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() },
        QuotaKey::User { organisation: "clinic".to_owned(), user },
        QuotaKey::Volume(VolumeId::new()),
    ];
    let unused = rig.store.quotas(&keys).await.unwrap();
    assert_eq!(unused.iter().map(|q| q.key.clone()).collect::<Vec<_>>(), keys);
    assert!(unused.iter().all(|quota| quota.usage == Usage::default()));
    assert_eq!(unused.iter().filter(|quota| quota.updated_at.is_some()).count(), 1, "the volume's");

    rig.put(&ann(), "a.txt", 7).await;
    rig.run("UPDATE storage_quotas SET max_storage_bytes = 70, max_files = 8, max_file_size_bytes = 9").await;
    let used = rig.store.quotas(&keys).await.unwrap();
    assert_eq!(used.iter().map(|quota| quota.usage.used_bytes).collect::<Vec<_>>(), [7, 7, 7, 7, 7, 7, 0]);
    let organisation = Usage {
        limit_bytes: Some(70),
        used_bytes: 7,
        limit_files: Some(8),
        used_files: 1,
        max_file_bytes: Some(9),
        ..Usage::default()
    };
    assert_eq!(used[0].usage, organisation);
    assert!(used[..6].iter().all(|quota| quota.updated_at.is_some()));
}
