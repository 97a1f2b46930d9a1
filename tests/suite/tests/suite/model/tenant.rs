//! A tenant of the real service with a volume of its own: carries operations out and compares what comes of them.

#[path = "compare.rs"]
mod compare;
#[path = "streams.rs"]
mod streams;

use super::{
    books::{Asked, Content, Expected, FIRST_ENTITY, Limits, PROJECT, QUOTAS, Spec, State},
    operations::Operation,
    service::Service,
};
use crate::quotas::{key, quota, request_id, set};
use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Token,
    dice::Dice,
    grpc::{Clients, by_id},
};
use tonic::Status;

/// What an operation was answered.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Nothing,
    File(Box<v1::File>),
    Upload(Box<v1::Upload>),
    Freed(i64),
    Quota(v1::Quota),
}

/// What is known of an upload beside the model.
struct Known {
    id: String,
    request_id: String,
    /// As it was answered when the upload became one.
    file: Option<v1::File>,
}

pub(super) struct Tenant {
    /// Tokens of the user and of an operator, for new connections after a crash.
    tokens: [String; 2],
    ann: Clients,
    operator: Clients,
    volume: String,
    /// How refusals name each quota.
    subjects: [String; QUOTAS],
    user: String,
    uploads: Vec<Known>,
    /// Ids.
    files: Vec<String>,
    /// Ids of requests and what they were answered.
    asked: Vec<(String, Answer)>,
}

fn bytes(content: Content) -> Vec<u8> {
    let mut bytes = vec![0; content.size];
    Dice::new(u64::from(content.tag)).fill(&mut bytes);
    bytes
}

impl Tenant {
    pub(super) async fn new(service: &mut Service, state: &State) -> Self {
        let n = service.volumes.len();
        let organisation = format!("clinic-{n}");
        let cofferd = &service.cofferd;
        let tokens = [
            cofferd.token(&Token::user("ann", &organisation).through("viewer").project("trial")),
            cofferd.token(&Token::user("olga", &organisation).role("operator")),
        ];
        let ann = cofferd.clients_with(Some(&tokens[0])).await;
        let operator = cofferd.clients_with(Some(&tokens[1])).await;
        let disk = cofferd.disks().join(&organisation);
        std::fs::create_dir(&disk).unwrap();
        let versioning =
            if state.keeps_versions { v1::VersioningMode::Source } else { v1::VersioningMode::None };
        let volume =
            crate::volumes::local_volume(&operator, &organisation, disk.to_str().unwrap(), versioning).await;
        // A user nobody has heard of has no quota to limit.
        let first = v1::UploadSpec {
            volume: volume.id.clone(),
            path: "first".into(),
            project_id: "trial".into(),
            ..Default::default()
        };
        let first = ann.upload(first, b"").await.unwrap();
        crate::quotas::remove(&ann, &first.id).await;
        let (user, volume) = (first.owner_user_id, volume.id);
        service.volumes.push((volume.clone(), disk));
        let subjects = [
            format!("volume:{volume}"),
            format!("user:{user}@volume:{volume}"),
            format!("app:viewer@volume:{volume}"),
            format!("user:{user}"),
            format!("organisation:{organisation}"),
            "project:trial".to_owned(),
        ];
        let (uploads, files, asked) = Default::default();
        Self { tokens, ann, operator, volume, subjects, user, uploads, files, asked }
    }

    async fn crash(&mut self, service: &mut Service) {
        service.crash().await;
        self.ann = service.cofferd.clients_with(Some(&self.tokens[0])).await;
        self.operator = service.cofferd.clients_with(Some(&self.tokens[1])).await;
    }

    fn quota_of(&self, quota: usize) -> Of {
        let volume = self.volume.clone();
        match quota {
            0 => Of::Volume(volume),
            1 => Of::UserOnVolume(v1::UserOnVolume { user_id: self.user.clone(), volume }),
            2 => Of::AppOnVolume(v1::AppOnVolume { app_id: "viewer".into(), volume }),
            FIRST_ENTITY => Of::UserId(self.user.clone()),
            PROJECT => Of::ProjectId("trial".into()),
            _ => Of::OrganisationId(String::new()),
        }
    }

