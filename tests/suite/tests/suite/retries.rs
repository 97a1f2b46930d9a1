//! Every request that changes something may be sent again: one effect, one answer.

use super::uploads::{held, rest, resumable, until};
use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    dice::Dice,
    grpc::{Clients, at, by_id, finish, first, noise, pieces, refusal},
    proxy::{Fault, Proxy, Reply},
};
use std::pin::Pin;
use tonic::{Code, Request, Response, Status};

/// How often a request is sent with its answer lost.
const LOST: usize = 4;

/// The bytes of an answer.
type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;

fn answer<A: prost::Message>(
    call: impl Future<Output = Result<Response<A>, Status>> + Send + 'static,
) -> Answer {
    Box::pin(async move { Ok(call.await?.into_inner().encode_to_vec()) })
}

/// A request that changes something.
struct Case {
    /// As the audit trail calls it.
    operation: &'static str,
    /// Sends it as whoever may, with this request id; the second time with other content.
    send: Box<dyn Fn(Clients, String, bool) -> Answer>,
}

impl Case {
    fn new(operation: &'static str, send: impl Fn(Clients, String, bool) -> Answer + 'static) -> Self {
        Self { operation, send: Box::new(send) }
    }
}

/// A service behind a proxy, and a caller who may do all of it.
struct Rig {
    cofferd: Cofferd,
    proxy: Proxy,
    token: String,
    dice: Dice,
}

impl Rig {
    async fn start(seed: u64) -> Self {
        let cofferd = Cofferd::start().await;
        let proxy = Proxy::start(cofferd.grpc_addr()).await;
        let token = cofferd.token(&Token::user("ann", "clinic").role("operator").role("admin"));
        Self { cofferd, proxy, token, dice: Dice::of_run(seed) }
    }

    /// Clients that meet no fault.
    async fn clients(&self) -> Clients {
        self.cofferd.clients_with(Some(&self.token)).await
    }

    async fn done(&self, operation: &str) -> i64 {
        super::uploads::operations(&self.cofferd, operation, "success").await
    }

