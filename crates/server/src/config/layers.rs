//! Reads a file, the environment and flags into values, lowest layer first.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Source};
use super::redact;
use super::settings::{self, Setting};
use super::value::Value;

/// Names the file, as `--config` does.
const CONFIG_FILE: &str = "COFFER_CONFIG";

/// What other programs of Coffer read from the same environment.
const OF_OTHERS: &[&str] = &[
    "COFFER_ADDR",
    "COFFER_CA",
    "COFFER_CERT",
    "COFFER_KEY",
    "COFFER_TOKEN",
    "COFFER_POSTGRES_BIN",
    "COFFER_REQUIRE_BACKENDS",
];

/// The name many programs read the database's URL from. `COFFER_DATABASE_URL` wins over it.
pub(super) const DATABASE_URL: &str = "DATABASE_URL";

/// Settings from the command line, as they were typed.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--set`, each with its `KEY=VALUE`. The flags with names of their own win over these.
    pub set: Vec<String>,
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--grpc-addr`
    pub grpc_addr: Option<String>,
    /// `--http-addr`
    pub http_addr: Option<String>,
}

/// A value for a setting, and who gave it.
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    pub(super) value: Value,
    pub(super) source: Source,
}

/// Everything that is given, in the order in which later wins. What cannot be read goes to `mistakes`.
pub(super) fn read(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Given> {
    let (file_from_environment, of_environment) = read_environment(environment, mistakes);
    let mut given = Vec::new();
    if let Some(path) = flags.config.clone().or(file_from_environment) {
        read_file(&path, &mut given, mistakes);
    }
    given.extend(of_environment);
    read_flags(flags, &mut given, mistakes);
    given
}

fn read_file(path: &Path, given: &mut Vec<Given>, mistakes: &mut Vec<Mistake>) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return mistakes.push(Mistake::together(format!("cannot read {}: {error}", path.display())));
        }
    };
    let at = |offset: usize| Source::File { path: path.to_owned(), line: line_of(&text, offset) };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        mistakes.push(Mistake::at(&at(error.span().unwrap_or_default().start), error.message()));
    }
    read_table(table.get_ref(), "", &at, given, mistakes);
}

fn read_table(
    table: &DeTable<'_>,
    prefix: &str,
    at: &dyn Fn(usize) -> Source,
    given: &mut Vec<Given>,
    mistakes: &mut Vec<Mistake>,
) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        let source = at(name.span().start);
        match (settings::find(&key), value.get_ref()) {
            (None, DeValue::Table(inner)) if settings::is_group(&key) => {
                read_table(inner, &format!("{key}."), at, given, mistakes);
            }
            (None, _) => mistakes.push(Mistake::at(&source, format!("there is no setting {key}"))),
            (Some(setting), value) => match read_value(value) {
                Some(value) => given.push(Given { setting, value, source }),
                None => {
                    mistakes.push(Mistake::of(&key, &source, format!("cannot be a {}", value.type_str())));
                }
            },
        }
    }
}

fn read_value(value: &DeValue<'_>) -> Option<Value> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    match value {
        DeValue::Array(items) => {
            items.iter().map(|item| scalar(item.get_ref())).collect::<Option<_>>().map(Value::List)
        }
        other => scalar(other).map(Value::Text),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The file that is named there, and the values. In an environment everything of ours is meant for us: a variable that
/// begins with our name and is none of ours is a slip of the pen.
fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    mistakes: &mut Vec<Mistake>,
) -> (Option<PathBuf>, Vec<Given>) {
    let mut file = None;
    let mut given = Vec::new();
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("COFFER_") || name == DATABASE_URL)
        .filter(|(name, _)| !OF_OTHERS.contains(&name.as_str()))
        .collect();
    // Sorted, so that mistakes come in one order, and COFFER_DATABASE_URL before DATABASE_URL …
    variables.sort();
    // … which has to be read first to be overridden.
    if let Some(at) = variables.iter().position(|(name, _)| name == DATABASE_URL) {
        variables[..=at].rotate_right(1);
    }
    for (name, value) in variables {
        if name == CONFIG_FILE {
            file = Some(PathBuf::from(value));
            continue;
        }
        let source = Source::Environment(name.clone());
        let Some(setting) = settings::of_variable(&name) else {
            mistakes.push(Mistake::at(&source, "there is no such setting"));
            continue;
        };
        match value.into_string() {
            Ok(text) => given.push(Given { setting, value: Value::Text(text), source }),
            Err(_) => mistakes.push(Mistake::of(setting.key, &source, "is not UTF-8")),
        }
    }
    (file, given)
}

fn read_flags(flags: &Flags, given: &mut Vec<Given>, mistakes: &mut Vec<Mistake>) {
    for pair in &flags.set {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value)),
            None => (pair.as_str(), None),
        };
        // Not the pair, and no key that can be none: either may be a secret.
        let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        let source = Source::Flag(format!("--set {}", if is_key { key } else { redact::HIDDEN }));
        let Some(value) = value else {
            mistakes.push(Mistake::at(&source, "must be KEY=VALUE"));
            continue;
        };
        match settings::find(key) {
            Some(setting) => given.push(Given { setting, value: Value::Text(value.to_owned()), source }),
            None => mistakes.push(Mistake::at(&source, "there is no such setting")),
        }
    }
    let named = [
        ("--data-dir", "data_dir", &flags.data_dir),
        ("--grpc-addr", "grpc.addr", &flags.grpc_addr),
        ("--http-addr", "http.addr", &flags.http_addr),
    ];
    for (flag, key, text) in named {
        if let (Some(text), Some(setting)) = (text, settings::find(key)) {
            given.push(Given {
                setting,
                value: Value::Text(text.clone()),
                source: Source::Flag(flag.to_owned()),
            });
        }
    }
}
