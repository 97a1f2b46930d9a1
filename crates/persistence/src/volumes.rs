//! Volumes, and the approved directories they stand on.

use coffer_domain::error::{Conflict, Error, Resource, State};
use coffer_domain::id::VolumeId;
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::path::PathRules;
use coffer_domain::time::{Timestamp, now};
use coffer_domain::volume::{Backend, Settings, Volume, VolumeRef};
use diesel::dsl::{exists, select, sql};
use diesel::pg::Pg;
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};
use diesel::sql_types::Text;
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Step, too_large, unreadable};
use crate::schema::{
    app_quotas, storage_files, storage_reclaims, storage_uploads, storage_volumes, user_quotas,
};
use crate::{credentials, endpoints, links, local_paths};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = storage_volumes, check_for_backend(Pg))]
struct Row {
    id: Uuid,
    name: String,
    driver: String,
    config: Value,
    default_prefix: Option<String>,
    enforce_hierarchy: bool,
    path_delimiter: String,
    use_query_params: bool,
    auto_path_strategy: String,
    versioning_mode: String,
    quota_limit: Option<i64>,
    quota_used: i64,
    quota_reserved: i64,
    is_active: bool,
    allowed_organisations: Vec<String>,
    allowed_apps: Vec<String>,
    max_file_bytes: Option<i64>,
    trash_retention_seconds: Option<i64>,
    upload_ttl_seconds: Option<i64>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What an operator may change.
#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = storage_volumes, treat_none_as_null = true, treat_none_as_default_value = false)]
struct Changeable<'v> {
    name: &'v str,
    default_prefix: Option<&'v str>,
    enforce_hierarchy: bool,
    path_delimiter: &'v str,
    versioning_mode: &'v str,
    quota_limit: Option<i64>,
    is_active: bool,
    allowed_organisations: &'v [String],
    allowed_apps: &'v [String],
    max_file_bytes: Option<i64>,
    trash_retention_seconds: Option<i64>,
    upload_ttl_seconds: Option<i64>,
}

impl<'v> Changeable<'v> {
    fn of(settings: &'v Settings) -> Step<Self> {
        let number = |n: Option<u64>| n.map(i64::try_from).transpose().map_err(too_large);
        Ok(Self {
            name: &settings.name,
            default_prefix: Some(settings.default_prefix.as_str()).filter(|prefix| !prefix.is_empty()),
            enforce_hierarchy: settings.paths.is_hierarchical,
            path_delimiter: &settings.paths.delimiter,
            versioning_mode: settings.versioning.as_str(),
            quota_limit: number(settings.quota_limit)?,
            is_active: settings.is_active,
            allowed_organisations: &settings.allowed_organisations,
            allowed_apps: &settings.allowed_apps,
            max_file_bytes: number(settings.max_file_bytes)?,
            trash_retention_seconds: number(settings.trash_retention_seconds)?,
            upload_ttl_seconds: number(settings.upload_ttl_seconds)?,
        })
    }
}

