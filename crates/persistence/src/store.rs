//! The store: each method by its name, its transaction, and where the work is done.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use coffer_domain::Result;
use coffer_domain::caller::User;
use coffer_domain::endpoint::{Credential, CredentialChanges, Endpoint, EndpointChanges, Login};
use coffer_domain::file::{Changes, Content, File, Filter};
use coffer_domain::id::{
    ClusterId, CredentialId, EndpointId, FileId, LocalPathId, NodeId, ObjectId, OperationId, TaskId,
    UploadId, UserId, VolumeId,
};
use coffer_domain::operation::{self, Operation};
use coffer_domain::page::{Page, PageRequest};
use coffer_domain::path::{Key, StoragePath};
use coffer_domain::quota::{self, Drift, Limits, Quota, QuotaKey};
use coffer_domain::request::{Answered, Request};
use coffer_domain::secret::KeyId;
use coffer_domain::store::{
    Commit, DeadUpload, Intent, Link, Lookup, NodeStart, ObjectRow, Reclaim, Scope, Store,
};
use coffer_domain::task::{self, NewTask, Task, TaskError};
use coffer_domain::time::Timestamp;
use coffer_domain::upload::{self, Checkpoint, Held, Upload};
use coffer_domain::volume::{LocalPath, Settings, Volume, VolumeRef};
use diesel::QueryDsl;
use diesel_async::RunQueryDsl;

use crate::database::Database;
use crate::error::unavailable;
use crate::files::By;
use crate::pipeline::Pipeline;
use crate::reads::{Read, Reads};
use crate::schema::cluster;
use crate::secrets::KeyRing;
use crate::sessions::Sessions;
use crate::transaction::Begin;
use crate::uploads::{Commits, Open, Opens};
use crate::{
    credentials, endpoints, files, links, local_paths, nodes, operations, quotas, reconcile, requests, tasks,
    uploads, users, volumes,
};

/// How long a probe waits for its answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// [`Store`] on PostgreSQL. Cheap to clone; clones share the pool and the pipelines, which end with the last of them.
#[derive(Debug, Clone)]
pub struct PgStore {
    sessions: Sessions,
    commits: Pipeline<Commits>,
    opens: Pipeline<Opens>,
    reads: Pipeline<Reads>,
    keys: KeyRing,
}

