//! Why there is no connection.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

use diesel::ConnectionError;

/// Why there is no connection. None of it names a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or an option is not one. Mend the configuration.
    #[error("not the URL of a PostgreSQL database: {0}")]
    Url(String),

    /// Not a name for a schema. Mend the configuration.
    #[error(
        "{0:?} cannot name Coffer's schema: use 1 to 63 of a-z, 0-9 and _, not starting with a digit or with pg_, \
         and not information_schema"
    )]
    SchemaName(String),

    /// The root certificates cannot be read. Mend the file or the configuration.
    #[error("no root certificates in {}: {reason}", path.display())]
    Certificates {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// All connections were in use for too long. Try again later, or make the pool larger.
    #[error("all {pool_size} connections to PostgreSQL were in use for {waited:?}")]
    Busy {
        /// Connections in the pool.
        pool_size: usize,
        /// How long was waited.
        waited: Duration,
    },

    /// PostgreSQL cannot be reached, or refuses us. Try again later; if it stays, look at the server and the URL.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),

    /// The server's messages are in a language that errors cannot be told apart in, and we may not change it.
    #[error(
        "PostgreSQL speaks {found:?}, and errors are recognised in English: let an administrator run \
         ALTER ROLE {role:?} SET lc_messages = 'C'"
    )]
    Language {
        /// The server's `lc_messages`.
        found: String,
        /// Who we are there.
        role: String,
    },
}

impl Error {
    pub(super) fn unavailable(error: &dyn StdError) -> Self {
        Self::Unavailable(causes(error))
    }

    /// Through diesel's pool, whose errors carry text only where they are not diesel's own.
    pub(super) fn into_diesel(self) -> ConnectionError {
        ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(Box::new(self)))
    }

    /// Back from [`into_diesel`](Self::into_diesel).
    pub(super) fn from_diesel(error: ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(error)) => {
                match error.downcast() {
                    Ok(ours) => *ours,
                    Err(other) => Self::unavailable(other.as_ref()),
                }
            }
            other => Self::unavailable(&other),
        }
    }
}

/// An error with all its causes: the driver's own text is often no more than "db error".
pub(super) fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
