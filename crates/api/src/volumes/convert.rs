//! Volumes and local paths between the wire and the domain.

use crate::fields::{Fields, all_or_none, non_empty, to_i64, to_text, to_time};
use coffer_domain::{
    caller::Caller,
    driver::Capabilities,
    id::{CredentialId, LocalPathId, VolumeId},
    path::PathRules,
    service::{Check, CheckStep, Difference, DifferenceKind, VolumeReport},
    volume::{Backend, Changes, LocalPath, Settings, Strategy, Versioning, Volume},
};
use coffer_proto::v1::{
    self, CheckVolumeResponse, FtpBackend, HttpBackend, LocalBackend, ReconcileVolumeResponse, S3Backend,
    UpdateVolumeRequest,
};
use std::time::Duration;

/// What UpdateVolume can change.
const CHANGEABLE: [&str; 12] = [
    "name",
    "versioning_mode",
    "enforce_hierarchy",
    "path_delimiter",
    "default_prefix",
    "quota_limit_bytes",
    "max_file_bytes",
    "is_active",
    "allowed_organisations",
    "allowed_apps",
    "trash_retention",
    "upload_ttl",
];

/// How much of a volume a caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Everything: operators and admins.
    Whole,
    /// Not its backend, quota and access lists: everybody else who may use it.
    Use,
}

impl View {
    pub(super) fn of(caller: &Caller) -> Self {
        if caller.must_operate().is_ok() { Self::Whole } else { Self::Use }
    }
}

/// The settings of a new volume. What only the service sets is not looked at.
pub(super) fn settings(volume: Option<v1::Volume>, fields: &mut Fields) -> Option<Settings> {
    let Some(volume) = volume else { return fields.take("volume", Err("must be given")) };
    let v1::Volume {
        id: _,
        name,
        backend,
        auto_path_strategy,
        versioning_mode,
        enforce_hierarchy,
        path_delimiter,
        default_prefix,
        quota_limit_bytes,
        quota_used_bytes: _,
        max_file_bytes,
        is_active,
        allowed_organisations,
        allowed_apps,
        trash_retention,
        create_time: _,
        update_time: _,
        upload_ttl,
        quota_reserved_bytes: _,
    } = volume;
    let backend = match backend {
        Some(v1::volume::Backend::Local(LocalBackend { local_path_id })) => fields
            .id::<LocalPathId>("volume.local.local_path_id", &local_path_id)
            .map(|local_path_id| Backend::Local { local_path_id }),
        Some(v1::volume::Backend::S3(S3Backend { bucket_id, credential_id })) => {
            let bucket_id = fields.id("volume.s3.bucket_id", &bucket_id);
            let credential_id = fields.optional_id::<CredentialId>("volume.s3.credential_id", &credential_id);
            bucket_id
                .zip(credential_id)
                .map(|(bucket_id, credential_id)| Backend::S3 { bucket_id, credential_id })
        }
        Some(v1::volume::Backend::Http(HttpBackend { endpoint_id, credential_id, use_query_params })) => {
            let endpoint_id = fields.id("volume.http.endpoint_id", &endpoint_id);
            let credential_id =
                fields.optional_id::<CredentialId>("volume.http.credential_id", &credential_id);
            endpoint_id.zip(credential_id).map(|(endpoint_id, credential_id)| Backend::Http {
                endpoint_id,
                credential_id,
                use_query_params,
            })
        }
        Some(v1::volume::Backend::Ftp(FtpBackend { ftp_id })) => {
            fields.id("volume.ftp.ftp_id", &ftp_id).map(|ftp_id| Backend::Ftp { ftp_id })
        }
        None => fields.take("volume.backend", Err("must be one of the kinds of backend")),
    };
    let strategy =
        fields.optional_enum("volume.auto_path_strategy", auto_path_strategy, |strategy| match strategy {
            v1::PathStrategy::Unspecified => None,
            v1::PathStrategy::None => Some(Strategy::None),
            v1::PathStrategy::Uuid => Some(Strategy::Uuid),
            v1::PathStrategy::Hash => Some(Strategy::Hash),
        });
    let versioning = versioning(versioning_mode, fields);
    let quota_limit = fields.optional_count("volume.quota_limit_bytes", quota_limit_bytes);
    let max_file_bytes = fields.optional_count("volume.max_file_bytes", max_file_bytes);
    let trash_retention_seconds = seconds("volume.trash_retention", trash_retention, fields);
    let upload_ttl_seconds = seconds("volume.upload_ttl", upload_ttl, fields);
    let rules = PathRules::default();
    let settings = Settings {
        name,
        backend: backend?,
        strategy: strategy?.unwrap_or(Strategy::Uuid),
        versioning: versioning?.unwrap_or(Versioning::None),
        paths: PathRules {
            is_hierarchical: enforce_hierarchy.unwrap_or(rules.is_hierarchical),
            delimiter: non_empty(path_delimiter).unwrap_or(rules.delimiter),
        },
        default_prefix,
        quota_limit: quota_limit?,
        max_file_bytes: max_file_bytes?,
        is_active: is_active.unwrap_or(true),
        allowed_organisations,
        allowed_apps,
        trash_retention_seconds: trash_retention_seconds?,
        upload_ttl_seconds: upload_ttl_seconds?,
    };
    Some(settings)
}

