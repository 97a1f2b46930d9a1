//! Where other programs find the current contents of files: at their paths, on volumes with the strategy `none`.
//!
//! The object that a version names has a key of its own, which no path can be, and whoever reads through the service reads that. What is found
//! at a path is another name of the same object. Replacing it takes four steps: the commit, which makes the path due; what will be there,
//! recorded; the name, changed; that it is, recorded. After a crash the reconciler goes on where it was.

use super::Coffer;
use crate::{
    Error, Result,
    driver::{Driver, ErrorKind},
    error::Taken,
    id::VolumeId,
    path::{Key, StoragePath},
    volume::{Strategy, Volume, VolumeRef},
};

/// Changes of one path that are made in a row: more come from somebody who changes it all the time.
const MAX_CHANGES: usize = 10;

impl Coffer {
    /// Refuses a path of a file at which, or in the way of which, something else is found on the backend, or another tenant's file is.
    pub(super) async fn must_be_free(
        &self,
        field: &str,
        volume: &Volume,
        organisation: &str,
        path: &StoragePath,
    ) -> Result<()> {
        if volume.settings.strategy != Strategy::None {
            return Ok(());
        }
        let nfc = path.nfc();
        let too_long =
            |_| Error::invalid(field, "must have at most 1,024 bytes where files are found at their paths");
        let key = volume.settings.paths.key(&nfc).map_err(too_long)?;
        match self.store().link_owner(volume.id, &nfc).await? {
            Some(owner) if owner == organisation => return Ok(()),
            Some(_) => return Err(Error::AlreadyExists(Taken::Path)),
            None => {}
        }
        let driver = self.driver(volume).await?;
        if is_free(&*driver, &key).await? {
            return Ok(());
        }
        // Somebody may just have made a file of ours there.
        match self.store().link_owner(volume.id, &nfc).await? {
            Some(owner) if owner == organisation => Ok(()),
            _ => Err(Error::AlreadyExists(Taken::Place)),
        }
    }

    /// The same as [`Coffer::settle_link`] for several paths of a volume by its id.
    pub(super) async fn settle_links(&self, volume: VolumeId, paths: &[&StoragePath]) {
        match self.volume(Some(&VolumeRef::Id(volume))).await {
            Ok(volume) => {
                for path in paths {
                    self.settle_link(&volume, &path.nfc()).await;
                }
            }
            Err(problem) => {
                tracing::warn!(volume.id = %volume, problem = %problem, "what is found at a path is left to the reconciler");
            }
        }
    }

    /// Sets right what is found at a path, if that is due. What cannot be done now is the reconciler's: then this is `false`.
    pub(super) async fn settle_link(&self, volume: &Volume, nfc: &str) -> bool {
        if volume.settings.strategy != Strategy::None {
            return true;
        }
        match self.try_link(volume, nfc).await {
            Ok(()) => true,
            Err(problem) => {
                tracing::warn!(volume.id = %volume.id, problem = %problem, "what is found at a path could not be set right and is left to the reconciler");
                false
            }
        }
    }

    async fn try_link(&self, volume: &Volume, nfc: &str) -> Result<()> {
        let mut late: Option<Key> = None;
        for _ in 0..MAX_CHANGES {
            let Some(link) = self.store().begin_link(volume.id, nfc).await? else {
                return match late {
                    // It had been given up meanwhile: whoever came so late takes away what he has put there.
                    Some(object) if self.store().link_owner(volume.id, nfc).await?.is_none() => {
                        self.change(volume, nfc, None, &[object]).await
                    }
                    _ => Ok(()),
                };
            };
            crash_point!("linking");
            let next = link.next.as_ref().map(|(_, object)| object);
            if let Err(problem) = self.change(volume, nfc, next, &link.before).await {
                self.store().link_failed(&link, &problem.to_string()).await?;
                return Err(problem);
            }
            crash_point!("linked");
            let is_done = self.store().linked(&link).await?;
            late = next.filter(|_| !is_done).cloned();
        }
        Ok(())
    }

    /// Changes what is found at a path, if it is one of `before`.
    async fn change(&self, volume: &Volume, nfc: &str, next: Option<&Key>, before: &[Key]) -> Result<()> {
        let path =
            volume.settings.paths.key(nfc).map_err(|e| Error::internal("find the key of a path", e))?;
        let driver = self.driver(volume).await?;
        match next {
            Some(object) => driver.link(object, &path, before).await.map_err(|problem| match problem.kind {
                ErrorKind::AlreadyExists => Error::AlreadyExists(Taken::Place),
                _ => problem.into(),
            }),
            None => Ok(driver.unlink(&path, before).await?),
        }
    }
}

/// Whether nothing is at a path, or where a folder on the way to it would be.
async fn is_free(driver: &dyn Driver, key: &Key) -> Result<bool> {
    let text = key.as_str();
    for (end, _) in text.match_indices('/') {
        let folder = Key::parse(&text[..end]).map_err(|e| Error::internal("find the folder of a path", e))?;
        if is_something(driver, &folder).await? {
            return Ok(false);
        }
    }
    if is_something(driver, key).await? {
        return Ok(false);
    }
    Ok(!driver.capabilities().list || driver.list(&format!("{text}/"), None, 1).await?.is_empty())
}

/// Whether something is at a key. What we may not even look at is in the way as well: a link that leads elsewhere, a folder of others.
async fn is_something(driver: &dyn Driver, key: &Key) -> Result<bool> {
    match driver.stat(key).await {
        Err(error) if error.kind == ErrorKind::Denied => Ok(true),
        found => Ok(found?.is_some()),
    }
}
