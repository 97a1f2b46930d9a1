//! Puts the use cases together from their parts, the same way for a server and for `seed`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use coffer_domain::budget::Budget;
use coffer_domain::id::NodeId;
use coffer_domain::service::{Coffer, Settings};
use coffer_domain::store::{NodeStart, Store};
use coffer_drivers::{Opener, WireOptions, wrap};
use coffer_persistence::secrets::{self, KeyRing};
use coffer_persistence::{Database, PgStore};

use crate::config::Config;
use crate::data_dir::DataDir;

/// The use cases, and what they stand on.
#[derive(Clone)]
pub(crate) struct Assembled {
    pub(crate) coffer: Coffer,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) start: NodeStart,
    /// Of all bytes on their way.
    pub(crate) budget: Budget,
    pub(crate) keys: KeyRing,
}

/// Starts `node` anew, which ends what its earlier starts had begun.
pub(crate) async fn assemble(
    config: &Config,
    data_dir: &DataDir,
    database: &Database,
    node: NodeId,
    lease: Duration,
) -> anyhow::Result<Assembled> {
    let keys = key_ring(config, data_dir)?;
    let store: Arc<dyn Store> = Arc::new(PgStore::new(database.clone()).with_keys(keys.clone()));
    let start = store
        .start_node(node, env!("CARGO_PKG_VERSION"), lease)
        .await
        .context("cannot register this node in the database")?;
    let cluster = store.cluster().await.context("cannot read the database's identity")?;
    let budget = Budget::new(config.memory_budget);
    let settings = Settings {
        default_volume: config.default_volume.clone(),
        allowed_roots: allowed_roots(config, data_dir)?,
        key_folder: config.key_folder.clone(),
        stall_timeout: config.stall_timeout,
        orphan_grace: config.reconcile.orphan_grace,
        lease,
        open_uploads: config.limits.open_uploads_per_principal,
        budget: budget.clone(),
    };
    let wire = WireOptions { policy: config.egress.clone(), ..WireOptions::default() };
    let opener = Opener::new(wrap::Options::default(), wire, budget.clone());
    let coffer = Coffer::new(Arc::clone(&store), Arc::new(opener), start, cluster, settings);
    coffer
        .ensure_default_volume(&data_dir.volume(&config.default_volume)?)
        .await
        .with_context(|| format!("cannot make the volume {}", config.default_volume))?;
    Ok(Assembled { coffer, store, start, budget, keys })
}

/// The file of keys, if there is one or will be. Other nodes of an external database could not read one that this node makes for itself.
pub(crate) fn keys_file(config: &Config, data_dir: &DataDir) -> Option<PathBuf> {
    config.keys_file.clone().or_else(|| config.is_embedded().then(|| data_dir.keys()))
}

/// The keys that secrets are sealed under; none where there is no file.
pub(crate) fn key_ring(config: &Config, data_dir: &DataDir) -> anyhow::Result<KeyRing> {
    let Some(file) = keys_file(config, data_dir) else { return Ok(KeyRing::default()) };
    secrets::load_or_create(&file, config.keys_file.is_none()).context("secrets.keys_file")
}

fn allowed_roots(config: &Config, data_dir: &DataDir) -> anyhow::Result<Vec<PathBuf>> {
    let mut roots = config.allowed_roots.clone();
    roots.push(data_dir.volumes()?);
    Ok(roots)
}
