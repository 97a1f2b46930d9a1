//! Which uploads have a writer in this process.

use coffer_domain::id::UploadId;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Uploads that have a writer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<HashSet<UploadId>>>);

impl Holds {
    /// Takes an upload for a writer; `None` while another has it.
    pub(crate) fn take(&self, upload: UploadId) -> Option<Hold> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(upload);
        is_free.then(|| Hold(Arc::new(Guard { upload, holds: self.clone() })))
    }
}

/// An upload that has a writer, until the last of these is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Hold(#[expect(dead_code, reason = "it is there to be dropped")] Arc<Guard>);

#[derive(Debug)]
struct Guard {
    upload: UploadId,
    holds: Holds,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.holds.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.upload);
    }
}
