//! What unfinished uploads hold of their payer's quotas: taken, grown, settled, given back.

use coffer_domain::error::{Conflict, Error, State};
use coffer_domain::file::Payer;
use coffer_domain::id::FileId;
use coffer_domain::operation::{Operation, OperationKind};
use coffer_domain::quota::{Dimension, Exhausted, Hold, QuotaKey, Usage};
use coffer_domain::store::{Store, Target};
use coffer_domain::time::now;
use coffer_domain::upload;
use futures_util::future::join_all;

use crate::rig::{Actor, Rig, Upload, operation, start_request};

fn ann() -> Actor {
    Actor::user("ann").through("chat").on("trial")
}

fn failed() -> Operation {
    operation(OperationKind::Upload).failed(&Error::Stalled { seconds: 30 })
}

/// Used and reserved bytes and files in each of a payer's quotas.
async fn usages(rig: &Rig, payer: &Payer) -> Vec<(u64, u64, u64, u64)> {
    let quotas = rig.store.quotas(&payer.quotas()).await.unwrap();
    let numbers =
        |usage: Usage| (usage.used_bytes, usage.reserved_bytes, usage.used_files, usage.reserved_files);
    quotas.into_iter().map(|quota| numbers(quota.usage)).collect()
}

fn exhausted<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Vec<Exhausted> {
    match outcome {
        Err(Error::QuotaExceeded(exhausted)) => exhausted,
        other => panic!("{other:?}"),
    }
}

fn is_fenced<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Conflict(Conflict::Fenced))), "{outcome:?}");
}

