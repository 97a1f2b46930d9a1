//! Volumes on real servers: everything that works on a disk of the host works there.

use super::{
    crash::settle_at,
    endpoints,
    quotas::nothing_drifts,
    strategies::{objects, purge},
    uploads::{self, sha256, until},
    volumes::create,
};
use coffer_proto::v1::{self, login::Kind as Login, volume::Backend};
use coffer_test_servers::{ACCESS_KEY, Kind, PASSWORD, SECRET_KEY, Server, USER};
use coffer_tests::{
    Cofferd, Token,
    dice::{Dice, number_of_run},
    grpc::{Clients, at, by_id, finish, noise, of_upload, pieces, refusal},
    proxy::{Fault, Proxy},
};
use std::{path::PathBuf, sync::Arc};
use tonic::{Code, Status};

const MIB: usize = 1024 * 1024;
/// Lost connections of an upload; `COFFER_CUTS` asks for others.
const CUTS: u64 = 5;
/// What is uploaded while connections are lost.
const CUT_BYTES: usize = 64 * MIB;

/// A service with a volume named `far` on a server, which it reaches through a proxy.
struct Remote {
    cofferd: Cofferd,
    ann: Clients,
    operator: Clients,
    proxy: Proxy,
    /// Where the volume's objects are.
    place: PathBuf,
    server: Arc<Server>,
}

impl Remote {
    /// `None` where the server's program is missing.
    async fn on(kind: Kind) -> Option<Self> {
        let server = kind.shared()?;
        let cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.0/8")]).await;
        let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
        let ann = cofferd.clients(&Token::user("ann", "clinic").ttl("1h")).await;
        let proxy = Proxy::start(&server.address().to_string()).await;
        let place = server.place();
        let backend = backend(&operator, kind, &proxy.addr(), &place).await;
        create(&operator, far(backend)).await.unwrap();
        let place = server.directory(&place);
        Some(Self { cofferd, ann, operator, proxy, place, server })
    }

    async fn read(&self, id: &str, offset: i64, length: i64) -> Result<Vec<u8>, Status> {
        let request = v1::ReadFileRequest { file: by_id(id), offset, length, ..Default::default() };
        Ok(self.ann.read(request).await?.1)
    }

    /// Both sides have the same, and nothing else.
    async fn is_settled(&self) {
        settle_at(&self.cofferd, &self.place).await;
        assert_eq!(uploads::held(&self.cofferd).await, 0);
        nothing_drifts(&self.cofferd).await;
    }
}

fn far(backend: Backend) -> v1::Volume {
    v1::Volume { name: "far".into(), backend: Some(backend), ..Default::default() }
}

/// A place of a server that is at `address`, as the service is told of it.
pub(crate) async fn backend(operator: &Clients, kind: Kind, address: &str, place: &str) -> Backend {
    let (server, login) = match kind {
        Kind::RcloneS3 | Kind::Minio => {
            let bucket = v1::S3Bucket {
                endpoint_url: format!("http://{address}"),
                bucket_name: place.into(),
                ..Default::default()
            };
            let login = v1::S3Login { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() };
            (v1::endpoint::Server::S3Bucket(bucket), Some(Login::S3(login)))
        }
        Kind::RcloneWebdav | Kind::ApacheDav | Kind::Nginx => {
            let login = v1::BasicLogin { username: USER.into(), password: PASSWORD.into() };
            let login = (kind != Kind::Nginx).then_some(Login::Basic(login));
            (endpoints::http(&format!("http://{address}/{place}")), login)
        }
    };
    let endpoint = endpoints::create(operator, server).await.unwrap().id;
    if let Some(login) = login {
        endpoints::store(operator, &endpoint, login).await.unwrap();
    }
    match kind {
        Kind::RcloneS3 | Kind::Minio => {
            Backend::S3(v1::S3Backend { bucket_id: endpoint, ..Default::default() })
        }
        Kind::RcloneWebdav | Kind::ApacheDav | Kind::Nginx => {
            Backend::Http(v1::HttpBackend { endpoint_id: endpoint, ..Default::default() })
        }
    }
}

fn on_far(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { volume: "far".into(), ..at(path) }
}

/// An upload that can be gone on with.
fn resumable(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..on_far(path) }
}

async fn files_live(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let check = v1::CheckVolumeRequest { volume: "far".into() };
    let check = far.operator.volumes.clone().check_volume(check).await.unwrap().into_inner();
    assert!(check.is_healthy, "{:?}", check.steps);

    let small = far.ann.upload(on_far("folder/small"), b"hello").await.unwrap();
    assert_eq!(far.read(&small.id, 0, 0).await.unwrap(), b"hello");
    // More than one part of it.
    let content = noise(20 * MIB + 3);
    let large = far.ann.upload(on_far("folder/large"), &content).await.unwrap();
    assert_eq!(large.sha256, sha256(&content));
    assert!(far.read(&large.id, 0, 0).await.unwrap() == content);
    let last = content.len() - 1_000;
    assert!(far.read(&large.id, last as i64, 0).await.unwrap() == content[last..]);
    assert!(far.read(&large.id, 5, 7).await.unwrap() == content[5..12]);

    let again = v1::UploadSpec { file: by_id(&small.id), ..Default::default() };
    let replaced = far.ann.upload(again, b"good bye").await.unwrap();
    assert_eq!(far.read(&replaced.id, 0, 0).await.unwrap(), b"good bye");
    far.is_settled().await;
    assert_eq!(objects(&far.place).len(), 2);
    assert_eq!(purge(&far.ann, &large.id).await, content.len() as i64);
    assert_eq!(purge(&far.ann, &small.id).await, 8);
    far.is_settled().await;
    assert_eq!(objects(&far.place), [""; 0]);
}

