//! What has to be the same in the model and in the service.

use super::{Answer, Tenant, bytes, path};
use crate::{
    model::{
        books::{Expected, Life, Place, QUOTAS, Refusal, State},
        operations::Operation,
        service::Service,
    },
    quotas::drifts,
};
use coffer_proto::v1::{self, UploadState};
use coffer_tests::grpc::{bad_fields, by_id, refusal};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use tonic_types::{QuotaFailure, StatusExt as _};

/// How long what was cut off may take to be undone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A difference, if there is one.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

impl Tenant {
    /// The answer is the one the model expects.
    pub(super) async fn expect(&self, state: &State, outcome: &Result<Answer, Status>) -> Result<(), String> {
        match (&state.expected, outcome) {
            (Expected::Nothing, Ok(_)) => Ok(()),
            (Expected::Refused(refusal), Err(status)) => self.same_refusal(status, refusal),
            (Expected::Open(n), Err(status)) => {
                let expected = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
                same("the end of a stream without `finish`", refusal(status), expected)?;
                same("its bad fields", bad_fields(status), vec!["finish".to_owned()])?;
                let found = self.ann.get_upload(&self.uploads[*n].id).await;
                same_upload(&found.map_err(|status| format!("{status:?}"))?, state, *n)
            }
            (Expected::Upload(n), Ok(Answer::Upload(upload))) => {
                if let Some(known) = self.uploads.get(*n) {
                    same("the upload", &upload.id, &known.id)?;
                }
                same_upload(upload, state, *n)
            }
            (Expected::File(n), Ok(Answer::File(file))) => {
                same_file(file, state, *n)?;
                self.reads_back(&file.id, state, *n).await
            }
            (Expected::Freed(bytes), Ok(Answer::Freed(freed))) => same("given back", freed, bytes),
            (Expected::Quota(n), Ok(Answer::Quota(quota))) => same_quota(quota, state, *n),
            (Expected::Again(n), Ok(answer)) => {
                same("the answer to the same request", answer, &self.asked[*n].1)
            }
            (expected, outcome) => Err(format!("{outcome:?}, expected {expected:?}")),
        }
    }

    fn same_refusal(&self, status: &Status, expected: &Refusal) -> Result<(), String> {
        same("refused", refusal(status), (expected.code, expected.reason.to_owned()))?;
        let details: Option<QuotaFailure> = status.get_details_quota_failure();
        let found: Vec<_> = details
            .map(|details| details.violations)
            .unwrap_or_default()
            .into_iter()
            .map(|violation| {
                let number = |name: &str| violation.quota_dimensions[name].parse::<i64>().unwrap();
                let numbers =
                    [violation.quota_value, number("used"), number("reserved"), number("requested")];
                (violation.subject.clone(), violation.quota_metric.clone(), numbers)
            })
            .collect();
        let expected = expected.exhausted.iter();
        let expected = expected.map(|e| (self.subjects[e.quota].clone(), e.metric.to_owned(), e.numbers));
        same("exhausted", found, expected.collect())
    }

