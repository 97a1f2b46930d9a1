//! Who works on an upload: one after the other.
//!
//! What a writer has begun goes on when the writer is dropped, since an operation that is given up spoils its session, and since what it has sent
//! may arrive later. Whoever comes next waits until that has ended.

use coffer_domain::id::UploadId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::OwnedMutexGuard;

type Work = tokio::sync::Mutex<()>;

/// Uploads that are worked on.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<UploadId, Weak<Work>>>);

/// The turn of whoever works on an upload, until it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for one's turn.
    pub(super) async fn take(&self, upload: UploadId) -> Turn {
        let work = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, work| work.strong_count() > 0);
            let known = all.get(&upload).and_then(Weak::upgrade);
            let work = known.unwrap_or_default();
            all.insert(upload, Arc::downgrade(&work));
            work
        };
        work.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn one_works_at_a_time_and_nobody_is_remembered() {
        let (turns, upload, other) = (Turns::default(), UploadId::new(), UploadId::new());
        let first = turns.take(upload).await;
        let mut second = Box::pin(turns.take(upload));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(turns.take(other).now_or_never().is_some());
        drop(first);
        assert!(second.now_or_never().is_some());
        drop(turns.take(other).await);
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
