//! Hundreds at once, on one store and on two: the books stay right, whatever breaks.

use std::collections::BTreeSet;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coffer_domain::error::{Error, Taken, Unavailable};
use coffer_domain::id::FileId;
use coffer_domain::store::Store;
use coffer_persistence::PgStore;
use coffer_persistence::database::Options;
use futures_util::future::{join, join_all};

use crate::rig::{Actor, Rig, Upload};

const TASKS: usize = 400;
const SIZE: u64 = 10;

/// 400 uploads of 8 people on 4 projects: every fifth wants the path of the one before it, every seventh the name.
fn crowd(rig: &Rig) -> Vec<Upload> {
    let mut uploads: Vec<Upload> = Vec::with_capacity(TASKS);
    for n in 0..TASKS {
        let actor = Actor::user(&format!("user{}", n % 8)).on(&format!("project{}", n % 4));
        let path = if n % 5 == 1 { n - 1 } else { n };
        let mut upload = rig.upload(&actor, &format!("{path}.txt"), SIZE);
        if n % 7 == 1 {
            upload.new_file().file_id = format!("name{}", n / 14);
        }
        if n % 3 == 0 {
            upload = upload.holding();
        }
        uploads.push(upload);
    }
    uploads
}

/// Everybody has a file; each store has its connections by then, so that none is late. Whoever comes first, the small limits are met long
/// before the volume is full, and of the others at least 206 fit beside each other, where it has room for 199.
async fn nearly_full(rig: &Rig, stores: &[&PgStore]) {
    for (user, store) in (0..8).zip(stores.iter().cycle()) {
        let actor = Actor::user(&format!("user{user}")).on(&format!("project{}", user % 4));
        rig.upload(&actor, &format!("first{user}.txt"), 1).run(store).await.unwrap();
    }
    rig.run(
        "UPDATE storage_volumes SET quota_limit = 2000;
         UPDATE user_quotas SET quota_limit = 41 WHERE id = (SELECT min(id::text)::uuid FROM user_quotas);
         UPDATE storage_quotas SET max_files = 6 WHERE entity_type = 'project' AND entity_id = 'project1'",
    )
    .await;
}

async fn is_exact(stores: usize) {
    let rig = Rig::new().await;
    let others: Vec<PgStore> = (1..stores).map(|_| rig.other_store(Options::default())).collect();
    let stores: Vec<&PgStore> = iter::once(&rig.store).chain(&others).collect();
    nearly_full(&rig, &stores).await;
    let uploads = crowd(&rig);
    let running = uploads.iter().zip(stores.iter().cycle()).map(|(upload, store)| upload.run(store));
    let outcomes = join_all(running).await;
    let (mut committed, mut paths, mut names, mut quotas) = (0_u64, 0, 0, BTreeSet::new());
    for outcome in outcomes {
        match outcome {
            Ok(_) => committed += 1,
            Err(Error::AlreadyExists(Taken::Path)) => paths += 1,
            Err(Error::AlreadyExists(Taken::FileName)) => names += 1,
            Err(Error::QuotaExceeded(exhausted)) => {
                quotas.extend(exhausted.into_iter().map(|e| (e.key.to_string(), e.dimension as u8)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(paths > 0 && names > 0 && quotas.len() == 3, "{paths} paths, {names} names, {quotas:?}");
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, (committed + 8).to_string());
    rig.assert_no_drift().await;
    for over in [
        "SELECT count(*) FROM storage_volumes WHERE quota_used + quota_reserved > quota_limit",
        "SELECT count(*) FROM user_quotas WHERE quota_used + quota_reserved > quota_limit",
        "SELECT count(*) FROM storage_quotas WHERE used_files + reserved_files > max_files",
    ] {
        assert_eq!(rig.text(over).await, "0", "{over}");
    }
    // What holds quota and was refused a path keeps it until it ends.
    let room = "SELECT quota_limit - quota_used - quota_reserved < 10 FROM storage_volumes";
    assert_eq!(rig.text(room).await, "true", "the volume is full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_one_store_fills_quotas_exactly() {
    is_exact(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_two_stores_fills_quotas_exactly() {
    is_exact(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_once_though_connections_die() {
    const WORKERS: usize = 24;
    const ROUNDS: usize = 12;
    let rig = Rig::new().await;
    rig.put(&Actor::user("ann"), "first.txt", 1).await;
    let store = rig.other_store(Options { application_name: "doomed".to_owned(), ..Options::default() });
    let (is_done, killed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async {
        let outcomes = join_all((0..WORKERS).map(async |worker| {
            let (mut there, mut not_there) = (Vec::new(), Vec::new());
            for round in 0.. {
                if round >= ROUNDS && killed.load(Ordering::Relaxed) > 2 {
                    break;
                }
                let upload = rig.upload(&Actor::user("ann"), &format!("{worker}/{round}.txt"), SIZE);
                match upload.run(&store).await {
                    Ok(file) => there.push((file.id, upload)),
                    Err(Error::Unavailable(Unavailable::Metadata)) => not_there.push(upload),
                    Err(other) => panic!("{other:?}"),
                }
            }
            (there, not_there)
        }))
        .await;
        is_done.store(true, Ordering::Relaxed);
        outcomes
    };
    let killer = async {
        while !is_done.load(Ordering::Relaxed) {
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'doomed'";
            killed.fetch_add(rig.text(kill).await.parse().unwrap(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let (outcomes, ()) = join(load, killer).await;
    let (there, not_there): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    let there: Vec<(FileId, Upload)> = there.into_iter().flatten().collect();
    let not_there: Vec<Upload> = not_there.into_iter().flatten().collect();
    assert!(there.len() > WORKERS, "{killed:?} killed, {} there", there.len());
    for (file, upload) in &there {
        assert_eq!(rig.file(*file).await.unwrap().content.version, upload.commit.version);
        assert_eq!(rig.store.recorded(&[upload.commit.operation.id]).await.unwrap().len(), 1);
    }
    for upload in &not_there {
        assert!(rig.store.recorded(&[upload.commit.operation.id]).await.unwrap().is_empty());
    }
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, (there.len() + 1).to_string());
    rig.assert_no_drift().await;
}
