//! The command line: arguments, the connection, and how it ends.

mod audit;
mod bar;
mod download;
mod endpoints;
mod exit;
mod json;
mod list;
mod output;
mod quota;
mod remove;
mod size;
mod stat;
mod telemetry;
mod upload;
mod uploads;

use clap::{Args, Parser, Subcommand};
use coffer_client::{Client, Options, Timeouts, Tls, parse_reference, v1};
use exit::{Exit, Failure};
use output::Output;
use std::{env, future::Future, path::PathBuf, process::ExitCode, sync::OnceLock, time::Duration};
use tracing::Instrument as _;

/// How long work that was given up may take to clean up behind itself.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// Stores files in Coffer and brings them back.
#[derive(Parser)]
#[command(name = "coffer", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = concat!(
    "\
A file is named (REF) by its UUID, as id:NAME by its file_id, or else by its path in --volume. One leading / is dropped:
/id:x is the path id:x.

Environment:
  COFFER_ADDR   address of the service [default: http://127.0.0.1:50051]
  COFFER_CA, COFFER_CERT, COFFER_KEY
                as --ca, --cert and --key
  COFFER_TOKEN  bearer token; there is no flag for it, because other users of the machine can see those
  OTEL_EXPORTER_OTLP_ENDPOINT
                where to send traces by OTLP over gRPC; none are sent without it

Exit codes:
",
    include_str!("command/exit_codes.txt")
);

/// What every verb takes.
#[derive(Args)]
struct Common {
    /// Address of the service
    #[arg(
        long,
        global = true,
        env = "COFFER_ADDR",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    addr: String,
    /// Trust the certificates of this PEM file instead of the system's
    #[arg(long, global = true, env = "COFFER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate (PEM) to the service
    #[arg(long, global = true, env = "COFFER_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate
    #[arg(long, global = true, env = "COFFER_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print JSON: one document, or one per line for lists; errors too, on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Why this is done, for the audit trail
    #[arg(long, global = true, value_name = "TEXT")]
    purpose: Option<String>,
    /// The session this belongs to, for the audit trail
    #[arg(long, global = true, value_name = "ID")]
    session_id: Option<String>,
    /// What ties several requests together, for the audit trail
    #[arg(long, global = true, value_name = "ID")]
    correlation_id: Option<String>,
    /// UUID of the user to act for; only for an app alone with the role delegate
    #[arg(long, global = true, value_name = "UUID")]
    on_behalf_of: Option<String>,
    /// How long a transfer that was cut off goes on trying without getting further; 0 gives up at once
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = Timeouts::default().retry.as_secs())]
    retry: u64,
}

#[derive(Subcommand)]
enum Verb {
    /// Upload a file, or a new version of one
    Upload(upload::Upload),
    /// Download a file, or a range of it
    Download(download::Download),
    /// List files
    Ls(list::List),
    /// Show all about a file
    Stat(stat::Stat),
    /// Move files to the trash, or remove them for good
    Rm(remove::Remove),
    /// List unfinished uploads, or cancel one
    Uploads(uploads::Uploads),
    /// Show your quotas and what you use of them; list, set and check quotas
    Quota(quota::Quota),
    /// List servers that volumes stand on; make, change and remove them and what opens them; try a volume (operators)
    Endpoints(endpoints::Endpoints),
    /// Show the audit trail (auditors only)
    Audit(audit::Audit),
}

/// What a verb works with.
struct Context {
    client: Client,
    output: Output,
    interrupted: OnceLock<Interrupted>,
}

/// What is to be done about an upload when the user interrupts it.
enum Interrupted {
    /// It stays open: tell the command that goes on with it.
    Tell(String),
    /// Nobody can go on with it: end the upload that was begun with this spec.
    Cancel(Box<v1::UploadSpec>),
}

impl Context {
    /// Says what to do if the verb is interrupted from now on.
    fn when_interrupted(&self, interrupted: Interrupted) {
        // A verb says so once.
        let _ = self.interrupted.set(interrupted);
    }

    async fn clean_up(&self) {
        match self.interrupted.get() {
            Some(Interrupted::Tell(command)) => self.output.note(&format!("to go on: {command}")),
            Some(Interrupted::Cancel(spec)) => {
                let cancel = async {
                    let upload_id = self.client.start_upload((**spec).clone()).await?.id;
                    let request = v1::CancelUploadRequest { upload_id, ..Default::default() };
                    self.client.cancel_upload(request).await
                };
                // Else it expires.
                let _ = tokio::time::timeout(CLEAN_UP, cancel).await;
            }
            None => {}
        }
    }

