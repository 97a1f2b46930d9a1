//! Quotas between the wire and the domain.

use crate::fields::{Fields, to_i64, to_time};
use coffer_domain::{
    name::is_identifier,
    quota::{Dimension, Drift, Exhausted, Kind, Limits, Quota, QuotaKey, Usage},
    service::QuotaQuery,
    volume::VolumeRef,
};
use coffer_proto::v1::{
    self, AppOnVolume, CheckQuotaRequest, CheckQuotaResponse, ListQuotasRequest, QuotaKind, SetQuotaRequest,
    UserOnVolume, exhausted_quota, quota_key::Of,
};

pub(super) fn query(key: Option<v1::QuotaKey>, fields: &mut Fields) -> Option<QuotaQuery> {
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

pub(super) fn to_quota(quota: Quota) -> v1::Quota {
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

/// What a list shows.
#[derive(Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) kind: Option<Kind>,
    pub(super) volume: Option<VolumeRef>,
}

pub(super) fn filter(message: ListQuotasRequest, fields: &mut Fields) -> Option<Filter> {
    let ListQuotasRequest { page_size: _, page_token: _, kind, volume } = message;
    let kind = fields.optional_enum("kind", kind, |kind| match kind {
        QuotaKind::Unspecified => None,
        QuotaKind::Volume => Some(Kind::Volume),
        QuotaKind::UserOnVolume => Some(Kind::UserOnVolume),
        QuotaKind::AppOnVolume => Some(Kind::AppOnVolume),
        QuotaKind::User => Some(Kind::User),
        QuotaKind::Organisation => Some(Kind::Organisation),
        QuotaKind::Project => Some(Kind::Project),
    });
    let volume = fields.optional_volume("volume", &volume);
    Some(Filter { kind: kind?, volume: volume? })
}

/// The limits of a quota; of one on a volume only those of its bytes.
pub(super) fn limits(message: SetQuotaRequest, fields: &mut Fields) -> Option<(QuotaQuery, Limits)> {
    let SetQuotaRequest { key, limit_bytes, limit_files, max_file_bytes, request_id: _ } = message;
    let query = query(key, fields);
    let bytes = fields.optional_count("limit_bytes", limit_bytes);
    let files = fields.optional_count("limit_files", limit_files);
    let file_bytes = fields.optional_count("max_file_bytes", max_file_bytes);
    let is_on_volume = matches!(
        &query,
        Some(QuotaQuery::Volume(_) | QuotaQuery::UserOnVolume { .. } | QuotaQuery::AppOnVolume { .. })
    );
    for (field, is_set) in
        [("limit_files", limit_files.is_some()), ("max_file_bytes", max_file_bytes.is_some())]
    {
        if is_on_volume && is_set {
            fields.refuse(field, "is a limit of users, organisations and projects only");
        }
    }
    Some((query?, Limits { bytes: bytes?, files: files?, max_file_bytes: file_bytes? }))
}

/// An upload that may come.
#[derive(Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) volume: Option<VolumeRef>,
    pub(super) size: u64,
    pub(super) project: Option<String>,
}

pub(super) fn planned(message: CheckQuotaRequest, fields: &mut Fields) -> Option<Planned> {
    let CheckQuotaRequest { volume, size_bytes, project_id } = message;
    let volume = fields.optional_volume("volume", &volume);
    let size = fields.count("size_bytes", size_bytes);
    let project = fields.optional_identifier("project_id", project_id);
    Some(Planned { volume: volume?, size: size?, project: project? })
}

pub(super) fn to_check(exhausted: Vec<Exhausted>) -> CheckQuotaResponse {
    CheckQuotaResponse {
        fits: exhausted.is_empty(),
        exhausted: exhausted.into_iter().map(to_exhausted).collect(),
    }
}

fn to_exhausted(exhausted: Exhausted) -> v1::ExhaustedQuota {
    let Exhausted { key, dimension, limit, used, reserved, requested } = exhausted;
    v1::ExhaustedQuota {
        key: Some(v1::QuotaKey { of: Some(to_key(key)) }),
        dimension: match dimension {
            Dimension::Bytes => exhausted_quota::Dimension::Bytes,
            Dimension::Files => exhausted_quota::Dimension::Files,
            Dimension::FileSize => exhausted_quota::Dimension::FileBytes,
        }
        .into(),
        limit: to_i64(limit),
        used: to_i64(used),
        reserved: to_i64(reserved),
        requested: to_i64(requested),
    }
}

pub(super) fn to_drift(drift: Drift) -> v1::QuotaDrift {
    let Drift {
        key,
        counted_bytes,
        actual_bytes,
        counted_files,
        actual_files,
        counted_reserved_bytes,
        actual_reserved_bytes,
        counted_reserved_files,
        actual_reserved_files,
    } = drift;
    v1::QuotaDrift {
        key: Some(v1::QuotaKey { of: Some(to_key(key)) }),
        counted_bytes,
        actual_bytes,
        counted_files,
        actual_files,
        counted_reserved_bytes,
        actual_reserved_bytes,
        counted_reserved_files,
        actual_reserved_files,
    }
}

#[cfg(test)]
mod tests;
