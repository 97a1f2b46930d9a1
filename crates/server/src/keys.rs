//! `cofferd keys`: the keys that secrets are sealed under.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coffer_domain::caller::Caller;
use coffer_domain::id::NodeId;
use coffer_domain::page::PageRequest;
use coffer_domain::service::{Coffer, Settings};
use coffer_domain::store::Store;
use coffer_domain::task::{Filter, Task, TaskKind, TaskState};
use coffer_drivers::Opener;
use coffer_persistence::{PgStore, migrate, secrets};
use uuid::Uuid;

use crate::args::Keys;
use crate::assemble::{key_ring, keys_file};
use crate::config::Config;
use crate::metadata::{self, ForTool};
use crate::output::say;
use crate::seed::operator;

/// Longer than a rotation takes: it does not renew its lease. A run after a killed one does not wait for its end.
const LEASE: Duration = Duration::from_secs(600);

/// How long what it began may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Makes a new key, or takes the one that is named, and seals everything under it.
pub(crate) async fn keys(config: &Config, what: Keys) -> anyhow::Result<()> {
    let Keys::Rotate { key } = what;
    let tool = ForTool::open(config).await?;
    let outcome = rotate(config, &tool, key).await;
    tool.close().await?;
    outcome
}

async fn rotate(config: &Config, tool: &ForTool, key: Option<String>) -> anyhow::Result<()> {
    let database = &tool.metadata.database;
    if config.is_embedded() && !tool.is_served {
        migrate::up(database).await.context("cannot migrate the database")?;
    } else {
        metadata::must_be_current(database).await?;
    }
    let Some(file) = keys_file(config, &tool.data_dir) else {
        bail!("there are no keys: set secrets.keys_file");
    };
    let ring = key_ring(config, &tool.data_dir)?;
    let named = key.map(|key| key.parse()).transpose().context("--key")?;
    // A node of its own: a start of the server's node would take its place.
    let node = NodeId::from(Uuid::new_v5(&tool.data_dir.node_id()?.uuid(), b"keys"));
    let store: Arc<dyn Store> = Arc::new(PgStore::new(database.clone()).with_keys(ring));
    let start = store.start_node(node, env!("CARGO_PKG_VERSION"), LEASE).await?;
    let cluster = store.cluster().await?;
    let coffer = Coffer::new(store, Arc::new(Opener::default()), start, cluster, Settings::default());
    let operator = operator("keys", "rotate keys");
    coffer.resume_tasks().await?;
    let ended = match running(&coffer, &operator).await? {
        Some(task) => {
            say(format_args!("an earlier rotation has not ended: going on with it"));
            follow(&coffer, &operator, task).await
        }
        None => {
            let named = match named {
                Some(named) => named,
                None => {
                    let id = secrets::add_key(&file)?;
                    say(format_args!("made the key {id}, which seals from now on, in {}", file.display()));
                    id
                }
            };
            let task = coffer.rotate_keys(&operator, Some(named), None).await?;
            follow(&coffer, &operator, task).await
        }
    };
    coffer.drain(GRACE).await;
    ended
}

/// A rotation that somebody works on.
async fn running(coffer: &Coffer, operator: &Caller) -> anyhow::Result<Option<Task>> {
    let filter = Filter { state: Some(TaskState::Running), kind: Some(TaskKind::RotateKeys) };
    let found = coffer.list_tasks(operator, &filter, &PageRequest::new(1, 0, None)?).await?;
    Ok(found.items.into_iter().next())
}

/// Says how far a task is until it has ended.
async fn follow(coffer: &Coffer, operator: &Caller, mut task: Task) -> anyhow::Result<()> {
    while task.state == TaskState::Running {
        task = coffer.watch_task(operator, task.id, Some(task.updated_at)).await?;
        say(format_args!("sealed anew: {} of {}", task.items_done, task.items_total));
    }
    match (task.state, task.error) {
        (TaskState::Succeeded, _) => {
            say(format_args!("all secrets are sealed under the current key; earlier keys may go"));
            Ok(())
        }
        (TaskState::Failed, Some(error)) => bail!("{}: {}", error.reason, error.message),
        (state, _) => bail!("the rotation is {}", state.as_str()),
    }
}
