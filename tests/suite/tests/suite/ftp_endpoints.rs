//! FTP and SFTP servers as endpoints: what goes in, what comes out, and what is refused.

use crate::endpoints::{basic, bucket, create, http, mask, operator, s3, store};
use coffer_proto::v1::{
    self, CredentialKind, FtpSecurity, Login, endpoint::Server, login::Kind, volume::Backend,
};
use coffer_tests::{
    Cofferd,
    grpc::{Clients, bad_fields, refusal},
};
use std::os::unix::fs::symlink;
use tonic::{Code, Status};

pub(crate) const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s";

fn ftp_at(host: &str) -> v1::FtpServer {
    v1::FtpServer { host: host.into(), username: "ann".into(), ..Default::default() }
}

fn sftp_at(host: &str) -> v1::SftpServer {
    let (host, username, host_key) = (host.into(), "ann".into(), HOST_KEY.into());
    v1::SftpServer { host, username, host_key, ..Default::default() }
}

pub(crate) fn ftp(host: &str) -> Server {
    Server::Ftp(ftp_at(host))
}

pub(crate) fn sftp(host: &str) -> Server {
    Server::Sftp(sftp_at(host))
}

pub(crate) fn password(password: &str) -> Kind {
    Kind::Password(v1::PasswordLogin { password: password.into() })
}

/// A private key whose bytes are written like this.
pub(crate) fn pem(base64: &str) -> String {
    format!("-----BEGIN RSA PRIVATE KEY-----\n{base64}\n-----END RSA PRIVATE KEY-----\n")
}

pub(crate) fn private_key(base64: &str) -> Kind {
    Kind::PrivateKey(v1::PrivateKeyLogin { private_key: pem(base64) })
}

fn key_file(path: &str) -> Kind {
    Kind::KeyFile(v1::KeyFileLogin { path: path.into() })
}

async fn replace(operator: &Clients, id: &str, kind: Kind) -> Result<v1::Credential, Status> {
    let request = v1::UpdateCredentialRequest {
        id: id.to_owned(),
        login: Some(Login { kind: Some(kind) }),
        update_mask: mask(&["login"]),
        ..Default::default()
    };
    Ok(operator.volumes.clone().update_credential(request).await?.into_inner().credential.unwrap())
}

async fn change(operator: &Clients, id: &str, server: Server) -> Result<v1::Endpoint, Status> {
    let endpoint = v1::Endpoint { id: id.to_owned(), server: Some(server), ..Default::default() };
    let request = v1::UpdateEndpointRequest {
        endpoint: Some(endpoint),
        update_mask: mask(&["server"]),
        request_id: String::new(),
    };
    Ok(operator.volumes.clone().update_endpoint(request).await?.into_inner().endpoint.unwrap())
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    refusal(&outcome.unwrap_err())
}

