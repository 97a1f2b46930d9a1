//! What opens endpoints, sealed.

mod ftp;

use coffer_domain::endpoint::{Credential, CredentialChanges, CredentialKind, Endpoint, Login, Server};
use coffer_domain::error::{Error, State};
use coffer_domain::id::{CredentialId, EndpointId};
use coffer_domain::page::{Cursor, Page, PageRequest};
use coffer_domain::secret::{Secret, unreadable as unreadable_secret};
use coffer_domain::time::Timestamp;
use diesel::dsl::{exists, select, sql};
use diesel::pg::Pg;
use diesel::prelude::{Insertable, Queryable, Selectable};
use diesel::sql_types::{Nullable, Text};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::endpoints;
use crate::error::{Step, unreadable};
use crate::schema::{http_credentials, s3_credentials, storage_volumes};
use crate::secrets::{Column, KeyRing, Sealed, shown};
use ftp::FtpRow;

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = s3_credentials, check_for_backend(Pg))]
struct S3Row {
    id: Uuid,
    bucket_id: Uuid,
    access_key: String,
    secret_key: String,
    description: String,
    created_at: Timestamp,
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = http_credentials, check_for_backend(Pg))]
struct HttpRow {
    id: Uuid,
    endpoint_id: Uuid,
    auth_type: String,
    credentials: Value,
    created_at: Timestamp,
    description: String,
}

/// A row of the table of its kind.
enum Row {
    S3(S3Row),
    Http(HttpRow),
    Ftp(FtpRow),
}

/// What is written of a credential.
enum Sealing {
    S3(S3Row),
    Http(HttpRow),
    Ftp(ftp::Stored),
}

/// What is sealed of a login to an HTTP server.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum HttpSecret {
    Basic {
        username: String,
        #[serde(with = "shown")]
        password: Secret,
    },
    Bearer {
        #[serde(with = "shown")]
        token: Secret,
    },
    CustomHeader {
        name: String,
        #[serde(with = "shown")]
        value: Secret,
    },
}

impl Sealing {
    fn of(keys: &KeyRing, credential: &Credential, login: &Login) -> Step<Self> {
        let Credential { id, endpoint, kind: _, description, created_at } = credential.clone();
        let (id, endpoint) = (id.uuid(), endpoint.uuid());
        let secret = |login: HttpSecret| serde_json::to_string(&login).map(Secret::new).map_err(unreadable);
        let (auth_type, secret) = match login {
            Login::S3 { access_key, secret_key } => {
                let sealed = keys.seal(Column::S3SecretKey, id, secret_key)?;
                return Ok(Self::S3(S3Row {
                    id,
                    bucket_id: endpoint,
                    access_key: access_key.clone(),
                    secret_key: sealed.to_text(),
                    description,
                    created_at,
                }));
            }
            Login::Basic { username, password } => (
                "basic",
                secret(HttpSecret::Basic { username: username.clone(), password: password.clone() })?,
            ),
            Login::Bearer { token } => ("bearer", secret(HttpSecret::Bearer { token: token.clone() })?),
            Login::CustomHeader { name, value } => (
                "custom_header",
                secret(HttpSecret::CustomHeader { name: name.clone(), value: value.clone() })?,
            ),
            Login::Password { password } => {
                return ftp::Stored::password(keys, credential.endpoint, password).map(Self::Ftp);
            }
            Login::PrivateKey { key } => {
                return ftp::Stored::private_key(keys, credential.endpoint, key).map(Self::Ftp);
            }
            Login::KeyFile { path } => return Ok(Self::Ftp(ftp::Stored::key_file(path))),
        };
        let credentials = keys.seal(Column::HttpCredentials, id, &secret)?.to_json();
        let auth_type = auth_type.to_owned();
        Ok(Self::Http(HttpRow { id, endpoint_id: endpoint, auth_type, credentials, created_at, description }))
    }
}

