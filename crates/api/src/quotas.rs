//! `QuotaService`: limits and usage.

mod convert;

use crate::{Api, Received, refuse, request_id};
use coffer_domain::operation::OperationKind;
use coffer_proto::v1::{
    CheckQuotaRequest, CheckQuotaResponse, GetQuotaRequest, GetQuotaResponse, ListQuotasRequest,
    ListQuotasResponse, RecalculateQuotasRequest, RecalculateQuotasResponse, SetQuotaRequest,
    SetQuotaResponse, quota_service_server::QuotaService,
};
use convert::{Filter, Planned, to_check, to_drift, to_quota};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct Quotas(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl QuotaService for Quotas {
    async fn get_quota(
        &self,
        request: Request<GetQuotaRequest>,
    ) -> Result<Response<GetQuotaResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetQuotaRequest { key } }) =
            self.0.receive_known(request)?;
        let query = convert::query(key, &mut fields);
        let query = self.0.checked(&caller, OperationKind::ReadQuota, fields, query).await?;
        let quota = self.0.coffer.get_quota(&caller, &query).await.map_err(refuse)?;
        Ok(Response::new(GetQuotaResponse { quota: Some(to_quota(quota)) }))
    }

    async fn list_quotas(
        &self,
        request: Request<ListQuotasRequest>,
    ) -> Result<Response<ListQuotasResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let filter = convert::filter(message, &mut fields);
        let (Filter { kind, volume }, page) =
            self.0.checked(&caller, OperationKind::ReadQuota, fields, filter.zip(page)).await?;
        let found = self.0.coffer.list_quotas(&caller, kind, volume, &page).await.map_err(refuse)?;
        Ok(Response::new(ListQuotasResponse {
            quotas: found.items.into_iter().map(to_quota).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn set_quota(
        &self,
        request: Request<SetQuotaRequest>,
    ) -> Result<Response<SetQuotaResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "SetQuota", &message.request_id, &message);
        let limits = convert::limits(message, &mut fields);
        let ((query, limits), request) =
            self.0.checked(&caller, OperationKind::SetQuota, fields, limits.zip(request)).await?;
        let quota = self.0.coffer.set_quota(&caller, &query, limits, request).await.map_err(refuse)?;
        Ok(Response::new(SetQuotaResponse { quota: Some(to_quota(quota)) }))
    }

    async fn check_quota(
        &self,
        request: Request<CheckQuotaRequest>,
    ) -> Result<Response<CheckQuotaResponse>, Status> {
        let (_, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let planned = convert::planned(message, &mut fields);
        let Planned { volume, size, project } =
            self.0.checked(&caller, OperationKind::ReadQuota, fields, planned).await?;
        let exhausted = self.0.coffer.check_quota(&caller, volume, size, project).await.map_err(refuse)?;
        Ok(Response::new(to_check(exhausted)))
    }

    async fn recalculate_quotas(
        &self,
        request: Request<RecalculateQuotasRequest>,
    ) -> Result<Response<RecalculateQuotasResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "RecalculateQuotas", &message.request_id, &message);
        let RecalculateQuotasRequest { dry_run, request_id: _ } = message;
        let request = self.0.checked(&caller, OperationKind::RecalculateQuotas, fields, request).await?;
        let drifts = self.0.coffer.recalculate_quotas(&caller, dry_run, request).await.map_err(refuse)?;
        Ok(Response::new(RecalculateQuotasResponse { drifts: drifts.into_iter().map(to_drift).collect() }))
    }
}
