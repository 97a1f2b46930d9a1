//! A database per test, cloned from a migrated template in one cluster per run.

use coffer_embedded_postgres::{Cluster, Options};
use coffer_persistence::{database, migrate};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio_postgres::{Client, NoTls};

const TEMPLATE: &str = "coffer_template";

/// A migrated database of a test's own. Dropped with the cluster at the end of the run.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Clones the template.
    pub async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = cluster().await;
        let database = name.clone();
        tokio::task::spawn_blocking(move || cluster.create_database(&database, Some(TEMPLATE)))
            .await
            .expect("no panic")
            .expect("the template can be cloned");
        Self { name }
    }

    /// For `database.url`.
    pub async fn url(&self) -> String {
        cluster().await.url_for(&self.name)
    }

    /// A connection with Coffer's schema as its search path.
    pub async fn connect(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url().await, NoTls).await.expect("the database answers");
        tokio::spawn(connection);
        client.batch_execute("SET search_path = coffer").await.expect("the schema can be chosen");
        client
    }

    /// A single number by SQL.
    pub async fn number(&self, sql: &str) -> i64 {
        self.connect().await.query_one(sql, &[]).await.expect("the query is right").get(0)
    }
}

/// The run's cluster. It ends with this process; what an earlier run left behind is removed first.
async fn cluster() -> &'static Cluster {
    static CLUSTER: tokio::sync::OnceCell<&'static Cluster> = tokio::sync::OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            let directory = own_directory();
            let started = tokio::task::spawn_blocking(move || {
                // What is measured has to wait for the disk, as it would in use.
                let durable = crate::dice::number_of_run("COFFER_DURABLE", 0) == 1;
                let options = Options { max_connections: 400, durable, ..Options::default() };
                let cluster = Cluster::start(&directory, options).expect("PostgreSQL starts");
                cluster.create_database(TEMPLATE, None).expect("the template can be made");
                cluster
            });
            let cluster: &'static Cluster = Box::leak(Box::new(started.await.expect("no panic")));
            let template = database::Database::new(&cluster.url_for(TEMPLATE), database::Options::default())
                .expect("the URL is right");
            migrate::up(&template).await.expect("the migrations apply");
            drop(template);
            cluster
        })
        .await
}

/// `target/test-postgres/{process id}`; directories of processes that are gone are removed.
fn own_directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let root = crate::cofferd::target_directory().join("test-postgres");
            for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
                let is_alive = Path::new("/proc").join(entry.file_name()).exists();
                if !is_alive {
                    // A left-over that cannot be removed does no harm.
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
            let own = root.join(std::process::id().to_string());
            fs::create_dir_all(&own).expect("target/ is writable");
            own
        })
        .clone()
}
