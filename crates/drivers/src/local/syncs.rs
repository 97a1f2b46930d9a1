//! Syncs of directories, each shared by all who wait for it: the name of one more file is on the disk with the same wait.

use super::client::identity;
use rustix::{fd::OwnedFd, io::Result};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Device and inode.
type Identity = (u64, u64);

/// Directories that are being synced.
#[derive(Debug, Default)]
pub(super) struct Syncs(Mutex<HashMap<Identity, Arc<Directory>>>);

#[derive(Debug, Default)]
struct Directory {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    /// The outcome of the sync that begins next: that of all who wait now, since their names were given before it begins.
    next: Arc<OnceLock<Result<()>>>,
}

impl Syncs {
    /// Makes every change that was made to `directory` before this call durable. Blocks.
    pub(super) fn sync(&self, directory: &OwnedFd) -> Result<()> {
        let which = identity(&rustix::fs::fstat(directory)?);
        self.share(which, || rustix::fs::fsync(directory))
    }

    fn share(&self, which: Identity, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let directory = Arc::clone(lock(&self.0).entry(which).or_default());
        let outcome = directory.share(sync);
        let mut directories = lock(&self.0);
        // The map's and ours: nobody else waits, and nobody can join without the lock.
        if Arc::strong_count(&directory) == 2 {
            directories.remove(&which);
        }
        outcome
    }
}

impl Directory {
    /// Waits for a sync that begins after this call, made by whoever of those who wait comes to it first.
    fn share(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = lock(&self.state);
        let mine = Arc::clone(&state.next);
        while state.is_running {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = mine.get() {
                return *outcome;
            }
        }
        state.is_running = true;
        state.next = Arc::default();
        drop(state);

        let outcome = sync();

        let mut state = lock(&self.state);
        state.is_running = false;
        let _ = mine.set(outcome);
        if outcome.is_err() {
            // The kernel tells a failure once. The changes of those who wait may be among what it has lost.
            let _ = std::mem::take(&mut state.next).set(outcome);
        }
        self.changed.notify_all();
        outcome
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread::{self, ScopedJoinHandle},
    };

    const HERE: Identity = (1, 2);
    const PUBLISHERS: usize = 20;

    /// A disk that counts the names a directory has, and those a sync that began after them has made durable.
    #[derive(Default)]
    struct Disk {
        syncs: Syncs,
        named: AtomicUsize,
        durable: AtomicUsize,
        count: AtomicUsize,
    }

    impl Disk {
        /// Gives a name and syncs; `meanwhile` is run in the middle of the sync, if this one makes it.
        fn publish(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
            let mine = self.named.fetch_add(1, Ordering::SeqCst) + 1;
            self.syncs.share(HERE, || {
                let covered = self.named.load(Ordering::SeqCst);
                self.count.fetch_add(1, Ordering::SeqCst);
                meanwhile()?;
                self.durable.fetch_max(covered, Ordering::SeqCst);
                Ok(())
            })?;
            assert!(self.durable.load(Ordering::SeqCst) >= mine, "a sync that began before is no promise");
            Ok(())
        }

        /// Waits until so many wait for the sync after the one that runs.
        fn until_waiting(&self, many: usize) {
            let waiting = || {
                let directory = lock(&self.syncs.0).get(&HERE).cloned();
                directory.map_or(0, |directory| Arc::strong_count(&lock(&directory.state).next) - 1)
            };
            while waiting() < many {
                thread::yield_now();
            }
        }
    }

    /// One sync that ends as told when all others wait, and how all ended.
    fn race(disk: &Disk, first: Result<()>) -> (Result<()>, Vec<Result<()>>) {
        let (began, begun) = mpsc::channel();
        thread::scope(|scope| {
            let running = scope.spawn(move || {
                disk.publish(|| {
                    began.send(()).unwrap();
                    disk.until_waiting(PUBLISHERS - 1);
                    first
                })
            });
            begun.recv().unwrap();
            let others: Vec<_> = (1..PUBLISHERS).map(|_| scope.spawn(|| disk.publish(|| Ok(())))).collect();
            let others = others.into_iter().map(|other| other.join().unwrap()).collect();
            (ScopedJoinHandle::join(running).unwrap(), others)
        })
    }

    #[test]
    fn who_comes_while_one_runs_shares_the_next() {
        let disk = Disk::default();
        let (first, others) = race(&disk, Ok(()));
        assert_eq!((first, others), (Ok(()), vec![Ok(()); PUBLISHERS - 1]));
        assert_eq!(disk.count.load(Ordering::SeqCst), 2, "one alone, and one for all others");
        assert!(lock(&disk.syncs.0).is_empty(), "nothing is kept of a directory that nobody syncs");
    }

    #[test]
    fn a_failure_is_told_to_all_who_wait_and_to_nobody_later() {
        let disk = Disk::default();
        let (first, others) = race(&disk, Err(Errno::IO));
        assert_eq!((first, others), (Err(Errno::IO), vec![Err(Errno::IO); PUBLISHERS - 1]));
        assert_eq!(disk.count.load(Ordering::SeqCst), 1);
        assert_eq!(disk.publish(|| Ok(())), Ok(()));
    }

    #[test]
    fn every_publisher_of_many_is_covered_by_a_sync_of_his_own_or_a_later_one() {
        let disk = Disk::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let meanwhile = || {
                            thread::yield_now();
                            Ok(())
                        };
                        disk.publish(meanwhile).unwrap();
                    }
                });
            }
        });
        assert!(disk.count.load(Ordering::SeqCst) <= 4_000);
        assert!(lock(&disk.syncs.0).is_empty());
    }
}
