//! The `coffer` command. What it does and its exit codes are in the crate's README and in `coffer --help`.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
