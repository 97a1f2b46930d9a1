//! A database per test, and the things a test makes in it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use coffer_domain::caller::{Caller, User};
use coffer_domain::content::{Codec, Stored};
use coffer_domain::error::Result;
use coffer_domain::file::{
    Changes, Classification, Description, File, Metadata, Namespace, Owner, Payer, Sha256Sum,
};
use coffer_domain::id::{
    FileId, LocalPathId, NodeId, ObjectId, RequestId, UploadId, UserId, VersionId, VolumeId,
};
use coffer_domain::operation::{Operation, OperationKind};
use coffer_domain::path::{Key, StoragePath};
use coffer_domain::quota::Hold;
use coffer_domain::request::{Request, UPLOAD_METHOD};
use coffer_domain::store::{Commit, Intent, Lookup, NewFile, NodeStart, Store, Target};
use coffer_domain::time::now;
use coffer_domain::upload::Held;
use coffer_domain::volume::{Backend, LocalPath, Provider, Settings, Volume, VolumeRef};
use coffer_embedded_postgres::{Cluster, Options as ClusterOptions};
use coffer_persistence::database::Options;
use coffer_persistence::{Database, PgStore, migrate};
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tempfile::TempDir;

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// How many sessions of a test's database wait for a lock.
pub(crate) const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";

const TEMPLATE: &str = "template_of_tests";

/// The cluster of the tests that run at one time.
struct Shared {
    // In the order in which they end.
    cluster: Cluster,
    _folder: TempDir,
}

impl Shared {
    fn get() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let folder = TempDir::new().unwrap();
        let cluster = Cluster::start(folder.path(), ClusterOptions::disposable()).unwrap();
        cluster.create_database(TEMPLATE, None).unwrap();
        migrate(&cluster.url_for(TEMPLATE));
        let started = Arc::new(Self { cluster, _folder: folder });
        *shared = Arc::downgrade(&started);
        started
    }
}

/// On a runtime of its own, with which every connection ends: a template must have none.
pub(crate) fn migrate(url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = Database::new(url, Options::default()).unwrap();
    runtime.block_on(migrate::up(&database)).unwrap();
}

/// A store with a node and a volume.
pub(crate) struct Rig {
    pub(crate) store: PgStore,
    pub(crate) start: NodeStart,
    pub(crate) volume: Volume,
    pub(crate) url: String,
    _shared: Option<Arc<Shared>>,
}

/// Who uploads in a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Actor {
    pub(crate) user: Option<User>,
    pub(crate) app: Option<String>,
    pub(crate) organisation: String,
    pub(crate) project: Option<String>,
}

impl Actor {
    pub(crate) fn user(name: &str) -> Self {
        Self { user: Some(user(name)), organisation: "clinic".to_owned(), ..Self::default() }
    }

    pub(crate) fn app(name: &str) -> Self {
        Self { app: Some(name.to_owned()), organisation: "clinic".to_owned(), ..Self::default() }
    }

    pub(crate) fn of(mut self, organisation: &str) -> Self {
        self.organisation = organisation.to_owned();
        self
    }

    pub(crate) fn through(mut self, app: &str) -> Self {
        self.app = Some(app.to_owned());
        self
    }

    pub(crate) fn on(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    pub(crate) fn id(&self) -> UserId {
        self.user.as_ref().unwrap().id
    }

    fn owner(&self) -> Owner {
        let namespace = if self.user.is_some() { Namespace::Users } else { Namespace::Apps };
        Owner { namespace, user: self.user.as_ref().map(|u| u.id), app: self.app.clone() }
    }

    fn payer(&self, volume: VolumeId) -> Payer {
        Payer {
            volume,
            user: self.user.as_ref().map(|u| u.id),
            app: self.app.clone(),
            organisation: self.organisation.clone(),
            project: self.project.clone(),
        }
    }

    pub(crate) fn operation(&self, kind: OperationKind) -> Operation {
        Operation {
            organisation: self.organisation.clone(),
            user_id: self.user.as_ref().map(|u| u.id),
            app_id: self.app.clone(),
            ..operation(kind)
        }
    }
}

pub(crate) fn user(name: &str) -> User {
    let issuer = "https://issuer.example";
    User { id: UserId::of_subject(issuer, name), issuer: issuer.to_owned(), subject: name.to_owned() }
}

pub(crate) fn operation(kind: OperationKind) -> Operation {
    Caller::service().operation(kind)
}

/// What an upload is started with.
pub(crate) fn start_request() -> Request {
    request(UPLOAD_METHOD)
}

pub(crate) fn request(method: &'static str) -> Request {
    Request { scope: "clinic//ann".to_owned(), id: RequestId::new(), method, fingerprint: [7; 32] }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with_options(Options::default()).await
    }

