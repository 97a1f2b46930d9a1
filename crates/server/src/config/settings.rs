//! The table of everything that can be set, one file per section.

mod auth;
mod database;
mod limits;
mod listeners;
mod process;
mod secrets;
mod storage;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_domain::network::Network;

use super::value::{self, Value};
use super::{Config, layers};

/// One thing that can be set.
pub struct Setting {
    /// Its name in a file and after `--set`.
    pub key: &'static str,
    /// What it does, its limits and its unit; one sentence or two for the README.
    pub doc: &'static str,
    /// Takes a value, or says what it has to be.
    pub(super) set: fn(&mut Config, &Value) -> Result<(), String>,
    /// The value as TOML, without passwords; `None` if it is not set.
    pub(super) show: fn(&Config) -> Option<String>,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("COFFER_{}", self.key.to_uppercase().replace('.', "_"))
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: usize = 1024 * 1024;

/// Of no section.
const DATA_DIR: Setting = Setting {
    key: "data_dir",
    doc: "Directory for everything this node keeps: the embedded database, the default volume, the development key.",
    set: |c, v| put(&mut c.data_dir, v.text().map(PathBuf::from)),
    show: |c| path(&c.data_dir),
};

static SECTIONS: &[&[Setting]] = &[
    &[DATA_DIR],
    listeners::TABLE,
    database::TABLE,
    auth::TABLE,
    secrets::TABLE,
    limits::TABLE,
    storage::TABLE,
    process::TABLE,
];

/// Everything that can be set, in the order in which it is shown.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().copied().flatten()
}

/// The setting with this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

/// Whether there are settings below this key.
pub(super) fn is_group(key: &str) -> bool {
    all().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The setting that a variable of the environment sets.
pub(super) fn of_variable(name: &str) -> Option<&'static Setting> {
    if name == layers::DATABASE_URL {
        return find("database.url");
    }
    all().find(|setting| setting.variable() == name)
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// A TOML string: JSON's escapes are among TOML's, which wants one more character escaped.
fn text(value: impl Display) -> Option<String> {
    Some(serde_json::Value::String(value.to_string()).to_string().replace('\u{7f}', r"\u007f"))
}

fn path(path: &Path) -> Option<String> {
    text(path.display())
}

fn file(value: &Value) -> Result<Option<PathBuf>, String> {
    value.text().map(|text| Some(text.into()))
}

fn networks(networks: &[Network]) -> String {
    let networks: Vec<_> = networks.iter().filter_map(text).collect();
    format!("[{}]", networks.join(", "))
}

fn duration(duration: Duration) -> Option<String> {
    text(value::duration(duration))
}

#[cfg(test)]
mod tests {
    use super::{Config, all};
    use std::collections::HashSet;
    use std::fmt::Write as _;

    #[test]
    fn keys_and_variables_are_distinct_and_none_is_a_group_of_others() {
        let keys: HashSet<_> = all().map(|setting| setting.key).collect();
        let variables: HashSet<_> = all().map(super::Setting::variable).collect();
        assert_eq!((keys.len(), variables.len()), (all().count(), all().count()));
        assert!(all().all(|setting| !super::is_group(setting.key)));
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let mut table = String::new();
        for setting in all() {
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
