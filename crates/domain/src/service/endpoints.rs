//! Servers that volumes stand on, and what opens them.

mod key_files;

use super::Coffer;
use crate::{
    Error, Result,
    caller::Caller,
    endpoint::{Credential, CredentialChanges, Endpoint, EndpointChanges, Login, Server, SshLogin},
    error::{FieldViolation, State},
    id::{CredentialId, EndpointId},
    name,
    operation::OperationKind,
    page::{Page, PageRequest},
    request::Request,
    secret::Secret,
    volume::{Backend, FtpPlace, HttpPlace, Place, S3Place, SftpPlace},
};
use std::path::PathBuf;

impl Coffer {
    /// Makes an endpoint. Nothing is asked of the server: a volume on it is what tries it.
    pub async fn create_endpoint(
        &self,
        caller: &Caller,
        server: Server,
        description: String,
        request: Option<Request>,
    ) -> Result<Endpoint> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::CreateEndpoint),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                let endpoint = Endpoint::new(server, description);
                valid(endpoint.violations())?;
                trail.note("endpoint_id", endpoint.id);
                me.store().create_endpoint(&endpoint, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// An endpoint. Recorded when refused.
    pub async fn get_endpoint(&self, caller: &Caller, id: EndpointId) -> Result<Endpoint> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.endpoint(id).await
        })
        .await
    }

    /// Endpoints, oldest first. Recorded when refused.
    pub async fn list_endpoints(&self, caller: &Caller, page: &PageRequest) -> Result<Page<Endpoint>> {
        let (caller, page) = (caller.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.store().endpoints(&page).await
        })
        .await
    }

    /// Changes an endpoint: not its kind, and not where it is while a volume stands on it.
    pub async fn update_endpoint(
        &self,
        caller: &Caller,
        id: EndpointId,
        changes: EndpointChanges,
        request: Option<Request>,
    ) -> Result<Endpoint> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::UpdateEndpoint),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                trail.note("endpoint_id", id);
                let current = me.endpoint(id).await?;
                let EndpointChanges { server, description } = changes.clone();
                let changed = Endpoint {
                    server: server.unwrap_or(current.server),
                    description: description.unwrap_or(current.description),
                    ..current
                };
                valid(changed.violations())?;
                me.store().update_endpoint(id, &changes, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// Removes an endpoint that no volume stands on, with its credentials.
    pub async fn delete_endpoint(
        &self,
        caller: &Caller,
        id: EndpointId,
        request: Option<Request>,
    ) -> Result<()> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::DeleteEndpoint),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                trail.note("endpoint_id", id);
                me.store().delete_endpoint(id, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// Stores what opens an endpoint.
    pub async fn create_credential(
        &self,
        caller: &Caller,
        endpoint: EndpointId,
        login: Login,
        description: String,
        request: Option<Request>,
    ) -> Result<Credential> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::CreateCredential),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                check(Some(&login), Some(&description))?;
                me.check_key_file(Some(&login)).await?;
                let credential = Credential::new(endpoint, &login, description);
                trail.note("endpoint_id", endpoint);
                trail.note("credential_id", credential.id);
                me.store().create_credential(&credential, &login, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// A credential, without what is secret. Recorded when refused.
    pub async fn get_credential(&self, caller: &Caller, id: CredentialId) -> Result<Credential> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.store().credential(id).await?.ok_or_else(|| Error::NotFound(Credential::resource(id)))
        })
        .await
    }

    /// Credentials of an endpoint, oldest first, without what is secret. Recorded when refused.
    pub async fn list_credentials(
        &self,
        caller: &Caller,
        endpoint: EndpointId,
        page: &PageRequest,
    ) -> Result<Page<Credential>> {
        let (caller, page) = (caller.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewVolume), move |me, _trail| async move {
            caller.must_operate()?;
            me.store().credentials(endpoint, &page).await
        })
        .await
    }

    /// Changes a credential. What opens the endpoint is replaced as a whole.
    pub async fn update_credential(
        &self,
        caller: &Caller,
        id: CredentialId,
        changes: CredentialChanges,
        request: Option<Request>,
    ) -> Result<Credential> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::UpdateCredential),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                check(changes.login.as_ref(), changes.description.as_deref())?;
                me.check_key_file(changes.login.as_ref()).await?;
                trail.note("credential_id", id);
                me.store().update_credential(id, &changes, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// Removes a credential that no volume needs.
    pub async fn delete_credential(
        &self,
        caller: &Caller,
        id: CredentialId,
        request: Option<Request>,
    ) -> Result<()> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::DeleteCredential),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                trail.note("credential_id", id);
                me.store().delete_credential(id, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    pub(super) async fn endpoint(&self, id: EndpointId) -> Result<Endpoint> {
        self.store().endpoint(id).await?.ok_or_else(|| Error::NotFound(Endpoint::resource(id)))
    }

    /// The server that a new volume names, which has to be of its kind.
    pub(super) async fn named_server(&self, id: EndpointId, backend: &Backend) -> Result<Server> {
        let server = self.endpoint(id).await?.server;
        if backend.fits(&server) {
            return Ok(server);
        }
        let (field, rule) = match backend {
            Backend::Local { .. } => ("local", "stands on no endpoint"),
            Backend::S3 { .. } => ("s3.bucket_id", "must name an endpoint that is an S3 bucket"),
            Backend::Http { .. } => ("http.endpoint_id", "must name an endpoint that is an HTTP server"),
            Backend::Ftp { .. } => ("ftp.ftp_id", "must name an endpoint that is an FTP or SFTP server"),
        };
        Err(Error::invalid(format!("volume.{field}"), rule))
    }

    /// What a driver needs to reach the endpoint of a volume.
    pub(super) async fn endpoint_place(&self, backend: &Backend, id: EndpointId) -> Result<Place> {
        let (_, credential) = backend.endpoint().unwrap_or((id, None));
        let server = self.endpoint(id).await?.server;
        let login = self.store().login(id, credential).await?;
        if login.as_ref().is_some_and(|login| !login.opens(&server)) {
            return Err(of_another_kind());
        }
        match (backend, server, login) {
            (Backend::S3 { .. }, Server::S3Bucket(bucket), Some(Login::S3 { access_key, secret_key })) => {
                Ok(Place::S3(S3Place {
                    url: bucket.url,
                    bucket: bucket.name,
                    region: bucket.region,
                    use_path_style: bucket.use_path_style,
                    access_key,
                    secret_key,
                }))
            }
            (Backend::S3 { .. }, Server::S3Bucket(_), None) => {
                Err(Error::State(State::VolumeConflict("the bucket has no credential")))
            }
            (Backend::Http { use_query_params, .. }, Server::Http(server), login) => {
                Ok(Place::Http(HttpPlace { url: server.url, use_query_params: *use_query_params, login }))
            }
            (Backend::Ftp { .. }, Server::Ftp(server), Some(Login::Password { password })) => {
                Ok(Place::Ftp(FtpPlace { server, password }))
            }
            (Backend::Ftp { .. }, Server::Sftp(server), Some(login)) => {
                Ok(Place::Sftp(SftpPlace { server, login: self.ssh_login(login).await? }))
            }
            (Backend::Ftp { .. }, Server::Ftp(_) | Server::Sftp(_), None) => {
                Err(Error::State(State::VolumeConflict("the server has no credential")))
            }
            _ => Err(of_another_kind()),
        }
    }

    async fn ssh_login(&self, login: Login) -> Result<SshLogin> {
        match login {
            Login::Password { password } => Ok(SshLogin::Password(password)),
            // A text without a line end at its end is no PEM to some.
            Login::PrivateKey { key } => {
                Ok(SshLogin::Key(Secret::new(format!("{}\n", key.expose().trim_ascii_end()))))
            }
            Login::KeyFile { path } => match self.key_file(&path).await {
                Some(file) => Ok(SshLogin::KeyFile(file)),
                None => Err(Error::State(State::VolumeConflict(
                    "the file of the key that opens the server is not there, or not below sftp.key_folder",
                ))),
            },
            Login::S3 { .. } | Login::Basic { .. } | Login::Bearer { .. } | Login::CustomHeader { .. } => {
                Err(of_another_kind())
            }
        }
    }

    /// Refuses a login by a file that may not be used as a key.
    async fn check_key_file(&self, login: Option<&Login>) -> Result<()> {
        let Some(Login::KeyFile { path }) = login else { return Ok(()) };
        match self.key_file(path).await {
            Some(_) => Ok(()),
            None => Err(Error::invalid(
                "login.key_file.path",
                "must be a file below the folder that sftp.key_folder names, also when links are followed",
            )),
        }
    }

    /// The file of a key, where such files may be used.
    async fn key_file(&self, path: &str) -> Option<PathBuf> {
        key_files::find(self.0.settings.key_folder.as_deref()?, path).await
    }
}

fn of_another_kind() -> Error {
    Error::State(State::VolumeConflict(
        "the volume's configuration names an endpoint or a credential of another kind",
    ))
}

fn valid(violations: Vec<FieldViolation>) -> Result<()> {
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

fn check(login: Option<&Login>, description: Option<&str>) -> Result<()> {
    let mut violations = login.map(Login::violations).unwrap_or_default();
    if let Some(Err(problem)) = description.map(name::check_description) {
        violations.push(FieldViolation { field: "description".to_owned(), problem: problem.to_owned() });
    }
    valid(violations)
}
