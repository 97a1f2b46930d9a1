//! The reconciler: brings volumes and rows back together after crashes, and never touches what is alive.
//!
//! Rows come first: an upload is fenced before its bytes are deleted, bytes are deleted before their reclaim is forgotten. A volume whose
//! marker is missing or names another database is left alone. Only keys of our own form are deleted, only after a grace, only so many
//! at a time.

use super::Coffer;
use crate::{
    Error, Result,
    caller::Caller,
    driver::{Driver, Listed},
    id::VolumeId,
    operation::{Operation, OperationKind},
    page::PageRequest,
    path::{Key, RESERVED},
    store::ObjectRow,
    time::{Timestamp, now},
    volume::{Volume, VolumeRef},
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};

/// Rows and keys handled at once.
const PAGE: usize = 500;
/// Most orphans deleted in one comparison of a volume: a fault of ours must not empty a volume.
const MAX_ORPHANS: u64 = 10_000;
/// Differences told apart in one audit record.
const MAX_NAMED: usize = 20;

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// What the rows say is due.
    Due,
    /// That, and every volume's listing against its rows, in both directions.
    Volumes,
}

/// What the reconciler did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Uploads whose remains were removed.
    pub uploads_swept: u64,
    /// Objects removed that nobody named any more.
    pub objects_reclaimed: u64,
    /// Files purged because their time in the trash was over.
    pub trash_purged: u64,
    /// Objects compared with their rows.
    pub objects_compared: u64,
    /// Objects without a row that were removed.
    pub orphans_removed: u64,
    /// Objects without a row that were left alone: too young, or not of our form.
    pub orphans_left: u64,
    /// Rows whose object is missing or has another size: their files are marked corrupted.
    pub objects_missing: u64,
    /// Volumes or objects that could not be looked at now.
    pub problems: u64,
}