fn invalid<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str, what: &str) {
    let status = outcome.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{what:?}");
    assert_eq!(bad_fields(&status), [field], "{what:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_their_credentials_are_made_seen_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("id"), "key").unwrap();
    let cofferd = Cofferd::start_with(&[("sftp.key_folder", folder.path().to_str().unwrap())]).await;
    let operator = operator(&cofferd).await;
    let plain = create(&operator, ftp("FTP.example.")).await.unwrap();
    let security = FtpSecurity::Explicit.into();
    let made = v1::FtpServer { port: Some(21), security, ..ftp_at("ftp.example") };
    assert_eq!(plain.server, Some(Server::Ftp(made.clone())));
    let secure = create(&operator, sftp("[fd00::1]")).await.unwrap();
    assert_eq!(secure.server, Some(Server::Sftp(v1::SftpServer { port: Some(22), ..sftp_at("fd00::1") })));
    let taken = (Code::AlreadyExists, "NAME_TAKEN".to_owned());
    let same = v1::FtpServer { security: FtpSecurity::Plain.into(), ..made.clone() };
    assert_eq!(refused(create(&operator, Server::Ftp(same)).await), taken);
    let other = v1::FtpServer { username: "bob".into(), ..made.clone() };
    create(&operator, Server::Ftp(other)).await.unwrap();
    let get = v1::GetEndpointRequest { id: plain.id.clone() };
    let seen = operator.volumes.clone().get_endpoint(get).await.unwrap().into_inner().endpoint;
    assert_eq!(seen, Some(plain.clone()));
    let implicit = v1::FtpServer { security: FtpSecurity::Implicit.into(), port: None, ..made };
    let changed = change(&operator, &plain.id, Server::Ftp(implicit)).await.unwrap();
    let Some(Server::Ftp(server)) = changed.server else { panic!("an FTP server") };
    assert_eq!((server.port, server.security()), (Some(990), FtpSecurity::Implicit));
    invalid(change(&operator, &plain.id, sftp("h")).await, "endpoint", "another protocol");

    let pass = store(&operator, &plain.id, password("swordfish")).await.unwrap();
    assert_eq!((pass.kind(), pass.description.as_str()), (CredentialKind::Password, "d"));
    assert_eq!(refused(store(&operator, &plain.id, password("other")).await), taken);
    let key = store(&operator, &secure.id, private_key("c3dvcmRmaXNo")).await.unwrap();
    assert_eq!(key.kind(), CredentialKind::PrivateKey);
    let changed = replace(&operator, &key.id, key_file("id")).await.unwrap();
    assert_eq!(
        (changed.kind(), changed.key_path.as_str(), &changed.id),
        (CredentialKind::KeyFile, "id", &key.id)
    );
    let get = v1::GetCredentialRequest { id: key.id.clone() };
    assert_eq!(
        operator.volumes.clone().get_credential(get).await.unwrap().into_inner().credential,
        Some(changed)
    );
    let changed = replace(&operator, &key.id, password("swordfish")).await.unwrap();
    assert_eq!((changed.kind(), changed.key_path.as_str()), (CredentialKind::Password, ""));
    let list = v1::ListCredentialsRequest { endpoint_id: secure.id.clone(), ..Default::default() };
    let listed = operator.volumes.clone().list_credentials(list).await.unwrap().into_inner().credentials;
    assert_eq!(listed, [changed]);
    let delete = v1::DeleteCredentialRequest { id: pass.id, ..Default::default() };
    operator.volumes.clone().delete_credential(delete).await.unwrap();
    store(&operator, &plain.id, password("again")).await.unwrap();
    for id in [plain.id, secure.id] {
        let delete = v1::DeleteEndpointRequest { id, ..Default::default() };
        operator.volumes.clone().delete_endpoint(delete).await.unwrap();
    }
    let get = v1::GetCredentialRequest { id: key.id };
    let gone = operator.volumes.clone().get_credential(get).await;
    assert_eq!(refused(gone).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_users_that_no_server_may_have() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let long = "a".repeat(300);
    for host in [
        "",
        "a\r\nUSER root",
        "a\nb",
        "a\0b",
        "ann@h",
        "ann:secret@h",
        "h/x",
        "h\\x",
        "h:21",
        "ftp://h",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::1",
        "fe80::1%lo",
        "ex\u{e4}mple.org",
        &long,
    ] {
        invalid(create(&operator, ftp(host)).await, "endpoint.ftp.host", host);
        invalid(create(&operator, sftp(host)).await, "endpoint.sftp.host", host);
    }
    for port in [0, -1, 65_536, i32::MIN] {
        let (plain, secure) = (ftp_at("h"), sftp_at("h"));
        let plain = Server::Ftp(v1::FtpServer { port: Some(port), ..plain });
        let secure = Server::Sftp(v1::SftpServer { port: Some(port), ..secure });
        invalid(create(&operator, plain).await, "endpoint.ftp.port", &port.to_string());
        invalid(create(&operator, secure).await, "endpoint.sftp.port", &port.to_string());
    }
    let many = "a".repeat(101);
    for username in ["", "a\r\nPASS x", "a\nb", "a\0b", &many] {
        let (plain, secure) = (ftp_at("h"), sftp_at("h"));
        let plain = Server::Ftp(v1::FtpServer { username: username.into(), ..plain });
        let secure = Server::Sftp(v1::SftpServer { username: username.into(), ..secure });
        invalid(create(&operator, plain).await, "endpoint.ftp.username", username);
        invalid(create(&operator, secure).await, "endpoint.sftp.username", username);
    }
    let deep = "a/".repeat(513);
    for path in ["..", "/../x", "a/./b", "a//b", "~root", "a\r\nDELE x", "a\0b", &deep] {
        let (plain, secure) = (ftp_at("h"), sftp_at("h"));
        let plain = Server::Ftp(v1::FtpServer { path: path.into(), ..plain });
        let secure = Server::Sftp(v1::SftpServer { path: path.into(), ..secure });
        invalid(create(&operator, plain).await, "endpoint.ftp.path", path);
        invalid(create(&operator, secure).await, "endpoint.sftp.path", path);
    }
    for host_key in ["", "SHA256:", &HOST_KEY[..49], &HOST_KEY[7..], "MD5:16:27:ac:a5", "ssh-ed25519 AAAA"] {
        let server = Server::Sftp(v1::SftpServer { host_key: host_key.into(), ..sftp_at("h") });
        invalid(create(&operator, server).await, "endpoint.sftp.host_key", host_key);
    }
    let server = Server::Ftp(v1::FtpServer { security: 99, ..ftp_at("h") });
    invalid(create(&operator, server).await, "endpoint.ftp.security", "99");
    assert_eq!(cofferd.database.number("SELECT count(*) FROM ftp_endpoints").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_open_no_such_server() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("keys");
    std::fs::create_dir_all(folder.join("folder")).unwrap();
    std::fs::write(top.path().join("secret"), "key").unwrap();
    std::fs::write(folder.join("id"), "key").unwrap();
    symlink("../secret", folder.join("out")).unwrap();
    symlink("..", folder.join("up")).unwrap();
    let cofferd = Cofferd::start_with(&[("sftp.key_folder", folder.to_str().unwrap())]).await;
    let clients = operator(&cofferd).await;
    let (plain, secure) =
        (create(&clients, ftp("h")).await.unwrap().id, create(&clients, sftp("h")).await.unwrap().id);
    for (kind, what) in [(private_key("c3dvcmRmaXNo"), "a key"), (basic("x"), "basic"), (s3("x"), "s3")] {
        invalid(store(&clients, &plain, kind).await, "login", what);
    }
    invalid(store(&clients, &secure, basic("x")).await, "login", "basic");
    let web = create(&clients, http("http://example.org")).await.unwrap().id;
    let photos = create(&clients, bucket("photos")).await.unwrap().id;
    for endpoint in [&web, &photos] {
        invalid(store(&clients, endpoint, password("x")).await, "login", "a password");
    }
    for bad in ["", "a\r\nQUIT", "a\0b", &"a".repeat(4_097)] {
        invalid(store(&clients, &plain, password(bad)).await, "login.password.password", bad);
    }
    let passphrase = pem("c3dvcmRmaXNo").replace("RSA PRIVATE", "ENCRYPTED PRIVATE");
    let public = pem("c3dvcmRmaXNo").replace("RSA PRIVATE", "PUBLIC");
    for bad in ["", "swordfish", &passphrase, &public, &pem(&"A".repeat(8_192)), &pem("a\0b")] {
        let kind = Kind::PrivateKey(v1::PrivateKeyLogin { private_key: bad.into() });
        invalid(store(&clients, &secure, kind).await, "login.private_key.private_key", bad);
    }
    let outside = top.path().join("secret").display().to_string();
    for path in
        ["", "/etc/passwd", &outside, "../secret", "out", "up/secret", "folder", "absent", "id/../id", "a\0b"]
    {
        invalid(store(&clients, &secure, key_file(path)).await, "login.key_file.path", path);
    }
    let made = store(&clients, &secure, key_file(&folder.join("id").display().to_string())).await.unwrap();
    invalid(replace(&clients, &made.id, key_file("out")).await, "login.key_file.path", "out");
    let stored = "SELECT count(*) FROM ftp_endpoints WHERE num_nonnulls(password, private_key, key_path) > 0";
    assert_eq!(cofferd.database.number(stored).await, 1);

    let without = Cofferd::start().await;
    let clients = operator(&without).await;
    let secure = create(&clients, sftp("h")).await.unwrap().id;
    let anywhere = folder.join("id").display().to_string();
    invalid(store(&clients, &secure, key_file(&anywhere)).await, "login.key_file.path", "no folder is set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_needs_a_server_with_a_credential() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    let (plain, photos) = (
        create(&operator, ftp("h")).await.unwrap().id,
        create(&operator, bucket("photos")).await.unwrap().id,
    );
    let on = |ftp_id: &str| {
        let backend = Some(Backend::Ftp(v1::FtpBackend { ftp_id: ftp_id.into() }));
        v1::Volume { name: "far".into(), backend, ..Default::default() }
    };
    for ftp_id in ["h", "", &photos] {
        invalid(crate::volumes::create(&operator, on(ftp_id)).await, "volume.ftp.ftp_id", ftp_id);
    }
    let absent = uuid::Uuid::now_v7().to_string();
    assert_eq!(refused(crate::volumes::create(&operator, on(&absent)).await).0, Code::NotFound);
    assert_eq!(
        refused(crate::volumes::create(&operator, on(&plain)).await),
        (Code::FailedPrecondition, "VOLUME_CONFLICT".to_owned())
    );
    let made = "SELECT count(*) FROM storage_volumes WHERE name = 'far'";
    assert_eq!(cofferd.database.number(made).await, 0);
}
