//! Settings: whatever a file, the environment and flags hold, all mistakes name what to correct, what is accepted keeps what the table of
//! settings says, is printed as a file that says the same, and no password is printed.

use coffer_domain::network::Network;
use coffer_server::config::{Flags, Loaded, Mistakes, Purpose, settings};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    net::{IpAddr, SocketAddr},
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStringExt as _, fs::FileExt as _},
    },
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio_postgres::Config as Driver;
use toml::{Table, Value};

/// What separates the layers.
const SEPARATOR: u8 = 0;

/// A file without a name, so that nothing is left behind.
static FILE: LazyLock<Mutex<File>> =
    LazyLock::new(|| Mutex::new(tempfile::tempfile().expect("a file can be made")));

/// What is given, layer by layer.
#[derive(Debug, Clone, Default)]
struct Layers {
    file: Vec<u8>,
    environment: Vec<(OsString, OsString)>,
    set: Vec<String>,
    purpose: u8,
}

/// The first byte says what the rest is.
pub(crate) fn config(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    match form & 1 {
        0 => any(Layers::read(rest, *form)),
        _ => secret(rest, *form),
    }
}

/// A file, and behind it variables (`NAME=VALUE`) and, behind a `-`, flags.
fn any(layers: Layers) {
    match layers.load() {
        Err(mistakes) => tells_what_to_correct(&mistakes),
        Ok(loaded) => {
            let shown = loaded.to_toml(false);
            keeps_its_bounds(&table(&shown), layers.purpose());
            // What is shown is of the same settings, but for whoever set them.
            let again =
                Layers { file: loaded.to_toml(true).into(), purpose: layers.purpose, ..Layers::default() };
            let again = again.load().unwrap_or_else(|mistakes| panic!("{mistakes}\n{shown}"));
            assert_eq!(table(&again.to_toml(false)), table(&shown));
        }
    }
}

/// A URL of a database in three parts, the second of which is a password: with another in its place the same is said.
fn secret(data: &[u8], form: u8) {
    let mut parts = data.splitn(4, |byte| *byte == SEPARATOR).map(std::str::from_utf8);
    let (Some(Ok(before)), Some(Ok(password)), Some(Ok(after))) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let rest = parts.next().and_then(Result::ok).unwrap_or_default();
    let another: String = password.chars().map(rotated).collect();
    let urls = [password, &another].map(|password| format!("{before}{password}{after}"));
    if !differ_in_password(&urls) {
        return;
    }
    let said = urls.map(|url| {
        let mut layers = Layers::read(rest.as_bytes(), form);
        match (form >> 2) & 3 {
            0 => layers.environment.push(("COFFER_DATABASE_URL".into(), url.into())),
            1 => layers.environment.push(("DATABASE_URL".into(), url.into())),
            2 => layers.set.push(format!("database.url={url}")),
            // A JSON string is one of TOML as well, but for one character.
            _ => {
                let url = serde_json::Value::String(url).to_string().replace('\u{7f}', r"\u007f");
                layers.file = [format!("database.url = {url}\n").as_bytes(), &layers.file].concat();
            }
        }
        match layers.load() {
            Ok(loaded) => loaded.to_toml(true),
            Err(mistakes) => mistakes.to_string(),
        }
    });
    assert_eq!(said[0], said[1], "a password is shown");
}

/// For the driver the two are of the same database, with different passwords.
fn differ_in_password(urls: &[String; 2]) -> bool {
    let [Ok(one), Ok(other)] = urls.each_ref().map(|url| url.parse::<Driver>()) else { return false };
    let rest = |driver: &Driver| {
        let mut driver = driver.clone();
        driver.password("");
        driver
    };
    one.get_password() != other.get_password() && rest(&one) == rest(&other)
}

/// The next letter or digit; anything else stays.
fn rotated(c: char) -> char {
    match c {
        'z' => 'a',
        'Z' => 'A',
        '9' => '0',
        c if c.is_ascii_alphanumeric() => char::from(c as u8 + 1),
        other => other,
    }
}

impl Layers {
    fn read(data: &[u8], purpose: u8) -> Self {
        let mut layers = Self { purpose, ..Self::default() };
        let mut parts = data.split(|byte| *byte == SEPARATOR);
        layers.file = parts.next().unwrap_or_default().to_vec();
        for part in parts {
            match part.strip_prefix(b"-") {
                Some(flag) => layers.set.extend(String::from_utf8(flag.to_vec())),
                None => {
                    let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
                    let value = part.get(at + 1..).unwrap_or_default();
                    let [name, value] = [&part[..at], value].map(|text| OsString::from_vec(text.to_vec()));
                    layers.environment.push((name, value));
                }
            }
        }
        layers
    }

    fn purpose(&self) -> Purpose {
        if self.purpose & 2 == 0 { Purpose::Serve } else { Purpose::Tool }
    }

