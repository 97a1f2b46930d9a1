//! Volumes on real servers: everything that works on a disk of the host works there.

/// Runs behaviours on servers: a test of each name for each of them.
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

#[path = "backends/content.rs"]
mod content;
#[path = "backends/crowd.rs"]
mod crowd;
#[path = "backends/cuts.rs"]
mod cuts;
#[path = "backends/large.rs"]
mod large;
#[path = "backends/peers.rs"]
mod peers;

use super::{
    crash::settle_at,
    endpoints,
    quotas::nothing_drifts,
    resume::{coffer, ended},
    strategies::{objects, purge},
    uploads::{self, sha256, until},
    volumes::create,
};
use coffer_proto::v1::{self, login::Kind as Login, volume::Backend};
use coffer_test_servers::{ACCESS_KEY, Kind, PASSWORD, SECRET_KEY, Server, Ssh, USER};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, finish, noise, of_upload, pieces, refusal},
    proxy::Proxy,
};
use std::{path::PathBuf, sync::Arc};
use tonic::{Code, Status};

const MIB: usize = 1024 * 1024;

/// A service with a volume named `far` on a server, which it reaches through a proxy.
struct Remote {
    cofferd: Cofferd,
    ann: Clients,
    /// Ann's.
    token: String,
    operator: Clients,
    proxy: Proxy,
    /// What the service was told of the volume's place.
    backend: Backend,
    /// The bucket's name, or the folder's.
    name: String,
    /// Where the volume's objects are.
    place: PathBuf,
    server: Arc<Server>,
}

impl Remote {
    /// `None` where the server's program is missing.
    async fn on(kind: Kind) -> Option<Self> {
        let server = kind.shared()?;
        let proxy = Proxy::start(&server.address().to_string()).await;
        let address = proxy.addr();
        Some(Self::at(kind, server, proxy, &address).await)
    }

    /// The same with nothing passing through the proxy, which would take its time.
    async fn beside(kind: Kind) -> Option<Self> {
        let server = kind.shared()?;
        let address = server.address().to_string();
        let proxy = Proxy::start(&address).await;
        Some(Self::at(kind, server, proxy, &address).await)
    }

    async fn at(kind: Kind, server: Arc<Server>, proxy: Proxy, address: &str) -> Self {
        let cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.0/8")]).await;
        let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
        let token = cofferd.token(&Token::user("ann", "clinic").ttl("1h"));
        let ann = cofferd.clients_with(Some(&token)).await;
        let name = server.place();
        let backend = backend(&operator, &server, kind, address, &name).await;
        create(&operator, far(backend.clone())).await.unwrap();
        let place = server.directory(&name);
        Self { cofferd, ann, token, operator, proxy, backend, name, place, server }
    }

    /// The service again, and a new connection to it.
    async fn launch(&mut self) {
        self.cofferd.launch().await;
        self.ann = self.cofferd.clients_with(Some(&self.token)).await;
    }

