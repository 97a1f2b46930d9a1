//! Limits and usage.

use crate::{
    Client, Result,
    client::{or_random, promised},
    pages::{MAX_PAGE_BYTES, pages},
    v1::{self, quota_key, quota_service_client::QuotaServiceClient},
};
use futures_util::Stream;

impl Client {
    /// One quota. Empty names in the key mean the caller's own and the default volume.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) with `NOT_FOUND` or `PERMISSION_DENIED` for a quota that is not the caller's to see.
    pub async fn quota(&self, of: quota_key::Of) -> Result<v1::Quota> {
        let request = v1::GetQuotaRequest { key: Some(v1::QuotaKey { of: Some(of) }) };
        let answer: v1::GetQuotaResponse = self
            .unary("coffer.v1.QuotaService/GetQuota", request, |service, request| async move {
                QuotaServiceClient::new(service).get_quota(request).await
            })
            .await?;
        promised(answer.quota, "quota")
    }

    /// Quotas that were used or limited, page after page from `request.page_token` on.
    pub fn quotas(&self, request: v1::ListQuotasRequest) -> impl Stream<Item = Result<Vec<v1::Quota>>> {
        let client = self.clone();
        let first = request.page_token.clone();
        pages(first, move |page_token| {
            let (client, request) = (client.clone(), v1::ListQuotasRequest { page_token, ..request.clone() });
            async move {
                let answer: v1::ListQuotasResponse = client
                    .unary("coffer.v1.QuotaService/ListQuotas", request, |service, request| async move {
                        let mut service =
                            QuotaServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                        service.list_quotas(request).await
                    })
                    .await?;
                Ok((answer.quotas, answer.next_page_token))
            }
        })
    }

    /// Sets all limits of a quota: what is unset has no limit. For operators and admins.
    pub async fn set_quota(&self, request: v1::SetQuotaRequest) -> Result<v1::Quota> {
        let request_id = or_random(request.request_id.clone());
        let request = v1::SetQuotaRequest { request_id, ..request };
        let answer: v1::SetQuotaResponse = self
            .unary("coffer.v1.QuotaService/SetQuota", request, |service, request| async move {
                QuotaServiceClient::new(service).set_quota(request).await
            })
            .await?;
        promised(answer.quota, "quota")
    }

    /// Whether an upload by the caller would be let in now, and what is in its way.
    pub async fn check_quota(&self, request: v1::CheckQuotaRequest) -> Result<v1::CheckQuotaResponse> {
        self.unary("coffer.v1.QuotaService/CheckQuota", request, |service, request| async move {
            QuotaServiceClient::new(service).check_quota(request).await
        })
        .await
    }

    /// Counts again what quotas have counted and, unless `dry_run` is set, sets right what differs; answers that. It has the commit
    /// timeout, because it reads all that is stored, and is not repeated. For operators.
    pub async fn recalculate_quotas(
        &self,
        request: v1::RecalculateQuotasRequest,
    ) -> Result<Vec<v1::QuotaDrift>> {
        let method = "coffer.v1.QuotaService/RecalculateQuotas";
        let deadline = self.timeouts().commit;
        let answer: v1::RecalculateQuotasResponse = self
            .unary_within(deadline, method, request, |service, request| async move {
                let mut service = QuotaServiceClient::new(service).max_decoding_message_size(MAX_PAGE_BYTES);
                service.recalculate_quotas(request).await
            })
            .await?;
        Ok(answer.drifts)
    }
}