impl Row {
    fn open(&self, keys: &KeyRing) -> Step<Login> {
        match self {
            Self::S3(row) => {
                let sealed = Sealed::from_text(&row.secret_key)?;
                let secret_key = keys.open(Column::S3SecretKey, row.id, &sealed)?;
                Ok(Login::S3 { access_key: row.access_key.clone(), secret_key })
            }
            Self::Http(row) => {
                let sealed = Sealed::from_json(&row.credentials)?;
                let secret = keys.open(Column::HttpCredentials, row.id, &sealed)?;
                // The parser's own words may hold what it read.
                let secret = serde_json::from_str(secret.expose())
                    .map_err(|_| unreadable_secret(sealed.key.as_str(), "it is of an unknown kind"))?;
                Ok(match secret {
                    HttpSecret::Basic { username, password } => Login::Basic { username, password },
                    HttpSecret::Bearer { token } => Login::Bearer { token },
                    HttpSecret::CustomHeader { name, value } => Login::CustomHeader { name, value },
                })
            }
            Self::Ftp(row) => row.open(keys),
        }
    }

    fn into_credential(self) -> Step<Credential> {
        let (id, endpoint, kind, description, created_at) = match self {
            Self::S3(S3Row { id, bucket_id, access_key, secret_key: _, description, created_at }) => {
                (id, bucket_id, CredentialKind::S3 { access_key }, description, created_at)
            }
            Self::Http(HttpRow { id, endpoint_id, auth_type, credentials: _, created_at, description }) => {
                let kind = match auth_type.as_str() {
                    "basic" => CredentialKind::Basic,
                    "bearer" => CredentialKind::Bearer,
                    "custom_header" => CredentialKind::CustomHeader,
                    other => return Err(unreadable(format!("auth_type {other:?}"))),
                };
                (id, endpoint_id, kind, description, created_at)
            }
            Self::Ftp(row) => return row.into_credential(),
        };
        let (id, endpoint) = (CredentialId::from(id), EndpointId::from(endpoint));
        Ok(Credential { id, endpoint, kind, description, created_at })
    }
}

/// Adds a credential to an endpoint that it can open.
pub(crate) async fn create(
    c: &AsyncPgConnection,
    keys: &KeyRing,
    credential: &Credential,
    login: &Login,
) -> Step<Credential> {
    must_fit(&endpoints::hold(c, credential.endpoint).await?, login)?;
    match Sealing::of(keys, credential, login)? {
        Sealing::S3(row) => {
            diesel::insert_into(s3_credentials::table).values(row).execute(&mut &*c).await?;
        }
        Sealing::Http(row) => {
            diesel::insert_into(http_credentials::table).values(row).execute(&mut &*c).await?;
        }
        Sealing::Ftp(stored) => ftp::create(c, credential, stored).await?,
    }
    Ok(credential.clone())
}

/// A credential.
pub(crate) async fn find(c: &AsyncPgConnection, id: CredentialId) -> Step<Option<Credential>> {
    row(c, id).await?.map(Row::into_credential).transpose()
}

