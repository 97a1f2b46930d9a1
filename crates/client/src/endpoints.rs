//! Servers that volumes stand on, and what opens them. For operators.

use crate::{
    Client, Result,
    client::{or_random, promised},
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, volume_service_client::VolumeServiceClient},
};
use futures_util::Stream;

impl Client {
    /// Makes a server known that volumes may stand on. Nothing is asked of it.
    pub async fn create_endpoint(&self, request: v1::CreateEndpointRequest) -> Result<v1::Endpoint> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::CreateEndpointRequest { request_id, ..request };
        let answer: v1::CreateEndpointResponse = self
            .unary("coffer.v1.VolumeService/CreateEndpoint", request, |service, request| async move {
                VolumeServiceClient::new(service).create_endpoint(request).await
            })
            .await?;
        promised(answer.endpoint, "endpoint")
    }

    /// One endpoint, by its UUID.
    pub async fn endpoint(&self, id: impl Into<String>) -> Result<v1::Endpoint> {
        let request = v1::GetEndpointRequest { id: id.into() };
        let answer: v1::GetEndpointResponse = self
            .unary("coffer.v1.VolumeService/GetEndpoint", request, |service, request| async move {
                VolumeServiceClient::new(service).get_endpoint(request).await
            })
            .await?;
        promised(answer.endpoint, "endpoint")
    }

    /// Endpoints, oldest first, page after page from `request.page_token` on.
    pub fn endpoints(
        &self,
        request: v1::ListEndpointsRequest,
    ) -> impl Stream<Item = Result<Vec<v1::Endpoint>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListEndpointsRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListEndpointsResponse = client
                    .unary("coffer.v1.VolumeService/ListEndpoints", request, |service, request| async move {
                        let mut service =
                            VolumeServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_endpoints(request).await
                    })
                    .await?;
                Ok((answer.endpoints, answer.next_page_token))
            }
        })
    }

    /// Changes what the mask names of an endpoint.
    pub async fn update_endpoint(&self, request: v1::UpdateEndpointRequest) -> Result<v1::Endpoint> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::UpdateEndpointRequest { request_id, ..request };
        let answer: v1::UpdateEndpointResponse = self
            .unary("coffer.v1.VolumeService/UpdateEndpoint", request, |service, request| async move {
                VolumeServiceClient::new(service).update_endpoint(request).await
            })
            .await?;
        promised(answer.endpoint, "endpoint")
    }

    /// Removes an endpoint that no volume stands on, with its credentials.
    pub async fn delete_endpoint(&self, request: v1::DeleteEndpointRequest) -> Result<()> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::DeleteEndpointRequest { request_id, ..request };
        let _: v1::DeleteEndpointResponse = self
            .unary("coffer.v1.VolumeService/DeleteEndpoint", request, |service, request| async move {
                VolumeServiceClient::new(service).delete_endpoint(request).await
            })
            .await?;
        Ok(())
    }

    /// Stores what opens an endpoint.
    pub async fn create_credential(&self, request: v1::CreateCredentialRequest) -> Result<v1::Credential> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::CreateCredentialRequest { request_id, ..request };
        let answer: v1::CreateCredentialResponse = self
            .unary("coffer.v1.VolumeService/CreateCredential", request, |service, request| async move {
                VolumeServiceClient::new(service).create_credential(request).await
            })
            .await?;
        promised(answer.credential, "credential")
    }

    /// One credential, by its UUID, without what is secret.
    pub async fn credential(&self, id: impl Into<String>) -> Result<v1::Credential> {
        let request = v1::GetCredentialRequest { id: id.into() };
        let answer: v1::GetCredentialResponse = self
            .unary("coffer.v1.VolumeService/GetCredential", request, |service, request| async move {
                VolumeServiceClient::new(service).get_credential(request).await
            })
            .await?;
        promised(answer.credential, "credential")
    }

    /// Credentials of `request.endpoint_id`, oldest first, without what is secret, page after page from `request.page_token` on.
    pub fn credentials(
        &self,
        request: v1::ListCredentialsRequest,
    ) -> impl Stream<Item = Result<Vec<v1::Credential>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListCredentialsRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListCredentialsResponse = client
                    .unary(
                        "coffer.v1.VolumeService/ListCredentials",
                        request,
                        |service, request| async move {
                            let mut service =
                                VolumeServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                            service.list_credentials(request).await
                        },
                    )
                    .await?;
                Ok((answer.credentials, answer.next_page_token))
            }
        })
    }

    /// Changes what the mask names of a credential.
    pub async fn update_credential(&self, request: v1::UpdateCredentialRequest) -> Result<v1::Credential> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::UpdateCredentialRequest { request_id, ..request };
        let answer: v1::UpdateCredentialResponse = self
            .unary("coffer.v1.VolumeService/UpdateCredential", request, |service, request| async move {
                VolumeServiceClient::new(service).update_credential(request).await
            })
            .await?;
        promised(answer.credential, "credential")
    }

    /// Removes a credential that no volume needs.
    pub async fn delete_credential(&self, request: v1::DeleteCredentialRequest) -> Result<()> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::DeleteCredentialRequest { request_id, ..request };
        let _: v1::DeleteCredentialResponse = self
            .unary("coffer.v1.VolumeService/DeleteCredential", request, |service, request| async move {
                VolumeServiceClient::new(service).delete_credential(request).await
            })
            .await?;
        Ok(())
    }

    /// Tries a volume, by its UUID or name: a small object is written, read, listed and deleted. It has the commit timeout, because its
    /// server may be slow, and is not repeated.
    pub async fn check_volume(&self, volume: impl Into<String>) -> Result<v1::CheckVolumeResponse> {
        let request = v1::CheckVolumeRequest { volume: volume.into() };
        let deadline = self.timeouts().commit;
        let method = "coffer.v1.VolumeService/CheckVolume";
        self.unary_within(deadline, method, request, |service, request| async move {
            VolumeServiceClient::new(service).check_volume(request).await
        })
        .await
    }
}
