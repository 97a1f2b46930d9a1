//! How much a client may send before we have taken any of it: little at first, more with its flow, less while memory is scarce.
//!
//! A window is a promise: what a client may send has to find room. So a connection that is merely open has the least that HTTP/2 allows,
//! and one that sends gets a share of the memory budget that doubles with each window's worth of content, as TCP's own window
//! does at its start. What was promised cannot be taken back, but it can be used up: where others took much, the connection is given
//! less from then on, and its share is returned once as much has arrived as was promised before.

use coffer_domain::budget::{Budget, Share};

/// HTTP/2's own first window, of each stream and of the connection. Not counted: it is part of what a connection costs.
pub(super) const FIRST_BYTES: u32 = 65_535;

/// Largest window of a connection.
pub(super) const MOST_BYTES: u32 = 16 * 1024 * 1024;
/// Largest window of one of its streams.
const MOST_STREAM_BYTES: u32 = 4 * 1024 * 1024;
/// A stream may have the whole of a window up to this size, and of a larger one a quarter.
const WHOLE_BYTES: u32 = 256 * 1024;

/// The windows of one connection.
#[derive(Debug)]
pub(super) struct Windows {
    budget: Budget,
    share: Share,
    /// What the connection is given now.
    target: u32,
    /// What the client may still believe it was given, at most; the share covers it.
    promised: u32,
    /// Bytes that had arrived when the target was last set.
    mark: u64,
}

/// New windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) connection: u32,
    pub(super) stream: u32,
}

impl Windows {
    pub(super) fn new(budget: Budget) -> Self {
        let share = budget.take(0, 0);
        Self { budget, share, target: FIRST_BYTES, promised: FIRST_BYTES, mark: 0 }
    }

    /// Most bytes that the client may have been promised.
    pub(super) fn promised(&self) -> u32 {
        self.promised
    }

    /// Whether the connection holds memory that others may need.
    pub(super) fn is_wanted_back(&self) -> bool {
        self.share.bytes() > 0 && self.budget.left() < self.budget.total() / 8
    }

    /// What changes now that so many bytes have arrived in all.
    pub(super) fn after(&mut self, received: u64) -> Option<Change> {
        if received - self.mark < u64::from(self.promised) {
            return None;
        }
        self.mark = received;
        // All that was promised before the last change has been used up.
        self.promised = self.target;
        let held = (self.target - FIRST_BYTES) as usize;
        self.share.resize(held, held);
        let wanted = (self.target.saturating_mul(2).min(MOST_BYTES) - FIRST_BYTES) as usize;
        let fair = self.share.fair(wanted, 0);
        if fair.abs_diff(held) < (self.target / 8) as usize {
            return None;
        }
        // Less is enough only when what was promised is used up as well.
        self.share.resize(fair.max(held), held);
        let given = if fair > held { self.share.bytes() } else { fair };
        self.target = FIRST_BYTES + u32::try_from(given).unwrap_or(MOST_BYTES).min(MOST_BYTES - FIRST_BYTES);
        self.promised = self.promised.max(self.target);
        Some(Change { connection: self.target, stream: stream(self.target) })
    }
}

fn stream(connection: u32) -> u32 {
    connection.min(WHOLE_BYTES).max(connection / 4).min(MOST_STREAM_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Change, FIRST_BYTES, MOST_BYTES, MOST_STREAM_BYTES, Windows, stream};
    use coffer_domain::budget::Budget;

    const MIB: usize = 1024 * 1024;

    /// The windows of a connection over which content flows.
    struct Flow {
        windows: Windows,
        received: u64,
        largest: u32,
    }

    impl Flow {
        fn new(budget: &Budget) -> Self {
            Self { windows: Windows::new(budget.clone()), received: 0, largest: FIRST_BYTES }
        }

        /// As much again as was promised arrives.
        fn go_on(&mut self) -> Option<Change> {
            self.received += u64::from(self.windows.promised());
            let change = self.windows.after(self.received);
            self.largest = self.largest.max(self.windows.target);
            change
        }
    }

    #[test]
    fn a_window_is_doubled_when_it_was_used_up_and_not_before() {
        let budget = Budget::new(1024 * MIB);
        let mut windows = Windows::new(budget.clone());
        assert_eq!(budget.left(), budget.total(), "a connection that is merely open has no share");
        assert_eq!(windows.after(65_534), None);
        let change = windows.after(65_535).unwrap();
        assert_eq!((change.connection, change.stream), (131_070, 131_070));
        assert_eq!(windows.after(196_604), None);
        assert_eq!(windows.after(196_605).unwrap().connection, 262_140);
        let mut flow = Flow::new(&budget);
        let steps = (0..20).filter(|_| flow.go_on().is_some()).count();
        assert_eq!(steps, 8);
        assert!(flow.windows.target.abs_diff(MOST_BYTES) < MOST_BYTES / 8, "{}", flow.windows.target);
        assert_eq!(stream(MOST_BYTES), MOST_STREAM_BYTES);
        drop((flow, windows));
        assert_eq!(budget.left(), budget.total());
    }

    #[test]
    fn those_who_were_first_give_way_and_the_budget_is_kept_meanwhile() {
        let budget = Budget::new(32 * MIB);
        let mut flows: Vec<_> = (0..4).map(|_| Flow::new(&budget)).collect();
        for _ in 0..20 {
            for flow in &mut flows {
                flow.go_on();
            }
        }
        let before = flows[0].windows.target;
        assert!(before > 2 * MIB as u32, "{before}");
        flows.extend((0..60).map(|_| Flow::new(&budget)));
        for _ in 0..30 {
            for flow in &mut flows {
                flow.go_on();
            }
            let promised: usize =
                flows.iter().map(|flow| (flow.windows.promised() - FIRST_BYTES) as usize).sum();
            assert!(promised <= budget.total(), "{promised}");
        }
        let fair = budget.total() as u32 / (64 + 7);
        for flow in &flows {
            let target = flow.windows.target - FIRST_BYTES;
            assert!(target > fair / 3 && target < fair * 2, "{target} of about {fair}");
        }
        flows.truncate(1);
        for _ in 0..10 {
            flows[0].go_on();
        }
        assert!(flows[0].windows.target > before, "and grow again");
    }

    #[test]
    fn without_memory_a_connection_has_what_it_began_with() {
        let budget = Budget::new(MIB);
        let _all = budget.take(0, MIB);
        let mut flow = Flow::new(&budget);
        assert!((0..5).all(|_| flow.go_on().is_none()));
        assert_eq!(flow.windows.promised(), FIRST_BYTES);
        assert!(!flow.windows.is_wanted_back(), "there is nothing to be had");
    }

    #[test]
    fn a_share_is_wanted_back_when_little_is_left() {
        let budget = Budget::new(16 * MIB);
        let mut flow = Flow::new(&budget);
        for _ in 0..8 {
            flow.go_on();
        }
        assert!(!flow.windows.is_wanted_back());
        let _others = budget.take(0, budget.left() - MIB);
        assert!(flow.windows.is_wanted_back());
    }
}
