//! Programs that a test needs and may not find.

use std::{env, path::PathBuf};

/// Where a program is; `None`, which is told, if it is missing.
///
/// # Panics
/// If it is missing and `COFFER_REQUIRE_BACKENDS=1`.
pub fn find(program: &str) -> Option<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")));
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers are not in the PATH of everybody.
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let places = std::iter::once(target.join("tools/bin")).chain(env::split_paths(&path)).chain(usual);
    let found = places.map(|place| place.join(program)).find(|file| file.is_file());
    if found.is_none() {
        let required = env::var_os("COFFER_REQUIRE_BACKENDS").is_some_and(|value| value == "1");
        assert!(!required, "{program} is missing, and COFFER_REQUIRE_BACKENDS=1 makes that an error");
        eprintln!("ignored: {program} is missing (`cargo xtask setup` installs it)");
    }
    found
}
