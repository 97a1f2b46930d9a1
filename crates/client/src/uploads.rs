//! Contents on their way in.

use crate::{
    Client, Result,
    client::{Service, or_random, promised},
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, UploadState, transfer_service_client::TransferServiceClient},
};
use futures_util::{Stream, TryStreamExt as _};
use std::{pin::pin, time::Duration};
use tonic::{Request, Response, Status};

/// Uploads asked for at a time when one is looked for.
const PAGE_SIZE: i32 = 500;
/// How long the end of an upload that is given up may take: whoever waits has failed already.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

const START: &str = "coffer.v1.TransferService/StartUpload";
const GET: &str = "coffer.v1.TransferService/GetUpload";
const CANCEL: &str = "coffer.v1.TransferService/CancelUpload";

/// Calls about uploads. [`upload_file`](Client::upload_file) and [`upload`](Client::upload) make them by themselves.
impl Client {
    /// Starts an upload, or answers the one that was started with the same spec and `request_id`, which is required.
    pub async fn start_upload(&self, spec: v1::UploadSpec) -> Result<v1::Upload> {
        let request = v1::StartUploadRequest { spec: Some(spec) };
        promised(self.unary(START, request, start).await?.upload, "upload")
    }

    /// One upload, for 24 hours after its end too.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) with `NOT_FOUND` if it does not exist or may not be known.
    pub async fn get_upload(&self, upload_id: impl Into<String>) -> Result<v1::Upload> {
        let request = v1::GetUploadRequest { upload_id: upload_id.into() };
        promised(self.unary(GET, request, get).await?.upload, "upload")
    }

    /// Uploads, newest first, page after page from `request.page_token` on.
    pub fn uploads(&self, request: v1::ListUploadsRequest) -> impl Stream<Item = Result<Vec<v1::Upload>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListUploadsRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListUploadsResponse = client
                    .unary("coffer.v1.TransferService/ListUploads", request, |service, request| async move {
                        let mut service =
                            TransferServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_uploads(request).await
                    })
                    .await?;
                Ok((answer.uploads, answer.next_page_token))
            }
        })
    }

    /// Ends an upload without a file; answers it as it is then.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) with `REQUEST_IN_FLIGHT` while it is being finished, `UPLOAD_ENDED` if it is
    /// a file.
    pub async fn cancel_upload(&self, request: v1::CancelUploadRequest) -> Result<v1::Upload> {
        let request_id = or_random(request.request_id);
        let request = v1::CancelUploadRequest { request_id, upload_id: request.upload_id };
        promised(self.unary(CANCEL, request, cancel).await?.upload, "upload")
    }

    /// As [`start_upload`](Self::start_upload), for a caller that repeats by itself.
    pub(crate) async fn start_upload_once(&self, spec: v1::UploadSpec) -> Result<v1::Upload> {
        let request = v1::StartUploadRequest { spec: Some(spec) };
        promised(self.unary_within(self.timeouts().call, START, request, start).await?.upload, "upload")
    }

    /// As [`get_upload`](Self::get_upload), for a caller that repeats by itself.
    pub(crate) async fn get_upload_once(&self, upload_id: String) -> Result<v1::Upload> {
        let request = v1::GetUploadRequest { upload_id };
        promised(self.unary_within(self.timeouts().call, GET, request, get).await?.upload, "upload")
    }

    /// As [`cancel_upload`](Self::cancel_upload), once and within seconds.
    pub(crate) async fn cancel_upload_once(&self, upload_id: String) -> Result<()> {
        let request = v1::CancelUploadRequest { upload_id, request_id: or_random(String::new()) };
        self.unary_within(CANCEL_WAIT, CANCEL, request, cancel).await.map(drop)
    }

    /// The caller's newest upload that can go on and is for the same place, name and size as `spec`.
    pub(crate) async fn newest_unfinished(&self, spec: &v1::UploadSpec) -> Result<Option<v1::Upload>> {
        let Some(size_bytes) = spec.size_bytes.filter(|_| spec.file.is_none()) else { return Ok(None) };
        let volume_id = self.volume_id(&spec.volume).await?;
        let mut newest: Option<v1::Upload> = None;
        for state in [UploadState::Open, UploadState::Finishing] {
            let request = v1::ListUploadsRequest {
                page_size: PAGE_SIZE,
                state: state.into(),
                path: spec.path.clone(),
                own_only: true,
                ..Default::default()
            };
            let is_same = |upload: &v1::Upload| {
                upload.path == spec.path
                    && upload.filename == spec.filename
                    && upload.size_bytes == Some(size_bytes)
                    && volume_id.as_ref().is_none_or(|id| *id == upload.volume_id)
            };
            let mut pages = pin!(self.uploads(request));
            while let Some(uploads) = pages.try_next().await? {
                // The first of a list is its newest.
                if let Some(found) = uploads.into_iter().find(is_same) {
                    let is_newer = newest.as_ref().is_none_or(|newest| created(newest) < created(&found));
                    newest = if is_newer { Some(found) } else { newest };
                    break;
                }
            }
        }
        Ok(newest)
    }

    /// The id of a volume that is named; `None` for the default one, which only the service knows.
    async fn volume_id(&self, name: &str) -> Result<Option<String>> {
        match name {
            "" => Ok(None),
            name => Ok(Some(self.volume(name).await?.id)),
        }
    }
}

async fn start(
    service: Service,
    request: Request<v1::StartUploadRequest>,
) -> Result<Response<v1::StartUploadResponse>, Status> {
    TransferServiceClient::new(service).start_upload(request).await
}

async fn get(
    service: Service,
    request: Request<v1::GetUploadRequest>,
) -> Result<Response<v1::GetUploadResponse>, Status> {
    TransferServiceClient::new(service).get_upload(request).await
}

async fn cancel(
    service: Service,
    request: Request<v1::CancelUploadRequest>,
) -> Result<Response<v1::CancelUploadResponse>, Status> {
    TransferServiceClient::new(service).cancel_upload(request).await
}

fn created(upload: &v1::Upload) -> (i64, i32) {
    upload.create_time.as_ref().map_or((0, 0), |time| (time.seconds, time.nanos))
}
