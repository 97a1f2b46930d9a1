//! Opens the driver of a volume, with all wrappers.

use crate::{local, wrap};
use async_trait::async_trait;
use coffer_domain::{
    driver::{Driver, Error, ErrorKind, Open, Result},
    volume::{OpenBackend, Place},
};
use std::sync::Arc;

/// Opens drivers. The limits and retries are the same for all of them.
#[derive(Debug, Clone, Default)]
pub struct Opener {
    options: wrap::Options,
}

impl Opener {
    /// Puts wrappers with these options around every driver it opens.
    pub fn new(options: wrap::Options) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Open for Opener {
    async fn open(&self, backend: &OpenBackend) -> Result<Arc<dyn Driver>> {
        let driver: Arc<dyn Driver> = match &backend.place {
            Place::Local(root) => {
                let config = local::Config {
                    root: root.clone(),
                    prefix: backend.prefix.clone(),
                    ..local::Config::default()
                };
                Arc::new(local::Local::open(config).await?)
            }
            Place::S3(_) | Place::Http(_) => {
                return Err(Error {
                    kind: ErrorKind::Unsupported,
                    operation: "this kind of backend",
                    key: None,
                    source: None,
                });
            }
        };
        Ok(wrap::all(driver, &self.options))
    }
}
