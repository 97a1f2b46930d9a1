//! The port to metadata. Shaped by use case: one method is one transaction, retried by the store on serialization failure.
//!
//! What an operation did and its audit record are written together: methods that take an [`Operation`] insert it, its canonical
//! bytes and its place in the queue of the sealer in their transaction. Methods that take a [`Request`] answer what was answered
//! before if the request was seen, without doing anything again.
//!
//! Errors are the domain's: a caller's fault (`NotFound`, `AlreadyExists`, `Conflict`, `QuotaExceeded`, `State`) is recognised by the
//! named constraint or condition that failed; [`Unavailable::Metadata`](crate::error::Unavailable) means the database cannot be reached, and
//! that nothing was done, or that it cannot be known what was: commits are then settled by asking for the operation's id.

mod commit;
mod due;
mod lookup;

pub use commit::{Commit, Intent, NewFile, Target};
pub use due::{DeadUpload, Link, ObjectRow, Reclaim};
pub use lookup::{Lookup, Scope};

use crate::{
    Result,
    caller::User,
    endpoint::{Credential, CredentialChanges, Endpoint, EndpointChanges, Login},
    file::{Changes, Content, File, Filter},
    id::{
        ClusterId, CredentialId, EndpointId, FileId, LocalPathId, NodeId, ObjectId, OperationId, TaskId,
        UploadId, UserId, VolumeId,
    },
    operation::{self, Operation},
    page::{Page, PageRequest},
    path::{Key, StoragePath},
    quota::{self, Drift, Limits, Quota, QuotaKey},
    request::{Answered, Request},
    secret::KeyId,
    task::{self, NewTask, Task},
    time::Timestamp,
    upload::{self, Checkpoint, Held, Upload},
    volume::{LocalPath, Settings, Volume, VolumeRef},
};
use async_trait::async_trait;
use std::{collections::HashSet, time::Duration};

