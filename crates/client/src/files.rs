//! Descriptions and lives of files.

use crate::{
    Client, Result,
    client::{or_random, promised},
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, file_service_client::FileServiceClient},
};
use futures_util::Stream;

/// Calls of `FileService`. The comments of the contract say what each request may hold and how each is refused. Changes without
/// a `request_id` get one, so that they can be repeated.
impl Client {
    /// One file.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) with `NOT_FOUND` if it does not exist or may not be known.
    pub async fn file(&self, file: v1::FileReference) -> Result<v1::File> {
        let request = v1::GetFileRequest { file: Some(file) };
        let answer: v1::GetFileResponse = self
            .unary("coffer.v1.FileService/GetFile", request, |service, request| async move {
                FileServiceClient::new(service).get_file(request).await
            })
            .await?;
        promised(answer.file, "file")
    }

    /// Files the caller may see, page after page from `request.page_token` on. Each page is fetched when it is asked for.
    pub fn files(&self, request: v1::ListFilesRequest) -> impl Stream<Item = Result<Vec<v1::File>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) = (client.clone(), v1::ListFilesRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListFilesResponse = client
                    .unary("coffer.v1.FileService/ListFiles", request, |service, request| async move {
                        let mut service =
                            FileServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_files(request).await
                    })
                    .await?;
                Ok((answer.files, answer.next_page_token))
            }
        })
    }

    /// Changes descriptive fields; answers the file as it is then.
    pub async fn update_file(&self, request: v1::UpdateFileRequest) -> Result<v1::File> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::UpdateFileRequest { request_id, ..request };
        let answer: v1::UpdateFileResponse = self
            .unary("coffer.v1.FileService/UpdateFile", request, |service, request| async move {
                FileServiceClient::new(service).update_file(request).await
            })
            .await?;
        promised(answer.file, "file")
    }

    /// Moves a file to the trash; answers it as it is there.
    pub async fn delete_file(&self, request: v1::DeleteFileRequest) -> Result<v1::File> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::DeleteFileRequest { request_id, ..request };
        let answer: v1::DeleteFileResponse = self
            .unary("coffer.v1.FileService/DeleteFile", request, |service, request| async move {
                FileServiceClient::new(service).delete_file(request).await
            })
            .await?;
        promised(answer.file, "file")
    }

    /// Takes a file out of the trash; answers it as it is then.
    pub async fn undelete_file(&self, request: v1::UndeleteFileRequest) -> Result<v1::File> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::UndeleteFileRequest { request_id, ..request };
        let answer: v1::UndeleteFileResponse = self
            .unary("coffer.v1.FileService/UndeleteFile", request, |service, request| async move {
                FileServiceClient::new(service).undelete_file(request).await
            })
            .await?;
        promised(answer.file, "file")
    }

    /// Removes a file in the trash for good; answers the bytes given back to quotas.
    pub async fn purge_file(&self, request: v1::PurgeFileRequest) -> Result<i64> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::PurgeFileRequest { request_id, ..request };
        let answer: v1::PurgeFileResponse = self
            .unary("coffer.v1.FileService/PurgeFile", request, |service, request| async move {
                FileServiceClient::new(service).purge_file(request).await
            })
            .await?;
        Ok(answer.freed_bytes)
    }
}
