//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Flags;

/// Coffer, a gRPC storage service.
#[derive(Debug, Parser)]
#[command(name = "cofferd", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// For every verb.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// File with settings (TOML) [env: COFFER_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory for everything this node keeps [env: COFFER_DATA_DIR] [default: .coffer]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
    /// Any setting by its key; may be repeated. The README lists them
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

impl Common {
    /// With the flags of a verb that listens.
    pub(crate) fn flags(self, listen: Listen) -> Flags {
        let Self { config, data_dir, set } = self;
        let Listen { grpc_addr, http_addr } = listen;
        Flags { config, set, data_dir, grpc_addr, http_addr }
    }
}

/// For verbs that listen, or speak of it.
#[derive(Debug, Args, Default)]
pub(crate) struct Listen {
    /// Where gRPC is served; port 0 takes a free one [env: COFFER_GRPC_ADDR] [default: 127.0.0.1:50051]
    #[arg(long, value_name = "IP:PORT")]
    grpc_addr: Option<String>,
    /// Where /livez, /readyz and /metrics are served [env: COFFER_HTTP_ADDR] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "IP:PORT")]
    http_addr: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve until SIGTERM or SIGINT; a second one ends at once
    Serve(Listen),
    /// Look at or change the version of the database's schema
    #[command(subcommand)]
    Migrate(Migrate),
    /// Fill in a second volume and files to try things on; what is there already stays
    Seed,
    /// The keys that stored secrets are sealed under
    #[command(subcommand)]
    Keys(Keys),
    /// Print a token that a server on the same data directory trusts while it has no issuer
    Token(Token),
    /// Print the settings that `serve` would use, with their sources, or everything that is wrong with them
    CheckConfig {
        #[command(flatten)]
        listen: Listen,
        /// Say of each what it does: a file to start from
        #[arg(long)]
        explain: bool,
    },
}

/// Steps between versions of the schema.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Migrate {
    /// Apply what is pending
    Up,
    /// Take back the last migrations, with the data in their tables
    Down {
        /// How many
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        count: u16,
    },
    /// List what is applied and what is pending; exits with 1 if anything is pending
    Status,
}

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Keys {
    /// Make a new key and seal all secrets under it, also while servers run; ends an earlier run that was cut off
    Rotate {
        /// Make none: take this one, which the file must have as its current key
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
}

/// Whom a token names.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The user: a UUID, or a name from which the id is made
    #[arg(long, required_unless_present = "app")]
    pub(crate) user: Option<String>,
    /// The organisation
    #[arg(long, default_value = "")]
    pub(crate) org: String,
    /// The app: acts for itself without --user, else for the user
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// What else the caller may do; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<Role>,
    /// A project whose quota the caller may charge; may be repeated
    #[arg(long = "project", value_name = "PROJECT")]
    pub(crate) projects: Vec<String>,
    /// How long it is valid
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
}

/// What a token can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Volumes, local paths, quotas; no content
    Operator,
    /// That, and the files of the organisation; no content
    Admin,
    /// The audit trail of the organisation
    Auditor,
    /// An app alone: acting for users of its organisation (`coffer-on-behalf-of`)
    Delegate,
}

#[cfg(test)]
mod tests {
    use super::{Cli, Verb};
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_flags_go_before_and_after_the_verb() {
        for line in ["cofferd --data-dir d serve", "cofferd serve --data-dir d"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Verb::Serve(listen) = cli.verb else { panic!("{line} is another verb") };
            assert_eq!(cli.common.flags(listen).data_dir.as_deref(), Some("d"), "{line}");
        }
    }

    #[test]
    fn a_token_names_somebody() {
        assert!(Cli::try_parse_from(["cofferd", "token", "--org", "o"]).is_err());
        assert!(Cli::try_parse_from(["cofferd", "token", "--app", "a"]).is_ok());
    }
}