/// Credentials of an endpoint, oldest first.
pub(crate) async fn list(
    c: &AsyncPgConnection,
    endpoint: EndpointId,
    page: &PageRequest,
) -> Step<Page<Credential>> {
    let known = endpoints::find(c, endpoint).await?;
    let known = known.ok_or_else(|| Error::NotFound(Endpoint::resource(endpoint)))?;
    let (limit, skip) = (i64::from(page.size) + 1, i64::from(page.skip));
    let after = page.after.as_ref().map_or(Uuid::nil(), |cursor| cursor.id);
    let rows: Vec<Row> = match known.server {
        Server::S3Bucket(_) => {
            use s3_credentials::dsl;
            let rows: Vec<S3Row> = dsl::s3_credentials
                .filter(dsl::bucket_id.eq(endpoint.uuid()).and(dsl::id.gt(after)))
                .select(S3Row::as_select())
                .order(dsl::id)
                .limit(limit)
                .offset(skip)
                .load(&mut &*c)
                .await?;
            rows.into_iter().map(Row::S3).collect()
        }
        Server::Http(_) => {
            use http_credentials::dsl;
            let rows: Vec<HttpRow> = dsl::http_credentials
                .filter(dsl::endpoint_id.eq(endpoint.uuid()).and(dsl::id.gt(after)))
                .select(HttpRow::as_select())
                .order(dsl::id)
                .limit(limit)
                .offset(skip)
                .load(&mut &*c)
                .await?;
            rows.into_iter().map(Row::Http).collect()
        }
        Server::Ftp(_) | Server::Sftp(_) => {
            let row = ftp::of_endpoint(c, endpoint).await?;
            row.filter(|row| page.skip == 0 && row.is_after(after)).map(Row::Ftp).into_iter().collect()
        }
    };
    let is_more = rows.len() > page.size as usize;
    let rows = rows.into_iter().take(page.size as usize);
    let items = rows.map(Row::into_credential).collect::<Step<Vec<_>>>()?;
    let next = items
        .last()
        .filter(|_| is_more)
        .map(|credential| Cursor { value: String::new(), id: credential.id.uuid() });
    Ok(Page { items, next })
}

/// Changes a credential; what opens its endpoint is replaced as a whole.
pub(crate) async fn update(
    c: &AsyncPgConnection,
    keys: &KeyRing,
    id: CredentialId,
    changes: &CredentialChanges,
) -> Step<Credential> {
    let current = find(c, id).await?.ok_or_else(|| Error::NotFound(Credential::resource(id)))?;
    // In the order in which deleting the endpoint locks them.
    let endpoint = endpoints::hold(c, current.endpoint).await?;
    let current = find(c, id).await?.ok_or_else(|| Error::NotFound(Credential::resource(id)))?;
    let CredentialChanges { login, description } = changes.clone();
    let mut changed = Credential { description: description.unwrap_or(current.description), ..current };
    if let Some(login) = login {
        must_fit(&endpoint, &login)?;
        changed.kind = login.kind();
        match Sealing::of(keys, &changed, &login)? {
            Sealing::S3(row) => {
                diesel::update(s3_credentials::table.find(row.id))
                    .set((
                        s3_credentials::access_key.eq(row.access_key),
                        s3_credentials::secret_key.eq(row.secret_key),
                    ))
                    .execute(&mut &*c)
                    .await?;
            }
            Sealing::Http(row) => {
                diesel::update(http_credentials::table.find(row.id))
                    .set((
                        http_credentials::auth_type.eq(row.auth_type),
                        http_credentials::credentials.eq(row.credentials),
                    ))
                    .execute(&mut &*c)
                    .await?;
            }
            Sealing::Ftp(stored) => ftp::replace(c, id, stored).await?,
        }
    }
    match endpoint.server {
        Server::S3Bucket(_) => {
            diesel::update(s3_credentials::table.find(id.uuid()))
                .set(s3_credentials::description.eq(&changed.description))
                .execute(&mut &*c)
                .await?;
        }
        Server::Http(_) => {
            diesel::update(http_credentials::table.find(id.uuid()))
                .set(http_credentials::description.eq(&changed.description))
                .execute(&mut &*c)
                .await?;
        }
        Server::Ftp(_) | Server::Sftp(_) => ftp::describe(c, id, &changed.description).await?,
    }
    Ok(changed)
}

