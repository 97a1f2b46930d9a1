//! The volumes the caller may use.

use crate::{
    Client, Result,
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, volume_service_client::VolumeServiceClient},
};
use futures_util::Stream;

impl Client {
    /// Volumes by name, page after page from `request.page_token` on.
    pub fn volumes(&self, request: v1::ListVolumesRequest) -> impl Stream<Item = Result<Vec<v1::Volume>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListVolumesRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListVolumesResponse = client
                    .unary("coffer.v1.VolumeService/ListVolumes", request, |service, request| async move {
                        let mut service =
                            VolumeServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_volumes(request).await
                    })
                    .await?;
                Ok((answer.volumes, answer.next_page_token))
            }
        })
    }
}
