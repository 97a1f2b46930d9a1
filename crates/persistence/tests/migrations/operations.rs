//! The audit trail: append-only, in monthly partitions.

use crate::support::Migrated;

/// Months are UTC's; the tests' sessions are, too.
const WHERE: &str = "SELECT tableoid::regclass::text FROM storage_operations ORDER BY id";

fn insert_at(instant: &str) -> String {
    format!(
        "INSERT INTO storage_operations (id, operation, status, record)
         VALUES (uuid_v7_floor({instant}), 'list', 'success', '{{}}')"
    )
}

async fn partitions(migrated: &mut Migrated) -> Vec<String> {
    migrated
        .texts(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'storage_operations'::regclass
             ORDER BY 1",
        )
        .await
}

/// The names of this month's partition and those of the next ones.
async fn months(migrated: &mut Migrated, ahead: u32) -> Vec<String> {
    migrated
        .texts(&format!(
            "SELECT to_char(date_trunc('month', now()) + make_interval(months => n), '\"storage_operations_\"YYYY_MM')
             FROM generate_series(0, {ahead}) AS n ORDER BY n"
        ))
        .await
}

#[tokio::test]
async fn today_goes_to_the_partition_of_its_month() {
    let mut migrated = Migrated::new().await;
    let mut wanted = months(&mut migrated, 3).await;
    migrated.run(&insert_at("now()")).await.unwrap();
    assert_eq!(migrated.texts(WHERE).await, [wanted[0].as_str()]);
    wanted.push("storage_operations_default".to_owned());
    assert_eq!(partitions(&mut migrated).await, wanted);
}

#[tokio::test]
async fn the_edges_of_a_month_are_its_own() {
    let mut migrated = Migrated::new().await;
    let months = months(&mut migrated, 2).await;
    let start = "date_trunc('month', now()) + interval '1 month'";
    migrated.run(&insert_at(&format!("{start} - interval '1 ms'"))).await.unwrap();
    migrated.run(&insert_at(start)).await.unwrap();
    migrated.run(&insert_at(&format!("{start} + interval '1 month' - interval '1 ms'"))).await.unwrap();
    assert_eq!(migrated.texts(WHERE).await, [months[0].as_str(), &months[1], &months[1]]);
}

#[tokio::test]
async fn the_floor_is_the_first_id_of_its_millisecond() {
    let mut migrated = Migrated::new().await;
    // The example of RFC 9562, A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00.
    let floor = migrated.texts("SELECT uuid_v7_floor('2022-02-22 14:22:22.0009-05')::text").await;
    assert_eq!(floor, ["017f22e2-79b0-7000-8000-000000000000"]);
    let instant = "'2026-11-21T12:00:00.123Z'";
    let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_795_262_400, 123_000_000));
    let around = format!(
        "SELECT ('{id}' >= uuid_v7_floor({instant}))::text UNION ALL SELECT ('{id}' < uuid_v7_floor({instant}::timestamptz + interval '1 ms'))::text"
    );
    assert_eq!(migrated.texts(&around).await, ["true", "true"]);
}

#[tokio::test]
async fn making_partitions_again_makes_none() {
    let mut migrated = Migrated::new().await;
    let ensure = "SELECT ensure_operation_partitions(3)::text";
    assert_eq!(migrated.texts(ensure).await, ["0"]);
    let before = partitions(&mut migrated).await;
    assert_eq!(migrated.texts("SELECT ensure_operation_partitions(5)::text").await, ["2"]);
    assert_eq!(partitions(&mut migrated).await.len(), before.len() + 2);
    assert_eq!(migrated.texts(ensure).await, ["0"]);
}

