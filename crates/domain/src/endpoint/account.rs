//! What servers have in common that somebody logs in to.

use super::{Folder, Host, violation};
use crate::error::FieldViolation;

/// Most characters of a user's name.
const MAX_USERNAME_CHARS: usize = 100;

/// Where keys are. Whom a server keeps in a folder of his own, that folder is the root to: so an absolute folder may be the same as one from where
/// the log-in leads, and counts as the same.
pub(super) fn place(scheme: &str, host: &Host, port: u16, username: &str, folder: &Folder) -> String {
    let folder = folder.as_str().trim_start_matches('/');
    let end = if folder.is_empty() { "" } else { "/" };
    // In quotes a name cannot be taken for a part of a folder.
    format!("{scheme}://{host}:{port}/{username:?}/{folder}{end}")
}

/// What is malformed of a server's port and user.
pub(super) fn violations(kind: &str, port: u16, username: &str) -> Vec<FieldViolation> {
    let mut found = Vec::new();
    if port == 0 {
        found.push(violation(&format!("endpoint.{kind}.port"), "must be from 1 to 65535"));
    }
    let is_name = (1..=MAX_USERNAME_CHARS).contains(&username.chars().count());
    if !is_name || username.chars().any(char::is_control) {
        let problem = "must be 1 to 100 characters without control characters";
        found.push(violation(&format!("endpoint.{kind}.username"), problem));
    }
    found
}
