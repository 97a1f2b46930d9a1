//! Rows of quotas, found, locked and made: one statement per table, however many they are.

use coffer_domain::quota::QuotaKey;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use uuid::Uuid;

use super::row::{Places, Row, columns};
use crate::cached::Cached;
use crate::error::Step;

/// The statement that finds rows by numbered keys, one after the other in the order of the keys. NO KEY: what refers to a
/// volume may be inserted by others meanwhile.
macro_rules! find {
    ($keys:literal, $columns:ident, $rows:literal, $is_locked:expr) => {
        if $is_locked { find!(@ $keys, $columns, $rows, " FOR NO KEY UPDATE") } else { find!(@ $keys, $columns, $rows, "") }
    };
    (@ $keys:literal, $columns:ident, $rows:literal, $lock:literal) => {
        concat!("SELECT k.n, q.* FROM ", $keys, " CROSS JOIN LATERAL (SELECT ", columns!($columns), $rows, $lock, ") AS q")
    };
}

#[derive(QueryableByName)]
struct Numbered {
    #[diesel(sql_type = Integer)]
    n: i32,
    #[diesel(embed)]
    row: Row,
}

/// The rows of these quotas, each at the place of its key. Locked in the order of the keys, which has to be theirs.
pub(super) async fn find(
    c: &AsyncPgConnection,
    keys: &[QuotaKey],
    is_locked: bool,
) -> Step<Vec<Option<Row>>> {
    let Places { volumes, users, apps, entities } = Places::of(keys);
    let of_volumes = async {
        if volumes.n.is_empty() {
            return Ok(Vec::new());
        }
        let statement =
            find!("unnest($1, $2) AS k (n, id)", volume, " FROM storage_volumes WHERE id = k.id", is_locked);
        let query = diesel::sql_query(statement)
            .bind::<Array<Integer>, _>(&volumes.n)
            .bind::<Array<SqlUuid>, _>(&volumes.volume);
        Cached(query).load::<Numbered>(&mut &*c).await
    };
    let of_users = async {
        if users.n.is_empty() {
            return Ok(Vec::new());
        }
        let statement = find!(
            "unnest($1, $2, $3) AS k (n, user_id, volume_id)",
            volume,
            " FROM user_quotas WHERE user_id = k.user_id AND volume_id = k.volume_id",
            is_locked
        );
        let query = diesel::sql_query(statement)
            .bind::<Array<Integer>, _>(&users.n)
            .bind::<Array<SqlUuid>, _>(&users.user)
            .bind::<Array<SqlUuid>, _>(&users.volume);
        Cached(query).load::<Numbered>(&mut &*c).await
    };
    let of_apps = async {
        if apps.n.is_empty() {
            return Ok(Vec::new());
        }
        let statement = find!(
            "unnest($1, $2, $3) AS k (n, app_id, volume_id)",
            volume,
            " FROM app_quotas WHERE app_id = k.app_id AND volume_id = k.volume_id",
            is_locked
        );
        let query = diesel::sql_query(statement)
            .bind::<Array<Integer>, _>(&apps.n)
            .bind::<Array<Text>, _>(&apps.app)
            .bind::<Array<SqlUuid>, _>(&apps.volume);
        Cached(query).load::<Numbered>(&mut &*c).await
    };
    let of_entities = async {
        if entities.n.is_empty() {
            return Ok(Vec::new());
        }
        let statement = find!(
            "unnest($1, $2, $3, $4) AS k (n, kind, organisation, id)",
            entity,
            " FROM storage_quotas WHERE entity_type = k.kind AND organisation_id = k.organisation AND entity_id = k.id",
            is_locked
        );
        let query = diesel::sql_query(statement)
            .bind::<Array<Integer>, _>(&entities.n)
            .bind::<Array<Text>, _>(&entities.kind)
            .bind::<Array<Text>, _>(&entities.organisation)
            .bind::<Array<Text>, _>(&entities.id);
        Cached(query).load::<Numbered>(&mut &*c).await
    };
    // One round trip; the server runs them in this order.
    let (volumes, users, apps, entities) = try_join!(of_volumes, of_users, of_apps, of_entities)?;
    let mut rows: Vec<Option<Row>> = keys.iter().map(|_| None).collect();
    for Numbered { n, row } in volumes.into_iter().chain(users).chain(apps).chain(entities) {
        if let Some(place) = usize::try_from(n).ok().and_then(|n| rows.get_mut(n)) {
            *place = Some(row);
        }
    }
    Ok(rows)
}

/// Makes the rows of quotas that have none yet. A volume's is made with the volume, and without a volume there is none.
pub(super) async fn create(c: &AsyncPgConnection, keys: &[QuotaKey]) -> Step<()> {
    const USERS: &str = "INSERT INTO user_quotas (id, user_id, volume_id)
        SELECT k.id, k.user_id, v.id FROM unnest($1, $2, $3) AS k (id, user_id, volume_id)
        CROSS JOIN LATERAL (SELECT id FROM storage_volumes WHERE id = k.volume_id) AS v ON CONFLICT DO NOTHING";
    const APPS: &str = "INSERT INTO app_quotas (id, app_id, volume_id)
        SELECT k.id, k.app_id, v.id FROM unnest($1, $2, $3) AS k (id, app_id, volume_id)
        CROSS JOIN LATERAL (SELECT id FROM storage_volumes WHERE id = k.volume_id) AS v ON CONFLICT DO NOTHING";
    const ENTITIES: &str = "INSERT INTO storage_quotas (id, entity_type, organisation_id, entity_id, user_id)
        SELECT * FROM unnest($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let Places { volumes: _, users, apps, entities } = Places::of(keys);
    let ids = |of: &[i32]| of.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>();
    if !users.n.is_empty() {
        let insert = diesel::sql_query(USERS)
            .bind::<Array<SqlUuid>, _>(ids(&users.n))
            .bind::<Array<SqlUuid>, _>(&users.user)
            .bind::<Array<SqlUuid>, _>(&users.volume);
        Cached(insert).execute(&mut &*c).await?;
    }
    if !apps.n.is_empty() {
        let insert = diesel::sql_query(APPS)
            .bind::<Array<SqlUuid>, _>(ids(&apps.n))
            .bind::<Array<Text>, _>(&apps.app)
            .bind::<Array<SqlUuid>, _>(&apps.volume);
        Cached(insert).execute(&mut &*c).await?;
    }
    if !entities.n.is_empty() {
        let insert = diesel::sql_query(ENTITIES)
            .bind::<Array<SqlUuid>, _>(ids(&entities.n))
            .bind::<Array<Text>, _>(&entities.kind)
            .bind::<Array<Text>, _>(&entities.organisation)
            .bind::<Array<Text>, _>(&entities.id)
            .bind::<Array<Nullable<SqlUuid>>, _>(&entities.user);
        Cached(insert).execute(&mut &*c).await?;
    }
    Ok(())
}
