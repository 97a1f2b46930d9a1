//! What the store reads to answer: by the right index, and no more than it has to.

use coffer_domain::content::{Codec, Pipeline};
use coffer_domain::id::RequestId;
use coffer_domain::page::{Cursor, PageRequest};
use coffer_domain::quota::{self, Kind};
use coffer_domain::request::Request;
use coffer_domain::store::Store;
use coffer_domain::upload::{Checkpoint, Filter, Held, Scope};
use coffer_persistence::PgStore;
use coffer_persistence::database::Options;

use crate::rig::{Actor, Rig, operation, start_request};

/// Entries that reading an index gave in what `work` did, on sessions of its own, whose numbers are told when they end.
async fn read<T>(rig: &Rig, index: &str, work: impl AsyncFnOnce(&PgStore) -> T) -> u64 {
    let numbers = format!("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
    let before: u64 = rig.text(&numbers).await.parse().unwrap();
    let store = rig.other_store(Options { application_name: "plans".to_owned(), ..Options::default() });
    work(&store).await;
    drop(store);
    rig.until("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'plans'", "0").await;
    let after: u64 = rig.text(&numbers).await.parse().unwrap();
    after - before
}

/// 3,000 uploads in 60 organisations, all older than a day but the last 600, a tenth without a request.
async fn fill_uploads(rig: &Rig) -> Request {
    let request = Request { scope: "org1//user1".to_owned(), id: RequestId::new(), ..start_request() };
    rig.run(&format!(
        "INSERT INTO storage_uploads (id, kind, state, volume_id, key, version_id, principal, organisation_id, spec, request_id,
             fingerprint, node_id, node_epoch, expire_time, updated_at)
         SELECT overlay(gen_random_uuid()::text PLACING left(uuid_v7_floor(at)::text, 13) FROM 1)::uuid, 'upload', 'COMMITTED',
             v.id, 'k' || n, gen_random_uuid(), format('org%s//user%s', n % 60, n % 10), 'org' || n % 60, '{{\"path\": \"x\"}}',
             CASE WHEN n % 10 <> 5 THEN gen_random_uuid() END, decode(repeat('07', 32), 'hex'), nodes.id, 1, now(), at
         FROM generate_series(1, 3000) n, storage_volumes v, nodes,
             LATERAL (SELECT now() - CASE WHEN n <= 2400 THEN interval '25 hours' ELSE interval '1 hour' END) AS t (at);
         UPDATE storage_uploads SET principal = '{}', request_id = '{}'
         WHERE id = (SELECT id FROM storage_uploads WHERE request_id IS NOT NULL ORDER BY id DESC LIMIT 1);
         ANALYZE storage_uploads",
        request.scope, request.id
    ))
    .await;
    request
}

fn page(size: i32, after: Option<Cursor>) -> PageRequest {
    PageRequest::new(size, 0, after).unwrap()
}

#[tokio::test]
async fn a_page_of_uploads_reads_a_page() {
    let rig = Rig::new().await;
    fill_uploads(&rig).await;
    for (scope, index) in [
        (Scope::Organisation("org1".to_owned()), "storage_uploads_tenant_idx"),
        (Scope::Own("org1//user1".to_owned()), "storage_uploads_principal_idx"),
    ] {
        let entries = read(&rig, index, async |store| {
            let mut after = None;
            for _ in 0..3 {
                let found = store.uploads(&scope, &Filter::default(), &page(10, after)).await.unwrap();
                assert_eq!(found.items.len(), 10);
                after = found.next;
            }
        })
        .await;
        assert!((30..=40).contains(&entries), "{entries} of {index}");
    }
}

