//! `VolumeService`: volumes, what they stand on, and what opens that.

mod convert;
mod endpoints;

use crate::{Api, Received, refuse, request_id};
use coffer_domain::operation::OperationKind;
use coffer_proto::v1::{
    CheckVolumeRequest, CheckVolumeResponse, CreateCredentialRequest, CreateCredentialResponse,
    CreateEndpointRequest, CreateEndpointResponse, CreateLocalPathRequest, CreateLocalPathResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteCredentialRequest, DeleteCredentialResponse,
    DeleteEndpointRequest, DeleteEndpointResponse, DeleteLocalPathRequest, DeleteLocalPathResponse,
    DeleteVolumeRequest, DeleteVolumeResponse, GetCredentialRequest, GetCredentialResponse,
    GetEndpointRequest, GetEndpointResponse, GetLocalPathRequest, GetLocalPathResponse, GetVolumeRequest,
    GetVolumeResponse, ListCredentialsRequest, ListCredentialsResponse, ListEndpointsRequest,
    ListEndpointsResponse, ListLocalPathsRequest, ListLocalPathsResponse, ListVolumesRequest,
    ListVolumesResponse, ReconcileVolumeRequest, ReconcileVolumeResponse, UpdateCredentialRequest,
    UpdateCredentialResponse, UpdateEndpointRequest, UpdateEndpointResponse, UpdateLocalPathRequest,
    UpdateLocalPathResponse, UpdateVolumeRequest, UpdateVolumeResponse, volume_service_server::VolumeService,
};
use convert::{View, to_local_path, to_volume};
use endpoints::{to_credential, to_endpoint, without_secrets};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct Volumes(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl VolumeService for Volumes {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "CreateVolume", &message.request_id, &message);
        let CreateVolumeRequest { volume, request_id: _ } = message;
        let settings = convert::settings(volume, &mut fields);
        let (settings, request) =
            self.0.checked(&caller, OperationKind::CreateVolume, fields, settings.zip(request)).await?;
        let volume = self.0.coffer.create_volume(&caller, settings, request).await.map_err(refuse)?;
        Ok(Response::new(CreateVolumeResponse { volume: Some(to_volume(volume, View::Whole)) }))
    }

    async fn get_volume(
        &self,
        request: Request<GetVolumeRequest>,
    ) -> Result<Response<GetVolumeResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetVolumeRequest { volume } }) =
            self.0.receive_known(request)?;
        let volume = fields.volume("volume", &volume);
        let volume = self.0.checked(&caller, OperationKind::ViewVolume, fields, volume).await?;
        let volume = self.0.coffer.get_volume(&caller, &volume).await.map_err(refuse)?;
        Ok(Response::new(GetVolumeResponse { volume: Some(to_volume(volume, View::of(&caller))) }))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let page = self.0.checked(&caller, OperationKind::ViewVolume, fields, page).await?;
        let found = self.0.coffer.list_volumes(&caller, &page).await.map_err(refuse)?;
        let view = View::of(&caller);
        Ok(Response::new(ListVolumesResponse {
            volumes: found.items.into_iter().map(|volume| to_volume(volume, view)).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn update_volume(
        &self,
        request: Request<UpdateVolumeRequest>,
    ) -> Result<Response<UpdateVolumeResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "UpdateVolume", &message.request_id, &message);
        let update = convert::update(message, &mut fields);
        let ((id, changes), request) =
            self.0.checked(&caller, OperationKind::UpdateVolume, fields, update.zip(request)).await?;
        let volume = self.0.coffer.update_volume(&caller, id, changes, request).await.map_err(refuse)?;
        Ok(Response::new(UpdateVolumeResponse { volume: Some(to_volume(volume, View::Whole)) }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "DeleteVolume", &message.request_id, &message);
        let DeleteVolumeRequest { volume, request_id: _ } = message;
        let volume = fields.volume("volume", &volume);
        let (volume, request) =
            self.0.checked(&caller, OperationKind::DeleteVolume, fields, volume.zip(request)).await?;
        self.0.coffer.delete_volume(&caller, &volume, request).await.map_err(refuse)?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn check_volume(
        &self,
        request: Request<CheckVolumeRequest>,
    ) -> Result<Response<CheckVolumeResponse>, Status> {
        let (_, Received { caller, mut fields, message: CheckVolumeRequest { volume } }) =
            self.0.receive_known(request)?;
        let volume = fields.volume("volume", &volume);
        let volume = self.0.checked(&caller, OperationKind::CheckVolume, fields, volume).await?;
        let check = self.0.coffer.check_volume(&caller, &volume).await.map_err(refuse)?;
        Ok(Response::new(convert::to_check(check)))
    }

    async fn reconcile_volume(
        &self,
        request: Request<ReconcileVolumeRequest>,
    ) -> Result<Response<ReconcileVolumeResponse>, Status> {
        let (_, Received { caller, mut fields, message: ReconcileVolumeRequest { volume, dry_run } }) =
            self.0.receive_known(request)?;
        let volume = fields.volume("volume", &volume);
        let volume = self.0.checked(&caller, OperationKind::Reconcile, fields, volume).await?;
        let report = self.0.coffer.reconcile_volume(&caller, &volume, dry_run).await.map_err(refuse)?;
        Ok(Response::new(convert::to_reconciled(report)))
    }

    async fn create_local_path(
        &self,
        request: Request<CreateLocalPathRequest>,
    ) -> Result<Response<CreateLocalPathResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "CreateLocalPath", &message.request_id, &message);
        let CreateLocalPathRequest { path, description, request_id: _ } = message;
        let request = self.0.checked(&caller, OperationKind::CreateLocalPath, fields, request).await?;
        let path =
            self.0.coffer.create_local_path(&caller, path, description, request).await.map_err(refuse)?;
        Ok(Response::new(CreateLocalPathResponse { local_path: Some(to_local_path(path)) }))
    }

    async fn get_local_path(
        &self,
        request: Request<GetLocalPathRequest>,
    ) -> Result<Response<GetLocalPathResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetLocalPathRequest { id } }) =
            self.0.receive_known(request)?;
        let id = fields.id("id", &id);
        let id = self.0.checked(&caller, OperationKind::ViewVolume, fields, id).await?;
        let path = self.0.coffer.get_local_path(&caller, id).await.map_err(refuse)?;
        Ok(Response::new(GetLocalPathResponse { local_path: Some(to_local_path(path)) }))
    }

    async fn list_local_paths(
        &self,
        request: Request<ListLocalPathsRequest>,
    ) -> Result<Response<ListLocalPathsResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let page = self.0.checked(&caller, OperationKind::ViewVolume, fields, page).await?;
        let found = self.0.coffer.list_local_paths(&caller, &page).await.map_err(refuse)?;
        Ok(Response::new(ListLocalPathsResponse {
            local_paths: found.items.into_iter().map(to_local_path).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn update_local_path(
        &self,
        request: Request<UpdateLocalPathRequest>,
    ) -> Result<Response<UpdateLocalPathResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "UpdateLocalPath", &message.request_id, &message);
        let UpdateLocalPathRequest { id, description, request_id: _ } = message;
        let id = fields.id("id", &id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::UpdateLocalPath, fields, id.zip(request)).await?;
        let path =
            self.0.coffer.update_local_path(&caller, id, description, request).await.map_err(refuse)?;
        Ok(Response::new(UpdateLocalPathResponse { local_path: Some(to_local_path(path)) }))
    }

    async fn delete_local_path(
        &self,
        request: Request<DeleteLocalPathRequest>,
    ) -> Result<Response<DeleteLocalPathResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "DeleteLocalPath", &message.request_id, &message);
        let DeleteLocalPathRequest { id, request_id: _ } = message;
        let id = fields.id("id", &id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::DeleteLocalPath, fields, id.zip(request)).await?;
        self.0.coffer.delete_local_path(&caller, id, request).await.map_err(refuse)?;
        Ok(Response::new(DeleteLocalPathResponse {}))
    }

    async fn create_endpoint(
        &self,
        request: Request<CreateEndpointRequest>,
    ) -> Result<Response<CreateEndpointResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "CreateEndpoint", &message.request_id, &message);
        let CreateEndpointRequest { endpoint, request_id: _ } = message;
        let endpoint = endpoints::endpoint(endpoint, &mut fields);
        let ((server, description), request) =
            self.0.checked(&caller, OperationKind::CreateEndpoint, fields, endpoint.zip(request)).await?;
        let endpoint =
            self.0.coffer.create_endpoint(&caller, server, description, request).await.map_err(refuse)?;
        Ok(Response::new(CreateEndpointResponse { endpoint: Some(to_endpoint(endpoint)) }))
    }

    async fn get_endpoint(
        &self,
        request: Request<GetEndpointRequest>,
    ) -> Result<Response<GetEndpointResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetEndpointRequest { id } }) =
            self.0.receive_known(request)?;
        let id = fields.id("id", &id);
        let id = self.0.checked(&caller, OperationKind::ViewVolume, fields, id).await?;
        let endpoint = self.0.coffer.get_endpoint(&caller, id).await.map_err(refuse)?;
        Ok(Response::new(GetEndpointResponse { endpoint: Some(to_endpoint(endpoint)) }))
    }

    async fn list_endpoints(
        &self,
        request: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let page = self.0.checked(&caller, OperationKind::ViewVolume, fields, page).await?;
        let found = self.0.coffer.list_endpoints(&caller, &page).await.map_err(refuse)?;
        Ok(Response::new(ListEndpointsResponse {
            endpoints: found.items.into_iter().map(to_endpoint).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn update_endpoint(
        &self,
        request: Request<UpdateEndpointRequest>,
    ) -> Result<Response<UpdateEndpointResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "UpdateEndpoint", &message.request_id, &message);
        let update = endpoints::endpoint_update(message, &mut fields);
        let ((id, changes), request) =
            self.0.checked(&caller, OperationKind::UpdateEndpoint, fields, update.zip(request)).await?;
        let endpoint = self.0.coffer.update_endpoint(&caller, id, changes, request).await.map_err(refuse)?;
        Ok(Response::new(UpdateEndpointResponse { endpoint: Some(to_endpoint(endpoint)) }))
    }

    async fn delete_endpoint(
        &self,
        request: Request<DeleteEndpointRequest>,
    ) -> Result<Response<DeleteEndpointResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "DeleteEndpoint", &message.request_id, &message);
        let DeleteEndpointRequest { id, request_id: _ } = message;
        let id = fields.id("id", &id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::DeleteEndpoint, fields, id.zip(request)).await?;
        self.0.coffer.delete_endpoint(&caller, id, request).await.map_err(refuse)?;
        Ok(Response::new(DeleteEndpointResponse {}))
    }

    async fn create_credential(
        &self,
        request: Request<CreateCredentialRequest>,
    ) -> Result<Response<CreateCredentialResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let compared = CreateCredentialRequest {
            endpoint_id: message.endpoint_id.clone(),
            login: without_secrets(message.login.as_ref()),
            description: message.description.clone(),
            request_id: message.request_id.clone(),
        };
        let request = request_id(&mut fields, &principal, "CreateCredential", &message.request_id, &compared);
        let credential = endpoints::credential(message, &mut fields);
        let ((endpoint, login, description), request) =
            self.0.checked(&caller, OperationKind::CreateCredential, fields, credential.zip(request)).await?;
        let made = self.0.coffer.create_credential(&caller, endpoint, login, description, request);
        let credential = made.await.map_err(refuse)?;
        Ok(Response::new(CreateCredentialResponse { credential: Some(to_credential(credential)) }))
    }

    async fn get_credential(
        &self,
        request: Request<GetCredentialRequest>,
    ) -> Result<Response<GetCredentialResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetCredentialRequest { id } }) =
            self.0.receive_known(request)?;
        let id = fields.id("id", &id);
        let id = self.0.checked(&caller, OperationKind::ViewVolume, fields, id).await?;
        let credential = self.0.coffer.get_credential(&caller, id).await.map_err(refuse)?;
        Ok(Response::new(GetCredentialResponse { credential: Some(to_credential(credential)) }))
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Result<Response<ListCredentialsResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let endpoint = fields.id("endpoint_id", &message.endpoint_id);
        let (endpoint, page) =
            self.0.checked(&caller, OperationKind::ViewVolume, fields, endpoint.zip(page)).await?;
        let found = self.0.coffer.list_credentials(&caller, endpoint, &page).await.map_err(refuse)?;
        Ok(Response::new(ListCredentialsResponse {
            credentials: found.items.into_iter().map(to_credential).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn update_credential(
        &self,
        request: Request<UpdateCredentialRequest>,
    ) -> Result<Response<UpdateCredentialResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let compared = UpdateCredentialRequest {
            id: message.id.clone(),
            login: without_secrets(message.login.as_ref()),
            description: message.description.clone(),
            update_mask: message.update_mask.clone(),
            request_id: message.request_id.clone(),
        };
        let request = request_id(&mut fields, &principal, "UpdateCredential", &message.request_id, &compared);
        let update = endpoints::credential_update(message, &mut fields);
        let ((id, changes), request) =
            self.0.checked(&caller, OperationKind::UpdateCredential, fields, update.zip(request)).await?;
        let credential =
            self.0.coffer.update_credential(&caller, id, changes, request).await.map_err(refuse)?;
        Ok(Response::new(UpdateCredentialResponse { credential: Some(to_credential(credential)) }))
    }

    async fn delete_credential(
        &self,
        request: Request<DeleteCredentialRequest>,
    ) -> Result<Response<DeleteCredentialResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "DeleteCredential", &message.request_id, &message);
        let DeleteCredentialRequest { id, request_id: _ } = message;
        let id = fields.id("id", &id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::DeleteCredential, fields, id.zip(request)).await?;
        self.0.coffer.delete_credential(&caller, id, request).await.map_err(refuse)?;
        Ok(Response::new(DeleteCredentialResponse {}))
    }
}