    pub(crate) async fn with_options(options: Options) -> Self {
        let (url, shared) = tokio::task::spawn_blocking(|| {
            let shared = Shared::get();
            let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
            shared.cluster.create_database(&name, Some(TEMPLATE)).unwrap();
            (shared.cluster.url_for(&name), shared)
        })
        .await
        .unwrap();
        Self::on(url, Some(shared), options).await
    }

    /// In a database that is migrated, on a cluster that is the caller's.
    pub(crate) async fn in_database(url: String, options: Options) -> Self {
        Self::on(url, None, options).await
    }

    async fn on(url: String, shared: Option<Arc<Shared>>, options: Options) -> Self {
        let store = PgStore::new(Database::new(&url, options).unwrap());
        let start = store.start_node(NodeId::new(), "test", Duration::from_secs(60)).await.unwrap();
        let volume = make_volume(&store, "main", |_| {}).await;
        Self { store, start, volume, url, _shared: shared }
    }

    /// Another store on the same database, with a pool of its own.
    pub(crate) fn other_store(&self, options: Options) -> PgStore {
        PgStore::new(Database::new(&self.url, options).unwrap())
    }

    pub(crate) async fn make_volume(&self, name: &str, set: impl FnOnce(&mut Settings)) -> Volume {
        make_volume(&self.store, name, set).await
    }

    /// A session beside the store's.
    pub(crate) async fn session(&self) -> AsyncPgConnection {
        self.store.database().dedicated(&[]).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.session().await.batch_execute(sql).await.unwrap();
    }

    /// What a query for one column answers, as text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        texts(&mut self.session().await, sql).await
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        let mut texts = self.texts(sql).await;
        assert_eq!(texts.len(), 1, "{sql}");
        texts.remove(0)
    }

    /// Waits until a query for one column answers `expected`.
    pub(crate) async fn until(&self, sql: &str, expected: &str) {
        let mut session = self.session().await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let found = texts(&mut session, sql).await;
            if found == [expected] {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql} answers {found:?}, not {expected}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A new file's upload, not begun yet.
    pub(crate) fn upload(&self, actor: &Actor, path: &str, size: u64) -> Upload {
        self.upload_to(&self.volume, actor, path, size)
    }

    pub(crate) fn upload_to(&self, volume: &Volume, actor: &Actor, path: &str, size: u64) -> Upload {
        let id = FileId::new();
        let target = Target::New(Box::new(NewFile {
            id,
            file_id: id.default_name(),
            owner: actor.owner(),
            organisation: actor.organisation.clone(),
            project: actor.project.clone(),
            path: StoragePath::parse(path, &volume.settings.paths).unwrap(),
            description: description(path.rsplit('/').next().unwrap()),
            is_public: false,
            provider: Provider::Local,
        }));
        Upload::new(volume.id, actor, target, None, size, self.start)
    }

    /// A new version's upload, not begun yet.
    pub(crate) fn version(&self, actor: &Actor, file: &File, size: u64) -> Upload {
        let target = Target::Version { file: file.id, if_revision: None, changes: Changes::default() };
        Upload::new(file.volume, actor, target, Some(file.id), size, self.start)
    }

    /// Begins an upload.
    pub(crate) async fn open(&self, upload: &Upload) -> coffer_domain::upload::Upload {
        self.store.open_upload(&upload.intent, None).await.unwrap()
    }

    /// The row of an upload.
    pub(crate) async fn row(&self, upload: &Upload) -> coffer_domain::upload::Upload {
        self.store.upload(upload.intent.id).await.unwrap().unwrap()
    }

    /// A file, uploaded.
    pub(crate) async fn put(&self, actor: &Actor, path: &str, size: u64) -> File {
        self.upload(actor, path, size).run(&self.store).await.unwrap()
    }

    pub(crate) async fn file(&self, id: FileId) -> Option<File> {
        self.store.file(&Lookup::Id(id)).await.unwrap()
    }

    pub(crate) async fn trash(&self, file: &File) -> File {
        self.store.delete_file(file.id, None, None, &operation(OperationKind::Delete), None).await.unwrap()
    }

    pub(crate) async fn assert_no_drift(&self) {
        assert_eq!(self.store.quota_drift().await.unwrap(), []);
    }

    pub(crate) fn volume_ref(&self) -> VolumeRef {
        VolumeRef::Id(self.volume.id)
    }
}

