//! Who is calling, and what they may do.

use crate::{
    error::{Error, Result, Unauthenticated},
    file::{Classification, File, Namespace, Owner, Payer},
    id::{FileId, OperationId, UserId, VolumeId},
    operation::{Operation, OperationKind},
    time::{Timestamp, now},
    volume::{Provider, Volume},
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A tenant's name; empty for callers without an organisation, who are a tenant of their own.
pub type Organisation = String;

/// A known user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// From issuer and subject: see [`UserId::of_subject`].
    pub id: UserId,
    /// Who vouches for the subject.
    pub issuer: String,
    /// The subject as the issuer names it.
    pub subject: String,
}

/// Who vouches for a user whom an app acts for on its own word.
pub const DELEGATED_ISSUER: &str = "delegated";

impl User {
    /// A user whom an app names by its id.
    pub fn delegated(id: UserId) -> Self {
        Self { id, issuer: DELEGATED_ISSUER.to_owned(), subject: id.to_string() }
    }
}

/// Roles a token or a client certificate can give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// Volumes, endpoints, quotas, maintenance; no content.
    pub is_operator: bool,
    /// That, plus the files of the organisation: descriptions, undelete, purge.
    pub is_admin: bool,
    /// The audit trail of the organisation, and nothing else.
    pub is_auditor: bool,
    /// An app alone may act for users of its organisation.
    pub is_delegate: bool,
}

impl Roles {
    /// The roles of these names; others mean nothing here.
    pub fn of_names<T: AsRef<str>>(names: &[T]) -> Self {
        let has = |role: &str| names.iter().any(|name| name.as_ref() == role);
        Self {
            is_operator: has("operator"),
            is_admin: has("admin"),
            is_auditor: has("auditor"),
            is_delegate: has("delegate"),
        }
    }
}

/// Whom a valid token or client certificate names: a user, an app, or a user through an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user, if the token has a subject.
    pub user: Option<User>,
    /// The app, if the token has one. Alone, it acts for itself.
    pub app: Option<String>,
    /// The tenant.
    pub organisation: Organisation,
    /// Projects whose quotas the caller may charge.
    pub projects: Vec<String>,
    /// What else it may do.
    pub roles: Roles,
    /// Whether the user is there on the app's word alone: see [`Principal::on_behalf_of`].
    pub is_delegated: bool,
    /// When the token or the certificate ends.
    pub expires_at: Timestamp,
}

impl Principal {
    /// Scope of request ids: unique per user and app within a tenant.
    pub fn scope(&self) -> String {
        let user = self.user.as_ref().map(|u| u.id.to_string()).unwrap_or_default();
        format!("{}/{}/{user}", self.organisation, self.app.as_deref().unwrap_or_default())
    }

    /// The same app acting for a user of its organisation, with the user's rights and none of its own roles.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] if it is no app alone with the role `delegate`.
    pub fn on_behalf_of(self, user: UserId) -> Result<Self> {
        if self.user.is_some() || self.app.is_none() || !self.roles.is_delegate {
            return Err(Error::PermissionDenied("act for another user"));
        }
        Ok(Self { user: Some(User::delegated(user)), roles: Roles::default(), is_delegated: true, ..self })
    }

    /// The user's id, if there is a user.
    pub fn user_id(&self) -> Option<UserId> {
        self.user.as_ref().map(|u| u.id)
    }

    /// Whom new files belong to. `None` for tokens that name neither user nor app.
    pub fn owner(&self) -> Option<Owner> {
        match (&self.user, &self.app) {
            (Some(user), app) => {
                Some(Owner { namespace: Namespace::Users, user: Some(user.id), app: app.clone() })
            }
            (None, Some(app)) => {
                Some(Owner { namespace: Namespace::Apps, user: None, app: Some(app.clone()) })
            }
            (None, None) => None,
        }
    }

    fn owns(&self, owner: &Owner) -> bool {
        match owner.namespace {
            Namespace::Users => owner.user.is_some() && owner.user == self.user_id(),
            Namespace::Apps => self.user.is_none() && owner.app.is_some() && owner.app == self.app,
        }
    }
}

/// A request's caller and where it came from: everything the audit trail keeps about it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `None`: no token was presented.
    pub principal: Option<Principal>,
    /// The peer, or the client that a trusted proxy names.
    pub client_ip: Option<IpAddr>,
    /// What the client says it is.
    pub user_agent: Option<String>,
    /// `coffer-session-id`.
    pub session_id: Option<String>,
    /// `coffer-correlation-id`.
    pub correlation_id: Option<String>,
    /// `coffer-purpose`.
    pub purpose: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
}

