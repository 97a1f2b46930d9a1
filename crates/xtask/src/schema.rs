//! `cargo xtask schema`: `schema.rs` as diesel's command line prints it from migrations on a real PostgreSQL.

use std::fs;

use anyhow::{Context as _, ensure};
use coffer_embedded_postgres::{Cluster, Options as ClusterOptions};

use crate::content::ScratchDir;
use crate::process::{output, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

const SCHEMA: &str = "crates/persistence/src/schema.rs";
const CONFIG: &str = "crates/persistence/diesel.toml";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail if the file is not what the migrations give.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Applies all migrations to a cluster that lives as long as this takes, and prints its tables.
///
/// # Errors
/// When a migration fails; with `check`, when the file is out of date.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::SCHEMA)?;
    let scratch = ScratchDir::new(workspace, "schema")?;
    let cluster = Cluster::start(&scratch.path().join("database"), ClusterOptions::disposable())?;
    let url = cluster.url();
    let diesel = |arguments: &[&str]| {
        let mut command = workspace.command("diesel");
        command.args(arguments).args(["--config-file", CONFIG, "--database-url", &url]);
        command
    };
    output(&mut diesel(&["migration", "run", "--migration-dir", "migrations"]))?;
    // A CHECK keeps NULL out of our arrays, which diesel cannot know.
    let printed = output(&mut diesel(&["print-schema"]))?.replace("Array<Nullable<Text>>", "Array<Text>");
    cluster.stop()?;

    let fresh = scratch.path().join("schema.rs");
    fs::write(&fresh, printed).with_context(|| format!("cannot write {}", fresh.display()))?;
    output(
        workspace
            .command("rustfmt")
            .args(["--edition", "2024", "--config-path", ".rustfmt.toml"])
            .arg(&fresh),
    )?;
    let printed = fs::read_to_string(&fresh).with_context(|| format!("cannot read {}", fresh.display()))?;

    let file = workspace.path(SCHEMA);
    if options.check {
        let current = fs::read_to_string(&file).with_context(|| format!("cannot read {SCHEMA}"))?;
        if current != printed {
            // Shows what differs; that it ends with 1 then is how diff says so.
            let _ = run_command(workspace.command("diff").arg("--unified").arg(&file).arg(&fresh));
        }
        ensure!(current == printed, "{SCHEMA} is not what the migrations give: run cargo xtask schema");
        println!("{SCHEMA} is what the migrations give");
    } else {
        fs::write(&file, printed).with_context(|| format!("cannot write {SCHEMA}"))?;
        println!("wrote {SCHEMA}");
    }
    Ok(())
}
