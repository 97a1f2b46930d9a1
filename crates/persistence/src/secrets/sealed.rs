//! The form of a sealed value.

use coffer_domain::Result;
use coffer_domain::secret::{KeyId, unreadable};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// What is stored in a secret's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Under which key.
    pub(crate) key: KeyId,
    /// Nonce, ciphertext and tag.
    pub(crate) bytes: Vec<u8>,
}

impl Sealed {
    /// The form that is written; others cannot be read.
    pub(crate) const FORMAT: u8 = 1;

    /// As text: `v1.{key}.{base64url}`.
    pub(crate) fn to_text(&self) -> String {
        format!("v{}.{}.{}", Self::FORMAT, self.key, BASE64URL_NOPAD.encode(&self.bytes))
    }

    /// Reads that.
    pub(crate) fn from_text(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '.');
        let (format, key, bytes) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
        let is_known = format.and_then(|f| f.strip_prefix('v')) == Some(Self::FORMAT.to_string().as_str());
        Self::read(is_known, key, bytes)
    }

    /// As JSON: `{"v":1,"kid":…,"ct":…}`.
    pub(crate) fn to_json(&self) -> Value {
        json!({"v": Self::FORMAT, "kid": self.key.as_str(), "ct": BASE64URL_NOPAD.encode(&self.bytes)})
    }

    /// Reads that.
    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let is_known = value.get("v").and_then(Value::as_u64) == Some(Self::FORMAT.into());
        Self::read(is_known, text("kid").unwrap_or_default(), text("ct"))
    }

    fn read(is_known: bool, key: &str, bytes: Option<&str>) -> Result<Self> {
        if !is_known {
            return Err(unreadable(key, "it has a form that this version does not know"));
        }
        let bytes = bytes.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        match (key.parse(), bytes) {
            (Ok(key), Some(bytes)) => Ok(Self { key, bytes }),
            _ => Err(unreadable(key, "it is malformed")),
        }
    }
}
