//! Statements, by the `psql` that belongs to the server.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// PostgreSQL cuts longer names off.
const NAME_LIMIT_BYTES: usize = 63;

/// Runs one statement in the database `postgres`, as which `url` connects.
pub(crate) fn run(psql: &Path, url: &str, statement: &str) -> Result<(), Error> {
    let output = Command::new(psql)
        .env_clear()
        .envs([("LC_ALL", "C"), ("PGCONNECT_TIMEOUT", "10"), ("PSQL_HISTORY", "/dev/null")])
        .args(["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url])
        .args(["--command", statement])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run", psql))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Statement { statement: statement.to_owned(), message })
}

/// A name that needs no quotes anywhere.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let is_ordinary = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if is_ordinary && starts_well && name.len() <= NAME_LIMIT_BYTES {
        return Ok(());
    }
    Err(Error::Name { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let longest = "a".repeat(NAME_LIMIT_BYTES);
        for good in ["coffer", "_", "test_2", &longest] {
            check_name(good).unwrap();
        }
        let too_long = "a".repeat(NAME_LIMIT_BYTES + 1);
        for bad in ["", "1st", "Coffer", "a-b", "a b", "a\"; DROP DATABASE coffer", "ä", "a\0", &too_long] {
            assert!(matches!(check_name(bad), Err(Error::Name { name }) if name == bad), "{bad:?}");
        }
    }
}
