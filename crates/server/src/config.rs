//! What `cofferd` can be told: defaults, below a file, below the environment, below flags.
//!
//! Everything that can be set stands once, in [`settings::all`]. Reading a file, a variable or a flag, showing the
//! outcome and the table of the README all go over that table.

mod layers;
mod mistake;
mod redact;
mod rules;
pub mod settings;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use coffer_domain::budget::Budget;
use coffer_domain::egress;
use coffer_domain::network::Network;
use coffer_persistence::database::SchemaName;

pub use layers::Flags;
pub use mistake::Mistakes;

pub(crate) use mistake::Source;

use mistake::Mistake;

/// Everything that can be set, by the first part of its key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) grpc: Grpc,
    pub(crate) http: Http,
    pub(crate) database: Database,
    pub(crate) auth: Auth,
    pub(crate) egress: egress::Policy,
    pub(crate) keys_file: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) memory_budget: usize,
    pub(crate) default_volume: String,
    pub(crate) allowed_roots: Vec<PathBuf>,
    pub(crate) key_folder: Option<PathBuf>,
    pub(crate) stall_timeout: Duration,
    pub(crate) min_rate: u64,
    pub(crate) node_lease: Duration,
    pub(crate) reconcile: Reconcile,
    pub(crate) telemetry: Telemetry,
    pub(crate) shutdown_grace: Duration,
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grpc {
    pub(crate) addr: SocketAddr,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_source: usize,
    pub(crate) first_request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_connection_age: Duration,
    pub(crate) tls: Tls,
    pub(crate) insecure: bool,
    pub(crate) trusted_proxies: Vec<Network>,
}

/// Its certificates, and those of clients.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tls {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) client_crl: Option<PathBuf>,
}

/// How much callers may have at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    pub(crate) requests: usize,
    pub(crate) requests_per_principal: usize,
    pub(crate) uploads_per_principal: usize,
    pub(crate) open_uploads_per_principal: usize,
}

/// The listener for probes and metrics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Http {
    pub(crate) addr: SocketAddr,
}

/// Where the metadata are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Database {
    pub(crate) mode: DatabaseMode,
    pub(crate) url: Option<String>,
    pub(crate) schema: SchemaName,
    pub(crate) pool_size: NonZeroUsize,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) migrate: Migrate,
}

/// Whose tokens are trusted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Auth {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) jwks_file: Option<PathBuf>,
    pub(crate) jwks_url: Option<String>,
    pub(crate) jwks_refresh: Duration,
    pub(crate) jwks_max_age: Duration,
    pub(crate) jwks_root_certificates: Option<PathBuf>,
    pub(crate) certificates_file: Option<PathBuf>,
    pub(crate) development: Development,
}

/// The upkeep of bytes and rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reconcile {
    pub(crate) interval: Duration,
    pub(crate) scan_interval: Duration,
    pub(crate) orphan_grace: Duration,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Telemetry {
    pub(crate) otlp_endpoint: Option<String>,
    pub(crate) sample_ratio: f64,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
}

value::words! {
    /// Which PostgreSQL is used.
    DatabaseMode { Auto = "auto", Embedded = "embedded", External = "external" }
}

value::words! {
    /// Who migrates an external database.
    Migrate { Check = "check", Auto = "auto" }
}

value::words! {
    /// Whether clients must show a certificate.
    ClientAuth { Optional = "optional", Required = "required" }
}

value::words! {
    /// Whether tokens of the development key are trusted.
    Development { Auto = "auto", On = "on", Off = "off" }
}

