//! Reservations, growth, commits, ends, reconcilers and operators at once: nobody waits for somebody who waits for him.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use coffer_domain::content::{Codec, Pipeline};
use coffer_domain::error::{Conflict, Error, Result};
use coffer_domain::operation::{OperationKind, OperationStatus};
use coffer_domain::page::PageRequest;
use coffer_domain::quota::{Filter, Limits, QuotaKey, Scope};
use coffer_domain::store::Store;
use coffer_domain::time::now;
use coffer_domain::upload::Checkpoint;
use coffer_domain::volume::Volume;
use coffer_persistence::PgStore;
use coffer_persistence::database::Options;
use futures_util::future::{join, join_all};

use crate::rig::{Actor, Rig, Upload, operation, start_request};

const TASKS: usize = 12;
const ROUNDS: usize = 7;

fn actors() -> Vec<Actor> {
    vec![
        Actor::user("ann").through("chat").on("trial"),
        Actor::user("bob").through("chat").on("trial"),
        Actor::user("ann").through("mail"),
        Actor::app("chat").on("audit"),
        Actor::user("eve").of("lab").through("mail").on("trial"),
    ]
}

fn named(name: &str) -> Options {
    Options { application_name: name.to_owned(), ..Options::default() }
}

/// Ends the pool of a store and answers how many deadlocks there were.
async fn deadlocks(rig: &Rig, store: PgStore, name: &str) -> String {
    drop(store);
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
    rig.until(&sessions, "0").await;
    rig.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await
}

/// Takes an upload to one of its ends. What others do to it meanwhile is no fault; anything else is.
async fn work(store: &PgStore, upload: &mut Upload, turn: usize) -> Result<()> {
    store.open_upload(&upload.intent, Some(&operation(OperationKind::StartUpload))).await?;
    store.grow_upload(upload.held(), 30, 60, 30).await?;
    let state = Pipeline::new(Codec::Identity).save();
    store.checkpoint_uploads(&[Checkpoint { held: upload.held(), persisted_size: 0, state }]).await?;
    if turn.is_multiple_of(3) {
        upload.commit.held = store.take_upload(upload.intent.id, upload.intent.start).await?.held_by_epoch();
    }
    match turn % 5 {
        0 => {
            let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
            store.abort_upload(upload.held(), &why).await?;
        }
        1 => {
            store.cancel_upload(upload.intent.id, &operation(OperationKind::CancelUpload), None).await?;
        }
        2 => {
            store.finish_upload(upload.held(), None).await?;
            store.commit_upload(&upload.commit).await?;
        }
        3 => drop(store.commit_upload(&upload.commit).await?),
        // Left to the reconcilers.
        _ => {}
    }
    Ok(())
}

fn upload(rig: &Rig, volumes: &[&Volume; 2], task: usize, round: usize) -> Upload {
    let actors = actors();
    let turn = task * 7 + round * 5;
    let actor = &actors[turn % actors.len()];
    let volume = volumes[turn % 2];
    let path = format!("{task}/{round}.txt");
    let mut upload = rig.upload_to(volume, actor, &path, 40).resumable(&start_request());
    if !turn.is_multiple_of(4) {
        upload = upload.holding();
    }
    if turn.is_multiple_of(6) {
        // Somebody else pays in the end.
        let other = &actors[(turn + 1) % actors.len()];
        upload.commit.target = rig.upload_to(volume, other, &path, 40).commit.target;
        upload.commit.by.clone_from(&other.user);
    }
    if turn.is_multiple_of(7) {
        upload.intent.expires_at = now();
    }
    upload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_work_meets_without_a_deadlock() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let volumes = [&rig.volume, &other];
    let store = rig.other_store(named("mixed"));
    // Makes the rows they share: what is made on first use is made while later rows are locked.
    for (n, actor) in actors().iter().enumerate() {
        for volume in volumes {
            rig.upload_to(volume, actor, &format!("first-{n}.txt"), 1).run(&rig.store).await.unwrap();
        }
    }
    let keys: Vec<QuotaKey> = rig.upload(&actors()[0], "x", 0).intent.payer.quotas();
    let (is_done, committed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let workers = async {
        join_all((0..TASKS).map(async |task| {
            for round in 0..ROUNDS {
                let mut upload = upload(&rig, &volumes, task, round);
                match work(&store, &mut upload, task + round).await {
                    Ok(()) => drop(committed.fetch_add(1, Ordering::Relaxed)),
                    // Expired before it was taken or committed.
                    Err(Error::Conflict(Conflict::Fenced) | Error::State(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }))
        .await;
        is_done.store(true, Ordering::Relaxed);
    };
    let operators = async {
        let page = PageRequest::new(100, 0, None).unwrap();
        let scope = Scope::All { organisation: "clinic".to_owned() };
        let mut turns = 0;
        while !is_done.load(Ordering::Relaxed) {
            let recalculate = operation(OperationKind::RecalculateQuotas);
            assert_eq!(store.recalculate_quotas(&keys, &recalculate, None).await.unwrap(), []);
            let limits = Limits { bytes: Some(1_000_000 + turns), ..Limits::default() };
            for key in &keys {
                store.set_quota(key, &limits, &operation(OperationKind::SetQuota), None).await.unwrap();
            }
            assert!(!store.list_quotas(&scope, &Filter::default(), &page).await.unwrap().items.is_empty());
            turns += 1;
        }
        turns
    };
    let reconciler = async || {
        while !is_done.load(Ordering::Relaxed) {
            store.dead_uploads(&operation(OperationKind::Reconcile), 5).await.unwrap();
        }
    };
    let ((), (turns, _)) = join(workers, join(operators, join(reconciler(), reconciler()))).await;
    let done = committed.load(Ordering::Relaxed);
    assert!(done > TASKS * ROUNDS / 2 && turns > 3, "{done} done beside {turns} turns");
    rig.assert_no_drift().await;
    assert_eq!(deadlocks(&rig, store, "mixed").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reconcilers_end_every_upload_once() {
    const DEAD: usize = 60;
    let rig = Rig::new().await;
    let actors = actors();
    for n in 0..DEAD {
        let mut upload = rig.upload(&actors[n % actors.len()], &format!("{n}.txt"), 10).holding();
        upload.intent.expires_at = now();
        rig.open(&upload).await;
    }
    let (one, two) = (rig.other_store(named("reconcilers")), rig.other_store(named("reconcilers")));
    let run = async |store: &PgStore| {
        for _ in 0..DEAD.div_ceil(8) {
            store.dead_uploads(&operation(OperationKind::Reconcile), 8).await.unwrap();
        }
    };
    join(run(&one), run(&two)).await;
    assert_eq!(rig.texts("SELECT DISTINCT state || ' ' || epoch FROM storage_uploads").await, ["EXPIRED 2"]);
    assert_eq!(
        rig.text("SELECT count(*) || ' ' || count(DISTINCT metadata ->> 'upload') FROM storage_operations WHERE operation = 'expire_upload'").await,
        format!("{DEAD} {DEAD}")
    );
    let status = OperationStatus::Success.as_str();
    assert_eq!(
        rig.texts("SELECT DISTINCT status FROM storage_operations WHERE operation = 'expire_upload'").await,
        [status]
    );
    rig.assert_no_drift().await;
    drop(one);
    assert_eq!(deadlocks(&rig, two, "reconcilers").await, "0");
}