    /// Sends a request four times with its answer lost in some way, then twice more: once it had an effect, and the answers are the same.
    async fn retried<A: prost::Message + Default>(&mut self, case: Case) -> A {
        let (operation, request_id) = (case.operation, uuid::Uuid::now_v7().to_string());
        let before = self.done(operation).await;
        let reply = |dice: &mut Dice| match dice.below(3) {
            0 => Reply::Unseen,
            1 => Reply::Seen { passed_bytes: 0 },
            _ => Reply::Seen { passed_bytes: 1 + dice.below(40) },
        };
        self.proxy.plan(std::iter::repeat_with(|| Fault::DropReply(reply(&mut self.dice))).take(LOST));
        let send = |is_other| {
            // Each on a connection of its own.
            let clients = Clients::at(&self.proxy.addr(), Some(&self.token));
            (case.send)(clients, request_id.clone(), is_other)
        };
        for n in 0..LOST {
            let status = send(false).await.expect_err("the answer was lost");
            assert_eq!(
                refusal(&status).1,
                "",
                "{operation}: the connection is lost, not refused: {status:?}"
            );
            assert_eq!(self.proxy.planned(), LOST - 1 - n);
        }
        let mut answered = None;
        until(&format!("{operation} is answered"), async || match send(false).await {
            Ok(bytes) => {
                answered = Some(bytes);
                true
            }
            Err(status) => {
                // The first may still be at work.
                assert_eq!(
                    refusal(&status),
                    (Code::Aborted, "REQUEST_IN_FLIGHT".to_owned()),
                    "{operation}: {status:?}"
                );
                false
            }
        })
        .await;
        let answered = answered.unwrap();
        assert_eq!(self.done(operation).await, before + 1, "{operation}: one effect");
        assert_eq!(send(false).await.unwrap(), answered, "{operation}: the same answer");
        assert_eq!(self.done(operation).await, before + 1, "{operation}: one effect");
        let status = send(true).await.expect_err("the id is used");
        assert_eq!(
            refusal(&status),
            (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()),
            "{operation}: {status:?}"
        );
        assert_eq!(self.done(operation).await, before + 1, "{operation}: one effect");
        A::decode(&*answered).expect("an answer is a message")
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.to_owned()] })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_change_once() {
    let mut rig = Rig::start(11).await;
    let clients = rig.clients().await;
    let (file, other) = (
        clients.upload(at("a.bin"), b"abc").await.unwrap(),
        clients.upload(at("b.bin"), b"d").await.unwrap(),
    );
    let id = move |is_other: bool| by_id(if is_other { &other.id } else { &file.id });

    let which = id.clone();
    let updated: v1::UpdateFileResponse = rig
        .retried(Case::new("update_metadata", move |clients, request_id, is_other| {
            let changes = v1::FileChanges { tags: vec![is_other.to_string()], ..Default::default() };
            let request = v1::UpdateFileRequest {
                file: which(false),
                changes: Some(changes),
                update_mask: mask("tags"),
                request_id,
                ..Default::default()
            };
            answer(async move { clients.files.clone().update_file(request).await })
        }))
        .await;
    assert_eq!(updated.file.unwrap().tags, ["false"]);
    let which = id.clone();
    let deleted: v1::DeleteFileResponse = rig
        .retried(Case::new("delete", move |clients, request_id, is_other| {
            let request = v1::DeleteFileRequest { file: which(is_other), request_id, ..Default::default() };
            answer(async move { clients.files.clone().delete_file(request).await })
        }))
        .await;
    let deleted = deleted.file.unwrap();
    assert_eq!(deleted.status(), v1::FileStatus::Deleted);
    let which = id.clone();
    let undeleted: v1::UndeleteFileResponse = rig
        .retried(Case::new("undelete", move |clients, request_id, is_other| {
            let path = if is_other { "c.bin" } else { "" }.to_owned();
            let request = v1::UndeleteFileRequest { file: which(false), path, request_id };
            answer(async move { clients.files.clone().undelete_file(request).await })
        }))
        .await;
    assert_eq!(undeleted.file.unwrap().path, "a.bin");
    let request = v1::DeleteFileRequest { file: by_id(&deleted.id), ..Default::default() };
    clients.files.clone().delete_file(request).await.unwrap();
    let purged: v1::PurgeFileResponse = rig
        .retried(Case::new("purge", move |clients, request_id, is_other| {
            let request = v1::PurgeFileRequest { file: id(is_other), request_id };
            answer(async move { clients.files.clone().purge_file(request).await })
        }))
        .await;
    assert_eq!(purged.freed_bytes, 3);
    let used = rig.cofferd.database.number("SELECT quota_used FROM storage_volumes").await;
    assert_eq!(used, 1, "given back once");
    super::quotas::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_local_paths_change_once() {
    let mut rig = Rig::start(12).await;
    let disk = rig.cofferd.disks().join("archive");
    std::fs::create_dir(&disk).unwrap();
    let path = disk.to_str().unwrap().to_owned();
    let rows = async |rig: &Rig, table: &str| {
        rig.cofferd.database.number(&format!("SELECT count(*) FROM {table}")).await
    };
    let paths_before = rows(&rig, "local_paths").await;

    let local: v1::CreateLocalPathResponse = rig
        .retried(Case::new("create_local_path", move |clients, request_id, is_other| {
            let (path, description) = (path.clone(), is_other.to_string());
            let request = v1::CreateLocalPathRequest { path, description, request_id };
            answer(async move { clients.volumes.clone().create_local_path(request).await })
        }))
        .await;
    let id = local.local_path.unwrap().id;
    assert_eq!(rows(&rig, "local_paths").await, paths_before + 1);
    let local_path = id.clone();
    let updated: v1::UpdateLocalPathResponse = rig
        .retried(Case::new("update_local_path", move |clients, request_id, is_other| {
            let (id, description) = (local_path.clone(), format!("changed {is_other}"));
            let request = v1::UpdateLocalPathRequest { id, description, request_id };
            answer(async move { clients.volumes.clone().update_local_path(request).await })
        }))
        .await;
    assert_eq!(updated.local_path.unwrap().description, "changed false");
    let local_path_id = id.clone();
    let created: v1::CreateVolumeResponse = rig
        .retried(Case::new("create_volume", move |clients, request_id, is_other| {
            let local = v1::LocalBackend { local_path_id: local_path_id.clone() };
            let volume = v1::Volume {
                name: if is_other { "other" } else { "archive" }.to_owned(),
                backend: Some(v1::volume::Backend::Local(local)),
                ..Default::default()
            };
            let request = v1::CreateVolumeRequest { volume: Some(volume), request_id };
            answer(async move { clients.volumes.clone().create_volume(request).await })
        }))
        .await;
    let volume = created.volume.unwrap();
    assert_eq!(rows(&rig, "storage_volumes").await, 2);
    let volume_id = volume.id.clone();
    let updated: v1::UpdateVolumeResponse = rig
        .retried(Case::new("update_volume", move |clients, request_id, is_other| {
            let name = if is_other { "third" } else { "renamed" }.to_owned();
            let volume = v1::Volume { id: volume_id.clone(), name, ..Default::default() };
            let request =
                v1::UpdateVolumeRequest { volume: Some(volume), update_mask: mask("name"), request_id };
            answer(async move { clients.volumes.clone().update_volume(request).await })
        }))
        .await;
    assert_eq!(updated.volume.unwrap().name, "renamed");
    let _: v1::DeleteVolumeResponse = rig
        .retried(Case::new("delete_volume", move |clients, request_id, is_other| {
            let volume = if is_other { "main".to_owned() } else { volume.id.clone() };
            let request = v1::DeleteVolumeRequest { volume, request_id };
            answer(async move { clients.volumes.clone().delete_volume(request).await })
        }))
        .await;
    assert_eq!(rows(&rig, "storage_volumes WHERE deleted_at IS NULL").await, 1);
    let _: v1::DeleteLocalPathResponse = rig
        .retried(Case::new("delete_local_path", move |clients, request_id, is_other| {
            let id = if is_other { uuid::Uuid::now_v7().to_string() } else { id.clone() };
            let request = v1::DeleteLocalPathRequest { id, request_id };
            answer(async move { clients.volumes.clone().delete_local_path(request).await })
        }))
        .await;
    assert_eq!(rows(&rig, "local_paths").await, paths_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_start_end_and_are_stored_once() {
    let mut rig = Rig::start(13).await;
    let started: v1::StartUploadResponse = rig
        .retried(Case::new("start_upload", |clients, request_id, is_other| {
            let size_bytes = Some(if is_other { 2_000 } else { 1_000 });
            let spec = v1::UploadSpec { request_id, size_bytes, ..at("started.bin") };
            let request = v1::StartUploadRequest { spec: Some(spec) };
            answer(async move { clients.transfers.clone().start_upload(request).await })
        }))
        .await;
    let started = started.upload.unwrap();
    assert_eq!(rig.cofferd.database.number("SELECT count(*) FROM storage_uploads").await, 1);
    assert_eq!(rig.cofferd.database.number("SELECT quota_reserved FROM storage_volumes").await, 1_000);

    let clients = rig.clients().await;
    let other = clients.start_upload(resumable("other.bin")).await.unwrap().id;
    let cancelled: v1::CancelUploadResponse = rig
        .retried(Case::new("cancel_upload", move |clients, request_id, is_other| {
            let upload_id = if is_other { other.clone() } else { started.id.clone() };
            let request = v1::CancelUploadRequest { upload_id, request_id };
            answer(async move { clients.transfers.clone().cancel_upload(request).await })
        }))
        .await;
    assert_eq!(cancelled.upload.unwrap().state(), v1::UploadState::Aborted);
    assert_eq!(rig.cofferd.database.number("SELECT quota_reserved FROM storage_volumes").await, 0);

    let content = noise(300_000);
    let sent = content.clone();
    let written: v1::WriteFileResponse = rig
        .retried(Case::new("upload", move |clients, request_id, is_other| {
            let content = if is_other { noise(300_001) } else { sent.clone() };
            let spec = v1::UploadSpec { request_id, ..at("written.bin") };
            let size = content.len();
            let messages = [vec![first(spec)], pieces(&content, 0..size), vec![finish(size as i64)]].concat();
            let messages = Request::new(tokio_stream::iter(messages));
            answer(async move { clients.transfers.clone().write_file(messages).await })
        }))
        .await;
    let file = written.file.unwrap();
    assert_eq!((file.version, file.sha256), (1, super::uploads::sha256(&content)));
    assert_eq!(rig.cofferd.database.number("SELECT count(*) FROM storage_file_versions").await, 1);
    assert_eq!(rig.cofferd.objects().len(), 1);
    super::quotas::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_and_counted_once() {
    let mut rig = Rig::start(14).await;
    rig.clients().await.upload(at("a.bin"), b"abc").await.unwrap();
    let set: v1::SetQuotaResponse = rig
        .retried(Case::new("set_quota", |clients, request_id, is_other| {
            let key = Some(v1::QuotaKey { of: Some(Of::Volume("main".into())) });
            let limit_bytes = Some(if is_other { 5_000 } else { 4_000 });
            let request = v1::SetQuotaRequest { key, limit_bytes, request_id, ..Default::default() };
            answer(async move { clients.quotas.clone().set_quota(request).await })
        }))
        .await;
    let quota = set.quota.unwrap();
    assert_eq!((quota.limit_bytes, quota.used_bytes), (Some(4_000), 3));
    let limit = rig.cofferd.database.number("SELECT quota_limit FROM storage_volumes").await;
    assert_eq!(limit, 4_000);

    let sql = rig.cofferd.database.connect().await;
    sql.batch_execute("UPDATE storage_volumes SET quota_used = quota_used + 7").await.unwrap();
    let counted: v1::RecalculateQuotasResponse = rig
        .retried(Case::new("recalculate_quotas", |clients, request_id, dry_run| {
            let request = v1::RecalculateQuotasRequest { dry_run, request_id };
            answer(async move { clients.quotas.clone().recalculate_quotas(request).await })
        }))
        .await;
    let [drift] = counted.drifts.as_slice() else { panic!("one quota was wrong: {:?}", counted.drifts) };
    assert_eq!((drift.counted_bytes, drift.actual_bytes), (10, 3));
    super::quotas::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_killed_service_may_have_done_is_done_once() {
    const ROUNDS: usize = 6;
    let mut rig = Rig::start(15).await;
    let content = noise(400_000);
    for round in 0..ROUNDS {
        let (request_id, path) = (uuid::Uuid::now_v7().to_string(), format!("{round}.bin"));
        let spec = v1::UploadSpec { request_id, size_bytes: Some(400_000), ..at(&path) };
        // The service dies somewhere between the request and its answer.
        let clients = Clients::at(&rig.proxy.addr(), Some(&rig.token));
        let before = rig.proxy.traffic().to_server_bytes;
        let (sending, sent) = (spec.clone(), content.clone());
        let upload = tokio::spawn(async move { clients.upload(sending, &sent).await });
        let goal = before + rig.dice.below(405_000);
        until("so much has passed", async || {
            rig.proxy.traffic().to_server_bytes >= goal || upload.is_finished()
        })
        .await;
        rig.cofferd.kill();
        let first = upload.await.unwrap();
        rig.cofferd.launch().await;
        rig.proxy.point_at(rig.cofferd.grpc_addr());
        let clients = rig.clients().await;
        let mut stored = None;
        until("it is stored", async || match clients.upload(spec.clone(), &content).await {
            Ok(file) => {
                stored = Some(file);
                true
            }
            Err(status) => {
                assert_eq!(
                    status.code(),
                    Code::Aborted,
                    "what was being finished is open again soon: {status:?}"
                );
                false
            }
        })
        .await;
        let stored = stored.unwrap();
        println!("round {round}: killed after {} bytes, acknowledged: {}", goal - before, first.is_ok());
        assert!(first.is_err() || first.unwrap() == stored);
        assert_eq!((stored.version, &stored.sha256), (1, &super::uploads::sha256(&content)));
        let upload = clients.start_upload(spec).await.unwrap();
        assert_eq!((upload.state(), &upload.file_id), (v1::UploadState::Committed, &stored.id));
        let again = clients.write(rest(&upload.id, &content, 0)).await.unwrap();
        assert_eq!(again.file.unwrap(), stored);
    }
    assert_eq!(rig.done("upload").await, ROUNDS as i64);
    assert_eq!(
        rig.cofferd.database.number("SELECT count(*) FROM storage_file_versions").await,
        ROUNDS as i64
    );
    assert_eq!((held(&rig.cofferd).await, rig.cofferd.objects().len()), (0, ROUNDS));
    super::quotas::nothing_drifts(&rig.cofferd).await;
}
