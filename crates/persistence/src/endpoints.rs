//! Servers that volumes stand on.

mod ftp;

use coffer_domain::endpoint::{BaseUrl, Endpoint, EndpointChanges, HttpServer, S3Bucket, Server};
use coffer_domain::error::{Error, State};
use coffer_domain::id::EndpointId;
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::time::Timestamp;
use coffer_domain::volume::Backend;
use diesel::dsl::{exists, select, sql};
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::{Insertable, Queryable, Selectable};
use diesel::sql_types::{Nullable, Text};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::schema::{
    ftp_endpoints, http_credentials, http_endpoints, s3_buckets, s3_credentials, storage_volumes,
};
use ftp::FtpRow;

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = s3_buckets, check_for_backend(Pg))]
struct BucketRow {
    id: Uuid,
    endpoint_url: String,
    bucket_name: String,
    region: String,
    use_ssl: bool,
    created_at: Timestamp,
    use_path_style: bool,
    description: String,
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = http_endpoints, check_for_backend(Pg))]
struct HttpRow {
    id: Uuid,
    url: String,
    description: String,
    created_at: Timestamp,
}

/// A row of the table of its kind.
enum Row {
    Bucket(BucketRow),
    Http(HttpRow),
    Ftp(FtpRow),
}

impl Row {
    fn of(endpoint: Endpoint) -> Self {
        let Endpoint { id, server, description, created_at } = endpoint;
        let id = id.uuid();
        match server {
            Server::S3Bucket(S3Bucket { url, name, region, use_path_style }) => Self::Bucket(BucketRow {
                id,
                use_ssl: url.is_tls(),
                endpoint_url: url.to_string(),
                bucket_name: name,
                region,
                created_at,
                use_path_style,
                description,
            }),
            Server::Http(HttpServer { url }) => {
                Self::Http(HttpRow { id, url: url.to_string(), description, created_at })
            }
            Server::Ftp(server) => Self::Ftp(FtpRow::of_ftp(id, server, description, created_at)),
            Server::Sftp(server) => Self::Ftp(FtpRow::of_sftp(id, server, description, created_at)),
        }
    }

    fn into_endpoint(self) -> Step<Endpoint> {
        let (id, server, description, created_at) = match self {
            Self::Bucket(row) => {
                let url = BaseUrl::parse(&row.endpoint_url, Some(row.use_ssl)).map_err(unreadable)?;
                let BucketRow { id, bucket_name: name, region, use_path_style, .. } = row;
                let server = Server::S3Bucket(S3Bucket { url, name, region, use_path_style });
                (id, server, row.description, row.created_at)
            }
            Self::Http(HttpRow { id, url, description, created_at }) => {
                let url = url.parse().map_err(|error: coffer_domain::endpoint::BadUrl| unreadable(error))?;
                (id, Server::Http(HttpServer { url }), description, created_at)
            }
            Self::Ftp(row) => (row.id, row.server()?, row.description, row.created_at),
        };
        Ok(Endpoint { id: EndpointId::from(id), server, description, created_at })
    }
}

/// Adds an endpoint.
pub(crate) async fn create(c: &AsyncPgConnection, endpoint: &Endpoint) -> Step<Endpoint> {
    match Row::of(endpoint.clone()) {
        Row::Bucket(row) => {
            diesel::insert_into(s3_buckets::table).values(row).execute(&mut &*c).await?;
        }
        Row::Http(row) => {
            diesel::insert_into(http_endpoints::table).values(row).execute(&mut &*c).await?;
        }
        Row::Ftp(row) => {
            diesel::insert_into(ftp_endpoints::table).values(row).execute(&mut &*c).await?;
        }
    }
    Ok(endpoint.clone())
}

/// An endpoint.
pub(crate) async fn find(c: &AsyncPgConnection, id: EndpointId) -> Step<Option<Endpoint>> {
    let bucket = s3_buckets::table.find(id.uuid()).select(BucketRow::as_select());
    if let Some(row) = bucket.first(&mut &*c).await.optional()? {
        return Row::Bucket(row).into_endpoint().map(Some);
    }
    let http = http_endpoints::table.find(id.uuid()).select(HttpRow::as_select());
    if let Some(row) = http.first(&mut &*c).await.optional()? {
        return Row::Http(row).into_endpoint().map(Some);
    }
    let ftp = ftp_endpoints::table.find(id.uuid()).select(FtpRow::as_select());
    let row: Option<FtpRow> = ftp.first(&mut &*c).await.optional()?;
    row.map(|row| Row::Ftp(row).into_endpoint()).transpose()
}

/// Endpoints of all kinds, oldest first: each kind gives a page, and what is beyond one is left out again.
pub(crate) async fn list(c: &AsyncPgConnection, page: &PageRequest) -> Step<Page<Endpoint>> {
    let limit = i64::from(page.size) + i64::from(page.skip) + 1;
    let after = page.after.as_ref().map_or(Uuid::nil(), |cursor| cursor.id);
    let buckets = s3_buckets::table
        .filter(s3_buckets::id.gt(after))
        .select(BucketRow::as_select())
        .order(s3_buckets::id)
        .limit(limit);
    let servers = http_endpoints::table
        .filter(http_endpoints::id.gt(after))
        .select(HttpRow::as_select())
        .order(http_endpoints::id)
        .limit(limit);
    let ftp = ftp_endpoints::table
        .filter(ftp_endpoints::id.gt(after))
        .select(FtpRow::as_select())
        .order(ftp_endpoints::id)
        .limit(limit);
    let buckets: Vec<BucketRow> = buckets.load(&mut &*c).await?;
    let servers: Vec<HttpRow> = servers.load(&mut &*c).await?;
    let ftp: Vec<FtpRow> = ftp.load(&mut &*c).await?;
    let rows = buckets.into_iter().map(Row::Bucket);
    let rows = rows.chain(servers.into_iter().map(Row::Http)).chain(ftp.into_iter().map(Row::Ftp));
    let mut items = rows.map(Row::into_endpoint).collect::<Step<Vec<_>>>()?;
    items.sort_unstable_by_key(|endpoint| endpoint.id);
    items.drain(..items.len().min(page.skip as usize));
    let is_more = items.len() > page.size as usize;
    items.truncate(page.size as usize);
    let next = items
        .last()
        .filter(|_| is_more)
        .map(|endpoint| Cursor { value: String::new(), id: endpoint.id.uuid() });
    Ok(Page { items, next })
}

