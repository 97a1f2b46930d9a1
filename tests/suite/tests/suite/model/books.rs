//! What the model keeps: files, uploads, limits, and the arithmetic of quotas.

use tonic::Code;

/// The quotas a file is charged on, in the order in which refusals name them; the last one only if it is in the project.
pub(super) const QUOTAS: usize = 6;
/// Those before are of a volume: they count bytes alone.
pub(super) const FIRST_ENTITY: usize = 3;
pub(super) const PROJECT: usize = 5;

/// By how much more than it needs an upload of unknown size grows what it holds.
const STEP: i64 = 1024 * 1024;

/// Bytes that can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) tag: u8,
    pub(super) size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Live,
    Trash,
    Purged,
}

#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: usize,
    pub(super) in_project: bool,
    pub(super) place: Place,
    /// Those that are kept; the last is the current one.
    pub(super) versions: Vec<Content>,
    /// Of the current version.
    pub(super) number: i32,
}

impl File {
    pub(super) fn content(&self) -> Content {
        *self.versions.last().expect("a file has a content until it is purged")
    }

    pub(super) fn size(&self) -> i64 {
        self.versions.iter().map(|content| content.size as i64).sum()
    }
}

/// What is asked of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) path: usize,
    pub(super) in_project: bool,
    pub(super) create_only: bool,
    pub(super) is_declared: bool,
    pub(super) content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// It is this file.
    Committed(usize),
    Aborted,
}

#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) spec: Spec,
    /// Which request has started it: several uploads have one, where the earlier were refused.
    pub(super) request: usize,
    pub(super) life: Life,
    pub(super) persisted: usize,
    pub(super) hold: Counts,
    /// Whether what it holds is of the project's quota as well: as the file at its path was when it was started.
    pub(super) holds_of_project: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) bytes: i64,
    pub(super) files: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    pub(super) bytes: Option<i64>,
    pub(super) files: Option<i64>,
    pub(super) file_bytes: Option<i64>,
}

/// A dimension in the way: the quota, the metric, then limit, used, reserved, requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) quota: usize,
    pub(super) metric: &'static str,
    pub(super) numbers: [i64; 4],
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: &'static str,
    pub(super) exhausted: Vec<Exhausted>,
}

pub(super) fn refusal(code: Code, reason: &'static str) -> Refusal {
    Refusal { code, reason, exhausted: Vec::new() }
}

/// A mutation that had its effect, and may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Delete(usize),
    Undelete(usize),
    Purge(usize),
    SetQuota(usize, Limits),
    Cancel(usize),
    /// The upload, all of whose content was sent by one stream with its spec.
    Put(usize),
}

/// How the last operation has to end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// Nothing to compare but the books.
    Nothing,
    /// This upload as it is in the model.
    Upload(usize),
    /// This file as it is in the model.
    File(usize),
    /// The stream is refused for want of `finish`; the upload takes bytes.
    Open(usize),
    Refused(Refusal),
    Freed(i64),
    Quota(usize),
    /// What was answered to this request before.
    Again(usize),
}

/// All the model knows.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) keeps_versions: bool,
    pub(super) files: Vec<File>,
    pub(super) uploads: Vec<Upload>,
    pub(super) limits: [Limits; QUOTAS],
    pub(super) asked: Vec<Asked>,
    pub(super) expected: Expected,
}

/// What something adds and gives back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Charge {
    pub(super) add: Counts,
    pub(super) free_bytes: i64,
    /// Of the single file that is made.
    pub(super) file_bytes: i64,
}

impl State {
    pub(super) fn new(keeps_versions: bool) -> Self {
        Self {
            keeps_versions,
            files: Vec::new(),
            uploads: Vec::new(),
            limits: Default::default(),
            asked: Vec::new(),
            expected: Expected::Nothing,
        }
    }

    pub(super) fn live_at(&self, path: usize) -> Option<usize> {
        self.files.iter().position(|file| file.place == Place::Live && file.path == path)
    }

