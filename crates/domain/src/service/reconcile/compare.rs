//! A volume against its rows, in both directions.

use super::PAGE;
use crate::{
    Result,
    driver::{Driver, Listed},
    id::{UploadId, VolumeId},
    operation::{Operation, OperationKind},
    path::{Key, RESERVED, STAGING, VERSIONS},
    service::Coffer,
    store::ObjectRow,
    time::Timestamp,
    volume::{Strategy, Volume},
};
use serde::Serialize;
use std::sync::Arc;

/// Most orphans deleted in one comparison of a volume: a fault of ours must not empty a volume.
const MAX_ORPHANS: u64 = 10_000;
/// Differences told apart in an answer.
const MAX_DIFFERENCES: usize = 100;
/// Differences told apart in one audit record.
const MAX_NAMED: usize = 20;

/// What a comparison does about what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Repairs it.
    Repair,
    /// Tells it.
    Tell,
}

/// What a comparison of a volume with its rows found, and repaired if it was meant to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VolumeReport {
    /// Objects compared with their rows.
    pub objects_compared: u64,
    /// Objects without a row that were removed.
    pub orphans_removed: u64,
    /// Objects without a row that were left alone: too young, not of our form, or too many.
    pub orphans_left: u64,
    /// Rows whose object is missing or has another size: their files are marked corrupted.
    pub objects_missing: u64,
    /// Staged bytes of no unfinished upload that were removed.
    pub staged_removed: u64,
    /// Staged bytes that were left alone: of unfinished uploads, too young, or not of our form.
    pub staged_left: u64,
    /// The first differences.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

/// Something that differs between a volume and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: DifferenceKind,
    /// Where.
    pub key: String,
}

/// How a volume and its rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// An object without a row, removed.
    Orphan,
    /// An object without a row, left alone.
    OrphanLeft,
    /// A row without its object.
    Missing,
    /// Staged bytes of no unfinished upload, removed.
    Staged,
}

impl VolumeReport {
    fn tell(&mut self, kind: DifferenceKind, key: &Key) {
        match kind {
            DifferenceKind::Orphan => self.orphans_removed += 1,
            DifferenceKind::OrphanLeft => self.orphans_left += 1,
            DifferenceKind::Missing => self.objects_missing += 1,
            DifferenceKind::Staged => self.staged_removed += 1,
        }
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference { kind, key: key.to_string() });
        }
    }
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    pub(super) coffer: &'a Coffer,
    pub(super) volume: &'a Volume,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) mode: Mode,
    pub(super) began: Timestamp,
    pub(super) report: VolumeReport,
}

#[derive(Default)]
struct Suspicion {
    /// Rows without an object, or with one of another size.
    rows: Vec<ObjectRow>,
    /// Objects without a row.
    objects: Vec<Listed>,
}