#[tokio::test]
async fn rows_that_came_too_early_move_to_their_partition() {
    let mut migrated = Migrated::new().await;
    let later = "date_trunc('month', now()) + interval '5 months'";
    for instant in [&format!("{later} - interval '1 ms'"), later, "'2020-01-01Z'", "now()"] {
        migrated.run(&insert_at(instant)).await.unwrap();
    }
    let default = "storage_operations_default".to_owned();
    let this = months(&mut migrated, 0).await.remove(0);
    assert_eq!(migrated.texts(WHERE).await, [default.as_str(), &this, &default, &default]);

    assert_eq!(migrated.texts("SELECT ensure_operation_partitions(5)::text").await, ["2"]);
    let made = months(&mut migrated, 5).await;
    assert_eq!(migrated.texts(WHERE).await, [default.as_str(), &this, &made[4], &made[5]]);
    // Those that were moved are kept as well as others, and so are those to come.
    migrated.run(&insert_at("date_trunc('month', now()) + interval '7 months'")).await.unwrap();
    refuses_changes(&mut migrated, &made[5]).await;
    refuses_changes(&mut migrated, &default).await;
}

#[tokio::test]
async fn partitions_are_made_by_one_at_a_time() {
    let migrated = Migrated::new().await;
    let make = || async {
        let mut connection = migrated.database.dedicated(&[]).await.unwrap();
        crate::support::texts(&mut connection, "SELECT ensure_operation_partitions(12)::text").await
    };
    let (a, b) = tokio::join!(make(), make());
    let mut made = [a[0].parse::<u32>().unwrap(), b[0].parse::<u32>().unwrap()];
    made.sort_unstable();
    assert_eq!(made.iter().sum::<u32>(), 9, "{made:?}");
}

#[tokio::test]
async fn partitions_are_made_beside_writers() {
    let mut migrated = Migrated::new().await;
    // A commit that has written files and operations, and is not over.
    let mut writer = migrated.database.dedicated(&[]).await.unwrap();
    diesel_async::SimpleAsyncConnection::batch_execute(
        &mut writer,
        &format!("BEGIN; UPDATE storage_files SET revision = revision + 1; {}", insert_at("now()")),
    )
    .await
    .unwrap();
    let database = migrated.database.clone();
    let making = tokio::spawn(async move {
        let mut connection = database.dedicated(&[]).await.unwrap();
        crate::support::texts(&mut connection, "SELECT ensure_operation_partitions(6)::text").await
    });
    // Until it waits for the writer.
    while migrated
        .texts("SELECT 'waits' FROM pg_locks WHERE NOT granted AND relation = 'storage_files'::regclass")
        .await
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    diesel_async::SimpleAsyncConnection::batch_execute(
        &mut writer,
        &format!("{}; COMMIT", insert_at("now() - interval '1 ms'")),
    )
    .await
    .unwrap();
    assert_eq!(making.await.unwrap(), ["3"]);
    assert_eq!(migrated.texts(WHERE).await.len(), 2);
}

#[tokio::test]
async fn months_ahead_have_a_limit() {
    let mut migrated = Migrated::new().await;
    for months in ["-1", "121", "NULL"] {
        let refusal = migrated.refusal(&format!("SELECT ensure_operation_partitions({months})")).await;
        assert!(refusal.message().contains("0 to 120"), "{}", refusal.message());
    }
}

#[tokio::test]
async fn the_past_cannot_be_changed() {
    let mut migrated = Migrated::new().await;
    migrated.run(&insert_at("now()")).await.unwrap();
    migrated.run(&insert_at("'2020-01-01Z'")).await.unwrap();
    let this = months(&mut migrated, 0).await.remove(0);
    for table in ["storage_operations", &this, "storage_operations_default"] {
        refuses_changes(&mut migrated, table).await;
    }
    assert_eq!(migrated.texts(WHERE).await.len(), 2);
    // A repeated insert is not a change.
    migrated.run(&format!("{} ON CONFLICT (id) DO NOTHING", insert_at("'2020-01-01Z'"))).await.unwrap();
}

/// Of a table with a row in it.
async fn refuses_changes(migrated: &mut Migrated, table: &str) {
    for sql in [
        format!("UPDATE {table} SET status = 'failed'"),
        format!("DELETE FROM {table}"),
        format!("TRUNCATE {table}"),
    ] {
        let refusal = migrated.refusal(&sql).await;
        assert!(
            refusal.hint().is_some_and(|hint| hint.contains("append-only")),
            "{sql}: {}",
            refusal.message()
        );
    }
}
