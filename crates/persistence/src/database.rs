//! Connections to PostgreSQL: one pool on one URL, each connection set up the same way.

mod error;
mod options;
mod session;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Object, PoolError, QueueMode, TimeoutType};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{
    self, AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool,
};
use futures_util::FutureExt;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use error::Error;
pub use options::{Options, SchemaName};

/// A connection of the pool; it goes back when dropped.
pub type Connection = Object<AsyncDieselConnectionManager<AsyncPgConnection>>;

/// How long an attempt to connect to one address may take, unless the URL has a `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the pool's sessions have set beside the others.
///
/// A statement that was planned while its table was small would go on reading the whole table, kept with the session, when it
/// has grown. Everything that is asked often has an index; where there is none, the table is read all the same, and compiling
/// such a plan because of the cost it pretends to have would only take longer.
const POOLED: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// A PostgreSQL database and the schema in it that holds Coffer's tables. Cheap to clone; clones share the pool.
///
/// Every connection has the schema as its whole `search_path`, speaks UTC and UTF-8, and answers in English (by
/// which deadlocks are told from other errors, see the crate's README).
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
    dialer: Arc<Dialer>,
}

impl Database {
    /// Prepares connections to `url`; none is made before it is needed.
    ///
    /// The URL is what libpq takes, `postgres://user:password@host:port/database?parameters`, also with several
    /// hosts, or with the folder of a Unix socket as the host (`%2Frun%2Fpostgresql`). `sslmode` decides on TLS:
    /// `disable` never, `prefer` (the default) where the server has it, `require` always; `verify-ca` and
    /// `verify-full` count as `require`. A certificate is verified whenever there is TLS, name included. Unix
    /// sockets have no TLS, whatever is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] or [`Error::Certificates`]: both are for an operator to mend.
    pub fn new(url: &str, options: Options) -> Result<Self, Error> {
        let dialer = Arc::new(Dialer::new(url, options)?);
        let options = &dialer.options;
        let (dial, wait, size) = (Arc::clone(&dialer), options.wait_timeout, options.pool_size.get());
        let mut config = ManagerConfig::default();
        // A dead connection is noticed when it is taken; asking the server each time would double the round trips.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let dial = Arc::clone(&dial);
            async move { dial.connect(&POOLED).await.map_err(Error::into_diesel) }.boxed()
        });
        let pool = Pool::builder(AsyncDieselConnectionManager::new_with_config("", config))
            .max_size(size)
            // What was in use last has its statements prepared.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(wait))
            .build()
            .map_err(|error| Error::Url(error.to_string()))?;
        Ok(Self { pool, dialer })
    }

    /// Takes a connection from the pool, or makes one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if all were in use for [`Options::wait_timeout`]; [`Error::Unavailable`] if the server
    /// cannot be reached or refuses us; [`Error::Language`].
    pub async fn get(&self) -> Result<Connection, Error> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => Error::Busy {
                pool_size: self.dialer.options.pool_size.get(),
                waited: self.dialer.options.wait_timeout,
            },
            PoolError::Backend(pooled_connection::PoolError::ConnectionError(error)) => {
                Error::from_diesel(error)
            }
            other => Error::Unavailable(other.to_string()),
        })
    }

    /// Makes a connection of the caller's own, beside the pool, with more settings of PostgreSQL by name and value.
    ///
    /// For what holds a connection for long or needs it set up otherwise: migrations, the commit pipeline,
    /// listening for notifications.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get) but [`Error::Busy`].
    pub async fn dedicated(&self, settings: &[(&str, &str)]) -> Result<AsyncPgConnection, Error> {
        self.dialer.connect(settings).await
    }

    /// The schema that holds the tables.
    #[must_use]
    pub fn schema(&self) -> &SchemaName {
        &self.dialer.options.schema
    }

    /// How connections are made and set up.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.dialer.options
    }

    /// Connections there are, and how many of them are idle.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            max: status.max_size,
            open: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Closes the connections nobody uses. Where one has died, the others of its server have as well, and would only
    /// fail whoever takes them next.
    pub fn drop_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Closes the pool: who waits for a connection, or asks for one from now on, gets [`Error::Unavailable`].
    /// Connections in use are closed when they come back.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }
}

impl fmt::Debug for Database {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("hosts", &self.dialer.config.get_hosts())
            .field("database", &self.dialer.config.get_dbname())
            .field("options", &self.dialer.options)
            .finish_non_exhaustive()
    }
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections there may be.
    pub max: usize,
    /// Connections there are.
    pub open: usize,
    /// Connections nobody uses.
    pub idle: usize,
    /// Callers who wait for one.
    pub waiting: usize,
}

/// Makes connections.
struct Dialer {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    options: Options,
}

impl Dialer {
    fn new(url: &str, options: Options) -> Result<Self, Error> {
        let mut config = parse(url)?;
        config.application_name(&options.application_name);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        let tls = tls::connector(options.root_certificates.as_deref())?;
        Ok(Self { config, tls, options })
    }

    async fn connect(&self, settings: &[(&str, &str)]) -> Result<AsyncPgConnection, Error> {
        let mut config = self.config.clone();
        config.options(session::startup_options(self.config.get_options(), &self.options, settings));
        let (client, connection) =
            config.connect(self.tls.clone()).await.map_err(|error| Error::unavailable(&error))?;
        let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection)
            .await
            .map_err(Error::from_diesel)?;
        session::speak_english(&mut connection).await?;
        Ok(connection)
    }
}

fn parse(url: &str) -> Result<tokio_postgres::Config, Error> {
    // The driver knows no more than `require`, for which its TLS always verifies as much as these two ask for.
    let url =
        url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: tokio_postgres::Config =
        url.parse().map_err(|error: tokio_postgres::Error| Error::Url(error::causes(&error)))?;
    if config.get_hosts().is_empty() {
        return Err(Error::Url("it names no host".to_owned()));
    }
    if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
        config.ssl_mode(SslMode::Disable);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::{Database, Error, Options, parse};
    use tokio_postgres::config::SslMode;

    #[test]
    fn what_asks_for_verification_gets_tls() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let config = parse(&format!("postgres://u@db.example/d?sslmode={mode}")).unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Require, "{mode}");
        }
    }

    #[test]
    fn a_unix_socket_has_no_tls() {
        let config = parse("postgres://u@%2Frun%2Fpg/d?sslmode=require").unwrap();
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn a_url_that_is_none_is_refused() {
        for url in ["", "postgres:///d", "mysql://u@h/d", "postgres://u@h/d?sslmode=sometimes"] {
            let refused = Database::new(url, Options::default());
            assert!(matches!(refused, Err(Error::Url(_))), "{url:?}: {refused:?}");
        }
    }

    #[test]
    fn debug_does_not_tell_the_password() {
        let database = Database::new("postgres://u:swordfish@h/d", Options::default()).unwrap();
        assert!(!format!("{database:?}").contains("swordfish"));
    }
}
