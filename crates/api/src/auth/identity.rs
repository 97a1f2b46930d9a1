//! Whom a token or the list of certificates names, checked the same way.

use coffer_domain::{
    caller::{Principal, Roles, User},
    id::UserId,
    name::is_identifier,
    path::is_deceptive,
    time::Timestamp,
};

/// Most bytes of a subject, as in OpenID Connect.
const MAX_SUBJECT_BYTES: usize = 255;

/// Most projects of somebody.
const MAX_PROJECTS: usize = 256;

/// What is said of somebody.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) subject: Option<String>,
    pub(super) organisation: Option<String>,
    pub(super) app: Option<String>,
    pub(super) projects: Vec<String>,
    pub(super) roles: Vec<String>,
}

/// Why it names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// Neither a user nor an app.
    Nobody,
    /// The claim of this name is malformed.
    Claim(&'static str),
}

impl Identity {
    /// Whether all of it can be what it should.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { subject, organisation, app, projects, roles: _ } = self;
        if subject.is_none() && app.is_none() {
            return Err(Problem::Nobody);
        }
        let is_subject = |text: &String| {
            !text.is_empty() && text.len() <= MAX_SUBJECT_BYTES && !text.chars().any(is_deceptive)
        };
        let are_projects =
            projects.len() <= MAX_PROJECTS && projects.iter().all(|project| is_identifier(project));
        let checked = [
            ("sub", subject.as_ref().is_none_or(is_subject)),
            ("org", organisation.as_deref().is_none_or(is_identifier)),
            ("app", app.as_deref().is_none_or(is_identifier)),
            ("projects", are_projects),
        ];
        match checked.into_iter().find(|(_, is_valid)| !is_valid) {
            Some((claim, _)) => Err(Problem::Claim(claim)),
            None => Ok(()),
        }
    }

    /// The principal, whose subject `issuer` vouches for.
    pub(super) fn principal(self, issuer: String, expires_at: Timestamp) -> Principal {
        let Self { subject, organisation, app, projects, roles } = self;
        Principal {
            user: subject.map(|subject| User { id: UserId::of_subject(&issuer, &subject), issuer, subject }),
            app,
            organisation: organisation.unwrap_or_default(),
            projects,
            roles: Roles::of_names(&roles),
            is_delegated: false,
            expires_at,
        }
    }
}