pub(super) fn update(message: UpdateVolumeRequest, fields: &mut Fields) -> Option<(VolumeId, Changes)> {
    let UpdateVolumeRequest { volume, update_mask, request_id: _ } = message;
    let mask = fields.mask(update_mask, &CHANGEABLE, CHANGEABLE.len());
    let Some(volume) = volume else { return fields.take("volume", Err("must be given")) };
    let id = fields.id("volume.id", &volume.id);
    let changes = changes(volume, &mask?, fields);
    id.zip(changes)
}

/// The changes that the mask names. A bool or enumeration that is named must be set: a forgotten one should not switch a volume on.
fn changes(volume: v1::Volume, mask: &[String], fields: &mut Fields) -> Option<Changes> {
    let v1::Volume {
        id: _,
        name,
        backend: _,
        auto_path_strategy: _,
        versioning_mode,
        enforce_hierarchy,
        path_delimiter,
        default_prefix,
        quota_limit_bytes,
        quota_used_bytes: _,
        max_file_bytes,
        is_active,
        allowed_organisations,
        allowed_apps,
        trash_retention,
        create_time: _,
        update_time: _,
        upload_ttl,
        quota_reserved_bytes: _,
    } = volume;
    let is_named = |field: &str| mask.iter().any(|named| named == field);
    let must_be_set = |field: &str, is_set: bool, fields: &mut Fields| {
        if is_named(field) && !is_set {
            fields.refuse(&format!("volume.{field}"), "must be set where update_mask names it");
        }
    };
    let versioning =
        if is_named("versioning_mode") { versioning(versioning_mode, fields) } else { Some(None) };
    must_be_set("versioning_mode", versioning != Some(None), fields);
    must_be_set("enforce_hierarchy", enforce_hierarchy.is_some(), fields);
    must_be_set("is_active", is_active.is_some(), fields);
    let quota_limit = is_named("quota_limit_bytes")
        .then(|| fields.optional_count("volume.quota_limit_bytes", quota_limit_bytes));
    let max_file_bytes =
        is_named("max_file_bytes").then(|| fields.optional_count("volume.max_file_bytes", max_file_bytes));
    let retention =
        is_named("trash_retention").then(|| seconds("volume.trash_retention", trash_retention, fields));
    let upload_ttl = is_named("upload_ttl").then(|| seconds("volume.upload_ttl", upload_ttl, fields));
    Some(Changes {
        name: is_named("name").then_some(name),
        versioning: versioning?,
        is_hierarchical: enforce_hierarchy.filter(|_| is_named("enforce_hierarchy")),
        delimiter: is_named("path_delimiter").then_some(path_delimiter),
        default_prefix: is_named("default_prefix").then_some(default_prefix),
        quota_limit: all_or_none(quota_limit)?,
        max_file_bytes: all_or_none(max_file_bytes)?,
        is_active: is_active.filter(|_| is_named("is_active")),
        allowed_organisations: is_named("allowed_organisations").then_some(allowed_organisations),
        allowed_apps: is_named("allowed_apps").then_some(allowed_apps),
        trash_retention_seconds: all_or_none(retention)?,
        upload_ttl_seconds: all_or_none(upload_ttl)?,
    })
}

fn versioning(mode: i32, fields: &mut Fields) -> Option<Option<Versioning>> {
    fields.optional_enum("volume.versioning_mode", mode, |mode| match mode {
        v1::VersioningMode::Unspecified => None,
        v1::VersioningMode::None => Some(Versioning::None),
        v1::VersioningMode::Source => Some(Versioning::Source),
    })
}

fn seconds(field: &str, duration: Option<prost_types::Duration>, fields: &mut Fields) -> Option<Option<u64>> {
    let Some(prost_types::Duration { seconds, nanos }) = duration else { return Some(None) };
    let whole = u64::try_from(seconds).ok().filter(|_| nanos == 0);
    fields.take(field, whole.map(Some).ok_or("must be whole seconds, not negative"))
}

pub(super) fn to_volume(volume: Volume, view: View) -> v1::Volume {
    let whole = to_whole_volume(volume);
    match view {
        View::Whole => whole,
        View::Use => v1::Volume {
            backend: None,
            quota_limit_bytes: None,
            quota_used_bytes: 0,
            quota_reserved_bytes: 0,
            allowed_organisations: Vec::new(),
            allowed_apps: Vec::new(),
            ..whole
        },
    }
}

