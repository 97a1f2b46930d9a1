//! `TransferService`: contents in and out.

mod convert;
mod read;
pub mod write;

use crate::{Api, Received, refuse, request_id};
use coffer_domain::{id::UploadId, operation::OperationKind, request::UPLOAD_METHOD};
use coffer_proto::v1::{
    BidiWriteFileRequest, CancelUploadRequest, CancelUploadResponse, GetUploadRequest, GetUploadResponse,
    ListUploadsRequest, ListUploadsResponse, ReadFileRequest, StartUploadRequest, StartUploadResponse,
    WriteFileRequest, WriteFileResponse, transfer_service_server::TransferService,
};
use convert::to_upload;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The service.
pub(crate) struct Transfers(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl TransferService for Transfers {
    async fn start_upload(
        &self,
        request: Request<StartUploadRequest>,
    ) -> Result<Response<StartUploadResponse>, Status> {
        let (principal, Received { caller, mut fields, message: StartUploadRequest { spec } }) =
            self.0.receive_known(request)?;
        let spec = match spec {
            Some(spec) => {
                let request = request_id(&mut fields, &principal, UPLOAD_METHOD, &spec.request_id, &spec);
                if request == Some(None) {
                    fields.refuse("spec.request_id", "must be given: it makes the upload resumable");
                }
                convert::upload_spec(spec, request, &mut fields)
            }
            None => fields.take("spec", Err("must be given")),
        };
        let spec = self.0.checked(&caller, OperationKind::StartUpload, fields, spec).await?;
        let upload = self.0.coffer.start_upload(&caller, spec).await.map_err(refuse)?;
        Ok(Response::new(StartUploadResponse { upload: Some(to_upload(upload)) }))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        write::write(self.0.clone(), request).await.map(Response::new)
    }

    type BidiWriteFileStream = write::Answers;

    async fn bidi_write_file(
        &self,
        request: Request<Streaming<BidiWriteFileRequest>>,
    ) -> Result<Response<write::Answers>, Status> {
        write::bidi_write(self.0.clone(), request).map(Response::new)
    }

    async fn get_upload(
        &self,
        request: Request<GetUploadRequest>,
    ) -> Result<Response<GetUploadResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetUploadRequest { upload_id } }) =
            self.0.receive_known(request)?;
        let id = fields.id::<UploadId>("upload_id", &upload_id);
        let id = self.0.checked(&caller, OperationKind::ViewUpload, fields, id).await?;
        let upload = self.0.coffer.get_upload(&caller, id).await.map_err(refuse)?;
        Ok(Response::new(GetUploadResponse { upload: Some(to_upload(upload)) }))
    }

    async fn list_uploads(
        &self,
        request: Request<ListUploadsRequest>,
    ) -> Result<Response<ListUploadsResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let own_only = message.own_only;
        let filter = convert::upload_filter(message, &mut fields);
        let (filter, page) =
            self.0.checked(&caller, OperationKind::ViewUpload, fields, filter.zip(page)).await?;
        let found = self.0.coffer.list_uploads(&caller, own_only, &filter, &page).await.map_err(refuse)?;
        Ok(Response::new(ListUploadsResponse {
            uploads: found.items.into_iter().map(to_upload).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn cancel_upload(
        &self,
        request: Request<CancelUploadRequest>,
    ) -> Result<Response<CancelUploadResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "CancelUpload", &message.request_id, &message);
        let CancelUploadRequest { upload_id, request_id: _ } = message;
        let id = fields.id::<UploadId>("upload_id", &upload_id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::CancelUpload, fields, id.zip(request)).await?;
        let upload = self.0.coffer.cancel_upload(&caller, id, request).await.map_err(refuse)?;
        Ok(Response::new(CancelUploadResponse { upload: Some(to_upload(upload)) }))
    }

    type ReadFileStream = read::Pieces;

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Result<Response<read::Pieces>, Status> {
        let Received { caller, mut fields, message } = self.0.receive(request)?;
        let spec = convert::read_spec(message, &mut fields);
        let spec = self.0.checked(&caller, OperationKind::Download, fields, spec).await?;
        let reading = self.0.coffer.read_file(&caller, spec).await.map_err(refuse)?;
        let expires_at = caller.principal.map(|principal| principal.expires_at);
        Ok(Response::new(read::Pieces::pump(reading, self.0.coffer.stall_timeout(), expires_at)))
    }
}
