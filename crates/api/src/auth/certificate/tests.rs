use super::*;
use coffer_domain::id::UserId;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};
use serde_json::{Value, json};

/// A certificate with these names, until a year.
fn certificate(uris: &[&str], dns: &[&str], year: i32) -> ClientCertificate {
    let mut params =
        CertificateParams::new(dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    params.distinguished_name.push(DnType::CommonName, "scanner.example.org");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    ClientCertificate::from_der(&der).unwrap()
}

fn list(entries: Value) -> Result<Certificates, Error> {
    Certificates::from_json(json!({"certificates": entries}).to_string().as_bytes())
}

#[test]
fn a_certificate_stands_for_whom_the_list_says_by_its_alternative_names_alone() {
    let known = list(json!([
        {"uri": "spiffe://example.org/scanner", "organisation": "clinic", "app": "scanner", "roles": ["delegate"], "projects": ["study"]},
        {"dns": "Ann.Example.org", "organisation": "clinic", "user": "ann", "issuer": "https://id.example"},
        {"dns": "scanner.example.org", "organisation": "lab", "app": "other"},
    ]))
    .unwrap();
    let scanner =
        known.principal(&certificate(&["spiffe://example.org/scanner"], &["unknown.example"], 2099)).unwrap();
    assert_eq!((scanner.app.as_deref(), scanner.organisation.as_str()), (Some("scanner"), "clinic"));
    assert!(scanner.roles.is_delegate && !scanner.roles.is_admin && scanner.user.is_none());
    assert_eq!(scanner.projects, ["study"]);
    assert_eq!(scanner.expires_at.to_rfc3339(), "2099-01-01T00:00:00+00:00");
    let ann = known.principal(&certificate(&[], &["ann.EXAMPLE.org"], 2099)).unwrap();
    assert_eq!(ann.user_id(), Some(UserId::of_subject("https://id.example", "ann")));

    for nobody in [
        // Its common name is scanner.example.org.
        certificate(&[], &[], 2099),
        certificate(&[], &["scanner.example.org.evil.example"], 2099),
        certificate(&[], &["*.example.org"], 2099),
        certificate(&["spiffe://example.org/scanner/x"], &[], 2099),
        certificate(&["SPIFFE://example.org/scanner"], &[], 2099),
        // A DNS name that looks like the URI, and the other way round.
        certificate(&["scanner.example.org"], &[], 2099),
        // Two at once.
        certificate(&["spiffe://example.org/scanner"], &["scanner.example.org"], 2099),
        // It has ended since its connection was made.
        certificate(&["spiffe://example.org/scanner"], &[], 2021),
    ] {
        assert_eq!(known.principal(&nobody), None, "{nobody:?}");
    }
    assert!(ClientCertificate::from_der(b"not a certificate").is_err());
}

#[test]
fn a_list_that_cannot_be_meant_is_refused() {
    let app = json!({"uri": "spiffe://a/b", "app": "scanner"});
    let with = |changes: Value| {
        let mut entry = app.clone();
        entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        entry
    };
    assert!(list(json!([app])).is_ok() && list(json!([])).is_ok());
    for (entries, why) in [
        (json!([app, app]), "another one has its name"),
        (json!([with(json!({"dns": "a.example"}))]), "one uri or one dns name"),
        (json!([{"app": "scanner"}]), "one uri or one dns name"),
        (json!([{"dns": "*.example", "app": "scanner"}]), "without *"),
        (json!([{"uri": "no-scheme", "app": "scanner"}]), "one uri or one dns name"),
        (json!([{"uri": "spiffe://a/b"}]), "a user or an app"),
        (json!([with(json!({"user": "ann"}))]), "user and issuer go together"),
        (json!([with(json!({"issuer": "https://i"}))]), "user and issuer go together"),
        (json!([with(json!({"roles": ["amdin"]}))]), "role \"amdin\" is none of"),
        (json!([with(json!({"organisation": "a/b"}))]), "organisation is malformed"),
        (json!([with(json!({"organization": "clinic"}))]), "unknown field"),
        (json!({"uri": "spiffe://a/b"}), "invalid type"),
    ] {
        let problem = list(entries).unwrap_err().to_string();
        assert!(problem.contains(why), "{why}: {problem}");
    }
}

#[test]
fn a_token_is_presented_by_its_own_app_or_user_or_by_whoever_speaks_for_others() {
    let of = |organisation: &str, app: Option<&str>, user: Option<&str>, roles: &[&str]| {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Identity {
            subject: user.and_then(text),
            organisation: text(organisation),
            app: app.and_then(text),
            projects: Vec::new(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        }
        .principal("https://id.example".to_owned(), now())
    };
    let token = of("clinic", Some("scanner"), Some("ann"), &[]);
    for (holder, may) in [
        (of("clinic", Some("scanner"), None, &[]), true),
        (of("", Some("scanner"), None, &[]), true),
        (of("lab", Some("scanner"), None, &[]), false),
        (of("clinic", Some("mail"), None, &[]), false),
        (of("clinic", Some("mail"), None, &["admin", "operator"]), false),
        (of("clinic", Some("gateway"), None, &["delegate"]), true),
        (of("", Some("gateway"), None, &["delegate"]), true),
        (of("lab", Some("gateway"), None, &["delegate"]), false),
        (of("clinic", None, Some("ann"), &[]), true),
        (of("clinic", None, Some("bob"), &[]), false),
    ] {
        assert_eq!(may_present(&holder, &token), may, "{holder:?}");
    }
    assert!(!may_present(&of("clinic", Some("scanner"), None, &[]), &of("clinic", None, Some("ann"), &[])));
}
