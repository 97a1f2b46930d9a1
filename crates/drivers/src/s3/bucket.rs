//! What all writers of a bucket share.

use super::{client::Client, integrity::Integrity};
use crate::remote::Holds;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which bytes under way are counted.
const UNIT: u64 = 64 * 1024;

/// A bucket, how it is spoken to, and how much at a time.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Arc<Client>,
    pub(super) integrity: Integrity,
    pub(super) part_bytes: u64,
    in_flight: Arc<Semaphore>,
    units: u32,
    /// Uploads that have a writer.
    pub(super) holds: Holds,
}

impl Bucket {
    pub(super) fn new(
        client: Arc<Client>,
        integrity: Integrity,
        part_bytes: u64,
        in_flight_bytes: u64,
    ) -> Self {
        let units = u32::try_from(in_flight_bytes / UNIT).unwrap_or(u32::MAX).clamp(1, 1 << 20);
        Self {
            client,
            integrity,
            part_bytes,
            in_flight: Arc::new(Semaphore::new(units as usize)),
            units,
            holds: Holds::default(),
        }
    }

    /// Waits until a part of this size may be under way. One that is larger than all that may be goes alone.
    pub(super) async fn enter(&self, size: u64) -> OwnedSemaphorePermit {
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        Arc::clone(&self.in_flight).acquire_many_owned(units).await.expect("the semaphore is never closed")
    }
}
