//! The audit trail.

use crate::{
    Client, Result,
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, audit_service_client::AuditServiceClient},
};
use futures_util::Stream;

impl Client {
    /// Operations, newest first, page after page from `request.page_token` on. For auditors.
    pub fn operations(
        &self,
        request: v1::ListOperationsRequest,
    ) -> impl Stream<Item = Result<Vec<v1::Operation>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListOperationsRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListOperationsResponse = client
                    .unary("coffer.v1.AuditService/ListOperations", request, |service, request| async move {
                        let mut service =
                            AuditServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_operations(request).await
                    })
                    .await?;
                Ok((answer.operations, answer.next_page_token))
            }
        })
    }
}