    fn spec(&self, spec: Spec, request_id: &str) -> v1::UploadSpec {
        v1::UploadSpec {
            volume: self.volume.clone(),
            path: path(spec.path),
            project_id: if spec.in_project { "trial".into() } else { String::new() },
            create_only: spec.create_only,
            size_bytes: spec.is_declared.then_some(spec.content.size as i64),
            request_id: request_id.to_owned(),
            ..Default::default()
        }
    }

    /// Does it, and compares the answer with what the model expects.
    pub(super) async fn carry_out(
        &mut self,
        service: &mut Service,
        before: &State,
        after: &State,
        operation: &Operation,
    ) -> Result<(), String> {
        let request_id = match operation {
            Operation::StartAgain(n) => self.uploads[*n].request_id.clone(),
            _ => request_id(),
        };
        let outcome = self.attempt(service, before, after, operation, &request_id).await?;
        self.expect(after, &outcome).await?;
        let Ok(answer) = outcome else { return Ok(()) };
        if after.uploads.len() > self.uploads.len() {
            let id = match &answer {
                Answer::Upload(upload) => upload.id.clone(),
                // One that was sent at once is asked for by its request.
                _ => {
                    let spec = after.uploads[self.uploads.len()].spec;
                    let upload = self.ann.start_upload(self.spec(spec, &request_id)).await;
                    upload.map_err(|status| format!("its upload: {status:?}"))?.id
                }
            };
            self.uploads.push(Known { id, request_id: request_id.clone(), file: None });
        }
        if let (Answer::File(file), Expected::File(n)) = (&answer, &after.expected) {
            if *n == self.files.len() {
                self.files.push(file.id.clone());
            }
            if self.files[*n] != file.id {
                return Err(format!("{} is file {n}, not {}", self.files[*n], file.id));
            }
            let became = (0..after.uploads.len())
                .find(|n| before.uploads.get(*n).map(|upload| upload.life) != Some(after.uploads[*n].life));
            if let Some(upload) = became {
                self.uploads[upload].file = Some((**file).clone());
            }
        }
        if after.asked.len() > self.asked.len() {
            self.asked.push((request_id, answer));
        }
        Ok(())
    }

    /// The operation alone. The outer error is a difference, the inner one the service's answer.
    async fn attempt(
        &mut self,
        service: &mut Service,
        before: &State,
        after: &State,
        operation: &Operation,
        request_id: &str,
    ) -> Result<Result<Answer, Status>, String> {
        Ok(match operation {
            Operation::Start(spec) => self.start(*spec, request_id).await,
            Operation::StartAgain(n) => self.start(before.uploads[*n].spec, request_id).await,
            Operation::StartKilled(spec, moment) => {
                let (ann, message) = (self.ann.clone(), self.spec(*spec, request_id));
                let lost = tokio::spawn(async move { ann.start_upload(message).await });
                self.crash_after(service, *moment).await;
                // Its outcome may have been heard in time; what counts is that it can be asked for.
                let _ = lost.await;
                self.start(*spec, request_id).await
            }
            Operation::Cancel(n) => self.ask(Asked::Cancel(*n), request_id, before).await,
            Operation::Look(n) => {
                self.ann.get_upload(&self.uploads[*n].id).await.map(|upload| Answer::Upload(Box::new(upload)))
            }
            Operation::Delete(n) => self.ask(Asked::Delete(*n), request_id, before).await,
            Operation::Undelete(n) => self.ask(Asked::Undelete(*n), request_id, before).await,
            Operation::Purge(n) => self.ask(Asked::Purge(*n), request_id, before).await,
            Operation::SetQuota(quota, limits) => {
                self.ask(Asked::SetQuota(*quota, *limits), request_id, before).await
            }
            Operation::Kill => {
                self.crash(service).await;
                Ok(Answer::Nothing)
            }
            Operation::Repeat(n) => {
                let request_id = self.asked[*n].0.clone();
                self.ask(before.asked[*n], &request_id, before).await
            }
            Operation::Reuse(n) => {
                let request_id = self.asked[*n].0.clone();
                self.ask_otherwise(before.asked[*n], request_id).await
            }
            Operation::FinishAgain(n) => {
                let file = self.finish_again(before, *n).await;
                match (&file, &self.uploads[*n].file) {
                    (Ok(file), Some(first)) if file != first => {
                        return Err(format!("{file:?} and not what was answered first, {first:?}"));
                    }
                    _ => file.map(|_| Answer::Nothing),
                }
            }
            Operation::Write(..)
            | Operation::TakeOver(..)
            | Operation::Finish(..)
            | Operation::OneShot(..)
            | Operation::OneShotCut(..) => {
                return self.stream(service, before, after, operation, request_id).await;
            }
        })
    }