/// Changes an endpoint, which stays of its kind, and where it is while a volume stands on it.
pub(crate) async fn update(
    c: &AsyncPgConnection,
    id: EndpointId,
    changes: &EndpointChanges,
) -> Step<Endpoint> {
    let current = hold(c, id).await?;
    let EndpointChanges { server, description } = changes.clone();
    let server = server.unwrap_or_else(|| current.server.clone());
    if server.provider() != current.server.provider() {
        return Err(Error::invalid("endpoint", "must be of the kind it was made as").into());
    }
    if !server.is_where(&current.server) && is_used(c, id).await? {
        return Err(Error::State(State::InUse(
            "a volume stands on this endpoint, so it cannot be elsewhere",
        ))
        .into());
    }
    let changed = Endpoint {
        server,
        description: description.unwrap_or_else(|| current.description.clone()),
        ..current
    };
    match Row::of(changed.clone()) {
        Row::Bucket(row) => {
            diesel::update(s3_buckets::table.find(row.id))
                .set((
                    s3_buckets::endpoint_url.eq(row.endpoint_url),
                    s3_buckets::bucket_name.eq(row.bucket_name),
                    s3_buckets::region.eq(row.region),
                    s3_buckets::use_ssl.eq(row.use_ssl),
                    s3_buckets::use_path_style.eq(row.use_path_style),
                    s3_buckets::description.eq(row.description),
                ))
                .execute(&mut &*c)
                .await?;
        }
        Row::Http(row) => {
            diesel::update(http_endpoints::table.find(row.id))
                .set((http_endpoints::url.eq(row.url), http_endpoints::description.eq(row.description)))
                .execute(&mut &*c)
                .await?;
        }
        Row::Ftp(row) => ftp::update(c, &row).await?,
    }
    Ok(changed)
}

/// Removes an endpoint that no volume stands on, with its credentials.
pub(crate) async fn delete(c: &AsyncPgConnection, id: EndpointId) -> Step<()> {
    let endpoint = hold(c, id).await?;
    if is_used(c, id).await? {
        return Err(Error::State(State::InUse("a volume stands on this endpoint")).into());
    }
    let id = id.uuid();
    match endpoint.server {
        Server::S3Bucket(_) => {
            diesel::delete(s3_credentials::table.filter(s3_credentials::bucket_id.eq(id)))
                .execute(&mut &*c)
                .await?;
            diesel::delete(s3_buckets::table.find(id)).execute(&mut &*c).await?;
        }
        Server::Http(_) => {
            diesel::delete(http_credentials::table.filter(http_credentials::endpoint_id.eq(id)))
                .execute(&mut &*c)
                .await?;
            diesel::delete(http_endpoints::table.find(id)).execute(&mut &*c).await?;
        }
        Server::Ftp(_) | Server::Sftp(_) => {
            diesel::delete(ftp_endpoints::table.find(id)).execute(&mut &*c).await?;
        }
    }
    Ok(())
}

/// Holds an endpoint until the transaction ends: nobody changes it, its credentials or the volumes on it meanwhile.
pub(crate) async fn hold(c: &AsyncPgConnection, id: EndpointId) -> Step<Endpoint> {
    let bucket = s3_buckets::table.find(id.uuid()).select(BucketRow::as_select()).for_update();
    if let Some(row) = bucket.first(&mut &*c).await.optional()? {
        return Row::Bucket(row).into_endpoint();
    }
    let http = http_endpoints::table.find(id.uuid()).select(HttpRow::as_select()).for_update();
    if let Some(row) = http.first(&mut &*c).await.optional()? {
        return Row::Http(row).into_endpoint();
    }
    let ftp = ftp_endpoints::table.find(id.uuid()).select(FtpRow::as_select()).for_update();
    let row: Option<FtpRow> = ftp.first(&mut &*c).await.optional()?;
    Row::Ftp(row.ok_or_else(|| Error::NotFound(Endpoint::resource(id)))?).into_endpoint()
}

/// The same for a volume, which needs one of its kind.
pub(crate) async fn hold_for_volume(c: &AsyncPgConnection, id: EndpointId, backend: &Backend) -> Step<()> {
    let endpoint = hold(c, id).await?;
    if !backend.fits(&endpoint.server) {
        return Err(Error::invalid("volume.backend", "must name an endpoint of its kind").into());
    }
    Ok(())
}

/// Whether a volume stands on it.
pub(crate) async fn is_used(c: &AsyncPgConnection, id: EndpointId) -> Step<bool> {
    let standing = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null().and(of_volume().eq(id.to_string())));
    Ok(select(exists(standing)).get_result(&mut &*c).await?)
}

/// The endpoint that a volume stands on, as text; null for local ones.
pub(crate) fn of_volume() -> SqlLiteral<Nullable<Text>> {
    sql("coalesce(storage_volumes.config ->> 'bucket_id', storage_volumes.config ->> 'endpoint_id',
         storage_volumes.config ->> 'ftp_id')")
}
