//! What all writers of a bucket share.

use super::{
    client::Client,
    config::{Config, LEAST_PART_BYTES},
    integrity::Integrity,
};
use crate::remote::Holds;
use coffer_domain::budget::Budget;
use std::sync::Arc;

/// A bucket, how it is spoken to, and how much memory there is for what is sent to it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Arc<Client>,
    pub(super) integrity: Integrity,
    pub(super) part_bytes: u64,
    pub(super) copied_at_once_bytes: u64,
    /// Of the process.
    pub(super) budget: Budget,
    /// Uploads that have a writer.
    pub(super) holds: Holds,
}

impl Bucket {
    pub(super) fn new(client: Arc<Client>, integrity: Integrity, config: &Config) -> Self {
        Self {
            client,
            integrity,
            part_bytes: config.part_bytes,
            copied_at_once_bytes: config.copied_at_once_bytes.max(LEAST_PART_BYTES),
            budget: config.budget.clone(),
            holds: Holds::default(),
        }
    }
}
