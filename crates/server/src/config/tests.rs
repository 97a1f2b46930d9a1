//! Files as nobody would write them, and as somebody could: nothing panics, and what is accepted reads the same when it was printed.

use super::{Flags, Loaded, Mistakes, Purpose, settings};
use proptest::{collection::vec, prelude::*, sample};
use std::fs;

/// Values of which each setting takes some; the rest are mistakes.
const VALUES: [&str; 25] = [
    "1s",
    "45s",
    "5m",
    "24h",
    "0",
    "1",
    "7",
    "512",
    "0.5",
    "64KiB",
    "96MiB",
    "127.0.0.1:0",
    "[::1]:9",
    "auto",
    "on",
    "off",
    "check",
    "external",
    "true",
    "main",
    "/var/lib/x",
    "info",
    "10.0.0.0/8",
    "http://localhost:4317",
    "",
];

fn value() -> impl Strategy<Value = String> {
    let text = prop_oneof![8 => sample::select(&VALUES[..]).prop_map(str::to_owned), 1 => ".{0,12}"];
    // A JSON string is one of TOML as well.
    let quoted = text.prop_map(|text| serde_json::Value::String(text).to_string());
    prop_oneof![
        8 => quoted.clone(),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => (0..2_000_i64).prop_map(|number| number.to_string()),
        1 => any::<bool>().prop_map(|truth| truth.to_string()),
        1 => vec(quoted, 0..3).prop_map(|list| format!("[{}]", list.join(", "))),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let keys: Vec<_> = settings::all().map(|setting| setting.key).collect();
    (sample::select(keys), value()).prop_map(|(key, value)| format!("{key} = {value}\n"))
}

fn read(text: &str) -> Result<Loaded, Mistakes> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    Loaded::read(&flags, [], Purpose::Tool)
}

proptest! {
    #[test]
    fn what_was_printed_reads_the_same(lines in vec(line(), 0..30)) {
        // Each line that is right for itself, the last one of each setting: most lines are not.
        let right: std::collections::BTreeMap<_, _> = lines
            .iter()
            .filter(|line| read(line).is_ok())
            .filter_map(|line| line.split_once(" = "))
            .collect();
        let text: String = right.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        // Some do not go together.
        if let Ok(loaded) = read(&text) {
            for explain in [false, true] {
                let again = read(&loaded.to_toml(explain)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
                prop_assert_eq!(&again.config, &loaded.config);
            }
        }
    }

    #[test]
    fn any_text_is_settings_or_mistakes(text in "[a-z_.\\[\\]{}=\"'#0-9 \n]{0,80}") {
        if let Err(Mistakes(mistakes)) = read(&text) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn any_lines_are_settings_or_mistakes(lines in vec(prop_oneof![line(), ".{0,20}\n"], 0..8)) {
        if let Err(Mistakes(mistakes)) = read(&lines.concat()) {
            prop_assert!(!mistakes.is_empty());
        }
    }
}

#[test]
fn each_setting_takes_one_of_the_values() {
    // Or the test above would say nothing of it. Paths of files and addresses of services have forms of their own.
    let untaken: Vec<_> = settings::all()
        .filter(|setting| !VALUES.iter().any(|value| read(&format!("{} = {value:?}\n", setting.key)).is_ok()))
        .map(|setting| setting.key)
        .collect();
    assert!(untaken.len() <= 6, "{untaken:?}");
}