impl Row {
    fn into_volume(self) -> Step<Volume> {
        let number = |n: Option<i64>| n.map(u64::try_from).transpose().map_err(unreadable);
        let backend = match self.driver.as_str() {
            driver @ ("local" | "s3" | "http" | "ftp") => {
                backend(driver, self.config, self.use_query_params)?
            }
            other => return Err(unreadable(format!("driver {other:?}"))),
        };
        let settings = Settings {
            name: self.name,
            backend,
            strategy: self.auto_path_strategy.parse().map_err(unreadable)?,
            versioning: self.versioning_mode.parse().map_err(unreadable)?,
            paths: PathRules { is_hierarchical: self.enforce_hierarchy, delimiter: self.path_delimiter },
            default_prefix: self.default_prefix.unwrap_or_default(),
            quota_limit: number(self.quota_limit)?,
            max_file_bytes: number(self.max_file_bytes)?,
            is_active: self.is_active,
            allowed_organisations: self.allowed_organisations,
            allowed_apps: self.allowed_apps,
            trash_retention_seconds: number(self.trash_retention_seconds)?,
            upload_ttl_seconds: number(self.upload_ttl_seconds)?,
        };
        Ok(Volume {
            id: VolumeId::from(self.id),
            settings,
            quota_used: u64::try_from(self.quota_used).map_err(unreadable)?,
            quota_reserved: u64::try_from(self.quota_reserved).map_err(unreadable)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// The column of that name: whether keys are query parameters is in a column of its own.
fn config(backend: &Backend) -> Step<Value> {
    let mut config = serde_json::to_value(backend).map_err(unreadable)?;
    if let Value::Object(fields) = &mut config {
        fields.remove("use_query_params");
    }
    Ok(config)
}

/// A backend from its columns, which have to be of one kind.
fn backend(driver: &str, mut config: Value, use_query_params: bool) -> Step<Backend> {
    if use_query_params && let Value::Object(fields) = &mut config {
        fields.insert("use_query_params".to_owned(), Value::Bool(true));
    }
    let backend: Backend = serde_json::from_value(config).map_err(unreadable)?;
    if backend.driver() == driver {
        Ok(backend)
    } else {
        Err(unreadable(format!("a configuration of {} with the driver {driver}", backend.driver())))
    }
}

/// Adds a volume. What it stands on is held meanwhile, so that neither it goes nor another volume takes the same place.
pub(crate) async fn create(c: &AsyncPgConnection, volume: &Volume) -> Step<Volume> {
    let settings = &volume.settings;
    check_place(c, volume.id, settings).await?;
    let row: Row = diesel::insert_into(storage_volumes::table)
        .values((
            storage_volumes::id.eq(volume.id.uuid()),
            storage_volumes::driver.eq(settings.backend.driver()),
            storage_volumes::config.eq(config(&settings.backend)?),
            storage_volumes::use_query_params
                .eq(matches!(settings.backend, Backend::Http { use_query_params: true, .. })),
            storage_volumes::auto_path_strategy.eq(settings.strategy.as_str()),
            storage_volumes::created_at.eq(volume.created_at),
            storage_volumes::updated_at.eq(volume.updated_at),
            Changeable::of(settings)?,
        ))
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await?;
    row.into_volume()
}

/// A volume that was not deleted.
pub(crate) async fn find(c: &AsyncPgConnection, volume: &VolumeRef) -> Step<Option<Volume>> {
    let query = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null())
        .select(Row::as_select())
        .into_boxed();
    let query = match volume {
        VolumeRef::Id(id) => query.filter(storage_volumes::id.eq(id.uuid())),
        VolumeRef::Name(name) => query.filter(storage_volumes::name.eq(name)),
    };
    let row: Option<Row> = query.first(&mut &*c).await.optional()?;
    row.map(Row::into_volume).transpose()
}

/// Volumes by name.
pub(crate) async fn list(c: &AsyncPgConnection, page: &PageRequest) -> Step<Page<Volume>> {
    // By bytes, which is the same in every database. No two have one name.
    let name = || sql::<Text>("storage_volumes.name COLLATE \"C\"");
    let mut query = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null())
        .select(Row::as_select())
        .order(name())
        .limit(i64::from(page.size) + 1)
        .offset(i64::from(page.skip))
        .into_boxed();
    if let Some(after) = &page.after {
        query = query.filter(name().gt(&after.value));
    }
    let rows: Vec<Row> = query.load(&mut &*c).await?;
    let is_more = rows.len() > page.size as usize;
    let items = rows.into_iter().take(page.size as usize).map(Row::into_volume).collect::<Step<Vec<_>>>()?;
    let next = items
        .last()
        .filter(|_| is_more)
        .map(|volume| Cursor { value: volume.settings.name.clone(), id: volume.id.uuid() });
    Ok(Page { items, next })
}

/// Replaces what may be changed of a volume's settings; backend and strategy stay.
pub(crate) async fn update(
    c: &AsyncPgConnection,
    id: VolumeId,
    expected: Timestamp,
    settings: &Settings,
    must_be_empty: bool,
) -> Step<Volume> {
    let row = lock(c, id).await?;
    if row.updated_at != expected {
        return Err(Error::Conflict(Conflict::Etag).into());
    }
    if must_be_empty {
        check_empty(c, id).await?;
        // Whoever removes them would look for them by the new rules.
        if !links::is_without(c, id).await? {
            return Err(
                Error::State(State::InUse("deleted files are still being removed from their paths")).into()
            );
        }
    }
    if row.default_prefix.unwrap_or_default() != settings.default_prefix {
        check_place(c, id, settings).await?;
    }
    // Later than before, also by a clock that is behind the one of the last change.
    let at = now().max(expected + chrono::TimeDelta::microseconds(1));
    let row: Row = diesel::update(storage_volumes::table.find(id.uuid()))
        .set((Changeable::of(settings)?, storage_volumes::updated_at.eq(at)))
        .returning(Row::as_returning())
        .get_result(&mut &*c)
        .await?;
    row.into_volume()
}

/// Removes a volume that holds nothing.
pub(crate) async fn delete(c: &AsyncPgConnection, id: VolumeId) -> Step<()> {
    lock(c, id).await?;
    check_empty(c, id).await?;
    // Nobody could find the backend of a deleted volume to remove them.
    let reclaims = storage_reclaims::table.filter(storage_reclaims::volume_id.eq(id.uuid()));
    let unswept = storage_uploads::table.filter(
        storage_uploads::volume_id
            .eq(id.uuid())
            .and(storage_uploads::state.eq_any(["ABORTED", "EXPIRED"]))
            .and(storage_uploads::swept_at.is_null()),
    );
    if select(exists(reclaims)).get_result(&mut &*c).await?
        || select(exists(unswept)).get_result(&mut &*c).await?
        || !links::is_without(c, id).await?
    {
        return Err(Error::State(State::InUse(
            "bytes that were given up are still being removed from the volume",
        ))
        .into());
    }
    // Nothing is used or held on it any more, and nobody can use it again.
    diesel::delete(user_quotas::table.filter(user_quotas::volume_id.eq(id.uuid()))).execute(&mut &*c).await?;
    diesel::delete(app_quotas::table.filter(app_quotas::volume_id.eq(id.uuid()))).execute(&mut &*c).await?;
    diesel::update(storage_volumes::table.find(id.uuid()))
        .set(storage_volumes::deleted_at.eq(now()))
        .execute(&mut &*c)
        .await?;
    Ok(())
}

/// Locks a volume also against uploads that begin: they hold its row while they record themselves.
async fn lock(c: &AsyncPgConnection, id: VolumeId) -> Step<Row> {
    let row: Option<Row> = storage_volumes::table
        .find(id.uuid())
        .filter(storage_volumes::deleted_at.is_null())
        .select(Row::as_select())
        .for_update()
        .first(&mut &*c)
        .await
        .optional()?;
    Ok(row.ok_or_else(|| Error::NotFound(Resource::Volume(id.to_string())))?)
}

/// Refuses a volume with a file, also in the trash, or an upload on its way.
async fn check_empty(c: &AsyncPgConnection, id: VolumeId) -> Step<()> {
    let files = storage_files::table
        .filter(storage_files::volume_id.eq(id.uuid()).and(storage_files::purged_at.is_null()));
    let uploads = storage_uploads::table.filter(
        storage_uploads::volume_id.eq(id.uuid()).and(storage_uploads::state.eq_any(["OPEN", "FINISHING"])),
    );
    if select(exists(files)).get_result(&mut &*c).await?
        || select(exists(uploads)).get_result(&mut &*c).await?
    {
        return Err(Error::State(State::VolumeNotEmpty).into());
    }
    Ok(())
}

/// Refuses a place that another volume has: the same backend, and one prefix within the other.
async fn check_place(c: &AsyncPgConnection, id: VolumeId, settings: &Settings) -> Step<()> {
    let others = match settings.backend {
        Backend::Local { local_path_id } => {
            local_paths::hold(c, local_path_id).await?;
            local_paths::of_volume().eq(local_path_id.to_string())
        }
        Backend::S3 { bucket_id: endpoint, .. }
        | Backend::Http { endpoint_id: endpoint, .. }
        | Backend::Ftp { ftp_id: endpoint } => {
            endpoints::hold_for_volume(c, endpoint, &settings.backend).await?;
            if let Some((_, Some(credential))) = settings.backend.endpoint() {
                credentials::must_open(c, credential, endpoint).await?;
            }
            endpoints::of_volume().eq(endpoint.to_string())
        }
    };
    let others: Vec<Option<String>> = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null().and(storage_volumes::id.ne(id.uuid())))
        .filter(others)
        .select(storage_volumes::default_prefix)
        .load(&mut &*c)
        .await?;
    let prefix = settings.default_prefix.as_str();
    let overlaps = |other: &Option<String>| {
        let other = other.as_deref().unwrap_or_default();
        other.starts_with(prefix) || prefix.starts_with(other)
    };
    if others.iter().any(overlaps) {
        return Err(Error::State(State::VolumeConflict("another volume has this place")).into());
    }
    Ok(())
}