/// Keeps the truth about every byte.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // The service itself.

    /// Which metadata database this is; volume markers name it.
    async fn cluster(&self) -> Result<ClusterId>;

    /// The organisation a user was first seen in; `None`: never seen.
    async fn organisation_of(&self, user: UserId) -> Result<Option<String>>;

    /// Answers within the deadline of a probe, or `Unavailable`.
    async fn ping(&self) -> Result<()>;

    /// Registers a start of a node: its epoch grows by one, which ends everything its earlier starts had begun.
    async fn start_node(&self, node: NodeId, version: &str, lease: Duration) -> Result<NodeStart>;

    /// Prolongs the lease of a start. `false`: a later start of the same node has taken over, and this one must end.
    async fn renew_node(&self, start: NodeStart, lease: Duration) -> Result<bool>;

    /// What time makes due: partitions ahead, answers and events past their keeping.
    async fn tidy(&self) -> Result<()>;

    // Requests.

    /// What was answered to a request with this id, within its keeping.
    async fn recall(&self, request: &Request) -> Result<Option<Answered>>;

    // Volumes.

    /// Adds a volume. `AlreadyExists` by name, `NotFound` if its backend is not there, `State` if another volume has the place.
    async fn create_volume(
        &self,
        volume: &Volume,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Volume>;

    /// A volume that was not deleted.
    async fn volume(&self, volume: &VolumeRef) -> Result<Option<Volume>>;

    /// Volumes by name; the cursor's value is the name.
    async fn volumes(&self, page: &PageRequest) -> Result<Page<Volume>>;

    /// Replaces the settings of a volume that was last changed at `expected`, else `Conflict`. With `must_be_empty`, `State` if it holds files.
    async fn update_volume(
        &self,
        id: VolumeId,
        expected: Timestamp,
        settings: &Settings,
        must_be_empty: bool,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Volume>;

    /// Removes a volume that holds no file, not even in the trash, no unfinished upload, and no bytes that are still to be removed;
    /// else `State`.
    async fn delete_volume(
        &self,
        id: VolumeId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()>;

    /// Approves a directory. `AlreadyExists` by path.
    async fn create_local_path(
        &self,
        path: &LocalPath,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<LocalPath>;

    /// An approved directory.
    async fn local_path(&self, id: LocalPathId) -> Result<Option<LocalPath>>;

    /// Approved directories by path; the cursor's value is the path.
    async fn local_paths(&self, page: &PageRequest) -> Result<Page<LocalPath>>;

    /// Changes a description. `NotFound` if absent.
    async fn update_local_path(
        &self,
        id: LocalPathId,
        description: &str,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<LocalPath>;

    /// Withdraws an approval. `State` while a volume stands on it.
    async fn delete_local_path(
        &self,
        id: LocalPathId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()>;

    // Endpoints, and what opens them. Secrets are sealed here and nowhere else: `State` if there are no keys, `SecretUnreadable` if what is stored
    // cannot be opened.

    /// Adds an endpoint. `AlreadyExists` by its place.
    async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Endpoint>;

    /// An endpoint.
    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>>;

    /// Endpoints of all kinds, oldest first; the cursor is the id alone.
    async fn endpoints(&self, page: &PageRequest) -> Result<Page<Endpoint>>;

    /// Changes an endpoint. `NotFound` if absent, `Invalid` if its kind would change, `State` if a volume stands on it and it would be elsewhere,
    /// `AlreadyExists` if another is there.
    async fn update_endpoint(
        &self,
        id: EndpointId,
        changes: &EndpointChanges,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Endpoint>;

    /// Removes an endpoint with its credentials. `State` while a volume stands on it.
    async fn delete_endpoint(
        &self,
        id: EndpointId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()>;

    /// Adds a credential. `NotFound` if its endpoint is absent, `Invalid` if it cannot open such a one, `AlreadyExists` if that has one and can have
    /// no more.
    async fn create_credential(
        &self,
        credential: &Credential,
        login: &Login,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Credential>;

    /// A credential.
    async fn credential(&self, id: CredentialId) -> Result<Option<Credential>>;

    /// Credentials of an endpoint, oldest first; the cursor is the id alone. `NotFound` if the endpoint is absent.
    async fn credentials(&self, endpoint: EndpointId, page: &PageRequest) -> Result<Page<Credential>>;

    /// Changes a credential. `NotFound` if absent, `Invalid` if it could not open its endpoint any more.
    async fn update_credential(
        &self,
        id: CredentialId,
        changes: &CredentialChanges,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Credential>;

    /// Removes a credential. `State` while a volume names it, or stands on its endpoint and would have none left.
    async fn delete_credential(
        &self,
        id: CredentialId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<()>;

    /// What opens an endpoint: the credential that is named, which must be its own, else its newest one. `None` if it has none.
    async fn login(&self, endpoint: EndpointId, credential: Option<CredentialId>) -> Result<Option<Login>>;

    // Tasks.

    /// The key that secrets are sealed under from now on. With a name, `NotFound` if there is no such key, `Invalid` if it is not the one.
    async fn current_key(&self, named: Option<&KeyId>) -> Result<KeyId>;

    /// Adds a task that a start of a node works on. `Conflict(TaskRunning)` where only one of its kind may run.
    async fn create_task(
        &self,
        task: &NewTask,
        start: NodeStart,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Task>;

    /// A task.
    async fn task(&self, id: TaskId) -> Result<Option<Task>>;

    /// Tasks, newest first; the cursor is the id alone.
    async fn tasks(&self, filter: &task::Filter, page: &PageRequest) -> Result<Page<Task>>;

    /// Asks a task to end before its end. One that has ended is answered as it is.
    async fn cancel_task(&self, id: TaskId, operation: &Operation, request: Option<&Request>)
    -> Result<Task>;

    /// Takes, for a start of a node, running tasks that nobody works on any more.
    async fn take_tasks(&self, start: NodeStart) -> Result<Vec<Task>>;

    /// Seals up to `limit` secrets anew, as the task says, and records how far it is. When nothing is left, or the task was asked to end, it ends and
    /// `operation` is recorded. Answers the task as it is then. `Conflict(Fenced)` if the start does not hold it.
    async fn rotate_secrets(
        &self,
        task: TaskId,
        start: NodeStart,
        limit: usize,
        operation: &Operation,
    ) -> Result<Task>;

    /// Ends a task that cannot go on, with the reason. `Conflict(Fenced)` if the start does not hold it.
    async fn fail_task(
        &self,
        task: TaskId,
        start: NodeStart,
        reason: &str,
        message: &str,
        operation: &Operation,
    ) -> Result<Task>;

    // Files.

    /// A file with its current content. Paths find live files only, ids and names also those in the trash; purged ones are not found.
    async fn file(&self, lookup: &Lookup) -> Result<Option<File>>;

    /// A content of a file.
    async fn content(&self, file: FileId, number: u32) -> Result<Option<Content>>;

    /// A page of the files in `scope` that match `filter`, in its order. The cursor's value is the sort value as text.
    async fn files(&self, scope: &Scope, filter: &Filter, page: &PageRequest) -> Result<Page<File>>;

    /// Changes a live file under its row lock. `Conflict` if its revision is not `if_revision`, `AlreadyExists` if the path is taken.
    async fn update_file(
        &self,
        id: FileId,
        if_revision: Option<u64>,
        changes: &Changes,
        by: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File>;

    /// Moves a live file to the trash.
    async fn delete_file(
        &self,
        id: FileId,
        if_revision: Option<u64>,
        by: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File>;

    /// Takes a file out of the trash, to `path` if given. `AlreadyExists` if the path is taken, `State` if it is not in the trash.
    async fn undelete_file(
        &self,
        id: FileId,
        path: Option<&StoragePath>,
        by: Option<&User>,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<File>;

    /// Leaves a tombstone of a file in the trash: gives up its objects (reclaims for those nobody names any more), gives its bytes back to
    /// its payer's quotas. Answers the bytes. `State` if it is not in the trash.
    async fn purge_file(&self, id: FileId, operation: &Operation, request: Option<&Request>) -> Result<u64>;

    // Uploads.

    /// Records an intent before its first byte, with what it holds of its payer's quotas, and `operation` if there is one.
    ///
    /// # Errors
    /// `QuotaExceeded` with every exhausted dimension, for one that holds nothing too if it certainly does not fit now; `Conflict(InFlight)` if an upload of the same request has not ended;
    /// `NotFound` if the volume is gone. Nothing is changed then.
    async fn open_upload(&self, intent: &Intent, operation: Option<&Operation>) -> Result<Upload>;

    /// An upload, also for a day after its end.
    async fn upload(&self, id: UploadId) -> Result<Option<Upload>>;

    /// The upload that a request has started, if it has not ended without a file. [`Error::RequestIdReused`](crate::Error::RequestIdReused)
    /// if that was another request.
    async fn requested_upload(&self, request: &Request) -> Result<Option<Upload>>;

    /// Uploads that have a request, newest first; the cursor is the id alone.
    async fn uploads(
        &self,
        scope: &upload::Scope,
        filter: &upload::Filter,
        page: &PageRequest,
    ) -> Result<Page<Upload>>;

    /// Takes an open upload for a start of a node: its epoch grows, and whoever held it before can change nothing any more.
    ///
    /// # Errors
    /// `Conflict(InFlight)` while it is being finished; `State(UploadEnded)` if it has ended or its time is over, also with a file; `NotFound`.
    async fn take_upload(&self, id: UploadId, start: NodeStart) -> Result<Upload>;

    /// Makes what an open upload holds at least `bytes` in all and, where every quota has room, `wanted`; `file_bytes` is the size
    /// its content has by now. Answers the bytes it holds.
    ///
    /// # Errors
    /// `QuotaExceeded` with every exhausted dimension; `Conflict(Fenced)` if it is not held any more. Nothing is changed then.
    async fn grow_upload(&self, held: Held, bytes: u64, wanted: u64, file_bytes: u64) -> Result<u64>;

    /// Records progress of any number of open uploads in one statement, which puts their expiry off. Answers those that were recorded: the
    /// others are not held any more.
    async fn checkpoint_uploads(&self, checkpoints: &[Checkpoint]) -> Result<HashSet<UploadId>>;

    /// Records that all bytes are there: from now on the upload is this node's to make a file of. With the `key` they will have, if that was
    /// not known before: then it is durable, because nothing else would find them there. `Conflict(Fenced)` if it is not held any more.
    async fn finish_upload(&self, held: Held, key: Option<&Key>) -> Result<()>;

    /// Lets an upload that could not be made a file take bytes again. `false`: it is not held any more.
    async fn reopen_upload(&self, held: Held) -> Result<bool>;

    /// Everything a finished upload changes, at once: file, version, object, quotas (what is held is settled, what goes beyond has to fit),
    /// reclaims of what it replaces, or of its own object where an equal one is shared, operation, event, answer, and the end of the intent.
    ///
    /// # Errors
    /// `Conflict(Fenced)` if the intent is no longer held; `QuotaExceeded` with every exhausted dimension; `AlreadyExists` if path or name
    /// is taken; `Conflict(Etag)`; `State` if the file is archived; `NotFound` if the file is gone. Nothing is changed then.
    async fn commit_upload(&self, commit: &Commit) -> Result<File>;

    /// Ends a held intent without a file, gives back what it holds, and records why. Bytes may be removed only after this answered. `false`:
    /// it was not held any more; why is recorded all the same, unless it was committed.
    async fn abort_upload(&self, held: Held, operation: &Operation) -> Result<bool>;

    /// Ends an open upload without a file, whoever holds it, and gives back what it holds. One that has ended without a file is answered as it is.
    ///
    /// # Errors
    /// `Conflict(InFlight)` while it is being finished; `State(UploadEnded)` if it is committed; `NotFound`.
    async fn cancel_upload(
        &self,
        id: UploadId,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Upload>;

    /// The bytes of an ended upload are gone.
    async fn upload_swept(&self, upload: UploadId) -> Result<()>;

    // Reads.

    /// Records a read before its first byte leaves, and counts the access. `NotFound` if the file was deleted meanwhile.
    async fn begin_read(&self, file: FileId, operation: &Operation) -> Result<()>;

    /// Marks every file whose current content is in `object` as corrupted, and lets no other content share it from now on. Answers how many
    /// were not marked before.
    async fn mark_corrupted(&self, object: ObjectId, operation: &Operation) -> Result<u64>;

    // Audit.

    /// Writes records of what changed nothing else: outcomes, refusals, failures, views.
    async fn record(&self, operations: &[Operation]) -> Result<()>;

    /// Of these ids, those that are recorded: settles a commit whose answer was lost.
    async fn recorded(&self, ids: &[OperationId]) -> Result<HashSet<OperationId>>;

    /// Operations of an organisation as their records, newest first; the cursor is the id alone.
    async fn operations(
        &self,
        organisation: &str,
        filter: &operation::Filter,
        page: &PageRequest,
    ) -> Result<Page<Vec<u8>>>;

    // Quotas.

    /// These quotas, in order; those without a row as never used.
    async fn quotas(&self, keys: &[QuotaKey]) -> Result<Vec<Quota>>;

    /// Quotas with a row, in the order of their keys; the cursor's value is the store's.
    async fn list_quotas(
        &self,
        scope: &quota::Scope,
        filter: &quota::Filter,
        page: &PageRequest,
    ) -> Result<Page<Quota>>;

    /// Sets the limits of a quota, and makes its row if there is none. `NotFound` if its volume is gone.
    async fn set_quota(
        &self,
        key: &QuotaKey,
        limits: &Limits,
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Quota>;

    /// Every quota whose counters differ from what the rows add up to, from one snapshot.
    async fn quota_drift(&self) -> Result<Vec<Drift>>;

    /// Counts these quotas again with their rows locked, so that nothing that is counted can change meanwhile, and sets them right. Answers
    /// those that differed.
    async fn recalculate_quotas(
        &self,
        keys: &[QuotaKey],
        operation: &Operation,
        request: Option<&Request>,
    ) -> Result<Vec<Drift>>;

    // Reconciling.

    /// Fences what nobody works on any more: uploads that have expired end; those without a request end with their node's lease, or when their
    /// node has started anew; those with one that such a node was finishing take bytes again. What the ended ones hold is given back,
    /// and each end is recorded: like `operation`, with kind, outcome, volume, tenant and upload filled in.
    ///
    /// Answers ended uploads whose bytes were not swept, oldest first.
    async fn dead_uploads(&self, operation: &Operation, limit: usize) -> Result<Vec<DeadUpload>>;

    /// Of these, the uploads that have not ended.
    async fn live_uploads(&self, ids: &[UploadId]) -> Result<HashSet<UploadId>>;

    /// Bytes to remove that are due, oldest first. Not those that are still found at a path.
    async fn due_reclaims(&self, limit: usize) -> Result<Vec<Reclaim>>;

    /// The bytes of these objects are gone: their rows go too.
    async fn reclaimed(&self, objects: &[ObjectId]) -> Result<()>;

    /// Removing an object failed: it is due again after a pause that grows with the attempts.
    async fn reclaim_failed(&self, object: ObjectId, problem: &str) -> Result<()>;

    /// Of these keys, those that an object or an open upload of the volume names.
    async fn known_keys(&self, volume: VolumeId, keys: &[Key]) -> Result<HashSet<Key>>;

    /// Live objects of a volume by key.
    async fn objects(&self, volume: VolumeId, after: Option<&Key>, limit: usize) -> Result<Vec<ObjectRow>>;

    // What is found at paths, on volumes with the strategy `none`. Commits and changes of a file's path, and of whether it is live, make it due
    // that what is found there is set right.

    /// The tenant at one of whose paths of the volume something is or will be found.
    async fn link_owner(&self, volume: VolumeId, nfc: &str) -> Result<Option<String>>;

    /// What is to be found at a path, recorded before anything is changed there; `None` if nothing is due. What was begun and not ended comes first.
    async fn begin_link(&self, volume: VolumeId, nfc: &str) -> Result<Option<Link>>;

    /// What was begun is done. `false`: it is not, because another did it or something else meanwhile.
    async fn linked(&self, link: &Link) -> Result<bool>;

    /// What was begun could not be done: it is due again after a pause that grows with the attempts.
    async fn link_failed(&self, link: &Link, problem: &str) -> Result<()>;

    /// Paths in NFC that are due, those that wait longest first.
    async fn due_links(&self, limit: usize) -> Result<Vec<(VolumeId, String)>>;

    /// Of these paths of a volume, in NFC, those at which something of ours is or will be found.
    async fn known_links(&self, volume: VolumeId, paths: &[String]) -> Result<HashSet<String>>;

    /// Files in the trash whose volume's retention has passed, oldest first.
    async fn expired_trash(&self, limit: usize) -> Result<Vec<FileId>>;
}

/// One start of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStart {
    /// The node.
    pub node: NodeId,
    /// Number of the start.
    pub epoch: i64,
}
