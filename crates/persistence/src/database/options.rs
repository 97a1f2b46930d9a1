//! What can be set about connections.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Error;

/// How connections are made and set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Schema that holds the tables; default `coffer`.
    pub schema: SchemaName,
    /// Connections at most; default 16. Those made beside the pool do not count.
    pub pool_size: NonZeroUsize,
    /// How long a caller waits for a connection while all are in use; default 5 s.
    pub wait_timeout: Duration,
    /// How long a statement may run, in whole milliseconds; default 30 s; zero: for ever.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock, in whole milliseconds; default 10 s; zero: for ever.
    pub lock_timeout: Duration,
    /// How long a transaction may stay open with nothing to do, in whole milliseconds; default 60 s; zero: for
    /// ever. Ends what a node that hangs would keep locked.
    pub idle_in_transaction_timeout: Duration,
    /// How long a node that migrates waits for another to finish, in whole milliseconds; default 10 minutes, which
    /// is longer than any migration ought to take; zero: for ever.
    pub migration_turn_timeout: Duration,
    /// What the server calls us in `pg_stat_activity`; default `coffer`.
    pub application_name: String,
    /// PEM file of the certificates to trust beside the system's; default none.
    pub root_certificates: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: SchemaName::default(),
            pool_size: const { NonZeroUsize::new(16).expect("16 is not 0") },
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
            migration_turn_timeout: Duration::from_secs(600),
            application_name: "coffer".to_owned(),
            root_certificates: None,
        }
    }
}

/// Name of the schema that holds the tables.
///
/// Lower-case letters, digits and `_`, 1 to 63 bytes, not starting with a digit; neither `information_schema` nor
/// anything with `pg_` in front, which are PostgreSQL's own. So it needs no escaping inside quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name as it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in double quotes, as SQL needs it: a schema may be called `user`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Default for SchemaName {
    /// `coffer`.
    fn default() -> Self {
        Self("coffer".to_owned())
    }
}

impl FromStr for SchemaName {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::SchemaName`] where it breaks a rule of the type.
    fn from_str(name: &str) -> Result<Self, Error> {
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.starts_with("pg_")
            && name != "information_schema";
        if fits { Ok(Self(name.to_owned())) } else { Err(Error::SchemaName(name.to_owned())) }
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SchemaName;

    #[test]
    fn names_that_need_no_escaping_are_taken() {
        for name in ["coffer", "public", "user", "_1", &"a".repeat(63)] {
            assert_eq!(name.parse::<SchemaName>().unwrap().quoted(), format!("\"{name}\""));
        }
    }

    #[test]
    fn other_names_are_refused() {
        let too_long = "a".repeat(64);
        for name in
            ["", "1a", "Coffer", "a-b", "a\"b", "a b", "a,b", "ä", "pg_temp", "information_schema", &too_long]
        {
            assert!(name.parse::<SchemaName>().is_err(), "{name:?}");
        }
    }
}