value::words! {
    /// How log lines look.
    LogFormat { Human = "human", Json = "json" }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: ".coffer".into(),
            grpc: Grpc {
                addr: SocketAddr::from(([127, 0, 0, 1], 50051)),
                max_connections: 1_024,
                max_connections_per_source: 512,
                first_request_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(10 * 60),
                max_connection_age: Duration::ZERO,
                tls: Tls {
                    certificate: None,
                    key: None,
                    client_ca: None,
                    client_auth: ClientAuth::Optional,
                    client_crl: None,
                },
                insecure: false,
                trusted_proxies: Vec::new(),
            },
            http: Http { addr: SocketAddr::from(([127, 0, 0, 1], 9464)) },
            database: Database {
                mode: DatabaseMode::Auto,
                url: None,
                schema: SchemaName::default(),
                pool_size: const { NonZeroUsize::new(16).expect("16 is not 0") },
                root_certificates: None,
                migrate: Migrate::Check,
            },
            auth: Auth {
                issuer: None,
                audience: None,
                jwks_file: None,
                jwks_url: None,
                jwks_refresh: Duration::from_secs(15 * 60),
                jwks_max_age: Duration::from_secs(24 * 60 * 60),
                jwks_root_certificates: None,
                certificates_file: None,
                development: Development::Auto,
            },
            egress: egress::Policy::default(),
            keys_file: None,
            limits: Limits {
                requests: 4_096,
                requests_per_principal: 1_024,
                uploads_per_principal: 512,
                open_uploads_per_principal: 10_000,
            },
            memory_budget: Budget::DEFAULT_BYTES,
            default_volume: "main".to_owned(),
            allowed_roots: Vec::new(),
            key_folder: None,
            stall_timeout: Duration::from_secs(30),
            min_rate: 16 * 1024,
            node_lease: Duration::from_secs(15),
            reconcile: Reconcile {
                interval: Duration::from_secs(10),
                scan_interval: Duration::from_secs(24 * 60 * 60),
                orphan_grace: Duration::from_secs(24 * 60 * 60),
            },
            telemetry: Telemetry {
                otlp_endpoint: None,
                sample_ratio: 1.0,
                log_format: LogFormat::Human,
                log_filter: "info".to_owned(),
            },
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Whether a private PostgreSQL below the data directory is used.
    pub(crate) fn is_embedded(&self) -> bool {
        match self.database.mode {
            DatabaseMode::Auto => self.database.url.is_none(),
            DatabaseMode::Embedded => true,
            DatabaseMode::External => false,
        }
    }

    /// Whether tokens signed with the data directory's own key are trusted: never where others than this machine can
    /// connect, and never beside a real issuer.
    pub(crate) fn trusts_development_key(&self) -> bool {
        self.auth.development != Development::Off
            && self.auth.issuer.is_none()
            && self.grpc.addr.ip().is_loopback()
    }
}

/// What the settings are for: some combinations matter only to a server that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `serve`, or to show what it would use.
    Serve,
    /// Everything else.
    Tool,
}

/// Settings, and who set those that are not as by default.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub(crate) config: Config,
    sources: BTreeMap<&'static str, Source>,
}

impl Loaded {
    /// Reads all layers.
    ///
    /// # Errors
    ///
    /// Every mistake of every layer at once, also of values that a higher layer overrides.
    pub fn read(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        purpose: Purpose,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let given = layers::read(flags, environment, &mut mistakes);
        let mut config = Config::default();
        let mut sources = BTreeMap::new();
        for layers::Given { setting, value, source } in given {
            if let Err(problem) = (setting.set)(&mut config, &value) {
                mistakes.push(Mistake::of(setting.key, &source, problem));
            }
            sources.insert(setting.key, source);
        }
        let mut loaded = Self { config, sources };
        rules::check(&mut loaded, purpose, &mut mistakes);
        if mistakes.is_empty() { Ok(loaded) } else { Err(Mistakes(mistakes)) }
    }

    /// Who set `key`.
    pub(crate) fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// All settings as a file that would give the same, each with its source, and with what it does if `explain`. Without passwords.
    pub fn to_toml(&self, explain: bool) -> String {
        let mut text = String::new();
        for setting in settings::all() {
            if explain {
                writeln!(text, "\n# {}", setting.doc).expect("writing to a string does not fail");
            }
            let line = match (setting.show)(&self.config) {
                Some(shown) => format!("{} = {shown}", setting.key),
                None => format!("# {} is not set", setting.key),
            };
            // A comment ends with its line, and a file may have any name.
            let source = self.source(setting.key).to_string().replace(char::is_control, " ");
            writeln!(text, "{line:<56} # {source}").expect("writing to a string does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests;
