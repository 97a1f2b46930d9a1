//! What dropped writers have left under way: bytes that a server has not taken yet must not come after somebody else's.

use crate::remote::Failure;
use coffer_domain::{driver::ErrorKind, id::UploadId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long is waited for an end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Uploads of which something is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends(Arc<Mutex<HashMap<UploadId, watch::Receiver<()>>>>);

/// Something under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    upload: UploadId,
    ends: Ends,
    _open: watch::Sender<()>,
}

impl Ends {
    /// Something begins. Of an upload one thing at a time is under way.
    pub(super) fn begin(&self, upload: UploadId) -> UnderWay {
        let (open, ended) = watch::channel(());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(upload, ended);
        UnderWay { upload, ends: self.clone(), _open: open }
    }

    /// Until nothing of an upload is under way.
    pub(super) async fn wait(&self, upload: UploadId) -> Result<(), Failure> {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&upload).cloned();
        let Some(mut ended) = ended else { return Ok(()) };
        // Nothing is ever sent: it changes when the other side is dropped.
        match timeout(PATIENCE, ended.changed()).await {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(Failure::wrong(ErrorKind::Unavailable, "another writer still ends")),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.ends.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.upload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_it_has_ended() {
        let (ends, upload) = (Ends::default(), UploadId::new());
        ends.wait(upload).await.unwrap();
        let under_way = ends.begin(upload);
        ends.wait(UploadId::new()).await.unwrap();
        assert_eq!(ends.wait(upload).await.unwrap_err().kind(), ErrorKind::Unavailable);
        let waiting = tokio::spawn({
            let ends = ends.clone();
            async move { ends.wait(upload).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(under_way);
        waiting.await.unwrap().unwrap();
        ends.wait(upload).await.unwrap();
    }
}
