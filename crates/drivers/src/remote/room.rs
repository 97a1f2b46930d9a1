//! How much a writer may keep in memory before it has to store something.

use coffer_domain::budget::{Budget, Reserved, Share};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What a writer keeps without waiting for anybody, if there is plenty: small objects, and the beginning of a part.
const FEW_BYTES: usize = 1024 * 1024;
/// The same for one that goes on without a reservation: what it stores at a time.
const SOME_BYTES: usize = 4 * 1024 * 1024;
/// What it may keep in any case.
const LEAST_BYTES: usize = 128 * 1024;
/// How long a writer waits for a reservation, while nobody gives one back, before it goes on without.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a reservation is kept from others who wait for one, by a writer whose bytes come slowly.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// A writer's memory.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Budget,
    share: Share,
    reserved: Option<(Arc<Reserved>, Instant)>,
}

impl Room {
    /// For an object of this size, if that is known.
    pub(crate) fn new(budget: &Budget, declared_size: Option<u64>) -> Self {
        let few = declared_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(FEW_BYTES);
        let share = budget.take(few.min(FEW_BYTES), LEAST_BYTES.min(few));
        Self { budget: budget.clone(), share, reserved: None }
    }

    /// Bytes that may be kept.
    pub(crate) fn bytes(&self) -> u64 {
        let reserved = self.reserved.as_ref().map_or(0, |(reserved, _)| reserved.bytes());
        self.share.bytes().max(reserved) as u64
    }

    /// Makes room for `bytes`, if that is there in time.
    pub(crate) async fn reserve(&mut self, bytes: u64, patience: Duration) -> bool {
        let Ok(bytes) = usize::try_from(bytes) else { return false };
        match self.budget.reserve(bytes, patience).await {
            Some(reserved) => {
                self.reserved = Some((Arc::new(reserved), Instant::now()));
                true
            }
            None => false,
        }
    }

    /// Whether others wait for what was kept for long.
    pub(crate) fn is_overdue(&self) -> bool {
        self.reserved.as_ref().is_some_and(|(_, since)| since.elapsed() > LONGEST_HOLD)
            && self.budget.is_wanted()
    }

    /// What is reserved, to be held by bytes on their way as long as they are kept.
    pub(crate) fn reserved(&self) -> Option<Arc<Reserved>> {
        self.reserved.as_ref().map(|(reserved, _)| Arc::clone(reserved))
    }

    /// Gives back what is reserved, and takes a share as large as is fair: larger if the writer `goes_without`.
    pub(crate) fn shrink(&mut self, goes_without: bool) {
        self.reserved = None;
        self.share.resize(if goes_without { SOME_BYTES } else { FEW_BYTES }, LEAST_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_for_long_is_given_back_when_others_wait() {
        let budget = Budget::new(16 * 1024 * 1024);
        let mut room = Room::new(&budget, None);
        assert_eq!(room.bytes(), MIB);
        assert!(room.reserve(8 * MIB, PATIENCE).await);
        assert_eq!(room.bytes(), 8 * MIB);
        tokio::time::advance(LONGEST_HOLD + Duration::from_secs(1)).await;
        assert!(!room.is_overdue(), "nobody waits");
        let other = tokio::spawn({
            let mut other = Room::new(&budget, Some(2 * MIB));
            async move { other.reserve(2 * MIB, PATIENCE).await }
        });
        while !budget.is_wanted() {
            tokio::task::yield_now().await;
        }
        assert!(room.is_overdue());
        let of_bytes_under_way = room.reserved();
        room.shrink(true);
        tokio::task::yield_now().await;
        assert!(!other.is_finished() && !room.is_overdue(), "as long as the bytes are there");
        drop(of_bytes_under_way);
        assert!(other.await.unwrap());
        assert!(!room.reserve(9 * MIB, Duration::MAX).await, "there never is as much");
    }
}
