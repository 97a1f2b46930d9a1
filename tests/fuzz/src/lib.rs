#![doc = include_str!("../README.md")]

mod config;
mod keys;
mod page;
mod path;
mod token;
mod upload;

use chrono::DateTime;
use coffer_domain::caller::{Principal, Roles};

/// An app of an organisation, believed for ever.
fn principal(organisation: &str, app: &str) -> Principal {
    Principal {
        user: None,
        app: Some(app.to_owned()),
        organisation: organisation.to_owned(),
        projects: Vec::new(),
        roles: Roles::default(),
        is_delegated: false,
        expires_at: DateTime::from_timestamp(253_402_300_799, 0).expect("the end of 9999"),
    }
}

/// Takes any bytes and panics if its property does not hold for them.
pub type Target = fn(&[u8]);

/// What is looked at, by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("config", config::config),
    ("keys", keys::keys),
    ("page", page::page),
    ("path", path::path),
    ("token", token::token),
    ("upload", upload::upload),
];

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::{fs, path::Path};

    /// What was once found stands among the seeds, so that it is found again without a fuzzer.
    #[test]
    fn the_properties_hold_for_every_seed_and_near_it() {
        for (name, property) in TARGETS {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
            let mut count = 0;
            for entry in fs::read_dir(seeds).unwrap() {
                let seed = fs::read(entry.unwrap().path()).unwrap();
                property(&seed);
                for at in 0..seed.len() {
                    property(&seed[..at]);
                    let mut changed = seed.clone();
                    changed[at] ^= 1 << (at % 8);
                    property(&changed);
                }
                count += 1;
            }
            assert!(count >= 5, "{name} has {count} seeds");
        }
    }
}
