//! What PostgreSQL's catalogue says about the schema: names, comments, and that `schema.rs` agrees.

use std::collections::BTreeSet;

use diesel_async::AsyncPgConnection;

use crate::support::{Migrated, texts};

/// Everything the schema holds, as sorted lines; but the partitions of months, which differ by the day.
pub(crate) async fn dump(connection: &mut AsyncPgConnection) -> Vec<String> {
    texts(
        connection,
        "WITH relation AS (
             SELECT * FROM pg_class
             WHERE relnamespace = 'coffer'::regnamespace AND relname !~ '_\\d{4}_\\d{2}(_|$)'
         )
         SELECT format('relation %s %s %s %s %s', relname, relkind, reloptions, obj_description(oid, 'pg_class'),
                       pg_get_expr(relpartbound, oid))
         FROM relation
         UNION ALL
         SELECT format('column %s.%s %s %s %s %s %s %s', relname, attnum, attname, format_type(atttypid, atttypmod),
                       attnotnull, attcollation::regcollation, pg_get_expr(adbin, adrelid),
                       col_description(relation.oid, attnum))
         FROM relation JOIN pg_attribute ON attrelid = relation.oid
         LEFT JOIN pg_attrdef ON adrelid = relation.oid AND adnum = attnum
         WHERE attnum > 0 AND NOT attisdropped
         UNION ALL
         SELECT format('constraint %s on %s: %s', conname, relname, pg_get_constraintdef(pg_constraint.oid))
         FROM relation JOIN pg_constraint ON conrelid = relation.oid
         UNION ALL
         SELECT 'index ' || pg_get_indexdef(indexrelid)
         FROM relation JOIN pg_index ON indrelid = relation.oid
         UNION ALL
         SELECT 'trigger ' || pg_get_triggerdef(pg_trigger.oid)
         FROM relation JOIN pg_trigger ON tgrelid = relation.oid
         WHERE NOT tgisinternal
         UNION ALL
         SELECT format('view %s: %s', relname, pg_get_viewdef(oid)) FROM relation WHERE relkind = 'v'
         UNION ALL
         SELECT format('function %s %s', pg_get_functiondef(oid), obj_description(oid, 'pg_proc'))
         FROM pg_proc WHERE pronamespace = 'coffer'::regnamespace
         UNION ALL
         SELECT 'type ' || typname FROM pg_type
         WHERE typnamespace = 'coffer'::regnamespace AND typrelid = 0 AND typelem = 0
         ORDER BY 1",
    )
    .await
}

#[tokio::test]
async fn everything_has_a_comment() {
    let mut migrated = Migrated::new().await;
    let commented = "FROM pg_class WHERE relnamespace = 'coffer'::regnamespace AND relkind IN ('r', 'p', 'v')
                       AND relname <> '__diesel_schema_migrations'";
    let mute = migrated
        .texts(&format!(
            "SELECT relname::text {commented} AND obj_description(oid, 'pg_class') IS NULL
             UNION ALL
             SELECT c.relname || '.' || attname FROM (SELECT oid, relname {commented}) AS c
             JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             WHERE coalesce(col_description(c.oid, attnum), '') = ''
             UNION ALL
             SELECT proname || '()' FROM pg_proc
             WHERE pronamespace = 'coffer'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL"
        ))
        .await;
    assert_eq!(mute, Vec::<String>::new());
    assert!(migrated.texts(&format!("SELECT relname::text {commented}")).await.len() > 25);
}

#[tokio::test]
async fn constraints_and_indexes_are_named_after_their_table() {
    let mut migrated = Migrated::new().await;
    // pg_constraint.contype: p(rimary), u(nique), c(heck), f(oreign). An index of a constraint has its name.
    let names = migrated
        .texts(
            "SELECT concat_ws(' ', relname, conname, CASE contype
                        WHEN 'p' THEN '_pkey' WHEN 'u' THEN '_key' WHEN 'c' THEN '_check' WHEN 'f' THEN '_fkey'
                        ELSE contype::text END)
             FROM pg_constraint JOIN pg_class c ON c.oid = conrelid
             WHERE connamespace = 'coffer'::regnamespace AND contype IN ('p', 'u', 'c', 'f', 'x')
               AND NOT relispartition AND relname <> '__diesel_schema_migrations'
             UNION ALL
             SELECT concat_ws(' ', t.relname, i.relname, CASE WHEN indisunique THEN '_key' ELSE '_idx' END)
             FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
             WHERE t.relnamespace = 'coffer'::regnamespace AND NOT t.relispartition
               AND t.relname <> '__diesel_schema_migrations'
               AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))",
        )
        .await;
    assert!(names.len() > 150, "{}", names.len());
    for line in names {
        let [table, name, suffix] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(
            name.starts_with(&format!("{table}_")) && name.ends_with(suffix),
            "{name} on {table}: {suffix}?"
        );
        // PostgreSQL cuts longer ones, and two may become the same.
        assert!(name.len() < 63, "{name} may have been cut");
    }
}

#[tokio::test]
async fn schema_rs_is_what_the_database_has() {
    let mut migrated = Migrated::new().await;
    let in_database: BTreeSet<String> = migrated
        .texts(
            "SELECT format('%s.%s %s', table_name, column_name,
                 replace(format(CASE is_nullable WHEN 'YES' THEN 'Nullable<%s>' ELSE '%s' END, CASE udt_name
                     WHEN '_text' THEN 'Array<Text>' ELSE initcap(udt_name) END), 'Varchar', 'Text'))
             FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
             WHERE table_schema = 'coffer' AND table_type = 'BASE TABLE'
               AND table_name !~ '^storage_operations_' AND table_name <> '__diesel_schema_migrations'",
        )
        .await
        .into_iter()
        .collect();

    let mut in_source = BTreeSet::new();
    let (mut table, mut sql_name) = ("", None);
    for line in include_str!("../../src/schema.rs").lines().map(str::trim) {
        if let Some((name, _)) = line.strip_suffix(") {").and_then(|line| line.split_once(" (")) {
            table = name;
        } else if let Some(name) = line.strip_prefix("#[sql_name = \"") {
            sql_name = name.strip_suffix("\"]");
        } else if !line.starts_with("//")
            && let Some((name, kind)) = line.split_once(" -> ")
            && let Some(kind) = kind.strip_suffix(',')
        {
            in_source.insert(format!("{table}.{} {kind}", sql_name.take().unwrap_or(name)));
        }
    }
    assert!(in_source.len() > 200, "{}", in_source.len());
    let difference: Vec<_> = in_source.symmetric_difference(&in_database).collect();
    assert!(difference.is_empty(), "print schema.rs anew, as the README says: {difference:#?}");
}
