//! `cargo xtask test`: all tests, with what they need to skip none.

use std::env;
use std::ffi::OsString;

use crate::conformance::{Extent, Report};
use crate::process::run as run_command;
use crate::setup;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Passed on to `cargo test`, such as `-p coffer-domain`, or a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// A test binary with tests that can run at length.
#[derive(Clone, Copy)]
pub(crate) enum Binary {
    /// `tests/suite`
    Suite,
    /// `tests/load`
    Load,
}

/// Runs tests at length, in release: one after the other, so that each has the machine for itself and its figures stay together. The
/// settings are the tests' environment variables; a test runs if its name holds one of `tests`.
///
/// # Errors
/// When a backend is missing, or a test fails.
pub(crate) fn at_length(
    workspace: &Workspace,
    binary: Binary,
    tests: &[&str],
    settings: &[(&str, u64)],
) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::TESTS)?;
    let (package, name) = match binary {
        Binary::Suite => ("coffer-tests", "suite"),
        Binary::Load => ("coffer-load", "load"),
    };
    let mut command = workspace.cargo();
    command.args(["test", "--release", "-p", package, "--test", name, "--"]);
    command.args(tests).args(["--nocapture", "--test-threads=1"]);
    command.envs(settings.iter().map(|(name, value)| (name, value.to_string())));
    run_command(&mut command)
}

/// Whether nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Runs `cargo test` on the workspace, or on what the arguments choose, and prints how drivers and servers went together.
///
/// # Errors
/// When a test fails. Where `CI` is set, also when a backend is missing: at a desk its tests are reported as ignored.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let is_ci = is_ci();
    match setup::ensure(workspace, &setup::TESTS) {
        Err(error) if is_ci => return Err(error),
        Err(error) => eprintln!("{error:#}\ntests that need it are ignored"),
        Ok(()) => {}
    }
    let mut command = workspace.cargo();
    command.arg("test");
    let extent = match options.arguments.is_empty() {
        true => {
            command.arg("--workspace");
            Extent::Whole { is_ci }
        }
        false => Extent::Part,
    };
    if is_ci {
        command.env("COFFER_REQUIRE_BACKENDS", "1");
    }
    let report = Report::begin(workspace)?;
    let outcome = run_command(report.ask(&mut command).args(&options.arguments));
    // A failed run may not have come to it: then its own failure is what counts.
    let judged = report.print_and_judge(extent);
    outcome.and(judged)
}
