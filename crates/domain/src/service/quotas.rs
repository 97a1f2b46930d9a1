//! Quotas: looked at, limited, counted again.

use super::Coffer;
use crate::{
    Error, Result,
    caller::{Caller, Principal, may_use},
    error::{FieldViolation, Resource},
    file::Payer,
    id::UserId,
    operation::OperationKind,
    page::{Page, PageRequest},
    quota::{self, Charge, Dimension, Drift, Exhausted, Limits, Quota, QuotaKey, Usage},
    request::Request,
    volume::VolumeRef,
};

/// A quota as callers name it; what is `None` is the caller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaQuery {
    /// All of a volume.
    Volume(VolumeRef),
    /// A user on a volume.
    UserOnVolume {
        /// The user.
        user: Option<UserId>,
        /// The volume; `None`: the default one.
        volume: Option<VolumeRef>,
    },
    /// An app on a volume.
    AppOnVolume {
        /// The app.
        app: Option<String>,
        /// The volume; `None`: the default one.
        volume: Option<VolumeRef>,
    },
    /// A user.
    User(Option<UserId>),
    /// An organisation.
    Organisation(Option<String>),
    /// A project of the caller's organisation.
    Project(String),
}

impl Coffer {
    /// One quota, exact as of now. Operators and admins see every volume's and all of their organisation, others their own.
    pub async fn get_quota(&self, caller: &Caller, which: &QuotaQuery) -> Result<Quota> {
        let (caller, which) = (caller.clone(), which.clone());
        self.audited(caller.operation(OperationKind::ReadQuota), move |me, _trail| async move {
            let principal = caller.known()?;
            let key = me.quota_key(principal, which).await?;
            if !me.is_of_tenant(principal, &key).await? {
                return Ok(Quota { key, usage: Usage::default(), updated_at: None });
            }
            let found = me.store().quotas(std::slice::from_ref(&key)).await?;
            found.into_iter().next().ok_or_else(|| Error::internal("read a quota", "the store answered none"))
        })
        .await
    }

