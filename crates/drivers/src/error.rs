//! Makes the port's errors.

use coffer_domain::{
    driver::{Error, ErrorKind},
    path::Key,
};
use std::sync::Arc;

/// An error of `operation`, on `key` if it has one, because of `source`: an error or a text.
pub(crate) fn error(
    kind: ErrorKind,
    operation: &'static str,
    key: Option<&Key>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error { kind, operation, key: key.map(Key::to_string), source: Some(Arc::from(source.into())) }
}
