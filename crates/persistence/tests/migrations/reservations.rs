//! The way to reservations as columns, and back, with data.

use coffer_persistence::migrate;
use diesel_async::SimpleAsyncConnection;

use crate::catalogue::dump;
use crate::support::{Empty, Migrated, texts};

/// The migrations before it.
const BEFORE: [&str; 4] = [
    include_str!("../../../../migrations/2026-11-21-000000_volumes/up.sql"),
    include_str!("../../../../migrations/2026-11-21-000100_files/up.sql"),
    include_str!("../../../../migrations/2026-11-21-000200_ledger/up.sql"),
    include_str!("../../../../migrations/2026-11-21-000300_audit/up.sql"),
];
const VALIDATED: &str = "SELECT DISTINCT convalidated::text FROM pg_constraint WHERE conname = 'storage_operations_operation_check'";

async fn go_back(migrated: &Migrated) {
    while migrate::status(&migrated.database).await.unwrap().applied.len() > BEFORE.len() {
        migrate::down(&migrated.database, 1).await.unwrap();
    }
}

#[tokio::test]
async fn the_way_back_leaves_what_was_there_before() {
    let mut migrated = Migrated::new().await;
    go_back(&migrated).await;
    let back = dump(&mut migrated.connection).await;

    let empty = Empty::new().await;
    let database = empty.database();
    let mut connection = database.get().await.unwrap();
    connection.batch_execute("CREATE SCHEMA coffer").await.unwrap();
    for up in BEFORE {
        connection.batch_execute(up).await.unwrap();
    }
    let never = dump(&mut connection).await;
    let of_records = |line: &&String| !line.contains("__diesel_schema_migrations");
    assert!(never.len() > 500, "{}", never.len());
    assert_eq!(back.iter().filter(of_records).collect::<Vec<_>>(), never.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn data_goes_both_ways() {
    let mut migrated = Migrated::new().await;
    migrated
        .run(
            "INSERT INTO storage_volumes (id, name, driver, upload_ttl_seconds, quota_used, quota_reserved)
             VALUES (gen_random_uuid(), 'a', 'local', NULL, 3, 7), (gen_random_uuid(), 'b', 'local', 300, 0, 0);
             INSERT INTO users (id, issuer, subject) VALUES ('00000000-0000-7000-8000-000000000001', 'i', 'known');
             INSERT INTO user_quotas (id, user_id, volume_id, quota_limit, quota_reserved)
             SELECT gen_random_uuid(), u::uuid, v.id, 9, 7 FROM storage_volumes v,
                 unnest(ARRAY['00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002']) u WHERE name = 'a';
             INSERT INTO storage_quotas (id, entity_type, entity_id, user_id, reserved_storage_bytes, reserved_files)
             SELECT gen_random_uuid(), 'user', user_id::text, user_id, 7, 1 FROM user_quotas;
             INSERT INTO nodes (id, epoch, version, started_at, lease_until) VALUES (gen_random_uuid(), 1, '0', now(), now());
             INSERT INTO storage_uploads (id, kind, volume_id, key, version_id, principal, spec, node_id, node_epoch, expire_time,
                 reserved_bytes, reserved_files)
             SELECT gen_random_uuid(), 'upload', v.id, 'k', gen_random_uuid(), 'p', '{}', n.id, 1, now(), 7, 1
             FROM storage_volumes v, nodes n WHERE name = 'a';
             INSERT INTO storage_operations (id, operation, status, record) VALUES (uuid_v7_floor(now()), 'start_upload', 'success', '')",
        )
        .await
        .unwrap();
    assert_eq!(migrated.texts(VALIDATED).await, ["true"]);
    go_back(&migrated).await;
    let state = "SELECT concat_ws(' ', name, upload_ttl_seconds, quota_used, quota_reserved) FROM storage_volumes ORDER BY name";
    assert_eq!(migrated.texts(state).await, ["a 86400 3 0", "b 300 0 0"]);
    let quotas = "SELECT concat_ws(' ', right(user_id::text, 1), quota_limit, quota_reserved) FROM user_quotas
        UNION ALL SELECT concat_ws(' ', right(entity_id, 1), reserved_storage_bytes, reserved_files) FROM storage_quotas";
    assert_eq!(migrated.texts(quotas).await, ["1 9 0", "1 0 0"]);
    assert_eq!(migrated.texts("SELECT state FROM storage_uploads").await, ["OPEN"]);
    // What was recorded stays, and nothing of the kind is recorded any more.
    assert_eq!(migrated.texts("SELECT operation FROM storage_operations").await, ["start_upload"]);
    assert_eq!(migrated.texts(VALIDATED).await, ["false"]);
    let refused = migrated
        .refusal(
            "INSERT INTO storage_operations (id, operation, status, record)
             VALUES (uuid_v7_floor(now() + interval '1 second'), 'start_upload', 'success', '')",
        )
        .await;
    assert_eq!(refused.constraint_name(), Some("storage_operations_operation_check"));

    migrate::up(&migrated.database).await.unwrap();
    assert_eq!(migrated.texts(VALIDATED).await, ["true"]);
    assert_eq!(migrated.texts(state).await, ["a 3 0", "b 0 0"]);
    assert_eq!(
        texts(
            &mut migrated.connection,
            "SELECT (reserved_bytes + reserved_files)::text FROM storage_uploads"
        )
        .await,
        ["0"]
    );
}
