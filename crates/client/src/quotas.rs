//! Limits and usage.

use crate::{
    Client, Result,
    client::promised,
    v1::{self, quota_key, quota_service_client::QuotaServiceClient},
};

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
}
