//! `TransferService`: contents in and out.

mod convert;
mod read;
mod write;

use crate::{Api, Received};
use coffer_domain::operation::OperationKind;
use coffer_proto::v1::{
    ReadFileRequest, WriteFileRequest, WriteFileResponse, transfer_service_server::TransferService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The RPC's name in stored answers.
pub(crate) const WRITE_FILE: &str = "WriteFile";

/// The service.
pub(crate) struct Transfers(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl TransferService for Transfers {
    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let (principal, received) = self.0.receive_known(request)?;
        Box::pin(write::write(&self.0, principal, received)).await.map(Response::new)
    }

    type ReadFileStream = read::Pieces;

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Result<Response<read::Pieces>, Status> {
        let Received { caller, mut fields, message } = self.0.receive(request)?;
        let spec = convert::read_spec(message, &mut fields);
        let spec = self.0.checked(&caller, OperationKind::Download, fields, spec).await?;
        let reading = self.0.coffer.read_file(&caller, spec).await.map_err(crate::refuse)?;
        let expires_at = caller.principal.map(|principal| principal.expires_at);
        Ok(Response::new(read::Pieces::pump(reading, self.0.coffer.stall_timeout(), expires_at)))
    }
}