impl Comparison<'_> {
    /// Objects against rows.
    pub(super) async fn objects(&mut self) -> Result<()> {
        // Where files are found at paths, the objects are apart.
        let are_apart = self.volume.settings.strategy == Strategy::None;
        let prefix = if are_apart { VERSIONS } else { "" };
        let mut found = Suspicion::default();
        let mut rows = Rows::of(self.coffer, self.volume.id);
        let mut row = rows.next().await?;
        let mut after: Option<Key> = None;
        loop {
            let listed = self.driver.list(prefix, after.as_ref(), PAGE).await?;
            for object in &listed {
                self.report.objects_compared += 1;
                while let Some(missing) = row.take_if(|row| row.key < object.key) {
                    found.rows.push(missing);
                    row = rows.next().await?;
                }
                match row.take_if(|row| row.key == object.key) {
                    Some(known) => {
                        if known.stored_size != object.stat.size {
                            found.rows.push(known);
                        }
                        row = rows.next().await?;
                    }
                    None if !are_apart && object.key.as_str().starts_with(RESERVED) => {}
                    None => found.objects.push(object.clone()),
                }
            }
            self.settle(std::mem::take(&mut found)).await?;
            match listed.last() {
                Some(last) if listed.len() == PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        while let Some(missing) = row {
            found.rows.push(missing);
            row = rows.next().await?;
        }
        self.settle(found).await?;
        if are_apart { self.paths().await } else { Ok(()) }
    }

    /// What is found at paths and is no file of ours: it is told, and never touched.
    async fn paths(&mut self) -> Result<()> {
        let rules = &self.volume.settings.paths;
        let mut after: Option<Key> = None;
        loop {
            let listed = self.driver.list("", after.as_ref(), PAGE).await?;
            let paths: Vec<_> = listed.iter().map(|object| rules.path(&object.key)).collect();
            let known = self.coffer.store().known_links(self.volume.id, &paths).await?;
            for (object, _) in listed.iter().zip(&paths).filter(|(_, path)| !known.contains(*path)) {
                self.report.tell(DifferenceKind::OrphanLeft, &object.key);
            }
            match listed.last() {
                Some(last) if listed.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Looks again at what differed, and repairs what still does.
    async fn settle(&mut self, found: Suspicion) -> Result<()> {
        let began = self.began;
        for row in found.rows.into_iter().filter(|row| row.created_at < began) {
            self.missing(&row).await?;
        }
        let keys: Vec<_> = found.objects.iter().map(|object| object.key.clone()).collect();
        let known = self.coffer.store().known_keys(self.volume.id, &keys).await?;
        let mut removed = Vec::new();
        for object in found.objects.into_iter().filter(|object| !known.contains(&object.key)) {
            let is_ours = object.key.is_made() && self.report.orphans_removed < MAX_ORPHANS;
            if !(is_ours && self.is_old(&object)) {
                self.report.tell(DifferenceKind::OrphanLeft, &object.key);
                continue;
            }
            if self.mode == Mode::Repair {
                self.driver.delete(&object.key).await?;
            }
            self.report.tell(DifferenceKind::Orphan, &object.key);
            removed.push(object.key);
        }
        self.record_removed("objects without a row were removed", &removed).await
    }

    /// A row whose object seemed to be missing or of another size.
    async fn missing(&mut self, row: &ObjectRow) -> Result<()> {
        if self.driver.stat(&row.key).await?.is_some_and(|stat| stat.size == row.stored_size) {
            return Ok(());
        }
        // A row that has gone meanwhile lost its object rightly.
        let known = self.coffer.store().known_keys(self.volume.id, std::slice::from_ref(&row.key)).await?;
        if !known.contains(&row.key) {
            return Ok(());
        }
        if self.mode == Mode::Repair {
            let operation = self
                .operation()
                .with("found", "an object is missing or has another size")
                .with("object", row.id.to_string());
            self.coffer.store().mark_corrupted(row.id, &operation).await?;
            tracing::error!(volume.id = %self.volume.id, object.id = %row.id, "an object is missing or has another size");
        }
        self.report.tell(DifferenceKind::Missing, &row.key);
        Ok(())
    }

    /// What is staged against unfinished uploads.
    pub(super) async fn staged(&mut self) -> Result<()> {
        let mut after: Option<Key> = None;
        loop {
            let listed = self.driver.list(STAGING, after.as_ref(), PAGE).await?;
            let ids: Vec<_> = listed.iter().filter_map(|object| staged_upload(&object.key)).collect();
            let live = self.coffer.store().live_uploads(&ids).await?;
            let mut removed = Vec::new();
            for object in &listed {
                match staged_upload(&object.key) {
                    Some(upload) if !live.contains(&upload) && self.is_old(object) => {
                        if self.mode == Mode::Repair {
                            self.driver.sweep(upload).await?;
                        }
                        self.report.tell(DifferenceKind::Staged, &object.key);
                        removed.push(object.key.clone());
                    }
                    _ => self.report.staged_left += 1,
                }
            }
            self.record_removed("staged bytes of no upload were removed", &removed).await?;
            match listed.last() {
                Some(last) if listed.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn record_removed(&self, found: &str, keys: &[Key]) -> Result<()> {
        if keys.is_empty() || self.mode == Mode::Tell {
            return Ok(());
        }
        let named: Vec<_> = keys.iter().take(MAX_NAMED).map(Key::to_string).collect();
        let operation = self.operation().with("found", found).with("count", keys.len()).with("keys", named);
        self.coffer.store().record(&[operation]).await
    }

    fn operation(&self) -> Operation {
        Operation { volume_id: Some(self.volume.id), ..self.coffer.upkeep(OperationKind::Reconcile) }
    }

    /// Older than any upload that could still name it.
    fn is_old(&self, object: &Listed) -> bool {
        let grace = self.coffer.0.settings.orphan_grace;
        let grace = chrono::TimeDelta::from_std(grace).unwrap_or(chrono::TimeDelta::MAX);
        self.began.signed_duration_since(object.stat.changed_at) >= grace
    }
}

/// The upload whose bytes are staged at a key; `None` if the key is not of our form.
fn staged_upload(key: &Key) -> Option<UploadId> {
    key.as_str().strip_prefix(STAGING)?.split('/').next()?.parse().ok()
}

/// The rows of a volume's objects, a page at a time.
struct Rows<'a> {
    coffer: &'a Coffer,
    volume: VolumeId,
    page: std::vec::IntoIter<ObjectRow>,
    after: Option<Key>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    fn of(coffer: &'a Coffer, volume: VolumeId) -> Self {
        Self { coffer, volume, page: Vec::new().into_iter(), after: None, is_done: false }
    }

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