#[tokio::test]
async fn a_hold_counts_in_every_quota_and_becomes_use_with_the_commit() {
    let rig = Rig::new().await;
    let upload = rig.upload(&ann(), "a.txt", 70).holding();
    let payer = &upload.intent.payer;
    let opened = rig.open(&upload).await;
    assert_eq!(opened.held, Hold { bytes: 70, files: 1 });
    let (on_volume, entity) = ((0, 70, 0, 0), (0, 70, 0, 1));
    assert_eq!(usages(&rig, payer).await, [on_volume, on_volume, on_volume, entity, entity, entity]);
    rig.assert_no_drift().await;

    rig.store.commit_upload(&upload.commit).await.unwrap();
    let (on_volume, entity) = ((70, 0, 0, 0), (70, 0, 1, 0));
    assert_eq!(usages(&rig, payer).await, [on_volume, on_volume, on_volume, entity, entity, entity]);
    let row = rig.row(&upload).await;
    assert_eq!((row.state, row.held, row.persisted_size), (upload::State::Committed, Hold::default(), 70));
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn users_nobody_has_seen_can_hold_quota_too() {
    let rig = Rig::new().await;
    let upload = rig.upload(&Actor::user("new"), "a.txt", 7).holding();
    rig.open(&upload).await;
    assert_eq!(rig.text("SELECT count(*) FROM users").await, "0");
    assert_eq!(rig.text("SELECT quota_reserved FROM user_quotas").await, "7");
    rig.store.commit_upload(&upload.commit).await.unwrap();
    assert_eq!(rig.text("SELECT count(*) FROM users").await, "1");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn of_many_reservations_exactly_those_that_fit_are_taken() {
    const RIVALS: usize = 64;
    const FITTING: usize = 20;
    let limits = [
        ("UPDATE storage_volumes SET quota_limit = 2199", Dimension::Bytes),
        ("UPDATE app_quotas SET quota_limit = 2199", Dimension::Bytes),
        ("UPDATE storage_quotas SET max_files = 21 WHERE entity_type = 'user'", Dimension::Files),
        (
            "UPDATE storage_quotas SET max_storage_bytes = 2199 WHERE entity_type = 'project'",
            Dimension::Bytes,
        ),
    ];
    for (limit, dimension) in limits {
        let rig = Rig::new().await;
        rig.put(&ann(), "first.txt", 100).await;
        rig.run(limit).await;
        let uploads: Vec<_> =
            (0..RIVALS).map(|n| rig.upload(&ann(), &format!("{n}.txt"), 100).holding()).collect();
        let outcomes =
            join_all(uploads.iter().map(|upload| rig.store.open_upload(&upload.intent, None))).await;
        let mut taken = Vec::new();
        for (upload, outcome) in uploads.iter().zip(outcomes) {
            match outcome {
                Ok(_) => taken.push(upload),
                refused => {
                    let exhausted = exhausted(refused);
                    assert_eq!(exhausted.len(), 1, "{limit}");
                    assert_eq!(exhausted[0].dimension, dimension, "{limit}");
                }
            }
        }
        assert_eq!(taken.len(), FITTING, "{limit}");
        assert_eq!(rig.text("SELECT count(*) FROM storage_uploads WHERE state = 'OPEN'").await, "20");
        rig.assert_no_drift().await;
        // What was started can be finished.
        for outcome in join_all(taken.iter().map(|upload| rig.store.commit_upload(&upload.commit))).await {
            outcome.unwrap();
        }
        rig.assert_no_drift().await;
    }
}

#[tokio::test]
async fn a_refused_reservation_changes_nothing_and_names_what_is_exhausted() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 100).await;
    rig.run(
        "UPDATE storage_volumes SET quota_limit = 150;
         UPDATE storage_quotas SET max_files = 1, max_file_size_bytes = 60 WHERE entity_type = 'project'",
    )
    .await;
    let upload = rig.upload(&ann(), "a.txt", 70).holding();
    let start = operation(OperationKind::StartUpload);
    let refused = exhausted(rig.store.open_upload(&upload.intent, Some(&start)).await);
    let project = QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() };
    assert_eq!(
        refused.iter().map(|e| (e.key.clone(), e.dimension, e.limit)).collect::<Vec<_>>(),
        [
            (QuotaKey::Volume(rig.volume.id), Dimension::Bytes, 150),
            (project.clone(), Dimension::Files, 1),
            (project, Dimension::FileSize, 60)
        ]
    );
    assert!(rig.store.recorded(&[start.id]).await.unwrap().is_empty());
    assert_eq!(rig.store.upload(upload.intent.id).await.unwrap(), None);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn what_holds_nothing_is_refused_early_where_nothing_is_left() {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "first.txt", 100).await;
    let open = async |size: u64| {
        let mut upload = rig.upload(&ann(), &format!("{size}.txt"), size);
        upload.intent.file_bytes = size;
        rig.store.open_upload(&upload.intent, None).await
    };
    let dimensions = |outcome| exhausted(outcome).into_iter().map(|e| e.dimension).collect::<Vec<_>>();
    for (limit, unlimited) in [
        ("storage_volumes SET quota_limit = 110", "storage_volumes SET quota_limit = NULL"),
        ("user_quotas SET quota_limit = 110", "user_quotas SET quota_limit = NULL"),
        ("app_quotas SET quota_limit = 110", "app_quotas SET quota_limit = NULL"),
    ] {
        rig.run(&format!("UPDATE {limit}")).await;
        open(10).await.unwrap();
        assert_eq!(dimensions(open(11).await), [Dimension::Bytes], "{limit}");
        rig.run(&format!("UPDATE {unlimited}")).await;
    }
    for entity in ["user", "organization", "project"] {
        let set = |what: &str| format!("UPDATE storage_quotas SET {what} WHERE entity_type = '{entity}'");
        rig.run(&set("max_storage_bytes = 110")).await;
        assert_eq!(dimensions(open(11).await), [Dimension::Bytes], "{entity}");
        rig.run(&set("max_storage_bytes = NULL, max_files = 1")).await;
        assert_eq!(dimensions(open(0).await), [Dimension::Files], "{entity}");
        rig.run(&set("max_files = NULL, max_file_size_bytes = 9")).await;
        assert_eq!(dimensions(open(10).await), [Dimension::FileSize], "{entity}");
        open(9).await.unwrap();
        rig.run(&set("max_storage_bytes = 0, is_active = false")).await;
        open(10).await.unwrap();
        rig.run(&set("max_storage_bytes = NULL, max_file_size_bytes = NULL, is_active = true")).await;
    }
    // New content that takes the place of the old needs only what it has more; new content beside the old needs all.
    rig.run("UPDATE storage_volumes SET quota_limit = 100").await;
    let mut version = rig.version(&ann(), &file, 90);
    version.intent.file_bytes = 90;
    assert_eq!(dimensions(rig.store.open_upload(&version.intent, None).await), [Dimension::Bytes]);
    version.intent.replaced_bytes = 100;
    version.run(&rig.store).await.unwrap();
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn another_payers_limit_is_not_in_the_way() {
    let rig = Rig::new().await;
    let (bob, lab) = (Actor::user("bob").on("other"), Actor::user("ann").through("mail").of("lab"));
    for actor in [&ann(), &bob, &lab] {
        rig.put(actor, &format!("{}.txt", actor.id()), 10).await;
    }
    rig.run("UPDATE storage_quotas SET max_storage_bytes = 0 WHERE entity_id IN ('other', 'lab')").await;
    let mut upload = rig.upload(&ann(), "a.txt", 10);
    upload.intent.file_bytes = 10;
    rig.store.open_upload(&upload.intent, None).await.unwrap();
    for actor in [bob, lab] {
        let mut upload = rig.upload(&actor, "b.txt", 10);
        upload.intent.file_bytes = 10;
        assert_eq!(exhausted(rig.store.open_upload(&upload.intent, None).await).len(), 1);
    }
}