impl Coffer {
    /// Repairs what is due; with [`Scan::Volumes`] also compares volumes with rows.
    pub async fn reconcile(&self, scan: Scan) -> Result<Report> {
        let mut report = Report::default();
        let mut drivers = Reached::default();
        self.recheck_drivers().await;
        self.sweep_uploads(&mut report, &mut drivers).await?;
        self.reclaim(&mut report, &mut drivers).await?;
        self.purge_trash(&mut report).await?;
        if scan == Scan::Volumes {
            let mut page = PageRequest { size: 100, skip: 0, after: None };
            loop {
                let found = self.store().volumes(&page).await?;
                for volume in &found.items {
                    if let Err(problem) = self.compare(volume, &mut report).await {
                        tracing::warn!(volume.id = %volume.id, problem = %problem, "a volume could not be compared with its rows");
                        report.problems += 1;
                    }
                }
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(report)
    }

    async fn sweep_uploads(&self, report: &mut Report, drivers: &mut Reached) -> Result<()> {
        loop {
            let dead = self.store().dead_uploads(PAGE).await?;
            let mut swept = 0;
            for upload in &dead {
                let Some(driver) = self.reach(upload.volume, drivers, report).await? else { continue };
                let outcome = match driver.sweep(upload.id).await {
                    Ok(()) => driver.delete(&upload.key).await,
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => {
                        self.store().upload_swept(upload.id).await?;
                        swept += 1;
                    }
                    Err(problem) => {
                        tracing::warn!(upload.id = %upload.id, problem = %problem, "the remains of an upload could not be removed");
                        report.problems += 1;
                    }
                }
            }
            report.uploads_swept += swept;
            if swept == 0 || dead.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn reclaim(&self, report: &mut Report, drivers: &mut Reached) -> Result<()> {
        loop {
            let due = self.store().due_reclaims(PAGE).await?;
            let mut gone = Vec::new();
            for reclaim in &due {
                let Some(driver) = self.reach(reclaim.volume, drivers, report).await? else {
                    self.store().reclaim_failed(reclaim.object, "the volume cannot be reached").await?;
                    continue;
                };
                match driver.delete(&reclaim.key).await {
                    Ok(()) => gone.push(reclaim.object),
                    Err(problem) => {
                        report.problems += 1;
                        self.store().reclaim_failed(reclaim.object, &problem.to_string()).await?;
                    }
                }
            }
            self.store().reclaimed(&gone).await?;
            report.objects_reclaimed += gone.len() as u64;
            if gone.is_empty() || due.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn purge_trash(&self, report: &mut Report) -> Result<()> {
        loop {
            let expired = self.store().expired_trash(PAGE).await?;
            for file in &expired {
                let operation = self.upkeep(OperationKind::Purge).with("because", "trash_retention");
                match self
                    .store()
                    .purge_file(*file, &Operation { file_id: Some(*file), ..operation }, None)
                    .await
                {
                    Ok(_) => report.trash_purged += 1,
                    // Undeleted or purged by somebody else meanwhile.
                    Err(Error::NotFound(_) | Error::State(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            if expired.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Compares a volume's listing with its rows, both in the order of keys.
    async fn compare(&self, volume: &Volume, report: &mut Report) -> Result<()> {
        let driver = self.driver(volume).await?;
        self.verify(volume, &*driver).await?;
        if !driver.capabilities().list {
            return Ok(());
        }
        let began = now();
        let mut found = Difference::default();
        let mut rows = Rows {
            coffer: self,
            volume: volume.id,
            page: Vec::new().into_iter(),
            after: None,
            is_done: false,
        };
        let mut row = rows.next().await?;
        let mut after: Option<Key> = None;
        loop {
            let listed = driver.list("", after.as_ref(), PAGE).await?;
            for object in &listed {
                report.objects_compared += 1;
                while let Some(missing) = row.take_if(|row| row.key < object.key) {
                    found.suspects.push(missing);
                    row = rows.next().await?;
                }
                match row.take_if(|row| row.key == object.key) {
                    Some(known) => {
                        if known.stored_size != object.stat.size {
                            found.suspects.push(known);
                        }
                        row = rows.next().await?;
                    }
                    None if object.key.as_str().starts_with(RESERVED) => {}
                    None => found.strangers.push(object.clone()),
                }
            }
            self.settle_difference(volume, &*driver, &mut found, began, report).await?;
            match listed.last() {
                Some(last) if listed.len() == PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        while let Some(missing) = row {
            found.suspects.push(missing);
            row = rows.next().await?;
        }
        self.settle_difference(volume, &*driver, &mut found, began, report).await
    }

    /// Looks again at what differed, and repairs what still does.
    async fn settle_difference(
        &self,
        volume: &Volume,
        driver: &dyn Driver,
        found: &mut Difference,
        began: Timestamp,
        report: &mut Report,
    ) -> Result<()> {
        let mut named = Vec::new();
        for row in found.suspects.drain(..).filter(|row| row.created_at < began) {
            let is_whole = driver.stat(&row.key).await?.is_some_and(|stat| stat.size == row.stored_size);
            // A row that has gone meanwhile lost its object rightly.
            if is_whole
                || !self
                    .store()
                    .known_keys(volume.id, std::slice::from_ref(&row.key))
                    .await?
                    .contains(&row.key)
            {
                continue;
            }
            let operation = self
                .upkeep(OperationKind::Reconcile)
                .with("found", "an object is missing or has another size")
                .with("object", row.id.to_string());
            self.store()
                .mark_corrupted(row.id, &Operation { volume_id: Some(volume.id), ..operation })
                .await?;
            tracing::error!(volume.id = %volume.id, object.id = %row.id, "an object is missing or has another size");
            report.objects_missing += 1;
        }
        let grace =
            chrono::TimeDelta::from_std(self.0.settings.orphan_grace).unwrap_or(chrono::TimeDelta::MAX);
        let strangers = std::mem::take(&mut found.strangers);
        let keys: Vec<_> = strangers.iter().map(|object| object.key.clone()).collect();
        let known = self.store().known_keys(volume.id, &keys).await?;
        for object in strangers.into_iter().filter(|object| !known.contains(&object.key)) {
            let is_old = began.signed_duration_since(object.stat.changed_at) >= grace;
            if !(is_old && object.key.is_of_version() && report.orphans_removed < MAX_ORPHANS) {
                report.orphans_left += 1;
                continue;
            }
            driver.delete(&object.key).await?;
            report.orphans_removed += 1;
            if named.len() < MAX_NAMED {
                named.push(object.key.to_string());
            }
        }
        if !named.is_empty() {
            let operation = self
                .upkeep(OperationKind::Reconcile)
                .with("found", "objects without a row were removed")
                .with("keys", named);
            self.store().record(&[Operation { volume_id: Some(volume.id), ..operation }]).await?;
        }
        Ok(())
    }

    fn upkeep(&self, kind: OperationKind) -> Operation {
        Operation { node_id: Some(self.0.start.node), ..Caller::service().operation(kind) }
    }

    /// The driver of a volume, tried once per run; `None` if it cannot be reached now.
    async fn reach(
        &self,
        id: VolumeId,
        drivers: &mut Reached,
        report: &mut Report,
    ) -> Result<Option<Arc<dyn Driver>>> {
        if let Some(known) = drivers.get(&id) {
            return Ok(known.clone());
        }
        let opened = match self.volume(Some(&VolumeRef::Id(id))).await {
            Ok(volume) => self.driver(&volume).await,
            Err(error) => Err(error),
        };
        let driver = match opened {
            Ok(driver) => Some(driver),
            Err(problem @ Error::Unavailable(crate::error::Unavailable::Metadata)) => return Err(problem),
            Err(problem) => {
                tracing::warn!(volume.id = %id, problem = %problem, "a volume cannot be reached for repairs");
                report.problems += 1;
                None
            }
        };
        drivers.insert(id, driver.clone());
        Ok(driver)
    }
}

type Reached = HashMap<VolumeId, Option<Arc<dyn Driver>>>;

#[derive(Default)]
struct Difference {
    /// Rows without an object, or with one of another size.
    suspects: Vec<ObjectRow>,
    /// Objects without a row.
    strangers: Vec<Listed>,
}

/// The rows of a volume's objects, a page at a time.
struct Rows<'a> {
    coffer: &'a Coffer,
    volume: VolumeId,
    page: std::vec::IntoIter<ObjectRow>,
    after: Option<Key>,
    is_done: bool,
}

impl Rows<'_> {
    async fn next(&mut self) -> Result<Option<ObjectRow>> {
        if self.page.len() == 0 && !self.is_done {
            let rows = self.coffer.store().objects(self.volume, self.after.as_ref(), PAGE).await?;
            self.is_done = rows.len() < PAGE;
            self.after = rows.last().map(|row| row.key.clone());
            self.page = rows.into_iter();
        }
        Ok(self.page.next())
    }
}