/// What a caller may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// May not know that it exists.
    Hidden,
    /// Content, name, type, size and checksum.
    Public,
    /// Description, trash and purge, but no content: admins.
    Administer,
    /// Everything.
    Own,
}

impl Caller {
    /// The service itself, for upkeep.
    pub fn service() -> Self {
        Self {
            principal: None,
            client_ip: None,
            user_agent: None,
            session_id: None,
            correlation_id: None,
            purpose: None,
            trace_id: None,
        }
    }

    /// The principal, or a refusal if there is none or its token has expired meanwhile.
    pub fn known(&self) -> Result<&Principal> {
        let principal = self.principal.as_ref().ok_or(Error::Unauthenticated(Unauthenticated::Missing))?;
        if principal.expires_at <= now() {
            return Err(Error::Unauthenticated(Unauthenticated::Expired));
        }
        Ok(principal)
    }

    /// The tenant; anonymous callers have none.
    pub fn organisation(&self) -> Option<&str> {
        self.principal.as_ref().map(|p| p.organisation.as_str())
    }

    /// What the caller may do with `file`.
    pub fn access(&self, file: &File) -> FileAccess {
        let seen_by_all =
            if file.is_public && file.deleted_at.is_none() { FileAccess::Public } else { FileAccess::Hidden };
        match &self.principal {
            Some(p) if p.organisation == file.organisation && p.owns(&file.owner) => FileAccess::Own,
            Some(p) if p.organisation == file.organisation && p.roles.is_admin => FileAccess::Administer,
            _ => seen_by_all,
        }
    }

    /// Refuses whoever may not manage volumes and what they stand on.
    pub fn must_operate(&self) -> Result<&Principal> {
        let principal = self.known()?;
        if principal.roles.is_operator || principal.roles.is_admin {
            Ok(principal)
        } else {
            Err(Error::PermissionDenied("manage volumes"))
        }
    }

    /// Refuses whoever may not read the audit trail.
    pub fn must_audit(&self) -> Result<&Principal> {
        let principal = self.known()?;
        if principal.roles.is_auditor {
            Ok(principal)
        } else {
            Err(Error::PermissionDenied("read the audit trail"))
        }
    }

    /// A successful operation of this caller, to be completed by the use case.
    pub fn operation(&self, kind: OperationKind) -> Operation {
        let principal = self.principal.as_ref();
        Operation {
            kind,
            client_ip: self.client_ip.map(|ip| ip.to_string()),
            user_agent: self.user_agent.clone(),
            user_id: principal.and_then(Principal::user_id),
            app_id: principal.and_then(|p| p.app.clone()),
            on_behalf_of: principal.filter(|p| p.is_delegated).and_then(Principal::user_id),
            organisation: principal.map(|p| p.organisation.clone()).unwrap_or_default(),
            session_id: self.session_id.clone(),
            correlation_id: self.correlation_id.clone(),
            trace_id: self.trace_id.clone(),
            purpose: self.purpose.clone(),
            ..Operation::new(OperationId::new(), now())
        }
    }
}

/// Whether a principal may upload into a volume: its access lists are both empty or one of them names it.
pub fn may_use(principal: &Principal, volume: &Volume) -> bool {
    let settings = &volume.settings;
    (settings.allowed_organisations.is_empty() && settings.allowed_apps.is_empty())
        || settings.allowed_organisations.contains(&principal.organisation)
        || principal.app.as_ref().is_some_and(|app| settings.allowed_apps.contains(app))
}

/// Whether looking at the description itself is recorded.
pub fn is_view_recorded(classification: Classification) -> bool {
    matches!(classification, Classification::Confidential | Classification::Restricted)
}

impl Operation {
    /// The same operation on a file.
    pub fn on_file(mut self, id: FileId, volume: VolumeId, provider: Provider) -> Self {
        self.file_id = Some(id);
        self.volume_id = Some(volume);
        self.provider = Some(provider);
        self
    }
}

impl Payer {
    /// Who pays for a new file of `principal` in `volume`.
    pub fn of(principal: &Principal, owner: &Owner, volume: VolumeId, project: Option<String>) -> Self {
        Self {
            volume,
            user: owner.user,
            app: owner.app.clone(),
            organisation: principal.organisation.clone(),
            project,
        }
    }
}