impl PgStore {
    /// A store in a database that has every migration.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let sessions = Sessions::new(database);
        Self {
            commits: Pipeline::new(sessions.clone()),
            opens: Pipeline::new(sessions.clone()),
            reads: Pipeline::new(sessions.clone()),
            sessions,
            keys: KeyRing::default(),
        }
    }

    /// The same with keys to seal secrets under. Without, none can be stored.
    #[must_use]
    pub fn with_keys(self, keys: KeyRing) -> Self {
        Self { keys, ..self }
    }

    /// The database it is in.
    #[must_use]
    pub fn database(&self) -> &Database {
        self.sessions.database()
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

fn by<'u>(user: Option<&'u User>, operation: &'u Operation) -> By<'u> {
    By { user, organisation: &operation.organisation }
}

#[async_trait]
impl Store for PgStore {
    async fn cluster(&self) -> Result<ClusterId> {
        self.transaction("cluster", Begin::Statement, None, async |c| {
            let id: uuid::Uuid = cluster::table.select(cluster::id).first(&mut &*c).await?;
            Ok(ClusterId::from(id))
        })
        .await
    }

    async fn organisation_of(&self, user: UserId) -> Result<Option<String>> {
        self.transaction("organisation_of", Begin::Statement, None, async |c| {
            users::organisation_of(c, user).await
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        let ask = self.transaction("ping", Begin::Statement, None, async |c| {
            diesel::sql_query("SELECT 1").execute(&mut &*c).await?;
            Ok(())
        });
        tokio::time::timeout(PING_TIMEOUT, ask).await.unwrap_or_else(|_| Err(unavailable()))
    }

    async fn start_node(&self, node: NodeId, version: &str, lease: Duration) -> Result<NodeStart> {
        self.transaction("start_node", Begin::Durable, None, async |c| {
            nodes::start(c, node, version, lease).await
        })
        .await
    }

    async fn renew_node(&self, start: NodeStart, lease: Duration) -> Result<bool> {
        self.transaction("renew_node", Begin::Durable, None, async |c| nodes::renew(c, start, lease).await)
            .await
    }

    async fn tidy(&self) -> Result<()> {
        self.tidy_all().await
    }

    async fn recall(&self, request: &Request) -> Result<Option<Answered>> {
        self.transaction("recall", Begin::Statement, None, async |c| requests::recall(c, request).await).await
    }

    async fn create_volume(
        &self,
        volume: &Volume,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Volume> {
        self.mutation("create_volume", operation, request, async |c| volumes::create(c, volume).await).await
    }

    async fn volume(&self, volume: &VolumeRef) -> Result<Option<Volume>> {
        self.transaction("volume", Begin::Statement, None, async |c| volumes::find(c, volume).await).await
    }

    async fn volumes(&self, page: &PageRequest) -> Result<Page<Volume>> {
        self.transaction("volumes", Begin::Statement, None, async |c| volumes::list(c, page).await).await
    }

    async fn update_volume(
        &self,
        id: VolumeId,
        expected: Timestamp,
        settings: &Settings,
        must_be_empty: bool,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Volume> {
        self.mutation("update_volume", operation, request, async |c| {
            volumes::update(c, id, expected, settings, must_be_empty).await
        })
        .await
    }

    async fn delete_volume(
        &self,
        id: VolumeId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()> {
        self.mutation("delete_volume", operation, request, async |c| volumes::delete(c, id).await).await
    }

    async fn create_local_path(
        &self,
        path: &LocalPath,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<LocalPath> {
        self.mutation("create_local_path", operation, request, async |c| local_paths::create(c, path).await)
            .await
    }

    async fn local_path(&self, id: LocalPathId) -> Result<Option<LocalPath>> {
        self.transaction("local_path", Begin::Statement, None, async |c| local_paths::find(c, id).await).await
    }

    async fn local_paths(&self, page: &PageRequest) -> Result<Page<LocalPath>> {
        self.transaction("local_paths", Begin::Statement, None, async |c| local_paths::list(c, page).await)
            .await
    }

    async fn update_local_path(
        &self,
        id: LocalPathId,
        description: &str,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<LocalPath> {
        self.mutation("update_local_path", operation, request, async |c| {
            local_paths::update(c, id, description).await
        })
        .await
    }

    async fn delete_local_path(
        &self,
        id: LocalPathId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()> {
        self.mutation("delete_local_path", operation, request, async |c| local_paths::delete(c, id).await)
            .await
    }

    async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Endpoint> {
        self.mutation("create_endpoint", operation, request, async |c| endpoints::create(c, endpoint).await)
            .await
    }

    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>> {
        self.transaction("endpoint", Begin::Statement, None, async |c| endpoints::find(c, id).await).await
    }

    async fn endpoints(&self, page: &PageRequest) -> Result<Page<Endpoint>> {
        self.transaction("endpoints", Begin::Statement, None, async |c| endpoints::list(c, page).await).await
    }

    async fn update_endpoint(
        &self,
        id: EndpointId,
        changes: &EndpointChanges,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Endpoint> {
        self.mutation("update_endpoint", operation, request, async |c| {
            endpoints::update(c, id, changes).await
        })
        .await
    }

    async fn delete_endpoint(
        &self,
        id: EndpointId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()> {
        self.mutation("delete_endpoint", operation, request, async |c| endpoints::delete(c, id).await).await
    }

    async fn create_credential(
        &self,
        credential: &Credential,
        login: &Login,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Credential> {
        self.mutation("create_credential", operation, request, async |c| {
            credentials::create(c, &self.keys, credential, login).await
        })
        .await
    }

    async fn credential(&self, id: CredentialId) -> Result<Option<Credential>> {
        self.transaction("credential", Begin::Statement, None, async |c| credentials::find(c, id).await).await
    }

    async fn credentials(&self, endpoint: EndpointId, page: &PageRequest) -> Result<Page<Credential>> {
        self.transaction("credentials", Begin::Statement, None, async |c| {
            credentials::list(c, endpoint, page).await
        })
        .await
    }

    async fn update_credential(
        &self,
        id: CredentialId,
        changes: &CredentialChanges,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Credential> {
        self.mutation("update_credential", operation, request, async |c| {
            credentials::update(c, &self.keys, id, changes).await
        })
        .await
    }

    async fn delete_credential(
        &self,
        id: CredentialId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()> {
        self.mutation("delete_credential", operation, request, async |c| credentials::delete(c, id).await)
            .await
    }

    async fn login(&self, endpoint: EndpointId, credential: Option<CredentialId>) -> Result<Option<Login>> {
        self.transaction("login", Begin::Statement, None, async |c| {
            credentials::login(c, &self.keys, endpoint, credential).await
        })
        .await
    }

    async fn current_key(&self, named: Option<&KeyId>) -> Result<KeyId> {
        self.keys.must_be_current(named)
    }

    async fn create_task(
        &self,
        task: &NewTask,
        start: NodeStart,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Task> {
        self.mutation("create_task", operation, request, async |c| tasks::create(c, task, start).await).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.transaction("task", Begin::Statement, None, async |c| tasks::find(c, id).await).await
    }

    async fn tasks(&self, filter: &task::Filter, page: &PageRequest) -> Result<Page<Task>> {
        self.transaction("tasks", Begin::Statement, None, async |c| tasks::list(c, filter, page).await).await
    }

    async fn cancel_task(
        &self,
        id: TaskId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Task> {
        self.mutation("cancel_task", operation, request, async |c| tasks::cancel(c, id).await).await
    }

    async fn take_tasks(&self, start: NodeStart) -> Result<Vec<Task>> {
        self.transaction("take_tasks", Begin::Durable, None, async |c| tasks::take(c, start).await).await
    }

    async fn rotate_secrets(
        &self,
        id: TaskId,
        start: NodeStart,
        limit: usize,
        operation: &Operation,
    ) -> Result<Task> {
        self.transaction("rotate_secrets", Begin::Durable, None, async |c| {
            tasks::rotate(c, &self.keys, id, start, limit, operation).await
        })
        .await
    }

    async fn fail_task(
        &self,
        id: TaskId,
        start: NodeStart,
        reason: &str,
        message: &str,
        operation: &Operation,
    ) -> Result<Task> {
        let error = TaskError { reason: reason.to_owned(), message: message.to_owned() };
        self.transaction("fail_task", Begin::Durable, Some(operation.id), async |c| {
            tasks::fail(c, id, start, &error, operation).await
        })
        .await
    }

    async fn file(&self, lookup: &Lookup) -> Result<Option<File>> {
        self.transaction("file", Begin::Statement, None, async |c| files::find(c, lookup).await).await
    }

    async fn content(&self, file: FileId, number: u32) -> Result<Option<Content>> {
        self.transaction("content", Begin::Statement, None, async |c| files::content(c, file, number).await)
            .await
    }

    async fn files(&self, scope: &Scope, filter: &Filter, page: &PageRequest) -> Result<Page<File>> {
        self.transaction("files", Begin::Statement, None, async |c| files::list(c, scope, filter, page).await)
            .await
    }

    async fn update_file(
        &self,
        id: FileId,
        if_revision: Option<u64>,
        changes: &Changes,
        user: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File> {
        self.mutation("update_file", operation, request, async |c| {
            files::update(c, id, if_revision, changes, by(user, operation)).await
        })
        .await
    }

    async fn delete_file(
        &self,
        id: FileId,
        if_revision: Option<u64>,
        user: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File> {
        self.mutation("delete_file", operation, request, async |c| {
            files::delete(c, id, if_revision, by(user, operation)).await
        })
        .await
    }

    async fn undelete_file(
        &self,
        id: FileId,
        path: Option<&StoragePath>,
        user: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File> {
        self.mutation("undelete_file", operation, request, async |c| {
            files::undelete(c, id, path, by(user, operation)).await
        })
        .await
    }

    async fn purge_file(&self, id: FileId, operation: &Operation, request: Option<&Request>) -> Result<u64> {
        self.mutation("purge_file", operation, request, async |c| files::purge(c, id).await).await
    }

    async fn open_upload(&self, intent: &Intent, operation: Option<&Operation>) -> Result<Upload> {
        let open = Open { intent: intent.clone(), operation: operation.cloned() };
        self.opens.run("open_upload", open).await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<Upload>> {
        self.transaction("upload", Begin::Statement, None, async |c| uploads::find(c, id).await).await
    }

    async fn requested_upload(&self, request: &Request) -> Result<Option<Upload>> {
        self.transaction("requested_upload", Begin::Statement, None, async |c| {
            uploads::requested(c, request).await
        })
        .await
    }

    async fn uploads(
        &self,
        scope: &upload::Scope,
        filter: &upload::Filter,
        page: &PageRequest,
    ) -> Result<Page<Upload>> {
        self.transaction("uploads", Begin::Statement, None, async |c| {
            uploads::list(c, scope, filter, page).await
        })
        .await
    }

    async fn take_upload(&self, id: UploadId, start: NodeStart) -> Result<Upload> {
        self.transaction("take_upload", Begin::Statement, None, async |c| uploads::take(c, id, start).await)
            .await
    }

    async fn grow_upload(&self, held: Held, bytes: u64, wanted: u64, file_bytes: u64) -> Result<u64> {
        // What a loss of power takes is gone from the upload and from the counters alike; then the commit has to find room.
        self.transaction("grow_upload", Begin::Relaxed, None, async |c| {
            uploads::grow(c, held, bytes, wanted, file_bytes).await
        })
        .await
    }

    async fn checkpoint_uploads(&self, checkpoints: &[Checkpoint]) -> Result<HashSet<UploadId>> {
        self.transaction("checkpoint_uploads", Begin::Statement, None, async |c| {
            uploads::checkpoint(c, checkpoints).await
        })
        .await
    }

    async fn finish_upload(&self, held: Held, key: Option<&Key>) -> Result<()> {
        // Nobody is told: after a loss of power it is open, and can be committed all the same. But its bytes have to be found.
        let begin = if key.is_some() { Begin::Statement } else { Begin::Relaxed };
        self.transaction("finish_upload", begin, None, async |c| uploads::finish(c, held, key).await).await
    }

    async fn reopen_upload(&self, held: Held) -> Result<bool> {
        self.transaction("reopen_upload", Begin::Statement, None, async |c| uploads::reopen(c, held).await)
            .await
    }

    async fn commit_upload(&self, commit: &Commit) -> Result<File> {
        self.commits.run("commit_upload", commit.clone()).await
    }

    async fn abort_upload(&self, held: Held, operation: &Operation) -> Result<bool> {
        self.transaction("abort_upload", Begin::Durable, Some(operation.id), async |c| {
            uploads::abort(c, held, operation).await
        })
        .await
    }

    async fn cancel_upload(
        &self,
        id: UploadId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Upload> {
        self.mutation("cancel_upload", operation, request, async |c| uploads::cancel(c, id).await).await
    }

    async fn upload_swept(&self, upload: UploadId) -> Result<()> {
        self.transaction("upload_swept", Begin::Durable, None, async |c| uploads::swept(c, upload).await)
            .await
    }

    async fn begin_read(&self, file: FileId, operation: &Operation) -> Result<()> {
        self.reads.run("begin_read", Read::Begin(file, Box::new(operation.clone()))).await
    }

    async fn mark_corrupted(&self, object: ObjectId, operation: &Operation) -> Result<u64> {
        self.mutation("mark_corrupted", operation, None, async |c| reconcile::mark_corrupted(c, object).await)
            .await
    }

    async fn record(&self, operations: &[Operation]) -> Result<()> {
        self.reads.run("record", Read::Record(operations.to_vec())).await
    }

    async fn recorded(&self, ids: &[OperationId]) -> Result<HashSet<OperationId>> {
        self.transaction("recorded", Begin::Statement, None, async |c| operations::recorded(c, ids).await)
            .await
    }

    async fn operations(
        &self,
        organisation: &str,
        filter: &operation::Filter,
        page: &PageRequest,
    ) -> Result<Page<Vec<u8>>> {
        self.transaction("operations", Begin::Statement, None, async |c| {
            operations::list(c, organisation, filter, page).await
        })
        .await
    }

    async fn quotas(&self, keys: &[QuotaKey]) -> Result<Vec<Quota>> {
        self.transaction("quotas", Begin::Snapshot, None, async |c| quotas::read(c, keys).await).await
    }

    async fn quota_drift(&self) -> Result<Vec<Drift>> {
        self.transaction("quota_drift", Begin::Snapshot, None, async |c| quotas::drift(c).await).await
    }

    async fn list_quotas(
        &self,
        scope: &quota::Scope,
        filter: &quota::Filter,
        page: &PageRequest,
    ) -> Result<Page<Quota>> {
        self.transaction("list_quotas", Begin::Statement, None, async |c| {
            quotas::list(c, scope, filter, page).await
        })
        .await
    }

    async fn set_quota(
        &self,
        key: &QuotaKey,
        limits: &Limits,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Quota> {
        self.mutation("set_quota", operation, request, async |c| quotas::set(c, key, limits).await).await
    }

    async fn recalculate_quotas(
        &self,
        keys: &[QuotaKey],
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Vec<Drift>> {
        self.mutation("recalculate_quotas", operation, request, async |c| quotas::recalculate(c, keys).await)
            .await
    }

    async fn dead_uploads(&self, operation: &Operation, limit: usize) -> Result<Vec<DeadUpload>> {
        self.transaction("dead_uploads", Begin::Durable, None, async |c| {
            uploads::dead(c, operation, limit).await
        })
        .await
    }

    async fn live_uploads(&self, ids: &[UploadId]) -> Result<HashSet<UploadId>> {
        self.transaction("live_uploads", Begin::Statement, None, async |c| uploads::live(c, ids).await).await
    }

    async fn due_reclaims(&self, limit: usize) -> Result<Vec<Reclaim>> {
        self.transaction("due_reclaims", Begin::Statement, None, async |c| {
            reconcile::due_reclaims(c, limit).await
        })
        .await
    }

    async fn reclaimed(&self, objects: &[ObjectId]) -> Result<()> {
        self.transaction("reclaimed", Begin::Durable, None, async |c| reconcile::reclaimed(c, objects).await)
            .await
    }

    async fn reclaim_failed(&self, object: ObjectId, problem: &str) -> Result<()> {
        self.transaction("reclaim_failed", Begin::Durable, None, async |c| {
            reconcile::reclaim_failed(c, object, problem).await
        })
        .await
    }

    async fn known_keys(&self, volume: VolumeId, keys: &[Key]) -> Result<HashSet<Key>> {
        self.transaction("known_keys", Begin::Statement, None, async |c| {
            reconcile::known_keys(c, volume, keys).await
        })
        .await
    }

    async fn objects(&self, volume: VolumeId, after: Option<&Key>, limit: usize) -> Result<Vec<ObjectRow>> {
        self.transaction("objects", Begin::Statement, None, async |c| {
            reconcile::objects(c, volume, after, limit).await
        })
        .await
    }

    async fn link_owner(&self, volume: VolumeId, nfc: &str) -> Result<Option<String>> {
        self.transaction("link_owner", Begin::Statement, None, async |c| links::owner(c, volume, nfc).await)
            .await
    }

    async fn begin_link(&self, volume: VolumeId, nfc: &str) -> Result<Option<Link>> {
        self.transaction("begin_link", Begin::Durable, None, async |c| links::begin(c, volume, nfc).await)
            .await
    }

    async fn linked(&self, link: &Link) -> Result<bool> {
        self.transaction("linked", Begin::Statement, None, async |c| links::done(c, link).await).await
    }

    async fn link_failed(&self, link: &Link, problem: &str) -> Result<()> {
        self.transaction("link_failed", Begin::Statement, None, async |c| {
            links::failed(c, link, problem).await
        })
        .await
    }

    async fn due_links(&self, limit: usize) -> Result<Vec<(VolumeId, String)>> {
        self.transaction("due_links", Begin::Statement, None, async |c| links::list_due(c, limit).await).await
    }

    async fn known_links(&self, volume: VolumeId, paths: &[String]) -> Result<HashSet<String>> {
        self.transaction("known_links", Begin::Statement, None, async |c| {
            links::known(c, volume, paths).await
        })
        .await
    }

    async fn expired_trash(&self, limit: usize) -> Result<Vec<FileId>> {
        self.transaction("expired_trash", Begin::Statement, None, async |c| {
            reconcile::expired_trash(c, limit).await
        })
        .await
    }
}