pub(crate) async fn texts(session: &mut AsyncPgConnection, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let rows: Vec<Row> =
        sql_query(format!("SELECT coalesce(text::text, 'NULL') AS text FROM ({sql}) AS asked (text)"))
            .load(session)
            .await
            .unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

async fn make_volume(store: &PgStore, name: &str, set: impl FnOnce(&mut Settings)) -> Volume {
    let path = make_local_path(store, &format!("/srv/{name}")).await;
    let volume = volume_on(&path, name, set);
    store.create_volume(&volume, &operation(OperationKind::CreateVolume), None).await.unwrap()
}

pub(crate) async fn make_local_path(store: &PgStore, path: &str) -> LocalPath {
    let path = LocalPath {
        id: LocalPathId::new(),
        path: path.to_owned(),
        description: String::new(),
        created_at: now(),
    };
    store.create_local_path(&path, &operation(OperationKind::CreateLocalPath), None).await.unwrap()
}

pub(crate) fn volume_on(path: &LocalPath, name: &str, set: impl FnOnce(&mut Settings)) -> Volume {
    let mut settings = Settings::new(name, Backend::Local { local_path_id: path.id });
    set(&mut settings);
    let at = now();
    Volume { id: VolumeId::new(), settings, quota_used: 0, quota_reserved: 0, created_at: at, updated_at: at }
}

pub(crate) fn description(filename: &str) -> Description {
    Description {
        filename: filename.to_owned(),
        mime_type: "text/plain".to_owned(),
        encoding: String::new(),
        classification: Classification::Internal,
        tags: vec!["a".to_owned(), "ü".to_owned()],
        custom_metadata: Metadata::from_iter([(
            "n".to_owned(),
            serde_json::json!({"deep": [1, 2.5, null, "x"]}),
        )]),
    }
}

/// An upload in both its halves. Tests change what they are about.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) intent: Intent,
    pub(crate) commit: Commit,
}

impl Upload {
    fn new(
        volume: VolumeId,
        actor: &Actor,
        target: Target,
        file: Option<FileId>,
        size: u64,
        start: NodeStart,
    ) -> Self {
        let (upload, version) = (UploadId::new(), VersionId::new());
        let key = Key::of_version(version);
        let intent = Intent {
            id: upload,
            volume,
            key: key.clone(),
            version,
            file,
            payer: actor.payer(volume),
            hold: Hold::default(),
            file_bytes: 0,
            replaced_bytes: 0,
            scope: format!("{}//", actor.organisation),
            request: None,
            open_limit: 1_000,
            spec: serde_json::json!({}),
            declared_size: Some(size),
            start,
            expires_at: now() + chrono::TimeDelta::hours(1),
        };
        let commit = Commit {
            held: Held { upload, epoch: 1 },
            target,
            version,
            object: ObjectId::new(),
            volume,
            key,
            stored: Stored {
                size,
                sha256: Sha256Sum([u8::try_from(size % 251).unwrap(); 32]),
                crc32c: 0xFFFF_FFFF,
                codec: Codec::Identity,
                stored_size: size,
            },
            native_version: None,
            is_shareable: false,
            is_linked: false,
            keeps_versions: false,
            change_description: "made by a test".to_owned(),
            by: actor.user.clone(),
            operation: actor.operation(OperationKind::Upload),
            request: None,
            at: now(),
        };
        Self { intent, commit }
    }

    pub(crate) fn with_request(mut self, request: &Request) -> Self {
        self.intent.scope.clone_from(&request.scope);
        self.commit.request = Some(request.clone());
        self
    }

    /// Begun with the request, so that it outlives its stream.
    pub(crate) fn resumable(mut self, request: &Request) -> Self {
        self.intent.request = Some(request.clone());
        self.with_request(request)
    }

    /// Holding as much as it will need, if its size is as it says: of files, one if it is new.
    pub(crate) fn holding(mut self) -> Self {
        let bytes = self.commit.stored.size;
        let files = u64::from(self.intent.file.is_none());
        (self.intent.hold, self.intent.file_bytes) = (Hold { bytes, files }, bytes);
        self
    }

    /// On its way on another start of a node.
    pub(crate) fn on(mut self, start: NodeStart) -> Self {
        self.intent.start = start;
        self
    }

    pub(crate) fn held(&self) -> Held {
        self.commit.held
    }

    pub(crate) fn keeping_versions(mut self) -> Self {
        self.commit.keeps_versions = true;
        self
    }

    pub(crate) fn new_file(&mut self) -> &mut NewFile {
        match &mut self.commit.target {
            Target::New(new) => new,
            Target::Version { .. } => panic!("a version of a file"),
        }
    }

    pub(crate) fn changes(&mut self) -> &mut Changes {
        match &mut self.commit.target {
            Target::Version { changes, .. } => changes,
            Target::New(_) => panic!("a new file"),
        }
    }

    /// Of a content whose object equal ones of its volume share.
    pub(crate) fn shareable(mut self) -> Self {
        self.commit.is_shareable = true;
        self.commit.key = Key::of_content(&self.commit.stored.sha256, self.commit.version);
        self
    }

    /// Of a content that is to be found at its file's path.
    pub(crate) fn linked(mut self) -> Self {
        self.commit.is_linked = true;
        self.commit.key = Key::apart(self.commit.version);
        self
    }

    /// Begins and commits it.
    pub(crate) async fn run(&self, store: &PgStore) -> Result<File> {
        store.open_upload(&self.intent, None).await?;
        store.commit_upload(&self.commit).await
    }
}
