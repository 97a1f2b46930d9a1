//! Every column of the two documents has its home, and the view `files` is what the first one describes.

use crate::support::Migrated;

const COLUMNS: &str = include_str!("../fixtures/document_columns.txt");
const VOLUME: &str = "00000000-0000-7000-8000-000000000001";
const FILE: &str = "00000000-0000-7000-8000-000000000002";

#[tokio::test]
async fn every_column_of_the_documents_is_there() {
    let mut migrated = Migrated::new().await;
    let there = migrated
        .texts("SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'coffer'")
        .await;
    let (mut table, mut checked) = ("", 0);
    for line in COLUMNS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => table = line,
            Some(column) => {
                assert!(there.contains(&format!("{table}.{column}")), "{table}.{column} is missing");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 160);
}

#[tokio::test]
async fn the_view_has_the_documents_columns_and_no_others() {
    let mut migrated = Migrated::new().await;
    let there = migrated
        .texts(
            "SELECT column_name::text FROM information_schema.columns
             WHERE table_schema = 'coffer' AND table_name = 'files' ORDER BY ordinal_position",
        )
        .await;
    let (_, from_files) = COLUMNS.split_once("\nfiles\n").unwrap();
    let wanted: Vec<_> = from_files.lines().map_while(|line| line.strip_prefix("  ")).collect();
    assert_eq!(there, wanted);
}

#[tokio::test]
async fn the_view_shows_deleted_files_and_not_purged_ones() {
    let mut migrated = with_a_file().await;
    let shown = "SELECT concat_ws(' ', filename, metadata, deleted_at IS NOT NULL) FROM files";
    assert_eq!(migrated.texts(shown).await, [r#"a.txt {"color": "red"} f"#]);

    migrated.run("UPDATE storage_files SET status = 'deleted', deleted_at = now()").await.unwrap();
    assert_eq!(migrated.texts(shown).await, [r#"a.txt {"color": "red"} t"#]);

    migrated
        .run(
            "UPDATE storage_files SET purged_at = now(), filename = '', original_name = '', storage_path = '',
                 path_nfc = '', provider_path = '', custom_metadata = '{}'",
        )
        .await
        .unwrap();
    assert_eq!(migrated.texts(shown).await, Vec::<String>::new());
    assert_eq!(migrated.texts("SELECT status FROM storage_files").await, ["deleted"]);
}

#[tokio::test]
async fn the_view_is_read_only() {
    let mut migrated = with_a_file().await;
    for sql in [
        "INSERT INTO files (filename) VALUES ('b.txt')",
        "UPDATE files SET filename = 'b.txt'",
        "DELETE FROM files",
    ] {
        let refusal = migrated.refusal(sql).await;
        assert!(
            refusal.hint().is_some_and(|hint| hint.contains("read-only")),
            "{sql}: {}",
            refusal.message()
        );
    }
    assert_eq!(migrated.texts("SELECT filename FROM files").await, ["a.txt"]);
}

#[tokio::test]
async fn files_cannot_be_deleted_by_hand() {
    let mut migrated = with_a_file().await;
    for sql in ["DELETE FROM storage_files", "TRUNCATE storage_files CASCADE"] {
        let refusal = migrated.refusal(sql).await;
        assert!(
            refusal.hint().is_some_and(|hint| hint.contains("tombstone")),
            "{sql}: {}",
            refusal.message()
        );
        assert_eq!(refusal.table_name(), Some("storage_files"));
    }
    assert_eq!(migrated.texts("SELECT id::text FROM storage_files").await, [FILE]);
}

/// One file `a.txt` of the app `chat` on a volume `main`.
pub(crate) async fn with_a_file() -> Migrated {
    let mut migrated = Migrated::new().await;
    migrated
        .run(&format!(
            "INSERT INTO storage_volumes (id, name, driver) VALUES ('{VOLUME}', 'main', 'local');
             INSERT INTO storage_files (id, volume_id, namespace, app_id, file_id, filename, original_name, storage_path,
                 path_nfc, size, checksum, provider, provider_path, custom_metadata)
             VALUES ('{FILE}', '{VOLUME}', 'apps', 'chat', 'file_a', 'a.txt', 'a.txt', 'x/a.txt', 'x/a.txt', 1,
                 repeat('0', 64), 'local', 'x/a.txt', '{{\"color\": \"red\"}}')"
        ))
        .await
        .unwrap();
    migrated
}
