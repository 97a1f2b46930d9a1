//! Which settings do not go together.

use super::layers::DATABASE_URL;
use super::mistake::{Mistake, Source};
use super::{Config, DatabaseMode, Development, Loaded, Purpose};

/// Adds a mistake for every combination that cannot be meant.
pub(super) fn check(loaded: &mut Loaded, purpose: Purpose, mistakes: &mut Vec<Mistake>) {
    check_database(loaded, mistakes);
    if purpose == Purpose::Serve {
        check_listeners(loaded, mistakes);
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

fn check_issuer(loaded: &Loaded, mistakes: &mut Vec<Mistake>) {
    let auth = &loaded.config.auth;
    let parts = [
        ("auth.issuer", auth.issuer.is_some()),
        ("auth.audience", auth.audience.is_some()),
        ("auth.jwks_file", auth.jwks_file.is_some()),
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
    if auth.issuer.is_some() || auth.development == Development::On {
        return;
    }
    if auth.development == Development::Off {
        mistakes.push(Mistake::together(format!(
            "auth.development is off ({key}) and there is no auth.issuer: no caller could be known"
        )));
    } else if !is_loopback {
        mistakes.push(Mistake::together(format!(
            "grpc.addr {} ({addr}) is not loopback, so auth.issuer must be given",
            grpc.addr
        )));
    }
}
