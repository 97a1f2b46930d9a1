//! `QuotaService`: limits and usage.

use crate::{
    Api, Received,
    fields::{Fields, to_i64, to_time},
    refuse,
};
use coffer_domain::{
    name::is_identifier,
    operation::OperationKind,
    quota::{Quota, QuotaKey, Usage},
    service::QuotaQuery,
};
use coffer_proto::v1::{
    self, AppOnVolume, GetQuotaRequest, GetQuotaResponse, UserOnVolume, quota_key::Of,
    quota_service_server::QuotaService,
};
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
        let query = query(key, &mut fields);
        let query = self.0.checked(&caller, OperationKind::ReadQuota, fields, query).await?;
        let quota = self.0.coffer.get_quota(&caller, &query).await.map_err(refuse)?;
        Ok(Response::new(GetQuotaResponse { quota: Some(to_quota(quota)) }))
    }
}

fn query(key: Option<v1::QuotaKey>, fields: &mut Fields) -> Option<QuotaQuery> {
    match key.and_then(|v1::QuotaKey { of }| of) {
        None => fields.take("key", Err("must name a quota")),
        Some(Of::Volume(volume)) => fields.volume("key.volume", &volume).map(QuotaQuery::Volume),
        Some(Of::UserOnVolume(UserOnVolume { user_id, volume })) => {
            let user = fields.optional_id("key.user_on_volume.user_id", &user_id);
            let volume = fields.optional_volume("key.user_on_volume.volume", &volume);
            Some(QuotaQuery::UserOnVolume { user: user?, volume: volume? })
        }
        Some(Of::AppOnVolume(AppOnVolume { app_id, volume })) => {
            let app = fields.optional_identifier("key.app_on_volume.app_id", app_id);
            let volume = fields.optional_volume("key.app_on_volume.volume", &volume);
            Some(QuotaQuery::AppOnVolume { app: app?, volume: volume? })
        }
        Some(Of::UserId(user)) => fields.optional_id("key.user_id", &user).map(QuotaQuery::User),
        Some(Of::OrganisationId(organisation)) => {
            fields.optional_identifier("key.organisation_id", organisation).map(QuotaQuery::Organisation)
        }
        Some(Of::ProjectId(project)) => {
            let project = if is_identifier(&project) { Ok(project) } else { Err("must name a project") };
            fields.take("key.project_id", project).map(QuotaQuery::Project)
        }
    }
}

fn to_quota(quota: Quota) -> v1::Quota {
    let Quota { key, usage, updated_at } = quota;
    let Usage {
        limit_bytes,
        used_bytes,
        reserved_bytes,
        limit_files,
        used_files,
        reserved_files,
        max_file_bytes,
    } = usage;
    v1::Quota {
        key: Some(v1::QuotaKey { of: Some(to_key(key)) }),
        limit_bytes: limit_bytes.map(to_i64),
        used_bytes: to_i64(used_bytes),
        reserved_bytes: to_i64(reserved_bytes),
        limit_files: limit_files.map(to_i64),
        used_files: to_i64(used_files),
        reserved_files: to_i64(reserved_files),
        max_file_bytes: max_file_bytes.map(to_i64),
        update_time: updated_at.map(to_time),
    }
}

/// The tenant of a user or project is the caller's own, and goes without saying.
fn to_key(key: QuotaKey) -> Of {
    match key {
        QuotaKey::Volume(volume) => Of::Volume(volume.to_string()),
        QuotaKey::UserOnVolume(user, volume) => {
            Of::UserOnVolume(UserOnVolume { user_id: user.to_string(), volume: volume.to_string() })
        }
        QuotaKey::AppOnVolume(app, volume) => {
            Of::AppOnVolume(AppOnVolume { app_id: app, volume: volume.to_string() })
        }
        QuotaKey::User { organisation: _, user } => Of::UserId(user.to_string()),
        QuotaKey::Organisation(organisation) => Of::OrganisationId(organisation),
        QuotaKey::Project { organisation: _, project } => Of::ProjectId(project),
    }
}

#[cfg(test)]
mod tests;
