//! Client certificates: whom the names in them stand for.
//!
//! The accept loop has verified a certificate before it comes here: its chain, its time, whether it was revoked. What is decided here is who
//! that is, by its subject alternative names alone: a common name is for people to read.

use super::{
    Error,
    identity::{Identity, Problem},
};
use coffer_domain::{
    caller::Principal,
    time::{Timestamp, now},
};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Most certificates of a list.
const MAX_CERTIFICATES: usize = 100_000;

/// Roles that a list can give. A token's issuer may have roles of its own; a list is written for this service, so that others are slips.
const ROLES: [&str; 4] = ["operator", "admin", "auditor", "delegate"];

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Uri(String),
    /// In lower case.
    Dns(String),
}

/// What counts of a certificate that was verified when its connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    names: HashSet<Name>,
    expires_at: Timestamp,
}

impl ClientCertificate {
    /// Reads a certificate in DER. One without URI or DNS names is read, but names nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] if it is none.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let unreadable = |problem: &dyn ToString| Error::Certificate(problem.to_string());
        let certificate = Certificate::from_der(der).map_err(|e| unreadable(&e))?.tbs_certificate;
        let expires = certificate.validity.not_after.to_unix_duration().as_secs();
        let expires_at =
            i64::try_from(expires).ok().and_then(|seconds| Timestamp::from_timestamp(seconds, 0));
        let expires_at = expires_at.ok_or_else(|| unreadable(&"its end is no time"))?;
        let names = match certificate.get::<SubjectAltName>().map_err(|e| unreadable(&e))? {
            Some((_critical, SubjectAltName(names))) => names.iter().filter_map(Name::of).collect(),
            None => HashSet::new(),
        };
        Ok(Self { names, expires_at })
    }
}

impl Name {
    fn of(name: &GeneralName) -> Option<Self> {
        match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(Self::Uri(uri.to_string())),
            GeneralName::DnsName(name) => Some(Self::dns(name.as_str())),
            _ => None,
        }
    }

    fn dns(name: &str) -> Self {
        Self::Dns(name.to_ascii_lowercase())
    }
}

/// Whom certificates stand for, by one of their names each.
#[derive(Debug, Default)]
pub struct Certificates(HashMap<Name, Entry>);

#[derive(Debug, Deserialize)]
struct List {
    certificates: Vec<Entry>,
}

/// One of the list, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    uri: Option<String>,
    dns: Option<String>,
    user: Option<String>,
    issuer: Option<String>,
    organisation: Option<String>,
    app: Option<String>,
    #[serde(default)]
    projects: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
}

impl Certificates {
    /// Reads the list: JSON, `{"certificates": [{"uri": "spiffe://example.org/scanner", "organisation": "clinic", "app": "scanner"}]}`.
    ///
    /// Each has one `uri` or `dns`, exactly as in the certificate's subject alternative names; `app`, or `user` with the `issuer` whose
    /// tokens name him by that subject, or both; and may have `organisation`, `projects` and `roles`.
    ///
    /// # Errors
    ///
    /// [`Error::Certificates`] for whatever cannot be meant.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let List { certificates } =
            serde_json::from_slice(json).map_err(|e| Error::Certificates(e.to_string()))?;
        if certificates.len() > MAX_CERTIFICATES {
            return Err(Error::Certificates(format!("it has more than {MAX_CERTIFICATES}")));
        }
        let mut by_name = HashMap::new();
        for (at, entry) in certificates.into_iter().enumerate() {
            let wrong = |problem: String| Error::Certificates(format!("certificate {at}: {problem}"));
            let name = entry.check().map_err(wrong)?;
            if by_name.insert(name, entry).is_some() {
                return Err(wrong("another one has its name".to_owned()));
            }
        }
        Ok(Self(by_name))
    }

    /// Whom a certificate stands for. `None`: nobody, two at once, or it has expired since its connection was made.
    pub(super) fn principal(&self, certificate: &ClientCertificate) -> Option<Principal> {
        let ClientCertificate { names, expires_at } = certificate;
        let mut entries = names.iter().filter_map(|name| self.0.get(name));
        let (entry, None) = (entries.next()?, entries.next()) else { return None };
        if *expires_at <= now() {
            return None;
        }
        let issuer = entry.issuer.clone().unwrap_or_default();
        Some(entry.clone().identity().principal(issuer, *expires_at))
    }
}

impl Entry {
    /// The name it is found by, if the rest can be what it should.
    fn check(&self) -> Result<Name, String> {
        let name = match (&self.uri, &self.dns) {
            (Some(uri), None) if uri.contains(':') => Name::Uri(uri.clone()),
            (None, Some(dns)) if !dns.is_empty() && !dns.contains('*') => Name::dns(dns),
            _ => return Err("must have one uri or one dns name, without *".to_owned()),
        };
        if self.user.is_some() != self.issuer.as_ref().is_some_and(|issuer| !issuer.is_empty()) {
            return Err("user and issuer go together".to_owned());
        }
        if let Some(role) = self.roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
            return Err(format!("role {role:?} is none of {}", ROLES.join(", ")));
        }
        self.clone().identity().check().map_err(|problem| match problem {
            Problem::Nobody => "must have a user or an app".to_owned(),
            Problem::Claim("sub") => "user is malformed".to_owned(),
            Problem::Claim("org") => "organisation is malformed".to_owned(),
            Problem::Claim(claim) => format!("{claim} is malformed"),
        })?;
        Ok(name)
    }

    fn identity(self) -> Identity {
        let Self { uri: _, dns: _, user, issuer: _, organisation, app, projects, roles } = self;
        Identity { subject: user, organisation, app, projects, roles }
    }
}

/// Whether the holder of a certificate may present a token: the token's own app or user, or an app that speaks for others. Where the list
/// names no organisation, the holder serves all.
pub(super) fn may_present(holder: &Principal, token: &Principal) -> bool {
    let is_same_organisation = holder.organisation.is_empty() || holder.organisation == token.organisation;
    let is_its_own = match holder.user_id() {
        Some(user) => token.user_id() == Some(user),
        None => holder.app == token.app || holder.roles.is_delegate,
    };
    is_same_organisation && is_its_own
}

#[cfg(test)]
mod tests;
