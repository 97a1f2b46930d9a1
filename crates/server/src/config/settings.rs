//! The table of everything that can be set.

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_domain::volume::VolumeRef;
use coffer_persistence::Database;

use super::value::{self, Value};
use super::{Config, DatabaseMode, Development, LogFormat, Migrate, layers, redact};

/// One thing that can be set.
pub(crate) struct Setting {
    /// Its name in a file and after `--set`.
    pub(crate) key: &'static str,
    /// What it does, its limits and its unit; one sentence or two for the README.
    pub(crate) doc: &'static str,
    /// Takes a value, or says what it has to be.
    pub(super) set: fn(&mut Config, &Value) -> Result<(), String>,
    /// The value as TOML, without passwords; `None` if it is not set.
    pub(super) show: fn(&Config) -> Option<String>,
}

impl Setting {
    /// Its name in the environment.
    pub(crate) fn variable(&self) -> String {
        format!("COFFER_{}", self.key.to_uppercase().replace('.', "_"))
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that can be set, in the order in which it is shown.
pub(crate) static TABLE: &[Setting] = &[
    Setting {
        key: "data_dir",
        doc: "Directory for everything this node keeps: the embedded database, the default volume, the development key.",
        set: |c, v| put(&mut c.data_dir, v.text().map(PathBuf::from)),
        show: |c| path(&c.data_dir),
    },
    Setting {
        key: "grpc.addr",
        doc: "Address and port of gRPC. Port 0: any free one, told in `cofferd.json`.",
        set: |c, v| put(&mut c.grpc.addr, address(v)),
        show: |c| text(c.grpc.addr),
    },
    Setting {
        key: "grpc.max_connections",
        doc: "Connections at once, 1 to 100000. More wait to be accepted.",
        set: |c, v| put(&mut c.grpc.max_connections, v.number(1, 100_000)),
        show: |c| Some(c.grpc.max_connections.to_string()),
    },
    Setting {
        key: "grpc.max_connections_per_source",
        doc: "Connections at once from one IPv4 address or IPv6 /64, 1 to 100000. More are closed at once.",
        set: |c, v| put(&mut c.grpc.max_connections_per_source, v.number(1, 100_000)),
        show: |c| Some(c.grpc.max_connections_per_source.to_string()),
    },
    Setting {
        key: "http.addr",
        doc: "Address and port of `/livez`, `/readyz` and `/metrics`. They need no token: keep them inside.",
        set: |c, v| put(&mut c.http.addr, address(v)),
        show: |c| text(c.http.addr),
    },
    Setting {
        key: "database.mode",
        doc: "`embedded`: a private PostgreSQL below the data directory. `external`: the one of `database.url`, which must then be given. `auto`: external if there is a URL.",
        set: |c, v| put(&mut c.database.mode, DatabaseMode::read(v)),
        show: |c| text(c.database.mode.word()),
    },
    Setting {
        key: "database.url",
        doc: "`postgres://user:password@host:port/database?parameters`, also with several hosts. Read from `DATABASE_URL` too, which `database.mode` = `embedded` ignores.",
        set: |c, v| put(&mut c.database.url, database_url(v).map(Some)),
        show: |c| c.database.url.as_deref().and_then(|url| text(redact::url(url))),
    },
    Setting {
        key: "database.schema",
        doc: "PostgreSQL schema of Coffer's tables.",
        set: |c, v| put(&mut c.database.schema, schema(v)),
        show: |c| text(&c.database.schema),
    },
    Setting {
        key: "database.pool_size",
        doc: "Connections to PostgreSQL at most, 2 to 500; a few more are made beside the pool.",
        set: |c, v| {
            let size = v.number(2, 500)?;
            put(&mut c.database.pool_size, NonZeroUsize::new(size).ok_or_else(|| "must not be 0".to_owned()))
        },
        show: |c| Some(c.database.pool_size.to_string()),
    },
    Setting {
        key: "database.root_certificates",
        doc: "PEM file of certificates to trust for PostgreSQL's TLS, beside the system's.",
        set: |c, v| put(&mut c.database.root_certificates, v.text().map(|text| Some(text.into()))),
        show: |c| c.database.root_certificates.as_deref().and_then(path),
    },
    Setting {
        key: "database.migrate",
        doc: "What `serve` does with pending migrations of an external database. `check`: refuses to start and says what to run. `auto`: applies them. The embedded one is always migrated.",
        set: |c, v| put(&mut c.database.migrate, Migrate::read(v)),
        show: |c| text(c.database.migrate.word()),
    },
    Setting {
        key: "auth.issuer",
        doc: "Issuer (`iss`) whose tokens are trusted. Needs the two below.",
        set: |c, v| put(&mut c.auth.issuer, v.text().map(|text| Some(text.to_owned()))),
        show: |c| c.auth.issuer.as_ref().and_then(text),
    },
    Setting {
        key: "auth.audience",
        doc: "Audience (`aud`) that its tokens must name.",
        set: |c, v| put(&mut c.auth.audience, v.text().map(|text| Some(text.to_owned()))),
        show: |c| c.auth.audience.as_ref().and_then(text),
    },
    Setting {
        key: "auth.jwks_file",
        doc: "File with the issuer's public keys (JWKS).",
        set: |c, v| put(&mut c.auth.jwks_file, v.text().map(|text| Some(text.into()))),
        show: |c| c.auth.jwks_file.as_deref().and_then(path),
    },
    Setting {
        key: "auth.development",
        doc: "Whether tokens of `cofferd token` are trusted. `auto`: if there is no issuer and gRPC listens on loopback. `on`: the same, and anything else is a mistake. `off`: never.",
        set: |c, v| put(&mut c.auth.development, Development::read(v)),
        show: |c| text(c.auth.development.word()),
    },
    Setting {
        key: "default_volume",
        doc: "Name of the volume of requests that name none. Made in the data directory if there is none of that name.",
        set: |c, v| put(&mut c.default_volume, volume_name(v)),
        show: |c| text(&c.default_volume),
    },
    Setting {
        key: "local_paths.allowed_roots",
        doc: "Directories below which operators may approve paths for local volumes, beside `volumes` in the data directory: a list, or separated by `:`.",
        set: |c, v| put(&mut c.allowed_roots, v.absolute_paths()),
        show: |c| Some(list(&c.allowed_roots)),
    },
    Setting {
        key: "transfer.stall_timeout",
        doc: "How long a client may send or take nothing before its stream ends, 1s to 1h.",
        set: |c, v| put(&mut c.stall_timeout, v.duration(SECOND, HOUR)),
        show: |c| duration(c.stall_timeout),
    },
    Setting {
        key: "node.lease",
        doc: "How long after its last sign of life other nodes undo what this one had begun, 3s to 10m. Renewed three times as often.",
        set: |c, v| put(&mut c.node_lease, v.duration(3 * SECOND, 10 * MINUTE)),
        show: |c| duration(c.node_lease),
    },
    Setting {
        key: "reconcile.interval",
        doc: "Pause between looks for dead uploads and bytes to remove, 1s to 1h.",
        set: |c, v| put(&mut c.reconcile.interval, v.duration(SECOND, HOUR)),
        show: |c| duration(c.reconcile.interval),
    },
    Setting {
        key: "reconcile.scan_interval",
        doc: "Pause between comparisons of whole volumes with their rows, 1m to 720h. One is made at start.",
        set: |c, v| put(&mut c.reconcile.scan_interval, v.duration(MINUTE, 30 * DAY)),
        show: |c| duration(c.reconcile.scan_interval),
    },
    Setting {
        key: "reconcile.orphan_grace",
        doc: "Age below which bytes without a row are left alone, 1s to 720h.",
        set: |c, v| put(&mut c.reconcile.orphan_grace, v.duration(SECOND, 30 * DAY)),
        show: |c| duration(c.reconcile.orphan_grace),
    },
    Setting {
        key: "telemetry.otlp_endpoint",
        doc: "Where traces go: `http://host:4317`, OTLP over gRPC without TLS, to a collector nearby.",
        set: |c, v| put(&mut c.telemetry.otlp_endpoint, otlp_endpoint(v).map(Some)),
        show: |c| c.telemetry.otlp_endpoint.as_ref().and_then(text),
    },
    Setting {
        key: "telemetry.sample_ratio",
        doc: "Share of traces to keep, 0 to 1, of those whose caller did not decide.",
        set: |c, v| put(&mut c.telemetry.sample_ratio, v.number(0.0, 1.0)),
        show: |c| Some(format!("{:?}", c.telemetry.sample_ratio)),
    },
    Setting {
        key: "telemetry.log_format",
        doc: "`human`, or `json`: one object per line.",
        set: |c, v| put(&mut c.telemetry.log_format, LogFormat::read(v)),
        show: |c| text(c.telemetry.log_format.word()),
    },
    Setting {
        key: "telemetry.log_filter",
        doc: "Which log lines are written, as `level` or `target=level,…`.",
        set: |c, v| put(&mut c.telemetry.log_filter, log_filter(v)),
        show: |c| text(&c.telemetry.log_filter),
    },
    Setting {
        key: "shutdown.grace",
        doc: "How long running streams may go on after SIGTERM, 0s to 1h. Uploads that can be resumed end in order when most of it is over. Commits that have begun get 5 s more.",
        set: |c, v| put(&mut c.shutdown_grace, v.duration(Duration::ZERO, HOUR)),
        show: |c| duration(c.shutdown_grace),
    },
];

/// The setting with this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

/// Whether there are settings below this key.
pub(super) fn is_group(key: &str) -> bool {
    TABLE.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The setting that a variable of the environment sets.
pub(super) fn of_variable(name: &str) -> Option<&'static Setting> {
    if name == layers::DATABASE_URL {
        return find("database.url");
    }
    TABLE.iter().find(|setting| setting.variable() == name)
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn address(value: &Value) -> Result<SocketAddr, String> {
    value.parse("an IP address and a port, such as 127.0.0.1:50051 or [::1]:0")
}

fn database_url(value: &Value) -> Result<String, String> {
    let url = value.text()?;
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres://".to_owned());
    }
    match Database::new(url, coffer_persistence::database::Options::default()) {
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(format!("is {error}")),
    }
}

fn schema(value: &Value) -> Result<coffer_persistence::database::SchemaName, String> {
    value.text()?.parse().map_err(|error: coffer_persistence::database::Error| format!("is wrong: {error}"))
}

fn volume_name(value: &Value) -> Result<String, String> {
    match VolumeRef::parse(value.text()?) {
        Some(VolumeRef::Name(name)) => Ok(name),
        _ => {
            Err("must be 1 to 100 of a-z 0-9 - _ . and begin with a letter or digit, and no UUID".to_owned())
        }
    }
}

fn otlp_endpoint(value: &Value) -> Result<String, String> {
    let url = value.text()?;
    let uri: http::Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    if uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) {
        Ok(url.to_owned())
    } else {
        Err("must be http://host:port".to_owned())
    }
}

fn log_filter(value: &Value) -> Result<String, String> {
    let text = value.text()?;
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is no filter: {error}")),
    }
}