#[tokio::test]
async fn growth_takes_what_is_wanted_or_what_is_left_and_never_less_than_needed() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 100).await;
    rig.run("UPDATE storage_volumes SET quota_limit = 1000; UPDATE user_quotas SET quota_limit = 600").await;
    let mut upload = rig.upload(&ann(), "a.txt", 0);
    upload.intent.hold = Hold { bytes: 0, files: 1 };
    rig.open(&upload).await;
    let grow = async |bytes, wanted| rig.store.grow_upload(upload.held(), bytes, wanted, bytes).await;
    assert_eq!(grow(10, 300).await.unwrap(), 300);
    // What is held already stays, whatever is asked for.
    assert_eq!(grow(20, 30).await.unwrap(), 300);
    assert_eq!(grow(310, 310).await.unwrap(), 310);
    // 190 are left for the user: near the ceiling exactly that.
    assert_eq!(grow(400, 100_000).await.unwrap(), 500);
    assert_eq!(grow(500, 100_000).await.unwrap(), 500);
    let found = exhausted(grow(501, 501).await);
    let expected = Exhausted {
        key: QuotaKey::UserOnVolume(ann().id(), rig.volume.id),
        dimension: Dimension::Bytes,
        limit: 600,
        used: 100,
        reserved: 500,
        requested: 1,
    };
    assert_eq!(found, [expected]);
    assert_eq!(rig.row(&upload).await.held, Hold { bytes: 500, files: 1 });
    rig.assert_no_drift().await;

    // The size of a single file is limited also where nothing grows.
    rig.run("UPDATE storage_quotas SET max_file_size_bytes = 400 WHERE entity_type = 'user'").await;
    let found = exhausted(rig.store.grow_upload(upload.held(), 100, 100, 401).await);
    assert_eq!(found.iter().map(|e| e.dimension).collect::<Vec<_>>(), [Dimension::FileSize]);

    // Below a limit that was lowered nothing grows, and what is held stays.
    rig.run("UPDATE storage_quotas SET max_file_size_bytes = NULL; UPDATE user_quotas SET quota_limit = 50")
        .await;
    assert_eq!(grow(500, 100_000).await.unwrap(), 500);
    assert_eq!(exhausted(grow(501, 501).await).len(), 1);
    upload.commit.stored.size = 500;
    rig.store.commit_upload(&upload.commit).await.unwrap();
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn of_many_that_grow_none_goes_over_the_ceiling() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 1).await;
    rig.run("UPDATE storage_quotas SET max_storage_bytes = 1000 WHERE entity_type = 'organization'").await;
    let uploads: Vec<_> = (0..32).map(|n| rig.upload(&ann(), &format!("{n}.txt"), 0)).collect();
    for upload in &uploads {
        rig.open(upload).await;
    }
    let grown = join_all(uploads.iter().map(async |upload| {
        let mut held = 0;
        for step in 1..20 {
            match rig.store.grow_upload(upload.held(), held + 1, held + 7 * step, held + 1).await {
                Ok(bytes) => held = bytes,
                refused => {
                    exhausted(refused);
                    break;
                }
            }
        }
        held
    }))
    .await;
    assert_eq!(grown.iter().sum::<u64>(), 999, "{grown:?}");
    assert_eq!(
        rig.text("SELECT reserved_storage_bytes FROM storage_quotas WHERE entity_type = 'organization'")
            .await,
        "999"
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn whoever_does_not_hold_it_cannot_grow_it() {
    let rig = Rig::new().await;
    let upload = rig.upload(&ann(), "a.txt", 5).holding();
    is_fenced(rig.store.grow_upload(upload.held(), 10, 10, 10).await);
    rig.open(&upload).await;
    let stale = upload::Held { epoch: 0, ..upload.held() };
    is_fenced(rig.store.grow_upload(stale, 10, 10, 10).await);
    rig.store.finish_upload(upload.held(), None).await.unwrap();
    is_fenced(rig.store.grow_upload(upload.held(), 10, 10, 10).await);
    rig.store.commit_upload(&upload.commit).await.unwrap();
    is_fenced(rig.store.grow_upload(upload.held(), 10, 10, 10).await);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn at_the_commit_only_what_goes_beyond_the_hold_has_to_fit() {
    let rig = Rig::new().await;
    rig.put(&ann(), "first.txt", 100).await;
    rig.run("UPDATE storage_volumes SET quota_limit = 200").await;
    let opened = async |path: &str, held: u64, size: u64| {
        let mut upload = rig.upload(&ann(), path, size);
        upload.intent.hold = Hold { bytes: held, files: 1 };
        rig.open(&upload).await;
        upload
    };
    // 40 are held by another: 60 are left, of which this one holds 30.
    let other = opened("other.txt", 40, 40).await;
    let beyond = opened("beyond.txt", 30, 61).await;
    let refused = exhausted(rig.store.commit_upload(&beyond.commit).await);
    assert_eq!((refused[0].used, refused[0].reserved, refused[0].requested), (100, 70, 31));
    assert_eq!(rig.row(&beyond).await.held, Hold { bytes: 30, files: 1 });
    rig.assert_no_drift().await;
    let mut fits = beyond.clone();
    fits.commit.stored.size = 60;
    rig.store.commit_upload(&fits.commit).await.unwrap();
    rig.assert_no_drift().await;

    // The limit is lowered: what is held is still got, and less than that gives the rest back.
    rig.run("UPDATE storage_volumes SET quota_limit = 1; UPDATE storage_quotas SET max_files = 0").await;
    let mut less = other.clone();
    less.commit.stored.size = 25;
    rig.store.commit_upload(&less.commit).await.unwrap();
    assert_eq!(rig.text("SELECT quota_used || ' ' || quota_reserved FROM storage_volumes").await, "185 0");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn the_size_of_a_single_file_is_limited_at_the_commit_too() {
    let rig = Rig::new().await;
    let upload = rig.upload(&ann(), "a.txt", 50).holding();
    rig.open(&upload).await;
    rig.run("UPDATE storage_quotas SET max_file_size_bytes = 49 WHERE entity_type = 'organization'").await;
    let refused = exhausted(rig.store.commit_upload(&upload.commit).await);
    assert_eq!(refused.iter().map(|e| e.dimension).collect::<Vec<_>>(), [Dimension::FileSize]);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_version_needs_only_what_it_has_more_than_the_one_it_replaces() {
    let rig = Rig::new().await;
    let file = rig.put(&ann(), "a.txt", 100).await;
    rig.run("UPDATE storage_volumes SET quota_limit = 160").await;
    let mut version = rig.version(&ann(), &file, 150);
    version.intent.hold = Hold { bytes: 50, files: 0 };
    version.run(&rig.store).await.unwrap();
    assert_eq!(rig.text("SELECT quota_used || ' ' || quota_reserved FROM storage_volumes").await, "150 0");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn what_is_held_goes_back_to_its_payer_where_another_pays_for_the_file() {
    let rig = Rig::new().await;
    let bob = Actor::user("bob").on("other");
    // Meant as a new file of Bob's; meanwhile Ann has one at the path, and it becomes a version of that.
    let theirs = rig.put(&ann(), "a.txt", 10).await;
    let mut upload = rig.upload(&bob, "a.txt", 70).holding();
    rig.open(&upload).await;
    upload.commit.target =
        Target::Version { file: theirs.id, if_revision: None, changes: Default::default() };
    upload.commit.keeps_versions = true;
    rig.run("UPDATE user_quotas SET quota_limit = 79; UPDATE storage_quotas SET max_storage_bytes = 79 WHERE entity_id = 'trial'").await;
    // Ann's quotas know nothing of Bob's hold: all of it has to fit there.
    let refused = exhausted(rig.store.commit_upload(&upload.commit).await);
    assert_eq!(
        refused.iter().map(|e| (e.key.clone(), e.requested)).collect::<Vec<_>>(),
        [
            (QuotaKey::UserOnVolume(ann().id(), rig.volume.id), 70),
            (QuotaKey::Project { organisation: "clinic".to_owned(), project: "trial".to_owned() }, 70)
        ]
    );
    rig.assert_no_drift().await;
    rig.run("UPDATE user_quotas SET quota_limit = NULL; UPDATE storage_quotas SET max_storage_bytes = 80")
        .await;
    rig.store.commit_upload(&upload.commit).await.unwrap();
    let of_bob = usages(&rig, &upload.intent.payer).await;
    assert_eq!(of_bob, [(80, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (80, 0, 1, 0), (0, 0, 0, 0)]);
    rig.assert_no_drift().await;

    rig.run("UPDATE storage_quotas SET max_storage_bytes = NULL").await;

    // Meant as a version of Ann's file, which has gone: it becomes a new file of Bob's.
    let mut upload = rig.version(&bob, &theirs, 30);
    upload.intent.payer = rig.upload(&ann(), "x", 0).intent.payer;
    upload.intent.hold = Hold { bytes: 30, files: 0 };
    rig.open(&upload).await;
    rig.trash(&theirs).await;
    upload.commit.target = rig.upload(&bob, "a.txt", 30).commit.target;
    rig.store.commit_upload(&upload.commit).await.unwrap();
    let of_bob = usages(&rig, &rig.upload(&bob, "x", 0).intent.payer).await;
    assert_eq!(of_bob, [(110, 0, 0, 0), (30, 0, 0, 0), (30, 0, 1, 0), (110, 0, 2, 0), (30, 0, 1, 0)]);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn payers_that_change_in_both_directions_at_once_do_not_block_each_other() {
    let rig = Rig::new().await;
    let bob = Actor::user("bob").on("other");
    let mut uploads = Vec::new();
    for n in 0..48 {
        let (from, to) = if n % 2 == 0 { (ann(), bob.clone()) } else { (bob.clone(), ann()) };
        let mut upload = rig.upload(&from, &format!("{n}.txt"), 10).holding();
        rig.open(&upload).await;
        upload.commit.target = rig.upload(&to, &format!("{n}.txt"), 10).commit.target;
        upload.commit.by.clone_from(&to.user);
        uploads.push(upload);
    }
    for outcome in join_all(uploads.iter().map(|upload| rig.store.commit_upload(&upload.commit))).await {
        outcome.unwrap();
    }
    assert_eq!(
        rig.text("SELECT string_agg(quota_used || ' ' || quota_reserved, ',') FROM user_quotas").await,
        "240 0,240 0"
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn every_end_without_a_file_gives_back_what_is_held() {
    let rig = Rig::new().await;
    let none = (0, 0, 0, 0);
    let open = async |change: &dyn Fn(&mut Upload)| {
        let mut upload = rig.upload(&ann(), &format!("{}.txt", FileId::new()), 70).holding();
        change(&mut upload);
        rig.open(&upload).await;
        assert_eq!(rig.text("SELECT quota_reserved FROM storage_volumes").await, "70");
        upload
    };
    let aborted = open(&|_| {}).await;
    assert!(rig.store.abort_upload(aborted.held(), &failed()).await.unwrap());
    assert_eq!(usages(&rig, &aborted.intent.payer).await, [none; 6]);

    let finishing = open(&|_| {}).await;
    rig.store.finish_upload(finishing.held(), None).await.unwrap();
    assert!(rig.store.abort_upload(finishing.held(), &failed()).await.unwrap());
    assert_eq!(usages(&rig, &aborted.intent.payer).await, [none; 6]);

    let cancelled = open(&|_| {}).await;
    let cancel = operation(OperationKind::CancelUpload);
    rig.store.cancel_upload(cancelled.intent.id, &cancel, None).await.unwrap();
    assert_eq!(usages(&rig, &aborted.intent.payer).await, [none; 6]);

    let expired = open(&|upload| upload.intent.expires_at = now()).await;
    rig.store.dead_uploads(&operation(OperationKind::Reconcile), 10).await.unwrap();
    assert_eq!(rig.row(&expired).await.state, upload::State::Expired);
    assert_eq!(usages(&rig, &aborted.intent.payer).await, [none; 6]);

    // The request was answered by another upload: this one is nobody's.
    let request = start_request();
    let first = rig.upload(&ann(), "first.txt", 1).with_request(&request);
    let file = first.run(&rig.store).await.unwrap();
    let second = rig.upload(&ann(), "second.txt", 70).holding().with_request(&request);
    rig.open(&second).await;
    assert_eq!(rig.store.commit_upload(&second.commit).await.unwrap(), file);
    assert_eq!(rig.row(&second).await.state, upload::State::Aborted);
    assert_eq!(usages(&rig, &aborted.intent.payer).await[0], (1, 0, 0, 0));

    for ended in [&aborted, &finishing, &cancelled, &expired, &second] {
        let row = rig.row(ended).await;
        assert_eq!((row.held, row.epoch), (Hold::default(), 2), "{row:?}");
        let refused = rig.store.take_upload(ended.intent.id, rig.start).await;
        assert!(matches!(refused, Err(Error::State(State::UploadEnded(_)))), "{refused:?}");
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn giving_back_works_also_where_the_counter_is_wrong() {
    let rig = Rig::new().await;
    let upload = rig.upload(&ann(), "a.txt", 70).holding();
    rig.open(&upload).await;
    rig.run("UPDATE storage_volumes SET quota_reserved = 5; UPDATE storage_quotas SET reserved_files = 0")
        .await;
    assert!(rig.store.abort_upload(upload.held(), &failed()).await.unwrap());
    rig.assert_no_drift().await;
}