    /// The file that `text` names; a path is one in `volume`.
    fn reference(&self, text: &str, volume: Option<&str>) -> Result<v1::FileReference, Failure> {
        parse_reference(text, volume.unwrap_or_default()).map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Parses the command line and runs it. Wrong usage ends the process here, with clap's message and exit code 2.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.common.json };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&Failure::Other(format!("cannot start: {error}")));
            return Exit::Other.into();
        }
    };
    let exit = runtime.block_on(async {
        let traces = telemetry::start();
        let exit = run(cli, output).await;
        traces.flush().await;
        exit
    });
    // Not a plain drop: a read of standard input cannot be called back and would be waited for.
    runtime.shutdown_timeout(CLEAN_UP);
    exit.into()
}

async fn run(cli: Cli, output: Output) -> Exit {
    let Cli { common, verb } = cli;
    let span = tracing::info_span!("coffer", otel.name = format!("coffer {}", verb.name()));
    match verb.run(common, output).instrument(span).await {
        Ok(()) => Exit::Success,
        Err(failure) => {
            output.failure(&failure);
            failure.exit()
        }
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Upload(_) => "upload",
            Self::Download(_) => "download",
            Self::Ls(_) => "ls",
            Self::Stat(_) => "stat",
            Self::Rm(_) => "rm",
            Self::Uploads(_) => "uploads",
            Self::Quota(_) => "quota",
            Self::Endpoints(_) => "endpoints",
            Self::Audit(_) => "audit",
        }
    }

    async fn run(self, common: Common, output: Output) -> Result<(), Failure> {
        let client = until_interrupted(common.connect()).await?;
        let context = Context { client, output, interrupted: OnceLock::new() };
        let outcome = until_interrupted(self.work(&context)).await;
        if matches!(outcome, Err(Failure::Reported(Exit::Interrupted))) {
            context.clean_up().await;
        }
        outcome
    }

    async fn work(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Upload(verb) => verb.run(context).await,
            Self::Download(verb) => verb.run(context).await,
            Self::Ls(verb) => verb.run(context).await,
            Self::Stat(verb) => verb.run(context).await,
            Self::Rm(verb) => verb.run(context).await,
            Self::Uploads(verb) => verb.run(context).await,
            Self::Quota(verb) => verb.run(context).await,
            Self::Endpoints(verb) => verb.run(context).await,
            Self::Audit(verb) => verb.run(context).await,
        }
    }
}

/// Drops the work when the user presses Ctrl-C.
async fn until_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Reported(Exit::Interrupted)),
    }
}

impl Common {
    async fn connect(self) -> Result<Client, Failure> {
        let Self { addr, ca, cert, key, json: _, purpose, session_id, correlation_id, on_behalf_of, retry } =
            self;
        let token = match env::var("COFFER_TOKEN") {
            Ok(token) => Some(token.trim().to_owned()).filter(|token| !token.is_empty()),
            Err(env::VarError::NotPresent) => None,
            Err(env::VarError::NotUnicode(_)) => {
                return Err(Failure::Usage("COFFER_TOKEN is no text".to_owned()));
            }
        };
        let user_agent = concat!("coffer/", env!("CARGO_PKG_VERSION")).to_owned();
        let timeouts = Timeouts { retry: Duration::from_secs(retry), ..Timeouts::default() };
        let options = Options {
            tls: Tls { ca, certificate: cert, key },
            token,
            purpose,
            session_id,
            correlation_id,
            on_behalf_of,
            user_agent,
            timeouts,
            ..Options::new(addr)
        };
        Ok(Client::connect(&options).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for exit in Exit::ALL {
            let code = format!("{:>5}  ", exit as u8);
            assert!(help.contains(&code), "{exit:?}");
        }
    }

    #[test]
    fn the_readme_tells_the_same() {
        let readme = include_str!("../README.md");
        let codes = include_str!("command/exit_codes.txt");
        for line in codes.lines() {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            assert!(readme.contains(&format!("| {code} | {meaning} |")), "{line}");
        }
        assert_eq!(codes.lines().count(), Exit::ALL.len());
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        let wrong = [
            &["coffer"][..],
            &["coffer", "upload"],
            &["coffer", "ls", "--nope"],
            &["coffer", "rm"],
            &["coffer", "uploads", "cancel"],
            &["coffer", "quota", "set", "--bytes=1"],
            &["coffer", "quota", "check", "much"],
            &["coffer", "endpoints", "create", "--s3=http://h"],
            &["coffer", "endpoints", "create", "--http=http://h", "--bucket=b"],
            &["coffer", "endpoints", "credential", "set", "e"],
            &["coffer", "endpoints", "check"],
        ];
        for wrong in wrong {
            let error = Cli::try_parse_from(wrong).err().map(|error| error.exit_code());
            assert_eq!(error, Some(Exit::Usage as i32), "{wrong:?}");
        }
    }
}
