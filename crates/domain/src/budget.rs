//! Memory for bytes on their way, one budget for all transfers and connections of a process.
//!
//! Who needs a buffer of any size does not wait: he is told at once how large it may be. While there is plenty he gets what he wants; the
//! more is taken, the smaller the shares, down to the least with which he can work at all. Who needs many bytes or none, since a backend
//! takes nothing smaller, [waits](Budget::reserve) for them, in the order of arrival and not for ever. Shares make room for him as they
//! are resized.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A share is at most this part of what is left, so that whoever comes next finds something. With `n` equal holders that resize now and
/// then each comes to have a share of `total / (n + 7)`.
const PART: usize = 8;
/// This part of all can be reserved.
const RESERVABLE_PART: usize = 2;
/// How often the patience of one who waits begins anew.
const MOST_WAITS: u32 = 15;
/// The unit in which bytes are reserved.
const UNIT: usize = 64 * 1024;

/// Bytes that buffers may take in all. Cheap to clone; all clones are one budget.
///
/// It is kept but for the least that each holder is given in any case, and for what is reserved while shares are large: with `n` shares,
/// each resized now and then, never more than the total plus `n` times that is taken for long. How many there may be is limited where
/// streams and connections are.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    taken: AtomicUsize,
    reservable: Arc<Semaphore>,
    /// How many wait for a reservation, and how many were given back.
    waiting: AtomicUsize,
    given_back: AtomicUsize,
}

impl Budget {
    /// Bytes of [`Budget::default`].
    pub const DEFAULT_BYTES: usize = 96 * 1024 * 1024;

