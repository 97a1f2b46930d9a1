//! `cofferd migrate`: the version of the database's schema.

use std::process::ExitCode;

use anyhow::bail;
use coffer_persistence::{Database, migrate};

use crate::args::Migrate;
use crate::config::Config;
use crate::metadata::ForTool;
use crate::output::say;

/// Looks at the schema or changes it, and says what it found or did.
pub(crate) async fn migrate(config: &Config, what: Migrate) -> anyhow::Result<ExitCode> {
    let tool = ForTool::open(config).await?;
    let outcome = run(&tool.metadata.database, tool.is_served, what).await;
    tool.close().await?;
    outcome
}

async fn run(database: &Database, is_served: bool, what: Migrate) -> anyhow::Result<ExitCode> {
    match what {
        Migrate::Up => {
            let applied = migrate::up(database).await?;
            tell("applied", &applied, "nothing was pending");
        }
        Migrate::Down { .. } if is_served => {
            bail!("a server is running on this data directory: stop it before you take its tables away");
        }
        Migrate::Down { count } => {
            let taken_back = migrate::down(database, count.into()).await?;
            tell("took back", &taken_back, "nothing was applied");
        }
        Migrate::Status => {
            let status = migrate::status(database).await?;
            tell("applied", &status.applied, "nothing is applied");
            tell("pending", &status.pending, "nothing is pending");
            tell("unknown to this version", &status.unknown, "nothing is unknown");
            if !status.pending.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(what: &str, names: &[String], none: &str) {
    if names.is_empty() {
        say(format_args!("{none}"));
    }
    for name in names {
        say(format_args!("{what}: {name}"));
    }
}
