//! Signatures that were found good: a caller sends the same token with each request, and looking at its signature anew is the
//! most expensive part of knowing him.

use ring::digest::{Context, SHA256};
use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, PoisonError},
};

/// Most signatures that are remembered for sure; the ones before them are forgotten at once.
const MOST: usize = 2_048;

/// The SHA-256 of a message and its signature.
pub(super) type Mark = [u8; 32];

/// What one key has found good lately. It says nothing of what the messages say: a token may have expired meanwhile.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    now: HashSet<Mark>,
    before: HashSet<Mark>,
}

/// What stands for a message with a signature.
pub(super) fn mark(message: &[u8], signature: &[u8]) -> Mark {
    let mut context = Context::new(&SHA256);
    context.update(&(message.len() as u64).to_be_bytes());
    context.update(message);
    context.update(signature);
    let mut mark = Mark::default();
    mark.copy_from_slice(context.finish().as_ref());
    mark
}

impl Seen {
    pub(super) fn has(&self, mark: &Mark) -> bool {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.now.contains(mark) {
            return true;
        }
        let was = generations.before.contains(mark);
        if was {
            generations.keep(*mark);
        }
        was
    }

    pub(super) fn keep(&self, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(mark);
    }
}

impl Generations {
    fn keep(&mut self, mark: Mark) {
        if self.now.len() >= MOST {
            self.before = mem::take(&mut self.now);
        }
        self.now.insert(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Seen, mark};

    fn nth(n: usize) -> super::Mark {
        mark(&n.to_be_bytes(), b"signature")
    }

    #[test]
    fn what_is_asked_for_is_remembered_and_the_rest_is_not_for_ever() {
        let seen = Seen::default();
        assert!(!seen.has(&nth(0)));
        for n in 0..10 * MOST {
            seen.keep(nth(n));
            assert!(seen.has(&nth(n)) && seen.has(&nth(0)), "{n}");
        }
        let remembered = (0..10 * MOST).filter(|n| seen.has(&nth(*n))).count();
        assert!(remembered <= 2 * MOST, "{remembered}");
    }

    #[test]
    fn every_byte_and_its_place_counts() {
        let one = mark(b"ab", b"c");
        assert_eq!(one, mark(b"ab", b"c"));
        for other in [mark(b"a", b"bc"), mark(b"abc", b""), mark(b"ab", b"d"), mark(b"aB", b"c")] {
            assert_ne!(one, other);
        }
    }
}