/// Removes a credential that no volume needs.
pub(crate) async fn delete(c: &AsyncPgConnection, id: CredentialId) -> Step<()> {
    let absent = || Error::NotFound(Credential::resource(id));
    let credential = find(c, id).await?.ok_or_else(absent)?;
    endpoints::hold(c, credential.endpoint).await?;
    let named = storage_volumes::table
        .filter(storage_volumes::deleted_at.is_null())
        .filter(sql::<Nullable<Text>>("storage_volumes.config ->> 'credential_id'").eq(id.to_string()));
    if select(exists(named)).get_result(&mut &*c).await? {
        return Err(Error::State(State::InUse("a volume names this credential")).into());
    }
    let page = PageRequest { size: 1, skip: 1, after: None };
    let is_last = list(c, credential.endpoint, &page).await?.items.is_empty();
    if is_last && endpoints::is_used(c, credential.endpoint).await? {
        let problem = "a volume stands on the endpoint, which has no other credential";
        return Err(Error::State(State::InUse(problem)).into());
    }
    let deleted = match credential.kind {
        CredentialKind::S3 { .. } => {
            diesel::delete(s3_credentials::table.find(id.uuid())).execute(&mut &*c).await?
        }
        CredentialKind::Basic | CredentialKind::Bearer | CredentialKind::CustomHeader => {
            diesel::delete(http_credentials::table.find(id.uuid())).execute(&mut &*c).await?
        }
        CredentialKind::Password | CredentialKind::PrivateKey | CredentialKind::KeyFile { .. } => {
            ftp::delete(c, id).await?
        }
    };
    if deleted == 1 { Ok(()) } else { Err(absent().into()) }
}

/// What opens an endpoint: the credential that is named, else the newest.
pub(crate) async fn login(
    c: &AsyncPgConnection,
    keys: &KeyRing,
    endpoint: EndpointId,
    credential: Option<CredentialId>,
) -> Step<Option<Login>> {
    let row = match credential {
        Some(id) => {
            must_open(c, id, endpoint).await?;
            row(c, id).await?
        }
        None => newest(c, endpoint).await?,
    };
    row.map(|row| row.open(keys)).transpose()
}

/// Refuses a credential of another endpoint.
pub(crate) async fn must_open(c: &AsyncPgConnection, id: CredentialId, endpoint: EndpointId) -> Step<()> {
    match find(c, id).await? {
        Some(credential) if credential.endpoint == endpoint => Ok(()),
        _ => Err(Error::NotFound(Credential::resource(id)).into()),
    }
}

fn must_fit(endpoint: &Endpoint, login: &Login) -> Step<()> {
    if login.opens(&endpoint.server) {
        return Ok(());
    }
    let problem = match endpoint.server {
        Server::S3Bucket(_) => "must be s3, since the endpoint is an S3 bucket",
        Server::Http(_) => "must be basic, bearer or custom_header, since the endpoint is an HTTP server",
        Server::Ftp(_) => "must be password, since the endpoint is an FTP server",
        Server::Sftp(_) => "must be password, private_key or key_file, since the endpoint is an SFTP server",
    };
    Err(Error::invalid("login", problem).into())
}

async fn row(c: &AsyncPgConnection, id: CredentialId) -> Step<Option<Row>> {
    let s3 = s3_credentials::table.find(id.uuid()).select(S3Row::as_select());
    if let Some(row) = s3.first(&mut &*c).await.optional()? {
        return Ok(Some(Row::S3(row)));
    }
    let http = http_credentials::table.find(id.uuid()).select(HttpRow::as_select());
    if let Some(row) = http.first(&mut &*c).await.optional()? {
        return Ok(Some(Row::Http(row)));
    }
    Ok(ftp::find(c, id).await?.map(Row::Ftp))
}

async fn newest(c: &AsyncPgConnection, endpoint: EndpointId) -> Step<Option<Row>> {
    let s3 = s3_credentials::table
        .filter(s3_credentials::bucket_id.eq(endpoint.uuid()))
        .select(S3Row::as_select())
        .order((s3_credentials::created_at.desc(), s3_credentials::id.desc()));
    if let Some(row) = s3.first(&mut &*c).await.optional()? {
        return Ok(Some(Row::S3(row)));
    }
    let http = http_credentials::table
        .filter(http_credentials::endpoint_id.eq(endpoint.uuid()))
        .select(HttpRow::as_select())
        .order((http_credentials::created_at.desc(), http_credentials::id.desc()));
    if let Some(row) = http.first(&mut &*c).await.optional()? {
        return Ok(Some(Row::Http(row)));
    }
    Ok(ftp::of_endpoint(c, endpoint).await?.map(Row::Ftp))
}
