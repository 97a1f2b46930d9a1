//! `FileService`: descriptions and lives of files.

mod convert;

pub(crate) use convert::{to_domain_classification, to_file};

use crate::{Api, Received, refuse, request_id};
use coffer_domain::{caller::FileAccess, operation::OperationKind, service::Seen};
use coffer_proto::v1::{
    DeleteFileRequest, DeleteFileResponse, GetFileRequest, GetFileResponse, ListFilesRequest,
    ListFilesResponse, PurgeFileRequest, PurgeFileResponse, UndeleteFileRequest, UndeleteFileResponse,
    UpdateFileRequest, UpdateFileResponse, file_service_server::FileService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct Files(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl FileService for Files {
    async fn get_file(&self, request: Request<GetFileRequest>) -> Result<Response<GetFileResponse>, Status> {
        let Received { caller, mut fields, message: GetFileRequest { file } } = self.0.receive(request)?;
        let file = fields.file("file", file);
        let file = self.0.checked(&caller, OperationKind::ViewMetadata, fields, file).await?;
        let Seen { file, access } = self.0.coffer.get_file(&caller, &file).await.map_err(refuse)?;
        Ok(Response::new(GetFileResponse { file: Some(to_file(file, access)) }))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let filter = convert::filter(message, &mut fields);
        let (filter, page) = self.0.checked(&caller, OperationKind::List, fields, filter.zip(page)).await?;
        let found = self.0.coffer.list_files(&caller, &filter, &page).await.map_err(refuse)?;
        Ok(Response::new(ListFilesResponse {
            files: found.items.into_iter().map(|file| to_file(file, FileAccess::Own)).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn update_file(
        &self,
        request: Request<UpdateFileRequest>,
    ) -> Result<Response<UpdateFileResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "UpdateFile", &message.request_id, &message);
        let update = convert::update(message, &mut fields);
        let (update, request) =
            self.0.checked(&caller, OperationKind::UpdateMetadata, fields, update.zip(request)).await?;
        let convert::Update { file, changes, if_etag } = update;
        let file = Box::pin(self.0.coffer.update_file(&caller, &file, changes, if_etag, request))
            .await
            .map_err(refuse)?;
        Ok(Response::new(UpdateFileResponse { file: Some(to_file(file, FileAccess::Own)) }))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> Result<Response<DeleteFileResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "DeleteFile", &message.request_id, &message);
        let DeleteFileRequest { file, if_etag, request_id: _ } = message;
        let file = fields.file("file", file);
        let (file, request) =
            self.0.checked(&caller, OperationKind::Delete, fields, file.zip(request)).await?;
        let if_etag = crate::fields::non_empty(if_etag);
        let file = self.0.coffer.delete_file(&caller, &file, if_etag, request).await.map_err(refuse)?;
        Ok(Response::new(DeleteFileResponse { file: Some(to_file(file, FileAccess::Own)) }))
    }

    async fn undelete_file(
        &self,
        request: Request<UndeleteFileRequest>,
    ) -> Result<Response<UndeleteFileResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "UndeleteFile", &message.request_id, &message);
        let UndeleteFileRequest { file, path, request_id: _ } = message;
        let file = fields.file_in_trash("file", file);
        let (file, request) =
            self.0.checked(&caller, OperationKind::Undelete, fields, file.zip(request)).await?;
        let path = crate::fields::non_empty(path);
        let file = self.0.coffer.undelete_file(&caller, &file, path, request).await.map_err(refuse)?;
        Ok(Response::new(UndeleteFileResponse { file: Some(to_file(file, FileAccess::Own)) }))
    }

    async fn purge_file(
        &self,
        request: Request<PurgeFileRequest>,
    ) -> Result<Response<PurgeFileResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "PurgeFile", &message.request_id, &message);
        let PurgeFileRequest { file, request_id: _ } = message;
        let file = fields.file_in_trash("file", file);
        let (file, request) =
            self.0.checked(&caller, OperationKind::Purge, fields, file.zip(request)).await?;
        let freed = self.0.coffer.purge_file(&caller, &file, request).await.map_err(refuse)?;
        Ok(Response::new(PurgeFileResponse { freed_bytes: crate::fields::to_i64(freed) }))
    }
}