    fn load(&self) -> Result<Loaded, Mistakes> {
        let file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0).and_then(|()| file.write_all_at(&self.file, 0)).expect("there is room for a file");
        let config = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let flags = Flags { config: Some(config), set: self.set.clone(), ..Flags::default() };
        Loaded::read(&flags, self.environment.clone(), self.purpose())
    }
}

/// There is a mistake, and each is one line that names a setting, or the place where there is something else.
fn tells_what_to_correct(mistakes: &Mistakes) {
    let text = mistakes.to_string();
    let mut lines = text.split('\n').skip(1).peekable();
    assert!(lines.peek().is_some(), "{text}");
    for line in lines {
        let places = ["/proc/self/fd/", "COFFER_", "DATABASE_URL", "--set "];
        let is_place =
            places.iter().any(|place| line.trim_start().starts_with(place) || line.contains("cannot read "));
        assert!(
            line.starts_with("  ") && (is_place || settings::all().any(|setting| line.contains(setting.key))),
            "{line:?}"
        );
    }
}

/// The settings of a file by their keys.
fn table(toml: &str) -> BTreeMap<String, Value> {
    fn collect(prefix: &str, table: Table, into: &mut BTreeMap<String, Value>) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(inner) => collect(&format!("{key}."), inner, into),
                value => drop(into.insert(key, value)),
            }
        }
    }
    let mut settings = BTreeMap::new();
    collect("", toml.parse().expect("what is shown is TOML"), &mut settings);
    settings
}

/// Every value is between what the table of the settings names, and a server that would be open to others knows its callers.
fn keeps_its_bounds(settings: &BTreeMap<String, Value>, purpose: Purpose) {
    for setting in settings::all() {
        let (Some(value), Some((least, most))) = (settings.get(setting.key), bounds(setting.doc)) else {
            continue;
        };
        let amount = match value {
            Value::String(text) => amount(text),
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        assert!(amount.is_some_and(|amount| least <= amount && amount <= most), "{}: {value:?}", setting.key);
    }
    let text = |key: &str| settings.get(key).and_then(Value::as_str);
    for key in ["grpc.trusted_proxies", "egress.allow", "egress.deny"] {
        let networks = settings[key].as_array().expect("a list");
        assert!(
            networks
                .iter()
                .all(|network| network.as_str().is_some_and(|text| text.parse::<Network>().is_ok()))
        );
    }
    let roots = settings["local_paths.allowed_roots"].as_array().expect("a list");
    assert!(roots.iter().all(|root| root.as_str().is_some_and(|root| root.starts_with('/'))));
    assert!(text("sftp.key_folder").is_none_or(|folder| folder.starts_with('/')));
    let address = |key: &str| text(key).and_then(|text| text.parse::<SocketAddr>().ok()).expect("an address");
    let (grpc, http) = (address("grpc.addr"), address("http.addr"));
    if let Some(url) = text("auth.jwks_url") {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        assert!(!place.is_empty() && !place.contains('@'), "{url}");
        assert!(
            scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") && is_here(place),
            "{url}"
        );
    }
    if let Purpose::Tool = purpose {
        return;
    }
    assert!(grpc != http || grpc.port() == 0);
    let has_issuer = text("auth.issuer").is_some();
    if !grpc.ip().is_loopback() {
        assert!(settings["grpc.insecure"].as_bool() == Some(true) || text("grpc.tls.certificate").is_some());
        assert!(has_issuer || text("auth.certificates_file").is_some());
    }
    assert_eq!(has_issuer, text("auth.audience").is_some());
    assert_eq!(has_issuer, text("auth.jwks_file").is_some() != text("auth.jwks_url").is_some());
    assert_eq!(text("grpc.tls.certificate").is_some(), text("grpc.tls.key").is_some());
    assert!(text("auth.development") != Some("on") || grpc.ip().is_loopback() && !has_issuer);
}

/// Whether a host, with or without a port, is this machine.
fn is_here(place: &str) -> bool {
    let address = place.parse().map(|address: SocketAddr| address.ip());
    let address = address.or_else(|_| place.trim_matches(['[', ']']).parse());
    place.split(':').next() == Some("localhost") || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The first two amounts with ` to ` between them, or what the first one goes `up to `.
fn bounds(doc: &str) -> Option<(f64, f64)> {
    doc.match_indices(" to ").find_map(|(at, to)| {
        let least = match doc[..at].rsplit(' ').next()? {
            "up" => 0.0,
            least => amount(least)?,
        };
        let most = doc[at + to.len()..].split([' ', ',', ';', '.']).next()?;
        Some((least, amount(most)?))
    })
}

/// A number, of bytes or of seconds if it has such a unit.
fn amount(text: &str) -> Option<f64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let size = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    match size {
        Some((number, shift)) => Some(number.parse::<f64>().ok()? * f64::from(1 << shift)),
        None => text
            .parse()
            .ok()
            .or_else(|| humantime::parse_duration(text).ok().map(|time: Duration| time.as_secs_f64())),
    }
}