async fn an_upload_survives_the_service(kind: Kind) {
    let Some(mut far) = Remote::on(kind).await else { return };
    let content = noise(40 * MIB);
    let upload = far.ann.start_upload(resumable("resumed")).await.unwrap();
    let writing = far.ann.writing();
    let mut messages = vec![of_upload(&upload.id)];
    messages.extend(pieces(&content, 0..30 * MIB));
    for message in messages {
        assert!(writing.send(message).await);
    }
    let persisted = "SELECT max(persisted_size) FROM storage_uploads";
    until("some of it is kept", async || far.cofferd.database.number(persisted).await >= 10 * MIB as i64)
        .await;
    far.cofferd.kill();
    drop(writing);
    far.cofferd.launch().await;
    let ann = far.cofferd.clients(&Token::user("ann", "clinic")).await;
    let kept = ann.get_upload(&upload.id).await.unwrap().persisted_size;
    assert!(kept >= 10 * MIB as i64, "{kept}");
    let mut messages = vec![of_upload(&upload.id)];
    messages.extend(pieces(&content, kept as usize..content.len()));
    messages.push(finish(content.len() as i64));
    let file = ann.write(messages).await.unwrap().file.unwrap();
    assert_eq!(file.sha256, sha256(&content));
    far.ann = ann;
    assert!(far.read(&file.id, 0, 0).await.unwrap() == content);
    // What nobody goes on with is given up, with what it has left on the server.
    let left = far.ann.start_upload(resumable("left")).await.unwrap();
    let messages = [vec![of_upload(&left.id)], pieces(&content, 0..20 * MIB)].concat();
    far.ann.write(messages).await.unwrap_err();
    far.ann.cancel_upload(&left.id).await.unwrap();
    far.is_settled().await;
    assert_eq!(objects(&far.place).len(), 1);
}

/// The service's connections to the server end at random places: the client hears nothing of it.
async fn connections_to_the_server_are_lost(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let cuts = number_of_run("COFFER_CUTS", CUTS);
    let mut dice = Dice::of_run(3);
    let content = noise(CUT_BYTES);
    let before = far.proxy.traffic();
    // Each connection ends somewhere in the next of so many equal shares.
    let share = CUT_BYTES as u64 / cuts;
    far.proxy.plan((0..cuts).map(|_| Fault::CutRequest { after_bytes: dice.below(2 * share) }));
    let file = far.ann.upload(resumable("cut"), &content).await.unwrap();
    assert_eq!(file.sha256, sha256(&content));
    let traffic = far.proxy.traffic();
    let (met, more) =
        (traffic.cuts - before.cuts, traffic.to_server_bytes - before.to_server_bytes - CUT_BYTES as u64);
    println!(
        "{kind:?}: {met} of {cuts} cuts met, {more} bytes more than the content, {} per cut",
        more / met.max(1)
    );
    assert!(met > 0);
    far.proxy.plan([]);
    assert!(far.read(&file.id, 0, 0).await.unwrap() == content);
    far.is_settled().await;
    assert_eq!(objects(&far.place).len(), 1);
}

/// What hurts one volume hurts no other, and nothing is lost by it.
async fn a_sick_server_hurts_its_volume(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let file = far.ann.upload(on_far("before"), b"hello").await.unwrap();
    far.proxy.point_at("127.0.0.1:1");
    far.proxy.cut();
    let status = far.ann.upload(on_far("meanwhile"), &noise(2 * MIB)).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned()));
    let status = far.read(&file.id, 0, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    far.ann.upload(at("on the disk"), b"hello").await.unwrap();
    far.proxy.point_at(&far.server.address().to_string());
    assert_eq!(far.read(&file.id, 0, 0).await.unwrap(), b"hello");
    far.ann.upload(on_far("afterwards"), b"hello").await.unwrap();
}

macro_rules! on_servers {
    ($($server:ident: $kind:expr => $($behaviour:ident),+;)+) => {
        $(mod $server {
            use coffer_test_servers::Kind;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    super::$behaviour($kind).await;
                }
            )+
        })+
    };
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 =>
        files_live, an_upload_survives_the_service, connections_to_the_server_are_lost, a_sick_server_hurts_its_volume;
    webdav_of_rclone: Kind::RcloneWebdav =>
        files_live, an_upload_survives_the_service, connections_to_the_server_are_lost, a_sick_server_hurts_its_volume;
    webdav_of_apache: Kind::ApacheDav =>
        files_live, an_upload_survives_the_service, connections_to_the_server_are_lost, a_sick_server_hurts_its_volume;
    http_of_nginx: Kind::Nginx => files_live, a_sick_server_hurts_its_volume;
}