    /// Quotas that were used or limited: a manager's all of his organisation, others' their own.
    pub async fn list_quotas(
        &self,
        caller: &Caller,
        kind: Option<quota::Kind>,
        volume: Option<VolumeRef>,
        page: &PageRequest,
    ) -> Result<Page<Quota>> {
        let (caller, page) = (caller.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ReadQuota), move |me, _trail| async move {
            let principal = caller.known()?;
            let volume = match volume {
                Some(volume) => Some(me.volume(Some(&volume)).await?.id),
                None => None,
            };
            let organisation = principal.organisation.clone();
            let scope = if manages(principal) {
                quota::Scope::All { organisation }
            } else {
                quota::Scope::Own {
                    organisation,
                    user: principal.user_id(),
                    app: principal.app.clone(),
                    projects: principal.projects.clone(),
                }
            };
            me.store().list_quotas(&scope, &quota::Filter { kind, volume }, &page).await
        })
        .await
    }

    /// Sets the limits of a quota, all of them.
    pub async fn set_quota(
        &self,
        caller: &Caller,
        which: &QuotaQuery,
        limits: Limits,
        request: Option<Request>,
    ) -> Result<Quota> {
        let (caller, which) = (caller.clone(), which.clone());
        self.audited_once(
            caller.operation(OperationKind::SetQuota),
            request.clone(),
            move |me, trail| async move {
                let principal = caller.known()?;
                let is_entity = matches!(
                    which,
                    QuotaQuery::User(_) | QuotaQuery::Organisation(_) | QuotaQuery::Project(_)
                );
                if !(principal.roles.is_operator || principal.roles.is_admin && is_entity) {
                    return Err(Error::PermissionDenied("set this quota"));
                }
                check_limits(limits, is_entity)?;
                let key = me.quota_key(principal, which).await?;
                if !me.is_of_tenant(principal, &key).await? {
                    return Err(Error::NotFound(Resource::User(match &key {
                        QuotaKey::UserOnVolume(user, _) => user.to_string(),
                        other => other.to_string(),
                    })));
                }
                trail.update(|operation| {
                    let limit =
                        |limit: Option<u64>| limit.map_or(serde_json::Value::Null, |n| n.to_string().into());
                    operation.metadata.insert("quota".to_owned(), key.to_string().into());
                    operation.metadata.insert("limit_bytes".to_owned(), limit(limits.bytes));
                    operation.metadata.insert("limit_files".to_owned(), limit(limits.files));
                    operation.metadata.insert("max_file_bytes".to_owned(), limit(limits.max_file_bytes));
                });
                me.store().set_quota(&key, &limits, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// What is in the way of an upload of `size` bytes by the caller now; nothing if it would be let in.
    pub async fn check_quota(
        &self,
        caller: &Caller,
        volume: Option<VolumeRef>,
        size: u64,
        project: Option<String>,
    ) -> Result<Vec<Exhausted>> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ReadQuota), move |me, _trail| async move {
            let principal = caller.known()?;
            let owner = principal.owner().ok_or(Error::PermissionDenied("upload files"))?;
            if project.as_ref().is_some_and(|project| !principal.projects.contains(project)) {
                return Err(Error::NotFound(Resource::Project(project.unwrap_or_default())));
            }
            let asked = volume.as_ref();
            let volume = me.volume(asked).await?;
            if !may_use(principal, &volume) {
                return Err(Error::NotFound(VolumeRef::Id(volume.id).resource()));
            }
            let payer = Payer::of(principal, &owner, volume.id, project);
            let charge = Charge { add_bytes: size, add_files: 1, file_bytes: size, ..Charge::default() };
            let quotas = me.store().quotas(&payer.quotas()).await?;
            let mut found: Vec<_> =
                quotas.iter().flat_map(|quota| quota.usage.exhausted(&quota.key, charge)).collect();
            if let Some(limit) = volume.settings.max_file_bytes.filter(|limit| size > *limit) {
                found.push(Exhausted {
                    key: QuotaKey::Volume(volume.id),
                    dimension: Dimension::FileSize,
                    limit,
                    used: 0,
                    reserved: 0,
                    requested: size,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Counts again what quotas have counted, and sets right what differs unless it is a `dry_run`. Tells quotas of volumes and of the caller's
    /// organisation; others are set right as well.
    pub async fn recalculate_quotas(
        &self,
        caller: &Caller,
        dry_run: bool,
        request: Option<Request>,
    ) -> Result<Vec<Drift>> {
        let organisation = caller.organisation().unwrap_or_default().to_owned();
        let caller = caller.clone();
        let work = self.audited_once(
            caller.operation(OperationKind::RecalculateQuotas),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                let suspects = me.store().quota_drift().await?;
                trail.update(|operation| {
                    operation.metadata.insert("dry_run".to_owned(), dry_run.into());
                    operation.metadata.insert("suspects".to_owned(), suspects.len().into());
                });
                let drifts = if dry_run {
                    me.store().record(&[trail.operation()]).await?;
                    suspects
                } else {
                    let keys: Vec<_> = suspects.into_iter().map(|drift| drift.key).collect();
                    me.store().recalculate_quotas(&keys, &trail.operation(), request.as_ref()).await?
                };
                for drift in &drifts {
                    tracing::error!(quota = %drift.key, drift = ?drift, dry_run, "a quota was counted wrong");
                }
                Ok(drifts)
            },
        );
        let mut drifts = work.await?;
        drifts.retain(|drift| match &drift.key {
            QuotaKey::Volume(_) | QuotaKey::UserOnVolume(..) | QuotaKey::AppOnVolume(..) => true,
            QuotaKey::User { organisation: of, .. }
            | QuotaKey::Organisation(of)
            | QuotaKey::Project { organisation: of, .. } => *of == organisation,
        });
        Ok(drifts)
    }

    /// Whether a quota may be told to the caller's organisation: a user of another one looks as if it had never stored anything.
    async fn is_of_tenant(&self, principal: &Principal, key: &QuotaKey) -> Result<bool> {
        let QuotaKey::UserOnVolume(user, _) = key else { return Ok(true) };
        if Some(*user) == principal.user_id() {
            return Ok(true);
        }
        let in_tenant = QuotaKey::User { organisation: principal.organisation.clone(), user: *user };
        Ok(self.store().quotas(&[in_tenant]).await?.iter().any(|quota| quota.updated_at.is_some()))
    }

    async fn quota_key(&self, principal: &Principal, which: QuotaQuery) -> Result<QuotaKey> {
        let manages = manages(principal);
        let refused = Error::PermissionDenied("see this quota");
        let own_user = |user: Option<UserId>| match user.or(principal.user_id()) {
            Some(user) if manages || Some(user) == principal.user_id() => Ok(user),
            Some(_) => Err(Error::PermissionDenied("see the quota of another user")),
            None => Err(Error::invalid("key.user_id", "must be named by a caller that is no user")),
        };
        Ok(match which {
            QuotaQuery::Volume(volume) if manages => QuotaKey::Volume(self.volume(Some(&volume)).await?.id),
            QuotaQuery::Volume(_) => return Err(refused),
            QuotaQuery::UserOnVolume { user, volume } => {
                QuotaKey::UserOnVolume(own_user(user)?, self.volume(volume.as_ref()).await?.id)
            }
            QuotaQuery::AppOnVolume { app, volume } => {
                let app = app.or_else(|| principal.app.clone()).ok_or_else(|| {
                    Error::invalid("key.app_on_volume.app_id", "must be named by a caller without an app")
                })?;
                if !manages && Some(&app) != principal.app.as_ref() {
                    return Err(refused);
                }
                QuotaKey::AppOnVolume(app, self.volume(volume.as_ref()).await?.id)
            }
            QuotaQuery::User(user) => {
                QuotaKey::User { organisation: principal.organisation.clone(), user: own_user(user)? }
            }
            QuotaQuery::Organisation(organisation) => {
                let organisation = organisation.unwrap_or_else(|| principal.organisation.clone());
                if organisation.is_empty() || organisation != principal.organisation {
                    return Err(refused);
                }
                QuotaKey::Organisation(organisation)
            }
            QuotaQuery::Project(project) => {
                if !manages && !principal.projects.contains(&project) {
                    return Err(Error::NotFound(Resource::Project(project)));
                }
                QuotaKey::Project { organisation: principal.organisation.clone(), project }
            }
        })
    }
}

fn manages(principal: &Principal) -> bool {
    principal.roles.is_operator || principal.roles.is_admin
}

fn check_limits(limits: Limits, is_entity: bool) -> Result<()> {
    let mut found = Vec::new();
    let mut check = |field: &str, limit: Option<u64>, is_here: bool| {
        let problem = match limit {
            Some(_) if !is_here => "is a limit of users, organisations and projects only",
            Some(limit) if i64::try_from(limit).is_err() => "is too large",
            _ => return,
        };
        found.push(FieldViolation { field: field.to_owned(), problem: problem.to_owned() });
    };
    check("limit_bytes", limits.bytes, true);
    // A column of the documents, which is an integer.
    let files = limits.files.map(|files| if i32::try_from(files).is_ok() { files } else { u64::MAX });
    check("limit_files", files, is_entity);
    check("max_file_bytes", limits.max_file_bytes, is_entity);
    if found.is_empty() { Ok(()) } else { Err(Error::Invalid(found)) }
}
