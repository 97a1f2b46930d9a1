//! The reconciler: brings volumes and rows back together after crashes, and never touches what is alive.
//!
//! Rows come first: an upload is fenced before its bytes are deleted, bytes are deleted before their reclaim is forgotten. A volume whose
//! marker is missing or names another database is left alone. Only keys of our own form are deleted, only after a grace, only so many
//! at a time.

mod compare;

pub use compare::{Difference, DifferenceKind, VolumeReport};

use super::Coffer;
use crate::{
    Error, Result,
    caller::Caller,
    driver::Driver,
    id::VolumeId,
    operation::{Operation, OperationKind},
    page::PageRequest,
    time::now,
    volume::{Volume, VolumeRef},
};
use compare::{Comparison, Mode};
use serde::Serialize;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// Rows and keys handled at once.
const PAGE: usize = 500;

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// What the rows say is due.
    Due,
    /// That, and every volume's listing against its rows, in both directions.
    Volumes,
}

/// What the reconciler did and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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
    /// Staged bytes of no unfinished upload that were removed.
    pub staged_removed: u64,
    /// Volumes or objects that could not be looked at now.
    pub problems: u64,
}

impl Report {
    fn add(&mut self, found: &VolumeReport) {
        self.objects_compared += found.objects_compared;
        self.orphans_removed += found.orphans_removed;
        self.orphans_left += found.orphans_left;
        self.objects_missing += found.objects_missing;
        self.staged_removed += found.staged_removed;
    }
}

impl Coffer {
    /// Repairs what is due; with [`Scan::Volumes`] also compares volumes with rows.
    pub async fn reconcile(&self, scan: Scan) -> Result<Report> {
        let mut report = Report::default();
        let mut drivers = Reached::default();
        self.recheck_drivers().await;
        self.sweep_uploads(&mut report, &mut drivers).await?;
        self.settle_due_links(&mut report).await?;
        self.reclaim(&mut report, &mut drivers).await?;
        self.purge_trash(&mut report).await?;
        if scan == Scan::Volumes {
            let mut page = PageRequest { size: 100, skip: 0, after: None };
            loop {
                let found = self.store().volumes(&page).await?;
                for volume in &found.items {
                    match self.compare(volume, Mode::Repair).await {
                        Ok(found) => report.add(&found),
                        Err(problem) => {
                            tracing::warn!(volume.id = %volume.id, problem = %problem, "a volume could not be compared with its rows");
                            report.problems += 1;
                        }
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
            let dead = self.store().dead_uploads(&self.upkeep(OperationKind::ExpireUpload), PAGE).await?;
            let mut swept = 0;
            for upload in &dead {
                let Some(driver) = self.reach(upload.volume, drivers, report).await? else { continue };
                crash_point!("fenced");
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
                crash_point!("reclaiming");
                match driver.delete(&reclaim.key).await {
                    Ok(()) => {
                        crash_point!("deleted");
                        gone.push(reclaim.object);
                    }
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

    /// Sets right what is found at paths. What cannot be now is due again later, so one round is enough.
    async fn settle_due_links(&self, report: &mut Report) -> Result<()> {
        let mut volumes = HashMap::new();
        for (id, nfc) in self.store().due_links(PAGE).await? {
            let volume = match volumes.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.volume(Some(&VolumeRef::Id(id))).await?),
            };
            if !self.settle_link(volume, &nfc).await {
                report.problems += 1;
            }
        }
        Ok(())
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

    /// Compares a volume with its rows for an operator, and repairs it unless it is a `dry_run`.
    pub async fn reconcile_volume(
        &self,
        caller: &Caller,
        volume: &VolumeRef,
        dry_run: bool,
    ) -> Result<VolumeReport> {
        let (caller, volume) = (caller.clone(), volume.clone());
        self.audited(caller.operation(OperationKind::Reconcile), move |me, trail| async move {
            caller.must_operate()?;
            let volume = me.volume(Some(&volume)).await?;
            trail.update(|operation| {
                operation.volume_id = Some(volume.id);
                operation.metadata.insert("dry_run".to_owned(), dry_run.into());
            });
            let mode = if dry_run { Mode::Tell } else { Mode::Repair };
            let report = me.compare(&volume, mode).await?;
            let counts = serde_json::to_value(&report)
                .map_err(|e| Error::internal("record what a comparison found", e))?;
            me.store().record(&[trail.operation().with("found", counts)]).await?;
            Ok(report)
        })
        .await
    }

    /// Compares a volume's listing with its rows, both in the order of keys, then what is staged with unfinished uploads.
    async fn compare(&self, volume: &Volume, mode: Mode) -> Result<VolumeReport> {
        let driver = self.driver_told(volume, Error::to_operator).await?;
        self.verify(volume, &*driver).await?;
        let mut comparison =
            Comparison { coffer: self, volume, driver, mode, began: now(), report: VolumeReport::default() };
        if comparison.driver.capabilities().list {
            comparison.objects().await?;
            comparison.staged().await?;
        }
        Ok(comparison.report)
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
