//! Looking at quotas.

use super::Coffer;
use crate::{
    Error, Result,
    caller::{Caller, Principal},
    error::Resource,
    id::UserId,
    operation::OperationKind,
    quota::{Quota, QuotaKey, Usage},
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
        let manages = principal.roles.is_operator || principal.roles.is_admin;
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
