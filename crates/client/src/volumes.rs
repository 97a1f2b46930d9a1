//! The volumes the caller may use.

use crate::{
    Client, Result,
    client::promised,
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, volume_service_client::VolumeServiceClient},
};
use futures_util::Stream;

impl Client {
    /// One volume, by its UUID or name.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) with `NOT_FOUND` if it does not exist or the caller may not use it.
    pub async fn volume(&self, name: impl Into<String>) -> Result<v1::Volume> {
        let request = v1::GetVolumeRequest { volume: name.into() };
        let answer: v1::GetVolumeResponse = self
            .unary("coffer.v1.VolumeService/GetVolume", request, |service, request| async move {
                VolumeServiceClient::new(service).get_volume(request).await
            })
            .await?;
        promised(answer.volume, "volume")
    }

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