fn to_whole_volume(volume: Volume) -> v1::Volume {
    let Volume { id, settings, quota_used, quota_reserved, created_at, updated_at } = volume;
    let Settings {
        name,
        backend,
        strategy,
        versioning,
        paths: PathRules { is_hierarchical, delimiter },
        default_prefix,
        quota_limit,
        max_file_bytes,
        is_active,
        allowed_organisations,
        allowed_apps,
        trash_retention_seconds,
        upload_ttl_seconds,
    } = settings;
    let duration = |seconds| prost_types::Duration { seconds: to_i64(seconds), nanos: 0 };
    v1::Volume {
        id: id.to_string(),
        name,
        backend: Some(match backend {
            Backend::Local { local_path_id } => {
                v1::volume::Backend::Local(LocalBackend { local_path_id: local_path_id.to_string() })
            }
            Backend::S3 { bucket_id, credential_id } => v1::volume::Backend::S3(S3Backend {
                bucket_id: bucket_id.to_string(),
                credential_id: to_text(credential_id),
            }),
            Backend::Http { endpoint_id, credential_id, use_query_params } => {
                v1::volume::Backend::Http(HttpBackend {
                    endpoint_id: endpoint_id.to_string(),
                    credential_id: to_text(credential_id),
                    use_query_params,
                })
            }
            Backend::Ftp { ftp_id } => v1::volume::Backend::Ftp(FtpBackend { ftp_id: ftp_id.to_string() }),
        }),
        auto_path_strategy: match strategy {
            Strategy::None => v1::PathStrategy::None,
            Strategy::Uuid => v1::PathStrategy::Uuid,
            Strategy::Hash => v1::PathStrategy::Hash,
        }
        .into(),
        versioning_mode: match versioning {
            Versioning::None => v1::VersioningMode::None,
            Versioning::Source => v1::VersioningMode::Source,
        }
        .into(),
        enforce_hierarchy: Some(is_hierarchical),
        path_delimiter: delimiter,
        default_prefix,
        quota_limit_bytes: quota_limit.map(to_i64),
        quota_used_bytes: to_i64(quota_used),
        max_file_bytes: max_file_bytes.map(to_i64),
        is_active: Some(is_active),
        allowed_organisations,
        allowed_apps,
        trash_retention: trash_retention_seconds.map(duration),
        create_time: Some(to_time(created_at)),
        update_time: Some(to_time(updated_at)),
        upload_ttl: upload_ttl_seconds.map(duration),
        quota_reserved_bytes: to_i64(quota_reserved),
    }
}

pub(super) fn to_local_path(path: LocalPath) -> v1::LocalPath {
    let LocalPath { id, path, description, created_at } = path;
    v1::LocalPath { id: id.to_string(), path, description, create_time: Some(to_time(created_at)) }
}

pub(super) fn to_check(check: Check) -> CheckVolumeResponse {
    let Check { steps, capabilities } = check;
    let is_healthy = !steps.is_empty() && steps.iter().all(|step| step.outcome.is_ok());
    CheckVolumeResponse {
        steps: steps.into_iter().map(to_step).collect(),
        is_healthy,
        capabilities: capabilities.map(to_capabilities),
    }
}

fn to_step(step: CheckStep) -> v1::CheckStep {
    let CheckStep { name, outcome, duration } = step;
    let problem = outcome.err();
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    v1::CheckStep {
        name: name.to_owned(),
        passed: problem.is_none(),
        problem: problem.as_ref().map(|problem| problem.reason.to_owned()).unwrap_or_default(),
        duration_us: micros(duration),
        detail: problem
            .and_then(|problem| problem.forbidden)
            .map(|forbidden| forbidden.to_string())
            .unwrap_or_default(),
    }
}

fn to_capabilities(capabilities: Capabilities) -> v1::DriverCapabilities {
    let Capabilities {
        atomic_publish,
        durable_ack,
        create_only,
        resume,
        range_read,
        list,
        copy,
        link,
        rename,
        versions,
    } = capabilities;
    v1::DriverCapabilities {
        atomic_publish,
        durable_ack,
        create_only,
        resume,
        range_read,
        list,
        copy,
        rename,
        versions,
        link,
    }
}

pub(super) fn to_reconciled(report: VolumeReport) -> ReconcileVolumeResponse {
    let VolumeReport {
        objects_compared,
        orphans_removed,
        orphans_left,
        objects_missing,
        staged_removed,
        staged_left,
        differences,
    } = report;
    ReconcileVolumeResponse {
        objects_compared: to_i64(objects_compared),
        orphans_removed: to_i64(orphans_removed),
        orphans_left: to_i64(orphans_left),
        objects_missing: to_i64(objects_missing),
        staged_removed: to_i64(staged_removed),
        staged_left: to_i64(staged_left),
        differences: differences.into_iter().map(to_difference).collect(),
    }
}

fn to_difference(difference: Difference) -> v1::Difference {
    let Difference { kind, key } = difference;
    v1::Difference {
        kind: match kind {
            DifferenceKind::Orphan => v1::difference::Kind::Orphan,
            DifferenceKind::OrphanLeft => v1::difference::Kind::OrphanLeft,
            DifferenceKind::Missing => v1::difference::Kind::Missing,
            DifferenceKind::Staged => v1::difference::Kind::Staged,
        }
        .into(),
        key,
    }
}

#[cfg(test)]
mod tests;
