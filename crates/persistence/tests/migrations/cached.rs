//! `Cached` keeps a prepared statement where diesel would not.

use coffer_persistence::Cached;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt};
use diesel_async::RunQueryDsl;

use crate::support::{Empty, texts};

const PREPARED: &str = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%unnest%$1%'";
const SUM: &str = "SELECT count(*) FROM unnest($1) AS n";

#[tokio::test]
async fn a_cached_statement_is_prepared_once() {
    let empty = Empty::new().await;
    let database = empty.database();
    let mut connection = database.get().await.unwrap();

    for numbers in [vec![1_i64], vec![1, 2, 3]] {
        sql_query(SUM).bind::<Array<BigInt>, _>(numbers).execute(&mut connection).await.unwrap();
    }
    let kept = texts(&mut connection, PREPARED).await;
    assert!(!kept.contains(&SUM.to_owned()), "diesel keeps it by itself: {kept:?}");

    for numbers in [vec![1_i64], vec![1, 2, 3]] {
        Cached(sql_query(SUM).bind::<Array<BigInt>, _>(numbers)).execute(&mut connection).await.unwrap();
    }
    assert_eq!(texts(&mut connection, PREPARED).await.iter().filter(|text| *text == SUM).count(), 1);
}