    async fn start(&self, spec: Spec, request_id: &str) -> Result<Answer, Status> {
        self.ann
            .start_upload(self.spec(spec, request_id))
            .await
            .map(|upload| Answer::Upload(Box::new(upload)))
    }

    /// A request that can be sent twice.
    async fn ask(&self, asked: Asked, request_id: &str, state: &State) -> Result<Answer, Status> {
        let request_id = request_id.to_owned();
        let mut files = self.ann.files.clone();
        Ok(match asked {
            Asked::Delete(n) => {
                let file = by_id(&self.files[n]);
                let request = v1::DeleteFileRequest { file, request_id, ..Default::default() };
                Answer::File(Box::new(files.delete_file(request).await?.into_inner().file.unwrap()))
            }
            Asked::Undelete(n) => {
                let file = by_id(&self.files[n]);
                let request = v1::UndeleteFileRequest { file, request_id, ..Default::default() };
                Answer::File(Box::new(files.undelete_file(request).await?.into_inner().file.unwrap()))
            }
            Asked::Purge(n) => {
                let request = v1::PurgeFileRequest { file: by_id(&self.files[n]), request_id };
                Answer::Freed(files.purge_file(request).await?.into_inner().freed_bytes)
            }
            Asked::Cancel(n) => {
                let request = v1::CancelUploadRequest { upload_id: self.uploads[n].id.clone(), request_id };
                let answer = self.ann.transfers.clone().cancel_upload(request).await?;
                Answer::Upload(Box::new(answer.into_inner().upload.unwrap()))
            }
            Asked::SetQuota(quota, limits) => {
                let request = v1::SetQuotaRequest { request_id, ..self.limits(quota, limits) };
                Answer::Quota(set(&self.operator, request).await?)
            }
            Asked::Put(n) => {
                let spec = state.uploads[n].spec;
                let message = self.spec(spec, &request_id);
                Answer::File(Box::new(self.ann.upload(message, &bytes(spec.content)).await?))
            }
        })
    }

    fn limits(&self, quota: usize, limits: Limits) -> v1::SetQuotaRequest {
        v1::SetQuotaRequest {
            key: key(self.quota_of(quota)),
            limit_bytes: limits.bytes,
            limit_files: limits.files,
            max_file_bytes: limits.file_bytes,
            request_id: String::new(),
        }
    }

    /// Another request under an id that was used.
    async fn ask_otherwise(&self, asked: Asked, request_id: String) -> Result<Answer, Status> {
        match asked {
            Asked::SetQuota(quota, limits) => {
                let bytes = limits.bytes.map_or(1, |limit| limit + 1);
                let other = self.limits(quota, Limits { bytes: Some(bytes), ..limits });
                set(&self.operator, v1::SetQuotaRequest { request_id, ..other }).await.map(Answer::Quota)
            }
            _ => {
                let file = by_id(&uuid::Uuid::now_v7().to_string());
                let request = v1::PurgeFileRequest { file, request_id };
                self.ann.files.clone().purge_file(request).await.map(|_| Answer::Nothing)
            }
        }
    }

    async fn books(&self) -> [v1::Quota; QUOTAS] {
        let (volume, user) = (quota(&self.operator, self.quota_of(0)), &self.ann);
        let (a, b, c, d, e, f) = tokio::join!(
            volume,
            quota(user, self.quota_of(1)),
            quota(user, self.quota_of(2)),
            quota(user, self.quota_of(3)),
            quota(user, self.quota_of(4)),
            quota(user, self.quota_of(5)),
        );
        [a, b, c, d, e, f]
    }
}

fn path(path: usize) -> String {
    format!("folder/{path}.bin")
}