    /// A budget of so many bytes, of which nothing is taken.
    pub fn new(total_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            total: total_bytes,
            taken: AtomicUsize::new(0),
            reservable: Arc::new(Semaphore::new(reservable(total_bytes) / UNIT)),
            waiting: AtomicUsize::new(0),
            given_back: AtomicUsize::new(0),
        }))
    }

    /// A share of up to `wanted` bytes, less where others have taken much, and at least `least` even if nothing is left.
    pub fn take(&self, wanted: usize, least: usize) -> Share {
        let mut share = Share { budget: self.clone(), bytes: 0 };
        share.resize(wanted, least);
        share
    }

    /// Exactly so many bytes. Half of the budget can be reserved, all reservations together, and who asked first is served first. `None` if
    /// it is more than that, or if for so long nobody gave anything back: while others do it waits on, up to fifteen times as long in all.
    pub async fn reserve(&self, bytes: usize, patience: Duration) -> Option<Reserved> {
        let Inner { total, reservable: units, taken, given_back, .. } = &*self.0;
        if bytes > reservable(*total) {
            return None;
        }
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let units = Arc::clone(units);
        let permit = match Arc::clone(&units).try_acquire_many_owned(wanted) {
            Ok(permit) => permit,
            Err(_) => {
                let _counted = Waiting::new(self);
                let mut turn = pin!(units.acquire_many_owned(wanted));
                let (mut waits, mut seen) = (0, given_back.load(Ordering::Relaxed));
                loop {
                    if let Ok(permit) = timeout(patience, &mut turn).await {
                        break permit.expect("the semaphore is never closed");
                    }
                    waits += 1;
                    let before = std::mem::replace(&mut seen, given_back.load(Ordering::Relaxed));
                    if seen == before || waits == MOST_WAITS {
                        return None;
                    }
                }
            }
        };
        taken.fetch_add(bytes, Ordering::Relaxed);
        Some(Reserved { budget: self.clone(), bytes, _permit: permit })
    }

    /// Whether somebody waits for a reservation.
    pub fn is_wanted(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that nobody has taken.
    pub fn left(&self) -> usize {
        self.0.total.saturating_sub(self.0.taken.load(Ordering::Relaxed))
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.0.total
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

/// Bytes of a [`Budget`] that one holder may use, until dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// How many these are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes [`Share::resize`] would give now.
    pub fn fair(&self, wanted: usize, least: usize) -> usize {
        share_of(self.budget.left() + self.bytes, wanted, least)
    }

    /// Gives the share back and takes one anew, as by [`Budget::take`]: to grow, or to leave more to others while much is taken.
    pub fn resize(&mut self, wanted: usize, least: usize) {
        let Inner { total, taken, .. } = &*self.budget.0;
        let mut now = taken.load(Ordering::Relaxed);
        self.bytes = loop {
            let others = now - self.bytes;
            let bytes = share_of(total.saturating_sub(others), wanted, least);
            match taken.compare_exchange_weak(now, others + bytes, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break bytes,
                Err(changed) => now = changed,
            }
        };
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of a [`Budget`] that one holder waited for, until dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Reserved {
    /// How many these are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.given_back.fetch_add(1, Ordering::Relaxed);
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One who waits, until dropped.
struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn reservable(total: usize) -> usize {
    total / RESERVABLE_PART / UNIT * UNIT
}

fn share_of(left: usize, wanted: usize, least: usize) -> usize {
    wanted.min(left / PART).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    #[test]
    fn whoever_comes_first_gets_what_he_wants_and_gives_it_back() {
        let budget = Budget::new(96 * MIB);
        let share = budget.take(MIB, 64 * KIB);
        assert_eq!((share.bytes(), budget.left()), (MIB, 95 * MIB));
        drop(share);
        assert_eq!(budget.left(), 96 * MIB);
        assert_eq!(budget.take(MIB, 2 * MIB).bytes(), 2 * MIB, "the least is never refused");
    }

    #[test]
    fn the_more_is_taken_the_smaller_the_shares_down_to_the_least() {
        let budget = Budget::new(16 * MIB);
        let shares: Vec<_> = (0..200).map(|_| budget.take(MIB, 64 * KIB)).collect();
        let sizes: Vec<_> = shares.iter().map(Share::bytes).collect();
        assert_eq!(sizes[0], MIB);
        assert!(sizes.is_sorted_by(|before, after| before >= after), "{sizes:?}");
        assert_eq!(sizes[199], 64 * KIB);
        assert!(sizes.iter().sum::<usize>() <= budget.total() + 200 * 64 * KIB);
        drop(shares);
        assert_eq!(budget.left(), budget.total());
    }

    #[test]
    fn those_who_were_first_leave_some_to_those_who_come_later() {
        let budget = Budget::new(96 * MIB);
        let mut shares: Vec<_> = (0..64).map(|_| budget.take(4 * MIB, 64 * KIB)).collect();
        for _ in 0..64 {
            shares.iter_mut().for_each(|share| share.resize(4 * MIB, 64 * KIB));
        }
        let fair = budget.total() / (64 + PART - 1);
        for share in &shares {
            assert!(share.bytes().abs_diff(fair) < fair / 10, "{} of about {fair}", share.bytes());
        }
        shares.truncate(1);
        shares[0].resize(4 * MIB, 64 * KIB);
        assert_eq!(shares[0].bytes(), 4 * MIB, "and take it again");
    }

    #[test]
    fn many_at_once_lose_and_invent_nothing() {
        let budget = Budget::new(8 * MIB);
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let budget = budget.clone();
                scope.spawn(move || {
                    for round in 0..5_000 {
                        let mut share = budget.take(thread * 300 * KIB, 4 * KIB);
                        share.resize(round % 7 * 100 * KIB, 4 * KIB);
                        let taken = budget.total() - budget.left();
                        assert!(taken <= budget.total() && taken >= 4 * KIB);
                    }
                });
            }
        });
        assert_eq!(budget.left(), budget.total());
    }

    const SOON: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn half_can_be_reserved_and_who_asked_first_is_served_first() {
        let budget = Budget::new(16 * MIB);
        let first = budget.reserve(5 * MIB, SOON).await.unwrap();
        assert_eq!((first.bytes(), budget.left()), (5 * MIB, 11 * MIB));
        assert!(budget.reserve(9 * MIB, SOON).await.is_none(), "more than there ever is");
        assert!(budget.reserve(4 * MIB, SOON).await.is_none(), "nobody gave anything back");
        assert!(!budget.is_wanted());
        let ask = |bytes| {
            let budget = budget.clone();
            tokio::spawn(async move { budget.reserve(bytes, SOON).await })
        };
        let second = ask(8 * MIB);
        tokio::task::yield_now().await;
        // Three are left, and yet he waits for him who came before.
        let third = ask(MIB);
        tokio::task::yield_now().await;
        assert!(budget.is_wanted() && !third.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!((second.bytes(), budget.left()), (8 * MIB, 8 * MIB));
        assert!(!third.is_finished());
        drop(second);
        assert_eq!(third.await.unwrap().unwrap().bytes(), MIB);
        assert_eq!((budget.left(), budget.is_wanted()), (16 * MIB, false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sees_others_give_back_waits_on_but_not_for_ever() {
        for (holders, is_served) in [(8, true), (32, false)] {
            let budget = Budget::new(16 * MIB);
            let mut held = Vec::new();
            for _ in 0..holders {
                held.push(budget.reserve(8 * MIB / holders, SOON).await.unwrap());
            }
            let began = tokio::time::Instant::now();
            let all = tokio::spawn({
                let budget = budget.clone();
                async move { budget.reserve(8 * MIB, SOON).await }
            });
            while let Some(one) = held.pop() {
                tokio::time::sleep(SOON * 3 / 4).await;
                drop(one);
            }
            assert_eq!(all.await.unwrap().is_some(), is_served, "after {:?}", began.elapsed());
            assert_eq!(budget.left(), 16 * MIB);
        }
    }

    #[tokio::test]
    async fn shares_make_room_for_what_is_reserved() {
        let budget = Budget::new(16 * MIB);
        let mut share = budget.take(MIB, 4 * KIB);
        let held = budget.reserve(8 * MIB, SOON).await.unwrap();
        assert_eq!(share.fair(MIB, 4 * KIB), MIB);
        share.resize(2 * MIB, 4 * KIB);
        assert_eq!(share.bytes(), MIB, "an eighth of what is left");
        drop(held);
        share.resize(2 * MIB, 4 * KIB);
        assert_eq!(share.bytes(), 2 * MIB);
    }
}