    pub(super) fn used(&self, quota: usize) -> Counts {
        let charged = self.files.iter().filter(|file| is_charged(quota, file.in_project));
        charged.filter(|file| file.place != Place::Purged).fold(Counts::default(), |sum, file| Counts {
            bytes: sum.bytes + file.size(),
            files: sum.files + i64::from(quota >= FIRST_ENTITY),
        })
    }

    pub(super) fn reserved(&self, quota: usize) -> Counts {
        let held = self.uploads.iter().filter(|upload| is_charged(quota, upload.holds_of_project));
        held.fold(Counts::default(), |sum, upload| Counts {
            bytes: sum.bytes + upload.hold.bytes,
            files: sum.files + if quota >= FIRST_ENTITY { upload.hold.files } else { 0 },
        })
    }

    /// What is in the way of a charge on one quota. Only what grows is refused.
    pub(super) fn exhausted(&self, quota: usize, charge: Charge) -> Vec<Exhausted> {
        let (limits, used, reserved) = (self.limits[quota], self.used(quota), self.reserved(quota));
        let mut found = Vec::new();
        let growth = charge.add.bytes - charge.free_bytes;
        if let Some(limit) = limits.bytes
            && growth > 0
            && used.bytes + reserved.bytes + growth > limit
        {
            let numbers = [limit, used.bytes, reserved.bytes, charge.add.bytes];
            found.push(Exhausted { quota, metric: "bytes", numbers });
        }
        if let Some(limit) = limits.files
            && charge.add.files > 0
            && used.files + reserved.files + charge.add.files > limit
        {
            let numbers = [limit, used.files, reserved.files, charge.add.files];
            found.push(Exhausted { quota, metric: "files", numbers });
        }
        if let Some(limit) = limits.file_bytes.filter(|limit| charge.file_bytes > *limit) {
            let numbers = [limit, 0, 0, charge.file_bytes];
            found.push(Exhausted { quota, metric: "bytes of a single file", numbers });
        }
        found
    }

    /// Bytes that the content at a path gives back to a new one.
    pub(super) fn replaced(&self, path: usize) -> i64 {
        let replaced = self.live_at(path).filter(|_| !self.keeps_versions);
        replaced.map_or(0, |file| self.files[file].content().size as i64)
    }

    /// Holds quota for so many bytes of an upload of unknown size.
    pub(super) fn grow(&mut self, upload: usize, written: usize) -> Result<(), Refusal> {
        let Upload { spec, hold, holds_of_project, .. } = self.uploads[upload].clone();
        let needed = (written as i64 - self.replaced(spec.path)).max(0);
        if needed <= hold.bytes {
            return Ok(());
        }
        let least = needed - hold.bytes;
        let charge =
            Charge { add: Counts { bytes: least, files: 0 }, free_bytes: 0, file_bytes: written as i64 };
        self.check(holds_of_project, |_| charge)?;
        let left = |quota: usize| {
            let taken = self.used(quota).bytes + self.reserved(quota).bytes;
            self.limits[quota].bytes.map(|limit| (limit - taken).max(0))
        };
        let room = charged(holds_of_project).filter_map(left).min().unwrap_or(i64::MAX);
        self.uploads[upload].hold.bytes += (least + STEP).min(room).max(least);
        Ok(())
    }

    /// Refuses with every exhausted dimension of the quotas of a file.
    pub(super) fn check(&self, in_project: bool, charge: impl Fn(usize) -> Charge) -> Result<(), Refusal> {
        let exhausted: Vec<_> =
            charged(in_project).flat_map(|quota| self.exhausted(quota, charge(quota))).collect();
        if exhausted.is_empty() {
            return Ok(());
        }
        Err(Refusal { code: Code::ResourceExhausted, reason: "QUOTA_EXCEEDED", exhausted })
    }
}

/// The quotas of a file.
pub(super) fn charged(in_project: bool) -> impl Iterator<Item = usize> {
    (0..QUOTAS).filter(move |quota| is_charged(*quota, in_project))
}

pub(super) fn is_charged(quota: usize, in_project: bool) -> bool {
    quota != PROJECT || in_project
}
