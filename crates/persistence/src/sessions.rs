//! The database's sessions, and what is told in the log when none can be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_domain::Result;
use diesel_async::AsyncPgConnection;

use crate::database::{self, Connection, Database};
use crate::error::unavailable;

/// What sessions of a pipeline have set beside the others.
///
/// What it asks names what it wants by arrays of keys, so a plan made once is right for every batch.
const PIPELINE: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("jit", "off"), ("plan_cache_mode", "force_generic_plan")];

/// Cheap to clone; clones share the pool.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    database: Database,
    // What was last seen, so that an outage is logged at its beginning and its end and not by every caller in between.
    is_reachable: Arc<AtomicBool>,
}

impl Sessions {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, is_reachable: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// One of the pool's.
    pub(crate) async fn pooled(&self) -> Result<Connection> {
        self.noted(self.database.get().await)
    }

    /// One of the caller's own, for a pipeline. None once the pool is closed.
    pub(crate) async fn for_pipeline(&self) -> Result<AsyncPgConnection> {
        if self.database.is_closed() {
            return Err(unavailable());
        }
        self.noted(self.database.dedicated(&PIPELINE).await)
    }

    fn noted<C>(&self, taken: Result<C, database::Error>) -> Result<C> {
        let was_reachable = self.is_reachable.swap(taken.is_ok(), Ordering::Relaxed);
        match (&taken, was_reachable) {
            (Err(error), true) => tracing::warn!(error = %error, "no connection to the metadata database"),
            (Ok(_), false) => tracing::info!("connections to the metadata database are made again"),
            _ => {}
        }
        taken.map_err(|_| unavailable())
    }
}
