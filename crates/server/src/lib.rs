#![doc = include_str!("../README.md")]

mod args;
mod assemble;
pub mod config;
mod data_dir;
mod keys;
mod metadata;
mod migrate;
mod output;
mod seed;
mod serve;
mod telemetry;
mod token;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use args::{Cli, Listen, Verb};
use config::{Loaded, Purpose};

/// What a shell sees when the command line or the settings are wrong, as from clap.
const WRONG_SETTINGS: u8 = 2;

/// `cofferd`: reads the command line and the settings, and does what they say.
pub fn main() -> ExitCode {
    let Cli { common, mut verb } = Cli::parse();
    let (listen, purpose) = match &mut verb {
        Verb::Serve(listen) | Verb::CheckConfig { listen, .. } => (std::mem::take(listen), Purpose::Serve),
        Verb::Migrate(_) | Verb::Seed | Verb::Token(_) | Verb::Keys(_) => (Listen::default(), Purpose::Tool),
    };
    let loaded = match Loaded::read(&common.flags(listen), std::env::vars_os(), purpose) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("cofferd: {mistakes}");
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    run(verb, loaded).unwrap_or_else(|error| {
        eprintln!("cofferd: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(verb: Verb, loaded: Loaded) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Serve(_) => block_on(serve::serve(loaded)).map(|()| ExitCode::SUCCESS),
        Verb::Migrate(what) => block_on(migrate::migrate(&loaded.config, what)),
        Verb::Seed => block_on(seed::seed(&loaded.config)).map(|()| ExitCode::SUCCESS),
        Verb::Keys(what) => block_on(keys::keys(&loaded.config, what)).map(|()| ExitCode::SUCCESS),
        Verb::Token(token) => token::token(&loaded.config, token).map(|()| ExitCode::SUCCESS),
        Verb::CheckConfig { explain, .. } => {
            output::answer(&loaded.to_toml(explain))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}
