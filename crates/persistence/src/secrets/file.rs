//! The file of keys: read, made, and given one more key.
//!
//! `{"current": "name", "keys": {"name": "base64 of 32 bytes", …}}`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use coffer_domain::secret::{KeyId, Secret};
use coffer_domain::time::now;
use data_encoding::{BASE64, HEXLOWER};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ring::{KEY_BYTES, KeyRing, Keys, key};

/// Most bytes of the file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is not what it has to be. Its content is not told.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    current: KeyId,
    keys: BTreeMap<KeyId, Text>,
}

/// A key as base64.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text(#[serde(with = "super::shown")] Secret);

/// The keys of a file. With `create`, one key is made where there is no file; of two processes that make it at once both use the same.
///
/// # Errors
///
/// When the file cannot be read or made, when others than its owner and group may read it, or when it is not what it has to be.
pub fn load_or_create(path: &Path, create: bool) -> Result<KeyRing, KeysError> {
    let is_absent = matches!(fs::metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound);
    if create && is_absent {
        let (id, secret) = fresh(path)?;
        let content = Content { current: id.clone(), keys: BTreeMap::from([(id, secret)]) };
        publish(path, &content, |new| match fs::hard_link(new, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        })?;
    }
    Ok(KeyRing::of_file(path.to_owned(), read(path)?))
}

/// Adds a new key to the file, which seals from now on, and answers its name. The earlier ones stay, to open what they sealed.
///
/// # Errors
///
/// As for [`load_or_create`]; the file is as it was then.
pub fn add_key(path: &Path) -> Result<KeyId, KeysError> {
    let io = |error| KeysError::Io { path: path.to_owned(), error };
    // Two that read and write at once would lose one's key.
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.with_added_extension("lock"))
        .map_err(io)?;
    lock.lock().map_err(io)?;
    let mut content = parse(path)?;
    let (id, secret) = fresh(path)?;
    content.keys.insert(id.clone(), secret);
    content.current = id.clone();
    publish(path, &content, |new| fs::rename(new, path))?;
    Ok(id)
}

/// What the file says.
pub(super) fn read(path: &Path) -> Result<Keys, KeysError> {
    let Content { current, keys } = parse(path)?;
    let malformed = |problem: String| KeysError::Malformed { path: path.to_owned(), problem };
    let mut all = std::collections::HashMap::new();
    for (id, Text(text)) in keys {
        let bytes = BASE64
            .decode(text.expose().trim().as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| malformed(format!("the key {id} is not base64")))?;
        let key = key(&bytes)
            .ok_or_else(|| malformed(format!("the key {id} has {} bytes, not {KEY_BYTES}", bytes.len())))?;
        all.insert(id, key);
    }
    if !all.contains_key(&current) {
        return Err(malformed(format!("the current key {current} is not among the keys")));
    }
    Ok(Keys { current: Some(current), all })
}

fn parse(path: &Path) -> Result<Content, KeysError> {
    let io = |error| KeysError::Io { path: path.to_owned(), error };
    let malformed =
        |problem: &str| KeysError::Malformed { path: path.to_owned(), problem: problem.to_owned() };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.permissions().mode() & 0o007 != 0 {
        return Err(malformed("must not be accessible to others (chmod 600)"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io)?;
    // The parser's own words may hold what it read.
    serde_json::from_str(&text)
        .map_err(|_| malformed(r#"must be {"current": name, "keys": {name: base64 of 32 bytes}}"#))
}

fn fresh(path: &Path) -> Result<(KeyId, Text), KeysError> {
    let chance = |_| KeysError::Io { path: path.to_owned(), error: io::Error::other("no source of chance") };
    let (mut bytes, mut suffix) = (Zeroizing::new([0; KEY_BYTES]), [0; 4]);
    let random = SystemRandom::new();
    random.fill(bytes.as_mut_slice()).map_err(chance)?;
    random.fill(&mut suffix).map_err(chance)?;
    let id = format!("{}-{}", now().format("%Y%m%d"), HEXLOWER.encode(&suffix));
    let id = id.parse().expect("digits, a hyphen and letters are the name of a key");
    Ok((id, Text(Secret::new(BASE64.encode(bytes.as_slice())))))
}

/// Writes a file beside `path`, durably and for nobody else to read, and has `place` put it there.
fn publish(
    path: &Path,
    content: &Content,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), KeysError> {
    let new = path.with_added_extension(format!("{}.new", std::process::id()));
    let write = || {
        let text = Zeroizing::new(serde_json::to_vec_pretty(content)?);
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        place(&new)?;
        // Gone already if it was renamed.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| KeysError::Io { path: path.to_owned(), error })
}
