//! Which uploads this process works on: one stream at a time each.

use crate::{Error, Result, error::Conflict, id::UploadId};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long a stream waits for the one before it: that one stores what it has, or even makes the file.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The uploads that are worked on.
#[derive(Clone, Default)]
pub(in crate::service) struct Sessions(Arc<Mutex<HashMap<UploadId, Session>>>);

#[derive(Clone, Default)]
struct Session {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// The right to work on an upload in this process, until it is dropped.
pub(super) struct Seat {
    sessions: Sessions,
    upload: UploadId,
    session: Session,
}

impl Sessions {
    /// The seat of an upload, as soon as whoever has it has left: he is asked to.
    pub(super) async fn take(&self, upload: UploadId) -> Result<Seat> {
        let since = tokio::time::Instant::now();
        loop {
            let ended = match self.lock().entry(upload) {
                Entry::Vacant(free) => {
                    let session = free.insert(Session::default()).clone();
                    return Ok(Seat { sessions: self.clone(), upload, session });
                }
                Entry::Occupied(taken) => {
                    taken.get().stop.cancel();
                    taken.get().ended.clone()
                }
            };
            tokio::time::timeout_at(since + MAX_WAIT, ended.cancelled())
                .await
                .map_err(|_| Error::Conflict(Conflict::InFlight))?;
        }
    }

    /// Asks whoever works on an upload to leave, and waits until he has.
    pub(super) async fn stop(&self, upload: UploadId) {
        let session = self.lock().get(&upload).cloned();
        if let Some(session) = session {
            session.stop.cancel();
            // Whoever does not leave in time has lost the upload all the same, and finds out when he next records progress.
            let _ = tokio::time::timeout(MAX_WAIT, session.ended.cancelled()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Somebody else wants it.
    pub(super) fn stop(&self) -> CancellationToken {
        self.session.stop.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.upload);
        self.session.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seat_is_free_when_whoever_had_it_has_left() {
        let (sessions, upload) = (Sessions::default(), UploadId::new());
        let first = sessions.take(upload).await.unwrap();
        let waiting = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.take(upload).await.map(drop) }
        });
        first.stop().cancelled().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        assert!(sessions.lock().is_empty());
        // Nobody has it: nothing to wait for.
        sessions.stop(upload).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (sessions, upload) = (Sessions::default(), UploadId::new());
        let _kept = sessions.take(upload).await.unwrap();
        assert!(matches!(sessions.take(upload).await, Err(Error::Conflict(Conflict::InFlight))));
        assert!(sessions.take(UploadId::new()).await.is_ok());
    }
}
