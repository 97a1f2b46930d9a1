//! How large the pieces of a read are: small until its caller has shown that he takes them fast, and while memory is scarce.

use crate::{
    budget::{Budget, Share},
    driver::PieceSize,
};
use std::time::Duration;

/// Bytes that a driver reads at once, from the first step to the last.
const STEPS: [usize; 3] = [64 * 1024, 256 * 1024, 1024 * 1024];
/// Most bytes of a message: the size that transfers fastest. Larger ones cost memory and time.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Messages after which it is decided anew.
const MESSAGES: u32 = 16;
/// The same, for a caller who takes few.
const MAX_TIME: Duration = Duration::from_secs(1);
/// Bytes per second from which on larger pieces pay, and below which they are only memory.
const FAST: u64 = 16 * 1024 * 1024;
const SLOW: u64 = 4 * 1024 * 1024;

/// The size of the next pieces, with the memory for them.
#[derive(Debug)]
pub(super) struct Pace {
    step: usize,
    size: PieceSize,
    share: Share,
    /// What the caller has taken since the last decision, and how long he took for it.
    messages: u32,
    bytes: u64,
    time: Duration,
}

/// What a read holds at most: a piece of which messages are made, one that is read ahead, and two and a half messages on their way
/// through gRPC.
const fn need(step: usize) -> usize {
    let message = if STEPS[step] < MAX_MESSAGE_BYTES { STEPS[step] } else { MAX_MESSAGE_BYTES };
    2 * STEPS[step] + 5 * message / 2
}

impl Pace {
    /// That of a read which has just begun.
    pub(super) fn new(budget: &Budget) -> Self {
        let share = budget.take(need(0), need(0));
        let size = PieceSize::new(STEPS[0]);
        Self { step: 0, size, share, messages: 0, bytes: 0, time: Duration::ZERO }
    }

    /// What the driver reads at once, now and later.
    pub(super) fn size(&self) -> PieceSize {
        self.size.clone()
    }

    /// Bytes of the next message, at most.
    pub(super) fn message_bytes(&self) -> usize {
        STEPS[self.step].min(MAX_MESSAGE_BYTES)
    }

    /// The caller took so long to come back after a message of so many bytes.
    pub(super) fn taken(&mut self, bytes: usize, time: Duration) {
        self.messages += 1;
        self.bytes += bytes as u64;
        self.time += time;
        if self.messages >= MESSAGES || self.time >= MAX_TIME {
            self.decide();
        }
    }

    fn decide(&mut self) {
        let micros = self.time.as_micros().max(1);
        let per_second = u128::from(self.bytes) * 1_000_000 / micros;
        let wanted = match self.step {
            step if per_second < SLOW.into() => step.saturating_sub(1),
            step if per_second >= FAST.into() => (step + 1).min(STEPS.len() - 1),
            step => step,
        };
        self.share.resize(need(wanted), need(0));
        self.step = (0..=wanted).rev().find(|step| need(*step) <= self.share.bytes()).unwrap_or(0);
        self.share.resize(need(self.step), need(0));
        self.size.set(STEPS[self.step]);
        (self.messages, self.bytes, self.time) = (0, 0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const AT_ONCE: Duration = Duration::from_micros(50);

    /// The sizes at which `messages` are taken.
    fn take(pace: &mut Pace, messages: u32, time: Duration) -> Vec<usize> {
        let mut sizes = vec![pace.size().get()];
        for _ in 0..messages {
            pace.taken(pace.message_bytes(), time);
            sizes.push(pace.size().get());
        }
        sizes.dedup();
        sizes
    }

    #[test]
    fn pieces_grow_while_they_are_taken_fast_and_shrink_when_they_are_not() {
        let budget = Budget::default();
        let mut pace = Pace::new(&budget);
        assert_eq!(take(&mut pace, 3 * MESSAGES, AT_ONCE), STEPS);
        assert_eq!(pace.message_bytes(), MAX_MESSAGE_BYTES);
        assert_eq!(budget.total() - budget.left(), need(2));
        // 8 MiB/s: neither.
        assert_eq!(take(&mut pace, 64, Duration::from_millis(32)), [MIB]);
        assert_eq!(take(&mut pace, 2, Duration::from_secs(2)), [MIB, MIB / 4, MIB / 16]);
        assert_eq!(pace.message_bytes(), STEPS[0]);
        assert_eq!(budget.total() - budget.left(), need(0));
        drop(pace);
        assert_eq!(budget.left(), budget.total());
    }

    #[test]
    fn many_share_what_there_is() {
        let budget = Budget::new(32 * MIB);
        let mut paces: Vec<_> = (0..64).map(|_| Pace::new(&budget)).collect();
        for _ in 0..10 {
            paces.iter_mut().for_each(|pace| drop(take(pace, MESSAGES, AT_ONCE)));
        }
        assert!(paces.iter().all(|pace| pace.size().get() < MIB));
        assert!(paces.iter().any(|pace| pace.size().get() == STEPS[0]), "there is not enough for all");
        assert!(budget.left() > 0 && budget.left() < 32 * MIB - 64 * need(0));
        paces.truncate(2);
        for pace in &mut paces {
            take(pace, 3 * MESSAGES, AT_ONCE);
            assert_eq!(pace.size().get(), MIB, "as soon as there is room");
        }
    }
}