#[tokio::test]
async fn a_request_finds_its_upload_by_itself() {
    let rig = Rig::new().await;
    let request = fill_uploads(&rig).await;
    let entries = read(&rig, "storage_uploads_request_idx", async |store| {
        assert!(store.requested_upload(&request).await.unwrap().is_some());
    })
    .await;
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn tidying_reads_what_is_old_and_not_what_is_young() {
    let rig = Rig::new().await;
    fill_uploads(&rig).await;
    // Nothing old is left: the young ones are not even looked at.
    rig.store.tidy().await.unwrap();
    assert_eq!(rig.text("SELECT count(*) FROM storage_uploads").await, "600");
    rig.run("VACUUM storage_uploads").await;
    let entries = read(&rig, "storage_uploads_pkey", async |store| store.tidy().await.unwrap()).await;
    // The planner looks at the first and the last one.
    assert!(entries < 10, "{entries}");
}

#[tokio::test]
async fn recording_progress_touches_no_index() {
    let rig = Rig::new().await;
    let mut held = Vec::new();
    for n in 0..20 {
        let upload = rig.upload(&Actor::user("ann"), &format!("{n}.txt"), 1).resumable(&start_request());
        rig.open(&upload).await;
        held.push(upload.held());
    }
    let state = Pipeline::new(Codec::Identity).save();
    // A snapshot that is held here, as by ANALYZE on a busy machine, keeps old rows from being pruned, and so new ones from their page.
    let held_snapshots = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND (datid IS NULL OR datname = current_database())";
    rig.run("ALTER TABLE storage_uploads SET (autovacuum_enabled = false)").await;
    let mut hot = Vec::new();
    // One may begin between a look and a checkpoint. The database is this test's own, so three runs do not all meet so many.
    for run in 0..3 {
        for step in 1..=60 {
            rig.until(held_snapshots, "0").await;
            let checkpoint = |held: &Held| Checkpoint {
                held: *held,
                persisted_size: run as u64 * 60 + step,
                state: state.clone(),
            };
            let checkpoints: Vec<_> = held.iter().map(checkpoint).collect();
            read(&rig, "storage_uploads_pkey", async |store| {
                assert_eq!(store.checkpoint_uploads(&checkpoints).await.unwrap().len(), 20);
            })
            .await;
        }
        let counted = "SELECT n_tup_hot_upd * 100 / n_tup_upd FROM pg_stat_user_tables
            WHERE relname = 'storage_uploads' AND n_tup_upd >= 1200";
        hot.push(rig.text(counted).await.parse::<u64>().unwrap());
        if hot[run] >= 80 {
            return;
        }
        rig.run("SELECT pg_stat_reset_single_table_counters('storage_uploads'::regclass)").await;
    }
    panic!("{hot:?} % within their page");
}

#[tokio::test]
async fn a_page_of_quotas_reads_a_page() {
    let rig = Rig::new().await;
    rig.run(
        "INSERT INTO storage_quotas (id, entity_type, organisation_id, entity_id, user_id)
         SELECT gen_random_uuid(), 'user', 'org' || n % 3, u::text, u
         FROM generate_series(1, 3000) n, LATERAL (SELECT md5(n::text)::uuid) AS t (u);
         INSERT INTO user_quotas (id, user_id, volume_id)
         SELECT gen_random_uuid(), q.user_id, v.id FROM storage_quotas q, storage_volumes v;
         ANALYZE storage_quotas, user_quotas",
    )
    .await;
    let scope = quota::Scope::All { organisation: "org1".to_owned() };
    for (kind, index, most) in [
        (Kind::User, "storage_quotas_user_idx", 40),
        // Every third of them is of the organisation.
        (Kind::UserOnVolume, "user_quotas_user_id_key", 200),
    ] {
        let filter = quota::Filter { kind: Some(kind), volume: None };
        let entries = read(&rig, index, async |store| {
            let mut after = None;
            for _ in 0..3 {
                let found = store.list_quotas(&scope, &filter, &page(10, after)).await.unwrap();
                assert_eq!(found.items.len(), 10);
                after = found.next;
            }
        })
        .await;
        assert!((30..=most).contains(&entries), "{entries} of {index}");
    }
}

#[tokio::test]
async fn fencing_looks_at_live_uploads_alone() {
    let rig = Rig::new().await;
    fill_uploads(&rig).await;
    rig.open(&rig.upload(&Actor::user("ann"), "a.txt", 1)).await;
    let fencing = operation(coffer_domain::operation::OperationKind::Reconcile);
    let entries = read(&rig, "storage_uploads_live_idx", async |store| {
        assert_eq!(store.dead_uploads(&fencing, 10).await.unwrap(), []);
    })
    .await;
    assert_eq!(entries, 1);
}
