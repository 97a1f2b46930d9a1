//! `cargo xtask lint`: everything that is checked without running Coffer.

use crate::process::run as run_command;
use crate::schema;
use crate::setup;
use crate::workspace::Workspace;

/// Runs every check, also after one has failed, so that one run names all there is to mend.
///
/// # Errors
/// Names the checks that failed.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::LINT)?;
    let cargo = |line: &str| {
        let mut command = workspace.cargo();
        command.args(line.split_whitespace());
        command
    };
    let checks = [
        ("formatting", cargo("fmt --all --check")),
        ("clippy", cargo("clippy --workspace --all-targets --locked -- -D warnings")),
        ("documentation", {
            let mut doc = cargo("doc --workspace --no-deps --locked");
            doc.env("RUSTDOCFLAGS", "-D warnings");
            doc
        }),
        // All platforms' crates, not only those that were built: their licences count too.
        ("dependencies", cargo("fetch --locked")),
        // A permitted dependant that is not there is no mistake.
        (
            "arrows and licences",
            cargo("deny --offline --locked check --allow unused-wrapper bans licenses sources"),
        ),
        ("contract", {
            let mut buf = workspace.command("buf");
            buf.arg("lint");
            buf
        }),
    ];
    let mut failed = Vec::new();
    if let Err(error) = schema::run(workspace, &schema::Options { check: true }) {
        eprintln!("{error:#}");
        failed.push("schema.rs");
    }
    for (name, mut command) in checks {
        if let Err(error) = run_command(&mut command) {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    println!("lint: all passed");
    Ok(())
}
