#![doc = include_str!("../README.md")]

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod cofferd;
mod conformance;
mod content;
mod demo;
mod fuzz;
mod lint;
mod process;
mod schema;
mod setup;
mod soak;
mod tests;
mod workspace;

use workspace::Workspace;

/// What `cargo xtask` can do.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Installs what the other tasks need, or says what to install.
    Setup,
    /// Builds Coffer, starts it, and takes a real file in and out.
    Demo(demo::Options),
    /// Runs all tests, with their backends.
    Test(tests::Options),
    /// Runs the contract of drivers against every server and prints the table.
    Conformance,
    /// Formatting, clippy, documentation, dependency arrows and licences, contract.
    Lint,
    /// Prints `crates/persistence/src/schema.rs` from the migrations.
    Schema(schema::Options),
    /// Measures against a plain baseline on the same machine.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Looks for bytes that break a property.
    Fuzz(fuzz::Options),
    /// Runs the long form of a test.
    #[command(subcommand)]
    Soak(soak::Soak),
}

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // For a person: no backtrace, whatever RUST_BACKTRACE says.
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup => setup::ensure(&workspace, &setup::EVERYTHING),
        Task::Demo(options) => demo::run(&workspace, options),
        Task::Test(options) => tests::run(&workspace, options),
        Task::Conformance => conformance::run(&workspace),
        Task::Lint => lint::run(&workspace),
        Task::Schema(options) => schema::run(&workspace, options),
        Task::Bench(bench) => bench::run(&workspace, bench),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
        Task::Soak(soak) => soak::run(&workspace, soak),
    }
}
