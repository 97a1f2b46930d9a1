//! Tools a test needs and may not find.

use std::process::{Command, Stdio};

/// Whether missing tools are errors.
pub fn are_required() -> bool {
    std::env::var_os("COFFER_REQUIRE_BACKENDS").is_some_and(|value| value == "1")
}

/// Says that a test is ignored because `tool` is missing; fails where tools are required.
///
/// # Panics
/// Where tools are required.
pub fn ignore(tool: &str) {
    assert!(!are_required(), "{tool} is missing, and COFFER_REQUIRE_BACKENDS=1 makes that an error");
    eprintln!("ignored: {tool} is missing (`cargo xtask setup` installs it)");
}

/// Whether a command can be started.
pub fn has(command: &str) -> bool {
    Command::new(command)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}
