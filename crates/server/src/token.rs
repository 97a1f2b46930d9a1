//! `cofferd token`: tokens for a desk, made without a server.

use anyhow::{Context as _, bail};
use coffer_api::auth::{Authenticator, Claims, DevelopmentKey};
use coffer_domain::time::now;

use crate::args::{Role, Token};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output;

/// Prints a token that a server on this data directory trusts. Makes the key if it is not there.
pub(crate) fn token(config: &Config, token: Token) -> anyhow::Result<()> {
    if config.auth.issuer.is_some() {
        eprintln!("note: with these settings a server trusts its auth.issuer only, and not this token");
    }
    let Token { user, org, app, roles, projects, ttl } = token;
    if ttl.as_secs() == 0 {
        bail!("a token must be valid for a second at least");
    }
    let claims = Claims {
        subject: user,
        organisation: Some(org).filter(|org| !org.is_empty()),
        app,
        projects,
        roles: roles.into_iter().map(|role| name(role).to_owned()).collect(),
    };
    let key = DevelopmentKey::load_or_create(&DataDir::open(&config.data_dir)?.development_key())?;
    let token = key.mint(&claims, ttl);
    // What a server would refuse is better refused here.
    Authenticator::new(vec![key.issuer()?])?
        .verify(&token, now())
        .context("no server would take such a token: names must be 1 to 100 visible characters, and it must end before the year 10000")?;
    Ok(output::answer(&format!("{token}\n"))?)
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Operator => "operator",
        Role::Admin => "admin",
        Role::Auditor => "auditor",
        Role::Delegate => "delegate",
    }
}
