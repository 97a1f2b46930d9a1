//! A cluster that the tests running at one time share, and a database of its own for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use coffer_embedded_postgres::{Cluster, Options as ClusterOptions};
use coffer_persistence::Database;
use coffer_persistence::database::Options;
use coffer_persistence::migrate;
use diesel::result::{DatabaseErrorInformation, Error};
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Shared {
    // In the order in which they end.
    cluster: Cluster,
    _folder: TempDir,
}

impl Shared {
    /// The cluster that runs, or a new one. It ends with the last test that uses it.
    fn get() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let folder = TempDir::new().unwrap();
        let cluster = Cluster::start(folder.path(), ClusterOptions::disposable()).unwrap();
        let started = Arc::new(Self { cluster, _folder: folder });
        *shared = Arc::downgrade(&started);
        started
    }
}

/// An empty database.
pub(crate) struct Empty {
    url: String,
    _shared: Arc<Shared>,
}

impl Empty {
    pub(crate) async fn new() -> Self {
        tokio::task::spawn_blocking(|| {
            let shared = Shared::get();
            let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
            shared.cluster.create_database(&name, None).unwrap();
            Self { url: shared.cluster.url_for(&name), _shared: shared }
        })
        .await
        .unwrap()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL, as another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        format!("{}?options=-c%20role%3D{role}", self.url)
    }

    pub(crate) fn database(&self) -> Database {
        self.database_with(Options::default())
    }

    pub(crate) fn database_with(&self, options: Options) -> Database {
        Database::new(&self.url, options).unwrap()
    }
}

/// A database with Coffer's tables, and a connection to it.
pub(crate) struct Migrated {
    pub(crate) connection: AsyncPgConnection,
    pub(crate) database: Database,
    _empty: Empty,
}

impl Migrated {
    pub(crate) async fn new() -> Self {
        let empty = Empty::new().await;
        let database = empty.database();
        migrate::up(&database).await.unwrap();
        Self { connection: database.dedicated(&[]).await.unwrap(), database, _empty: empty }
    }

    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.connection.batch_execute(sql).await
    }

    /// What a query for one text column answers.
    pub(crate) async fn texts(&mut self, sql: &str) -> Vec<String> {
        texts(&mut self.connection, sql).await
    }

    /// What a statement is refused with.
    pub(crate) async fn refusal(&mut self, sql: &str) -> Box<dyn DatabaseErrorInformation + Send + Sync> {
        match self.run(sql).await {
            Err(Error::DatabaseError(_, information)) => information,
            other => panic!("{other:?} from {sql}"),
        }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

/// What a query for one text column answers.
pub(crate) async fn texts(connection: &mut AsyncPgConnection, sql: &str) -> Vec<String> {
    let rows: Vec<Row> =
        sql_query(format!("SELECT text FROM ({sql}) AS asked (text)")).load(connection).await.unwrap();
    rows.into_iter().map(|row| row.text).collect()
}
