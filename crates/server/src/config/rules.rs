//! Which settings do not go together.

use super::layers::DATABASE_URL;
use super::mistake::{Mistake, Source};
use super::{ClientAuth, Config, DatabaseMode, Development, Loaded, Purpose};

/// Adds a mistake for every combination that cannot be meant.
pub(super) fn check(loaded: &mut Loaded, purpose: Purpose, mistakes: &mut Vec<Mistake>) {
    check_database(loaded, mistakes);
    if purpose == Purpose::Serve {
        check_listeners(loaded, mistakes);
        check_tls(loaded, mistakes);
        check_issuer(loaded, mistakes);
        check_development_key(loaded, mistakes);
    }
}

fn check_database(loaded: &mut Loaded, mistakes: &mut Vec<Mistake>) {
    let (mode, url) = (loaded.source("database.mode"), loaded.source("database.url"));
    match (loaded.config.database.mode, &loaded.config.database.url) {
        (DatabaseMode::External, None) => mistakes.push(Mistake::together(format!(
            "database.mode is external ({mode}), so database.url or {DATABASE_URL} must be given"
        ))),
        // Meant for whatever else runs in this environment.
        (DatabaseMode::Embedded, Some(_)) if url == Source::Environment(DATABASE_URL.to_owned()) => {
            loaded.config.database.url = None;
            loaded.sources.remove("database.url");
        }
        (DatabaseMode::Embedded, Some(_)) => mistakes.push(Mistake::together(format!(
            "database.mode is embedded ({mode}), which does not go with a database.url ({url})"
        ))),
        _ => {}
    }
}

fn check_listeners(loaded: &Loaded, mistakes: &mut Vec<Mistake>) {
    let (grpc, http) = (loaded.config.grpc.addr, loaded.config.http.addr);
    if grpc == http && grpc.port() != 0 {
        mistakes.push(Mistake::together(format!("grpc.addr and http.addr are both {grpc}")));
    }
}

fn check_tls(loaded: &Loaded, mistakes: &mut Vec<Mistake>) {
    let Config { grpc, auth, .. } = &loaded.config;
    let tls = &grpc.tls;
    let mut needs = |is_wrong: bool, problem: &str| {
        if is_wrong {
            mistakes.push(Mistake::together(problem));
        }
    };
    let is_tls = tls.certificate.is_some();
    needs(is_tls != tls.key.is_some(), "grpc.tls.certificate and grpc.tls.key go together");
    needs(tls.client_ca.is_some() && !is_tls, "grpc.tls.client_ca needs a grpc.tls.certificate");
    needs(
        tls.client_crl.is_some() && tls.client_ca.is_none(),
        "grpc.tls.client_crl needs a grpc.tls.client_ca",
    );
    let is_required = tls.client_auth == ClientAuth::Required;
    needs(
        is_required && tls.client_ca.is_none(),
        "grpc.tls.client_auth is required, which needs a grpc.tls.client_ca",
    );
    let has_list = auth.certificates_file.is_some();
    needs(has_list && tls.client_ca.is_none(), "auth.certificates_file needs a grpc.tls.client_ca");
    let is_in_clear = !is_tls && !grpc.insecure && !grpc.addr.ip().is_loopback();
    if is_in_clear {
        mistakes.push(Mistake::together(format!(
            "grpc.addr {} ({}) is not loopback, so grpc.tls.certificate must be given, or grpc.insecure = true where \
             something in front of it ends TLS",
            grpc.addr,
            loaded.source("grpc.addr")
        )));
    }
}

fn check_issuer(loaded: &Loaded, mistakes: &mut Vec<Mistake>) {
    let auth = &loaded.config.auth;
    // Also with a value that is no good: that is told already.
    let is_given = |key: &str| loaded.sources.contains_key(key);
    let parts = [
        ("auth.issuer", is_given("auth.issuer")),
        ("auth.audience", is_given("auth.audience")),
        ("auth.jwks_file or auth.jwks_url", is_given("auth.jwks_file") || is_given("auth.jwks_url")),
    ];
    let given: Vec<_> = parts.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect();
    let missing: Vec<_> = parts.iter().filter(|(_, is_given)| !is_given).map(|(key, _)| *key).collect();
    if !given.is_empty() && !missing.is_empty() {
        mistakes.push(Mistake::together(format!(
            "{} without {}: an issuer needs all three",
            given.join(" and "),
            missing.join(" and ")
        )));
    }
    if auth.jwks_file.is_some() && auth.jwks_url.is_some() {
        mistakes.push(Mistake::together(format!(
            "auth.jwks_file ({}) and auth.jwks_url ({}) are both given",
            loaded.source("auth.jwks_file"),
            loaded.source("auth.jwks_url")
        )));
    }
    if auth.jwks_max_age < auth.jwks_refresh {
        mistakes.push(Mistake::together("auth.jwks_max_age must not be shorter than auth.jwks_refresh"));
    }
}

fn check_development_key(loaded: &Loaded, mistakes: &mut Vec<Mistake>) {
    let Config { auth, grpc, .. } = &loaded.config;
    let (key, addr) = (loaded.source("auth.development"), loaded.source("grpc.addr"));
    let is_loopback = grpc.addr.ip().is_loopback();
    if auth.development == Development::On && !is_loopback {
        mistakes.push(Mistake::together(format!(
            "auth.development is on ({key}), but grpc.addr {} ({addr}) is not loopback: whoever holds the \
             development key may do anything",
            grpc.addr
        )));
    }
    if auth.development == Development::On && auth.issuer.is_some() {
        mistakes.push(Mistake::together(format!(
            "auth.development is on ({key}), which does not go with an auth.issuer ({})",
            loaded.source("auth.issuer")
        )));
    }
    if auth.issuer.is_some() || auth.certificates_file.is_some() || auth.development == Development::On {
        return;
    }
    if auth.development == Development::Off {
        mistakes.push(Mistake::together(format!(
            "auth.development is off ({key}) and there is no auth.issuer and no auth.certificates_file: no caller could be known"
        )));
    } else if !is_loopback {
        mistakes.push(Mistake::together(format!(
            "grpc.addr {} ({addr}) is not loopback, so auth.issuer or auth.certificates_file must be given",
            grpc.addr
        )));
    }
}
