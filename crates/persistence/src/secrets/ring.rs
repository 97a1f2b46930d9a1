//! The key ring: many keys open, one seals.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use coffer_domain::Result;
use coffer_domain::error::{Error, Resource, State};
use coffer_domain::secret::{KeyId, Secret, unreadable};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::file::{self, KeysError};
use super::{Column, Sealed};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// The keys that secrets are sealed under. Cheap to clone; clones share the keys. The default one is empty: nothing can be stored with it.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Where the keys come from.
    file: Option<PathBuf>,
    keys: RwLock<Keys>,
}

/// What a file of keys says.
#[derive(Clone, Default)]
pub(super) struct Keys {
    pub(super) current: Option<KeyId>,
    pub(super) all: HashMap<KeyId, LessSafeKey>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        let mut names: Vec<_> = keys.all.keys().collect();
        names.sort();
        f.debug_struct("KeyRing").field("current", &keys.current).field("keys", &names).finish()
    }
}

impl KeyRing {
    pub(super) fn of_file(file: PathBuf, keys: Keys) -> Self {
        Self(Arc::new(Shared { file: Some(file), keys: RwLock::new(keys) }))
    }

    /// The name of the key that seals.
    #[must_use]
    pub fn current(&self) -> Option<KeyId> {
        self.keys().current
    }

    /// Takes up what the file says now. `true`: it says something else than before.
    ///
    /// # Errors
    ///
    /// When the file cannot be used; then the keys stay what they were.
    pub fn reload(&self) -> Result<bool, KeysError> {
        let Some(path) = &self.0.file else { return Ok(false) };
        let new = file::read(path)?;
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_changed = keys.current != new.current
            || keys.all.len() != new.all.len()
            || new.all.keys().any(|id| !keys.all.contains_key(id));
        *keys = new;
        Ok(is_changed)
    }

    /// The key that seals, by its name if that is given.
    pub(crate) fn must_be_current(&self, named: Option<&KeyId>) -> Result<KeyId> {
        self.take_up();
        let keys = self.keys();
        let current = keys.current.ok_or(Error::State(State::NoKeys))?;
        match named {
            Some(named) if !keys.all.contains_key(named) => {
                Err(Error::NotFound(Resource::Key(named.to_string())))
            }
            Some(named) if *named != current => {
                Err(Error::invalid("key_id", "must be the key that secrets are sealed under now"))
            }
            _ => Ok(current),
        }
    }

    /// Seals a secret under the current key for one row.
    pub(crate) fn seal(&self, column: Column, row: Uuid, secret: &Secret) -> Result<Sealed> {
        let keys = self.keys();
        let current = keys.current.as_ref().ok_or(Error::State(State::NoKeys))?;
        seal_with(&keys, current, column, row, secret.expose().as_bytes())
    }

    /// Opens what was sealed for this row. A key that is not known may have come into the file meanwhile.
    pub(crate) fn open(&self, column: Column, row: Uuid, sealed: &Sealed) -> Result<Secret> {
        let plain = self.open_bytes(column, row, sealed)?;
        let text =
            std::str::from_utf8(&plain).map_err(|_| unreadable(sealed.key.as_str(), "it is no text"))?;
        Ok(Secret::new(text))
    }

    /// What was sealed for this row, sealed under `key`.
    pub(crate) fn seal_anew(
        &self,
        key: &KeyId,
        column: Column,
        row: Uuid,
        sealed: &Sealed,
    ) -> Result<Sealed> {
        let plain = self.open_bytes(column, row, sealed)?;
        seal_with(&self.keys(), key, column, row, &plain)
    }

    /// Whether there is such a key, also one that has come into the file meanwhile.
    pub(crate) fn must_have(&self, key: &KeyId) -> Result<()> {
        if !self.keys().all.contains_key(key) {
            self.take_up();
        }
        if self.keys().all.contains_key(key) { Ok(()) } else { Err(missing(key)) }
    }

    fn open_bytes(&self, column: Column, row: Uuid, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
        self.must_have(&sealed.key)?;
        let keys = self.keys();
        let key = keys.all.get(&sealed.key).ok_or_else(|| missing(&sealed.key))?;
        let wrong =
            || unreadable(sealed.key.as_str(), "the key is another one, or what is stored was changed");
        let (nonce, rest) = sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(column.binding(row)), &mut plain)
            .map_err(|_| wrong())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// The file may say more by now. Where it cannot be used the keys stay, and whoever needs another one is told that it is missing.
    fn take_up(&self) {
        match self.reload() {
            Ok(true) => {
                tracing::info!(key.current = self.current().map(tracing::field::display), "took up new keys");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the file of keys cannot be used, and the ones before still are");
            }
        }
    }

    fn keys(&self) -> Keys {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn missing(key: &KeyId) -> Error {
    unreadable(key.as_str(), "the service has no such key")
}

fn seal_with(keys: &Keys, id: &KeyId, column: Column, row: Uuid, plain: &[u8]) -> Result<Sealed> {
    let key = keys.all.get(id).ok_or_else(|| missing(id))?;
    let broken = |_| Error::internal("seal a secret", "the cipher or the source of chance failed");
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(broken)?;
    let mut content = Zeroizing::new(plain.to_vec());
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(column.binding(row)),
            &mut content,
        )
        .map_err(broken)?;
    Ok(Sealed { key: id.clone(), bytes: [nonce.as_slice(), &content, tag.as_ref()].concat() })
}

/// A key from its bytes.
pub(super) fn key(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}
