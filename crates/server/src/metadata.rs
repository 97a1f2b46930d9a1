//! The metadata database: the embedded PostgreSQL or an external one, at the right version.

mod embedded;

use anyhow::{Context as _, bail};
use coffer_persistence::database::Options;
use coffer_persistence::{Database, migrate};

use crate::config::{Config, Migrate};
use crate::data_dir::{DataDir, Lock};
pub(crate) use embedded::Embedded;

/// A database, and the PostgreSQL that has to live as long as it is used, if that is ours.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) database: Database,
    pub(crate) embedded: Option<Embedded>,
}

impl Metadata {
    /// For a server, which holds the data directory's lock.
    pub(crate) async fn for_server(
        config: &Config,
        data_dir: &DataDir,
        _lock: &Lock,
    ) -> anyhow::Result<Self> {
        let metadata = Self::own(config, data_dir).await?;
        if metadata.embedded.is_some() || config.database.migrate == Migrate::Auto {
            migrate::up(&metadata.database).await.context("cannot migrate the database")?;
        } else {
            must_be_current(&metadata.database).await?;
        }
        Ok(metadata)
    }

    /// Our own embedded one, or the external one.
    async fn own(config: &Config, data_dir: &DataDir) -> anyhow::Result<Self> {
        if !config.is_embedded() {
            let url = config.database.url.as_deref().context("there is no database.url")?;
            return Ok(Self { database: connect(config, url)?, embedded: None });
        }
        let embedded = Embedded::start(data_dir.postgres(), config.database.pool_size.get()).await?;
        Ok(Self { database: connect(config, &embedded.url())?, embedded: Some(embedded) })
    }

    /// Closes the connections, then stops the PostgreSQL that is ours.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.database.close();
        match self.embedded {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }
}

/// The database for a tool, which may find a server running on the data directory.
#[derive(Debug)]
pub(crate) struct ForTool {
    pub(crate) metadata: Metadata,
    /// Where the tool works, if the settings need such a place.
    pub(crate) data_dir: DataDir,
    /// A server has the data directory. Its embedded PostgreSQL is used, if that is meant.
    pub(crate) is_served: bool,
    _lock: Option<Lock>,
}

impl ForTool {
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let lock = data_dir.lock()?;
        let is_served = lock.is_none();
        let metadata = if is_served && config.is_embedded() {
            let url = embedded::running_url(&data_dir.postgres())?;
            Metadata { database: connect(config, &url)?, embedded: None }
        } else {
            Metadata::own(config, &data_dir).await?
        };
        Ok(Self { metadata, data_dir, is_served, _lock: lock })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.metadata.close().await
    }
}

fn connect(config: &Config, url: &str) -> anyhow::Result<Database> {
    let options = Options {
        schema: config.database.schema.clone(),
        pool_size: config.database.pool_size,
        root_certificates: config.database.root_certificates.clone(),
        application_name: "cofferd".to_owned(),
        ..Options::default()
    };
    Ok(Database::new(url, options)?)
}

/// Refuses a database that lacks migrations, and says what to do.
pub(crate) async fn must_be_current(database: &Database) -> anyhow::Result<()> {
    let status = migrate::status(database).await.context("cannot look at the database's schema")?;
    if !status.pending.is_empty() {
        bail!(
            "the database lacks migrations ({}): run `cofferd migrate up` with the same settings, or set \
             database.migrate to auto",
            status.pending.join(", ")
        );
    }
    Ok(())
}
