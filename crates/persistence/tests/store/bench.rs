
use crate::rig::{Actor, Rig};
use coffer_domain::store::Store;
use std::time::Instant;
use std::sync::atomic::{AtomicU32, Ordering};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn bench() {
    for tasks in [1usize, 8, 32, 64] {
        let rig = std::sync::Arc::new(Rig::new().await);
        let next = std::sync::Arc::new(AtomicU32::new(0));
        if std::env::var_os("PGLOG").is_some() { rig.run("ALTER SYSTEM SET log_min_duration_statement = 0; ").await; rig.run("SELECT pg_reload_conf()").await; }
        let started = Instant::now();
        let mut handles = Vec::new();
        for t in 0..tasks {
            let (rig, next) = (rig.clone(), next.clone());
            handles.push(tokio::spawn(async move {
                let actor = Actor::user(&format!("u{}", t)).through("chat").on("trial");
                let mut lat = Vec::new();
                while started.elapsed().as_secs() < 4 {
                    let n = AtomicU32::fetch_add(&next, 1, Ordering::Relaxed);
                    let up = rig.upload(&actor, &format!("{n}.txt"), 10);
                    rig.store.open_upload(&up.intent).await.unwrap();
                    let at = Instant::now();
                    rig.store.commit_upload(&up.commit).await.unwrap();
                    lat.push(at.elapsed());
                }
                lat
            }));
        }
        let mut all = Vec::new();
        for h in handles { all.extend(h.await.unwrap()); }
        all.sort(); if std::env::var_os("PGLOG").is_some() { println!("{}", rig.url); let dir = rig.text("SHOW data_directory").await; std::fs::copy(std::path::Path::new(&dir).parent().unwrap().join("postgres.log"), "/tmp/pg_bench.log").unwrap(); return; }
        println!("{tasks}: {}/s p50 {:?} p99 {:?}", all.len() as f64 / started.elapsed().as_secs_f64(), all[all.len()/2], all[all.len()*99/100]);
    }
}
