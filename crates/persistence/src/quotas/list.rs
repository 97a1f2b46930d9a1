//! Pages of quotas, in the order of their keys.

use coffer_domain::Error;
use coffer_domain::id::{UserId, VolumeId};
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::quota::{Filter, Kind, Quota, QuotaKey, Scope};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::read;
use super::row::{Row, columns};
use crate::cached::Cached;
use crate::error::{Step, unreadable};

/// In their order.
const KINDS: [Kind; 6] =
    [Kind::Volume, Kind::UserOnVolume, Kind::AppOnVolume, Kind::User, Kind::Organisation, Kind::Project];

/// Before every other of its kind.
const NONE: Uuid = Uuid::nil();

#[derive(QueryableByName)]
struct Listed {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    user_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    volume_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(embed)]
    row: Row,
}

impl Listed {
    fn quota(self, key: impl FnOnce(UserId, VolumeId, String) -> QuotaKey) -> Quota {
        // A kind's statement answers what its key is made of.
        let [user, volume] = [self.user_id, self.volume_id].map(Option::unwrap_or_default);
        self.row.quota(key(UserId::from(user), VolumeId::from(volume), self.name.unwrap_or_default()))
    }
}

/// A page of the quotas in `scope`. Each kind has a statement of its own; most pages need one or two of them.
pub(crate) async fn list(
    c: &AsyncPgConnection,
    scope: &Scope,
    filter: &Filter,
    page: &PageRequest,
) -> Step<Page<Quota>> {
    let after = page.after.as_ref().map(parse).transpose()?;
    let wanted = page.skip as usize + page.size as usize + 1;
    let mut found = Vec::new();
    for kind in KINDS {
        let is_asked = filter.kind.is_none_or(|asked| asked == kind)
            && after.as_ref().is_none_or(|after| kind_of(after) <= kind)
            && (filter.volume.is_none() || kind <= Kind::AppOnVolume);
        if is_asked {
            let after = after.as_ref().filter(|after| kind_of(after) == kind);
            let ask =
                Ask { scope, volume: filter.volume.map(Uuid::from), after, limit: wanted - found.len() };
            found.extend(ask.of(c, kind).await?);
        }
        if found.len() >= wanted {
            break;
        }
    }
    let is_more = found.len() >= wanted;
    let items: Vec<Quota> = found.into_iter().skip(page.skip as usize).take(page.size as usize).collect();
    let next = items.last().filter(|_| is_more).map(|quota| cursor(&quota.key)).transpose()?;
    Ok(Page { items, next })
}

/// What is asked for of one kind.
struct Ask<'a> {
    scope: &'a Scope,
    volume: Option<Uuid>,
    after: Option<&'a QuotaKey>,
    limit: usize,
}

