//! What is in progress and who waits, as it is at one moment.

use super::{Kind, Limits, refused};
use coffer_domain::{Error, Result, error::Limited};
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// Turns that callers have for sure, as long as not too many share in the last quarter.
const SURE_TURNS: usize = 2;

/// Everything in progress.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) requests: usize,
    pub(super) turns: usize,
    pub(super) callers: HashMap<String, Holder>,
    /// Callers who wait, in order of their arrival.
    pub(super) waiting: VecDeque<String>,
}

/// What one caller has.
#[derive(Debug, Default)]
pub(super) struct Holder {
    pub(super) requests: usize,
    uploads: usize,
    pub(super) turns: usize,
    queue: VecDeque<oneshot::Sender<()>>,
}

impl State {
    pub(super) fn admit(&mut self, limits: &Limits, caller: &str, kind: Kind) -> Result<()> {
        let (requests, uploads) =
            self.callers.get(caller).map_or((0, 0), |holder| (holder.requests, holder.uploads));
        if requests >= limits.requests_per_principal {
            let limit = limits.requests_per_principal;
            return Err(refused(Error::LimitReached { of: Limited::Requests, limit }));
        }
        if kind == Kind::Upload && uploads >= limits.uploads_per_principal {
            let limit = limits.uploads_per_principal;
            return Err(refused(Error::LimitReached { of: Limited::Uploads, limit }));
        }
        let holder = self.callers.entry(caller.to_owned()).or_default();
        holder.requests += 1;
        holder.uploads += usize::from(kind == Kind::Upload);
        Ok(())
    }

    pub(super) fn leave(&mut self, caller: &str, kind: Kind) {
        self.change(caller, |holder| {
            holder.requests -= 1;
            holder.uploads -= usize::from(kind == Kind::Upload);
        });
    }

    /// Changes what a caller has; nothing is kept of callers who have nothing.
    pub(super) fn change(&mut self, caller: &str, change: impl FnOnce(&mut Holder)) {
        if let Some(holder) = self.callers.get_mut(caller) {
            change(holder);
            if holder.requests == 0 && holder.turns == 0 && holder.queue.is_empty() {
                self.callers.remove(caller);
            }
        }
    }

    pub(super) fn wait(&mut self, caller: String, sender: oneshot::Sender<()>) {
        let holder = self.callers.entry(caller.clone()).or_default();
        holder.queue.push_back(sender);
        if holder.queue.len() == 1 {
            self.waiting.push_back(caller);
        }
    }

    /// Gives away the turns that are free.
    pub(super) fn dispatch(&mut self, turns: usize) {
        while let Some(at) = self.next(turns) {
            let Some(caller) = self.waiting.remove(at) else { return };
            let Some(holder) = self.callers.get_mut(&caller) else { continue };
            // Who does not wait any more is passed over.
            let is_given =
                std::iter::from_fn(|| holder.queue.pop_front()).any(|waiting| waiting.send(()).is_ok());
            if is_given {
                holder.turns += 1;
                self.turns += 1;
            }
            if !holder.queue.is_empty() {
                self.waiting.push_back(caller);
            } else {
                self.change(&caller, |_| {});
            }
        }
    }

    /// Who of those who wait may have a turn, and has the fewest.
    fn next(&self, turns: usize) -> Option<usize> {
        if self.turns >= turns {
            return None;
        }
        let is_scarce = self.turns >= turns - turns / 4;
        let held = |caller: &String| self.callers.get(caller).map_or(0, |holder| holder.turns);
        let waiting = self.waiting.iter().map(held).enumerate();
        waiting
            .filter(|(_, turns)| !is_scarce || *turns < SURE_TURNS)
            .min_by_key(|(_, turns)| *turns)
            .map(|(at, _)| at)
    }
}
