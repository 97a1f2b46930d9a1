//! The real service, and the volumes of its tenants.

use crate::quotas::{eventually, nothing_drifts};
use coffer_tests::{Cofferd, cofferd::files_below};
use std::{collections::BTreeSet, path::PathBuf};

pub(super) struct Service {
    pub(super) cofferd: Cofferd,
    /// Id and directory of each tenant's volume.
    pub(super) volumes: Vec<(String, PathBuf)>,
}

impl Service {
    pub(super) async fn start() -> Self {
        Self { cofferd: Cofferd::start().await, volumes: Vec::new() }
    }

    /// Ends it as a crash would, and starts it again.
    pub(super) async fn crash(&mut self) {
        self.cofferd.kill();
        self.cofferd.launch().await;
    }

    /// When the reconciler is done, volumes and rows name the same objects, what is staged is of open uploads, and nothing drifts.
    pub(super) async fn settled(&self) {
        const OBJECTS: &str = "SELECT key FROM storage_objects WHERE volume_id::text = $1 AND state = 'live'";
        const OPEN: &str =
            "SELECT id::text FROM storage_uploads WHERE volume_id::text = $1 AND state = 'OPEN'";
        let sql = self.cofferd.database.connect().await;
        let texts = async |query: &str, volume: &String| -> BTreeSet<String> {
            sql.query(query, &[volume]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        let mut compared = 0;
        for (volume, directory) in &self.volumes {
            eventually("a volume has what its rows say", async || {
                let rows = texts(OBJECTS, volume).await;
                let objects: BTreeSet<_> =
                    files_below(directory).into_iter().filter(|key| !key.starts_with(".coffer/")).collect();
                compared += rows.len();
                rows == objects
            })
            .await;
            let open = texts(OPEN, volume).await;
            eventually("only open uploads have staged bytes", async || {
                let staged = files_below(&directory.join(".coffer/staging"));
                staged.iter().all(|name| open.contains(name.split('/').next().unwrap_or_default()))
            })
            .await;
        }
        nothing_drifts(&self.cofferd).await;
        println!("{} volumes with {compared} objects, as many rows", self.volumes.len());
    }
}