impl Ask<'_> {
    async fn of(&self, c: &AsyncPgConnection, kind: Kind) -> Step<Vec<Quota>> {
        match (kind, self.scope) {
            (Kind::Volume, Scope::All { .. }) => self.volumes(c).await,
            (Kind::UserOnVolume, Scope::All { organisation }) => self.users_on_volumes(c, organisation).await,
            (Kind::UserOnVolume, Scope::Own { user: Some(user), .. }) => self.user_on_volumes(c, *user).await,
            (Kind::AppOnVolume, Scope::All { .. }) => self.apps_on_volumes(c, None).await,
            (Kind::AppOnVolume, Scope::Own { app: Some(app), .. }) => {
                self.apps_on_volumes(c, Some(app)).await
            }
            (Kind::User, Scope::All { organisation }) => self.users(c, organisation).await,
            (Kind::User, Scope::Own { organisation, user: Some(user), .. }) => {
                self.one(c, QuotaKey::User { organisation: organisation.clone(), user: *user }).await
            }
            (Kind::Organisation, Scope::All { organisation } | Scope::Own { organisation, .. }) => {
                self.one(c, QuotaKey::Organisation(organisation.clone())).await
            }
            (Kind::Project, Scope::All { organisation }) => self.projects(c, organisation, None).await,
            (Kind::Project, Scope::Own { organisation, projects, .. }) => {
                self.projects(c, organisation, Some(projects)).await
            }
            // Whole volumes are not a caller's own, and there is no user or no app.
            (Kind::Volume | Kind::UserOnVolume | Kind::AppOnVolume | Kind::User, Scope::Own { .. }) => {
                Ok(Vec::new())
            }
        }
    }

    async fn volumes(&self, c: &AsyncPgConnection) -> Step<Vec<Quota>> {
        const VOLUMES: &str = concat!(
            "SELECT NULL::uuid AS user_id, id AS volume_id, NULL::text AS name, ",
            columns!(volume),
            " FROM storage_volumes
            WHERE deleted_at IS NULL AND ($1 IS NULL OR id = $1) AND id > $2 ORDER BY id LIMIT $3"
        );
        let after = match self.after {
            Some(QuotaKey::Volume(volume)) => volume.uuid(),
            _ => NONE,
        };
        let query = diesel::sql_query(VOLUMES)
            .bind::<Nullable<SqlUuid>, _>(self.volume)
            .bind::<SqlUuid, _>(after)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        Ok(rows.into_iter().map(|row| row.quota(|_, volume, _| QuotaKey::Volume(volume))).collect())
    }

    /// Of those users who are known in the organisation.
    async fn users_on_volumes(&self, c: &AsyncPgConnection, organisation: &str) -> Step<Vec<Quota>> {
        const USERS: &str = concat!(
            "SELECT user_id, volume_id, NULL::text AS name, ",
            columns!(volume),
            " FROM (SELECT user_id AS known FROM storage_quotas
                WHERE entity_type = 'user' AND organisation_id = $1 AND user_id >= $3) of_organisation
            JOIN user_quotas ON user_id = known
            WHERE (user_id, volume_id) > ($3, $4) AND ($2 IS NULL OR volume_id = $2)
            ORDER BY user_id, volume_id LIMIT $5"
        );
        let (user, volume) = self.after_user_on_volume();
        let query = diesel::sql_query(USERS)
            .bind::<Text, _>(organisation)
            .bind::<Nullable<SqlUuid>, _>(self.volume)
            .bind::<SqlUuid, _>(user)
            .bind::<SqlUuid, _>(volume)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        Ok(rows.into_iter().map(|row| row.quota(|user, on, _| QuotaKey::UserOnVolume(user, on))).collect())
    }

    async fn user_on_volumes(&self, c: &AsyncPgConnection, user: UserId) -> Step<Vec<Quota>> {
        const USER: &str = concat!(
            "SELECT user_id, volume_id, NULL::text AS name, ",
            columns!(volume),
            " FROM user_quotas
            WHERE user_id = $1
                AND ($2 IS NULL OR volume_id = $2) AND volume_id > $3
            ORDER BY volume_id LIMIT $4"
        );
        let (_, after) = self.after_user_on_volume();
        let query = diesel::sql_query(USER)
            .bind::<SqlUuid, _>(user.uuid())
            .bind::<Nullable<SqlUuid>, _>(self.volume)
            .bind::<SqlUuid, _>(after)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        Ok(rows.into_iter().map(|row| row.quota(|user, on, _| QuotaKey::UserOnVolume(user, on))).collect())
    }

    async fn apps_on_volumes(&self, c: &AsyncPgConnection, app: Option<&str>) -> Step<Vec<Quota>> {
        const APPS: &str = concat!(
            "SELECT NULL::uuid AS user_id, volume_id, app_id AS name, ",
            columns!(volume),
            " FROM app_quotas
            WHERE ($1 IS NULL OR app_id = $1)
                AND ($2 IS NULL OR volume_id = $2)
                AND (app_id COLLATE \"C\", volume_id) > ($3 COLLATE \"C\", $4)
            ORDER BY app_id COLLATE \"C\", volume_id LIMIT $5"
        );
        let (after_app, after_volume) = match self.after {
            Some(QuotaKey::AppOnVolume(app, volume)) => (app.as_str(), volume.uuid()),
            _ => ("", NONE),
        };
        let query = diesel::sql_query(APPS)
            .bind::<Nullable<Text>, _>(app)
            .bind::<Nullable<SqlUuid>, _>(self.volume)
            .bind::<Text, _>(after_app)
            .bind::<SqlUuid, _>(after_volume)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        Ok(rows.into_iter().map(|row| row.quota(|_, on, app| QuotaKey::AppOnVolume(app, on))).collect())
    }

    async fn users(&self, c: &AsyncPgConnection, organisation: &str) -> Step<Vec<Quota>> {
        const USERS: &str = concat!(
            "SELECT user_id, NULL::uuid AS volume_id, NULL::text AS name, ",
            columns!(entity),
            " FROM storage_quotas WHERE entity_type = 'user' AND organisation_id = $1 AND user_id > $2
            ORDER BY user_id LIMIT $3"
        );
        let after = match self.after {
            Some(QuotaKey::User { user, .. }) => user.uuid(),
            _ => NONE,
        };
        let query = diesel::sql_query(USERS)
            .bind::<Text, _>(organisation)
            .bind::<SqlUuid, _>(after)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        let key = |user| QuotaKey::User { organisation: organisation.to_owned(), user };
        Ok(rows.into_iter().map(|row| row.quota(|user, _, _| key(user))).collect())
    }

    async fn projects(
        &self,
        c: &AsyncPgConnection,
        organisation: &str,
        projects: Option<&[String]>,
    ) -> Step<Vec<Quota>> {
        const PROJECTS: &str = concat!(
            "SELECT NULL::uuid AS user_id, NULL::uuid AS volume_id, entity_id AS name, ",
            columns!(entity),
            " FROM storage_quotas
            WHERE entity_type = 'project' AND organisation_id = $1 AND ($2 IS NULL OR entity_id = ANY ($2))
                AND entity_id COLLATE \"C\" > $3
            ORDER BY entity_id COLLATE \"C\" LIMIT $4"
        );
        let after = match self.after {
            Some(QuotaKey::Project { project, .. }) => project,
            _ => "",
        };
        let query = diesel::sql_query(PROJECTS)
            .bind::<Text, _>(organisation)
            .bind::<Nullable<Array<Text>>, _>(projects)
            .bind::<Text, _>(after)
            .bind::<BigInt, _>(self.limit());
        let rows: Vec<Listed> = Cached(query).load(&mut &*c).await?;
        let key = |project| QuotaKey::Project { organisation: organisation.to_owned(), project };
        Ok(rows.into_iter().map(|row| row.quota(|_, _, project| key(project))).collect())
    }

    /// The only one of its kind.
    async fn one(&self, c: &AsyncPgConnection, key: QuotaKey) -> Step<Vec<Quota>> {
        if self.after.is_some() {
            return Ok(Vec::new());
        }
        let found = read(c, &[key]).await?;
        Ok(found.into_iter().filter(|quota| quota.updated_at.is_some()).collect())
    }

    fn after_user_on_volume(&self) -> (Uuid, Uuid) {
        match self.after {
            Some(QuotaKey::UserOnVolume(user, volume)) => (user.uuid(), volume.uuid()),
            _ => (NONE, NONE),
        }
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }
}

fn kind_of(key: &QuotaKey) -> Kind {
    match key {
        QuotaKey::Volume(_) => Kind::Volume,
        QuotaKey::UserOnVolume(..) => Kind::UserOnVolume,
        QuotaKey::AppOnVolume(..) => Kind::AppOnVolume,
        QuotaKey::User { .. } => Kind::User,
        QuotaKey::Organisation(_) => Kind::Organisation,
        QuotaKey::Project { .. } => Kind::Project,
    }
}

fn cursor(key: &QuotaKey) -> Step<Cursor> {
    Ok(Cursor { value: serde_json::to_string(key).map_err(unreadable)?, id: NONE })
}

fn parse(cursor: &Cursor) -> Step<QuotaKey> {
    serde_json::from_str(&cursor.value).map_err(|_| Error::invalid("page_token", "is of another list").into())
}