/// A TOML string: JSON's escapes are among TOML's.
fn text(value: impl Display) -> Option<String> {
    Some(serde_json::Value::String(value.to_string()).to_string())
}

fn path(path: &Path) -> Option<String> {
    text(path.display())
}

fn duration(duration: Duration) -> Option<String> {
    text(value::duration(duration))
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().filter_map(|item| path(item)).collect();
    format!("[{}]", paths.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Config, TABLE};
    use std::collections::HashSet;
    use std::fmt::Write as _;

    #[test]
    fn keys_and_variables_are_distinct_and_none_is_a_group_of_others() {
        let keys: HashSet<_> = TABLE.iter().map(|setting| setting.key).collect();
        let variables: HashSet<_> = TABLE.iter().map(super::Setting::variable).collect();
        assert_eq!((keys.len(), variables.len()), (TABLE.len(), TABLE.len()));
        assert!(TABLE.iter().all(|setting| !super::is_group(setting.key)));
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let mut table = String::new();
        for setting in TABLE {
            let default = (setting.show)(&Config::default()).unwrap_or_default();
            let default = match default.trim_matches('"') {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            writeln!(table, "| `{}` | {default} | {} |", setting.key, setting.doc).unwrap();
        }
        let readme = include_str!("../../README.md");
        let head = "| key | default | |\n|---|---|---|\n";
        let listed = readme.split_once(head).unwrap().1.split("\n\n").next().unwrap();
        assert!(
            listed.trim_end() == table.trim_end(),
            "the table in README.md must be:

{head}{table}"
        );
    }
}
