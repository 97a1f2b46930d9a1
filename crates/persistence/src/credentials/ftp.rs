//! What opens an FTP or SFTP server: at most one credential, which stands in the server's row.

use coffer_domain::endpoint::{Credential, CredentialKind, Login};
use coffer_domain::error::{Error, Taken};
use coffer_domain::id::{CredentialId, EndpointId};
use coffer_domain::secret::Secret;
use coffer_domain::time::Timestamp;
use diesel::pg::Pg;
use diesel::prelude::{AsChangeset, Queryable, Selectable};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::schema::ftp_endpoints::{self, dsl};
use crate::secrets::{Column, KeyRing, Sealed};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = ftp_endpoints, check_for_backend(Pg))]
pub(super) struct FtpRow {
    /// The endpoint's.
    id: Uuid,
    password: Option<String>,
    private_key: Option<String>,
    key_path: Option<String>,
    credential_id: Option<Uuid>,
    credential_description: String,
    credential_created_at: Option<Timestamp>,
}

/// What a login is stored as: all of it is replaced at once.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = ftp_endpoints, treat_none_as_null = true)]
pub(super) struct Stored {
    password: Option<String>,
    private_key: Option<String>,
    key_path: Option<String>,
}

impl Stored {
    /// A password.
    pub(super) fn password(keys: &KeyRing, endpoint: EndpointId, password: &Secret) -> Step<Self> {
        let sealed = keys.seal(Column::FtpPassword, endpoint.uuid(), password)?;
        Ok(Self { password: Some(sealed.to_text()), ..Self::default() })
    }

    /// A private key.
    pub(super) fn private_key(keys: &KeyRing, endpoint: EndpointId, key: &Secret) -> Step<Self> {
        let sealed = keys.seal(Column::FtpPrivateKey, endpoint.uuid(), key)?;
        Ok(Self { private_key: Some(sealed.to_text()), ..Self::default() })
    }

    /// One in a file: nothing of it is secret.
    pub(super) fn key_file(path: &str) -> Self {
        Self { key_path: Some(path.to_owned()), ..Self::default() }
    }
}

impl FtpRow {
    /// Whether a page that goes on after a credential has this one.
    pub(super) fn is_after(&self, credential: Uuid) -> bool {
        self.credential_id.is_some_and(|id| id > credential)
    }

    pub(super) fn open(&self, keys: &KeyRing) -> Step<Login> {
        let open = |column, stored: &str| -> Step<Secret> {
            Ok(keys.open(column, self.id, &Sealed::from_text(stored)?)?)
        };
        match (&self.password, &self.private_key, &self.key_path) {
            (Some(stored), None, None) => {
                open(Column::FtpPassword, stored).map(|password| Login::Password { password })
            }
            (None, Some(stored), None) => {
                open(Column::FtpPrivateKey, stored).map(|key| Login::PrivateKey { key })
            }
            (None, None, Some(path)) => Ok(Login::KeyFile { path: path.clone() }),
            _ => Err(unreadable("a server's row with no credential, or with two")),
        }
    }

    pub(super) fn into_credential(self) -> Step<Credential> {
        let kind = match (&self.password, &self.private_key, self.key_path) {
            (Some(_), None, None) => CredentialKind::Password,
            (None, Some(_), None) => CredentialKind::PrivateKey,
            (None, None, Some(path)) => CredentialKind::KeyFile { path },
            _ => return Err(unreadable("a server's row with no credential, or with two")),
        };
        let (Some(id), Some(created_at)) = (self.credential_id, self.credential_created_at) else {
            return Err(unreadable("a server's row whose credential has no name"));
        };
        let (id, endpoint) = (CredentialId::from(id), EndpointId::from(self.id));
        Ok(Credential { id, endpoint, kind, description: self.credential_description, created_at })
    }
}

/// A credential by its own id.
pub(super) async fn find(c: &AsyncPgConnection, id: CredentialId) -> Step<Option<FtpRow>> {
    let row = dsl::ftp_endpoints.filter(dsl::credential_id.eq(id.uuid())).select(FtpRow::as_select());
    Ok(row.first(&mut &*c).await.optional()?)
}

/// The credential of an endpoint, if it has one.
pub(super) async fn of_endpoint(c: &AsyncPgConnection, endpoint: EndpointId) -> Step<Option<FtpRow>> {
    let row = dsl::ftp_endpoints
        .filter(dsl::id.eq(endpoint.uuid()).and(dsl::credential_id.is_not_null()))
        .select(FtpRow::as_select());
    Ok(row.first(&mut &*c).await.optional()?)
}

/// Gives an endpoint that is held its credential.
pub(super) async fn create(c: &AsyncPgConnection, credential: &Credential, stored: Stored) -> Step<()> {
    let free = dsl::id.eq(credential.endpoint.uuid()).and(dsl::credential_id.is_null());
    let changed = diesel::update(dsl::ftp_endpoints.filter(free))
        .set((
            stored,
            dsl::credential_id.eq(credential.id.uuid()),
            dsl::credential_description.eq(&credential.description),
            dsl::credential_created_at.eq(credential.created_at),
        ))
        .execute(&mut &*c)
        .await?;
    if changed == 1 { Ok(()) } else { Err(Error::AlreadyExists(Taken::Credential).into()) }
}

/// Replaces what a credential is.
pub(super) async fn replace(c: &AsyncPgConnection, id: CredentialId, stored: Stored) -> Step<()> {
    let row = dsl::ftp_endpoints.filter(dsl::credential_id.eq(id.uuid()));
    diesel::update(row).set(stored).execute(&mut &*c).await?;
    Ok(())
}

/// Describes a credential anew.
pub(super) async fn describe(c: &AsyncPgConnection, id: CredentialId, description: &str) -> Step<()> {
    let row = dsl::ftp_endpoints.filter(dsl::credential_id.eq(id.uuid()));
    diesel::update(row).set(dsl::credential_description.eq(description)).execute(&mut &*c).await?;
    Ok(())
}

/// Takes an endpoint's credential from it. Answers how many were taken.
pub(super) async fn delete(c: &AsyncPgConnection, id: CredentialId) -> Step<usize> {
    let row = dsl::ftp_endpoints.filter(dsl::credential_id.eq(id.uuid()));
    let gone = (
        Stored::default(),
        dsl::credential_id.eq(None::<Uuid>),
        dsl::credential_description.eq(""),
        dsl::credential_created_at.eq(None::<Timestamp>),
    );
    Ok(diesel::update(row).set(gone).execute(&mut &*c).await?)
}