    async fn check(&self) -> v1::CheckVolumeResponse {
        let check = v1::CheckVolumeRequest { volume: "far".into() };
        self.operator.volumes.clone().check_volume(check).await.unwrap().into_inner()
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
pub(crate) async fn backend(
    operator: &Clients,
    server: &Server,
    kind: Kind,
    address: &str,
    place: &str,
) -> Backend {
    let (of_kind, login) = match kind {
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
        Kind::Vsftpd | Kind::VsftpdExplicit | Kind::VsftpdImplicit | Kind::Proftpd => {
            let (host, port) = host_and_port(address);
            let security = match kind {
                Kind::VsftpdExplicit => v1::FtpSecurity::Explicit,
                Kind::VsftpdImplicit => v1::FtpSecurity::Implicit,
                _ => v1::FtpSecurity::Plain,
            };
            let ftp = v1::FtpServer {
                host,
                port: Some(port),
                security: security.into(),
                username: kind.user().into(),
                path: place.into(),
            };
            let login = v1::PasswordLogin { password: PASSWORD.into() };
            (v1::endpoint::Server::Ftp(ftp), Some(Login::Password(login)))
        }
        Kind::OpenSsh | Kind::RcloneSftp => {
            let (host, port) = host_and_port(address);
            let Ssh { username, key, host_keys } = server.ssh();
            let host_key = host_keys[0].clone();
            let sftp = v1::SftpServer { host, port: Some(port), username, host_key, path: place.into() };
            let login = match key {
                Some(private_key) => Login::PrivateKey(v1::PrivateKeyLogin { private_key }),
                None => Login::Password(v1::PasswordLogin { password: PASSWORD.into() }),
            };
            (v1::endpoint::Server::Sftp(sftp), Some(login))
        }
    };
    let endpoint = endpoints::create(operator, of_kind).await.unwrap().id;
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
        _ => Backend::Ftp(v1::FtpBackend { ftp_id: endpoint }),
    }
}

fn host_and_port(address: &str) -> (String, i32) {
    let (host, port) = address.rsplit_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
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
    let check = far.check().await;
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
    far.launch().await;
    let kept = far.ann.get_upload(&upload.id).await.unwrap().persisted_size;
    assert!(kept >= 10 * MIB as i64, "{kept}");
    let mut messages = vec![of_upload(&upload.id)];
    messages.extend(pieces(&content, kept as usize..content.len()));
    messages.push(finish(content.len() as i64));
    let file = far.ann.write(messages).await.unwrap().file.unwrap();
    assert_eq!(file.sha256, sha256(&content));
    assert!(far.read(&file.id, 0, 0).await.unwrap() == content);
    // What nobody goes on with is given up, with what it has left on the server.
    let left = far.ann.start_upload(resumable("left")).await.unwrap();
    let messages = [vec![of_upload(&left.id)], pieces(&content, 0..20 * MIB)].concat();
    far.ann.write(messages).await.unwrap_err();
    far.ann.cancel_upload(&left.id).await.unwrap();
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

/// The server takes no part of an object, and lists none.
async fn nothing_can_be_gone_on_with(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let status = far.ann.start_upload(resumable("resumed")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    let status = far.ann.upload(resumable("resumed"), b"hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    far.is_settled().await;

    let directory = tempfile::tempdir().unwrap();
    let (source, content) = (directory.path().join("source"), noise(3 * MIB));
    std::fs::write(&source, &content).unwrap();
    let arguments = ["upload", source.to_str().unwrap(), "whole", "--volume", "far", "--json"];
    let file = ended(coffer(far.cofferd.grpc_addr(), &far.token, &arguments).spawn().unwrap()).await;
    assert_eq!((&file["sha256"], &file["upload"]["attempts"]), (&sha256(&content).into(), &1.into()));
    assert!(far.read(file["id"].as_str().unwrap(), 0, 0).await.unwrap() == content);
    far.is_settled().await;
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 =>
        files_live, an_upload_survives_the_service, a_sick_server_hurts_its_volume;
    webdav_of_rclone: Kind::RcloneWebdav =>
        files_live, an_upload_survives_the_service, a_sick_server_hurts_its_volume;
    webdav_of_apache: Kind::ApacheDav =>
        files_live, an_upload_survives_the_service, a_sick_server_hurts_its_volume;
    http_of_nginx: Kind::Nginx => files_live, nothing_can_be_gone_on_with, a_sick_server_hurts_its_volume;
    ftp_of_vsftpd: Kind::Vsftpd =>
        files_live, an_upload_survives_the_service, a_sick_server_hurts_its_volume;
    ftp_of_proftpd: Kind::Proftpd => files_live, an_upload_survives_the_service;
    sftp_of_openssh: Kind::OpenSsh =>
        files_live, an_upload_survives_the_service, a_sick_server_hurts_its_volume;
    sftp_of_rclone: Kind::RcloneSftp => files_live, an_upload_survives_the_service;
}
