//! Servers that volumes stand on, and what opens them.

use super::Coffer;
use crate::{
    Error, Result,
    caller::Caller,
    endpoint::{Credential, CredentialChanges, Endpoint, EndpointChanges, Login, Server},
    error::{FieldViolation, State},
    id::{CredentialId, EndpointId},
    name,
    operation::OperationKind,
    page::{Page, PageRequest},
    request::Request,
    volume::{Backend, HttpPlace, Place, Provider, S3Place},
};

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

    async fn endpoint(&self, id: EndpointId) -> Result<Endpoint> {
        self.store().endpoint(id).await?.ok_or_else(|| Error::NotFound(Endpoint::resource(id)))
    }

    /// The server that a new volume names, which has to be of its kind.
    pub(super) async fn named_server(&self, id: EndpointId, provider: Provider) -> Result<Server> {
        let server = self.endpoint(id).await?.server;
        match provider {
            Provider::S3 if server.provider() != provider => {
                Err(Error::invalid("volume.s3.bucket_id", "must name an endpoint that is an S3 bucket"))
            }
            Provider::Http if server.provider() != provider => {
                Err(Error::invalid("volume.http.endpoint_id", "must name an endpoint that is an HTTP server"))
            }
            Provider::Local | Provider::S3 | Provider::Http => Ok(server),
        }
    }

    /// What a driver needs to reach the endpoint of a volume.
    pub(super) async fn endpoint_place(&self, backend: &Backend, id: EndpointId) -> Result<Place> {
        let (_, credential) = backend.endpoint().unwrap_or((id, None));
        let server = self.endpoint(id).await?.server;
        let login = self.store().login(id, credential).await?;
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
            (Backend::Http { use_query_params, .. }, Server::Http(server), login)
                if !matches!(login, Some(Login::S3 { .. })) =>
            {
                Ok(Place::Http(HttpPlace { url: server.url, use_query_params: *use_query_params, login }))
            }
            _ => Err(Error::State(State::VolumeConflict(
                "the volume's configuration names an endpoint or a credential of another kind",
            ))),
        }
    }
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