    /// All quotas are the model's. What a cut-off stream without a request held is given back within a while; everything else is
    /// at once.
    pub(in crate::model) async fn compare(&self, state: &State, operation: &Operation) -> Result<(), String> {
        let since = Instant::now();
        loop {
            let books = self.books().await;
            let outcome = (0..QUOTAS).try_for_each(|quota| same_quota(&books[quota], state, quota));
            match outcome {
                Err(_) if matches!(operation, Operation::OneShotCut(..)) && since.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Every file and every upload, and a recount.
    pub(in crate::model) async fn compare_all(&self, service: &Service, state: &State) -> Result<(), String> {
        for (n, id) in self.files.iter().enumerate() {
            self.reads_back(id, state, n).await.map_err(|why| format!("at the end, file {n}: {why}"))?;
        }
        for (n, known) in self.uploads.iter().enumerate() {
            let found = self.ann.get_upload(&known.id).await.map_err(|status| format!("{status:?}"))?;
            same_upload(&found, state, n).map_err(|why| format!("at the end, upload {n}: {why}"))?;
        }
        same("files", self.files.len(), state.files.len())?;
        same("drift", drifts(&self.operator).await, Vec::new())?;
        let stored = format!(
            "SELECT count(*) FROM storage_file_versions v JOIN storage_files f ON f.id = v.file_id WHERE f.volume_id = '{}'",
            self.volume
        );
        let kept = state.files.iter().filter(|file| file.place != Place::Purged);
        let kept: usize = kept.map(|file| file.versions.len()).sum();
        same("versions", service.cofferd.database.number(&stored).await, kept as i64)
    }

    /// The content of a file is the model's: to the last byte if it is live, hidden in the trash, gone after it.
    async fn reads_back(&self, id: &str, state: &State, n: usize) -> Result<(), String> {
        let file = &state.files[n];
        let read = |version| {
            let request = v1::ReadFileRequest { file: by_id(id), version, ..Default::default() };
            async move { self.ann.read(request).await }
        };
        if file.place != Place::Live {
            let found = read(0).await.map(|(_, content)| content.len()).map_err(|status| refusal(&status));
            return same("a file that is not live", found, Err((Code::NotFound, "NOT_FOUND".to_owned())));
        }
        let oldest = file.number - file.versions.len() as i32 + 1;
        for (version, content) in (oldest..).zip(&file.versions) {
            let (_, found) =
                read(version).await.map_err(|status| format!("version {version}: {status:?}"))?;
            if found != bytes(*content) {
                return Err(format!(
                    "version {version} has {} other bytes, expected {content:?}",
                    found.len()
                ));
            }
        }
        Ok(())
    }
}

fn same_file(found: &v1::File, state: &State, n: usize) -> Result<(), String> {
    let expected = &state.files[n];
    let content = expected.content();
    let status = match expected.place {
        Place::Live => v1::FileStatus::Active,
        Place::Trash | Place::Purged => v1::FileStatus::Deleted,
    };
    same("size", found.size_bytes, content.size as i64)?;
    same("SHA-256", &found.sha256, &crate::crash::sha256(&bytes(content)))?;
    same("version", found.version, expected.number)?;
    same("path", &found.path, &path(expected.path))?;
    same("project", found.project_id.as_str(), if expected.in_project { "trial" } else { "" })?;
    same("status", found.status(), status)
}

fn same_upload(found: &v1::Upload, state: &State, n: usize) -> Result<(), String> {
    let expected = &state.uploads[n];
    let life = match expected.life {
        Life::Open => UploadState::Open,
        Life::Committed(_) => UploadState::Committed,
        Life::Aborted => UploadState::Aborted,
    };
    same("state", found.state(), life)?;
    same("held", found.reserved_bytes, expected.hold.bytes)?;
    same("path of the upload", &found.path, &path(expected.spec.path))?;
    let declared = expected.spec.is_declared.then_some(expected.spec.content.size as i64);
    same("declared", found.size_bytes, declared)?;
    match expected.life {
        // What had arrived of what was refused is of no use to anybody.
        Life::Aborted => Ok(()),
        Life::Open | Life::Committed(_) => same("persisted", found.persisted_size, expected.persisted as i64),
    }
}

fn same_quota(found: &v1::Quota, state: &State, n: usize) -> Result<(), String> {
    let (used, reserved, limits) = (state.used(n), state.reserved(n), state.limits[n]);
    let what = format!("quota {n}, used and reserved bytes and files");
    same(
        &what,
        (found.used_bytes, found.reserved_bytes, found.used_files, found.reserved_files),
        (used.bytes, reserved.bytes, used.files, reserved.files),
    )?;
    same(
        &format!("quota {n}, limits"),
        (found.limit_bytes, found.limit_files, found.max_file_bytes),
        (limits.bytes, limits.files, limits.file_bytes),
    )
}
