//! FTP and SFTP servers, whose rows hold their one credential, and the volumes on them.

use coffer_domain::endpoint::{
    Credential, CredentialChanges, CredentialKind, Endpoint, EndpointChanges, FtpSecurity, FtpServer, Login,
    Server, SftpServer,
};
use coffer_domain::error::{Error, Resource, State, Taken};
use coffer_domain::id::{CredentialId, EndpointId};
use coffer_domain::operation::OperationKind;
use coffer_domain::page::PageRequest;
use coffer_domain::secret::Secret;
use coffer_domain::store::Store;
use coffer_domain::volume::{Backend, Settings, Volume, VolumeRef};

use crate::endpoints::{Keyed, bucket, http, http_logins, s3_login, store_login};
use crate::rig::{operation, request};

const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s";

fn ftp_at(host: &str, folder: &str) -> FtpServer {
    FtpServer {
        host: host.parse().unwrap(),
        port: 2_121,
        security: FtpSecurity::Implicit,
        username: "ann".to_owned(),
        folder: folder.parse().unwrap(),
    }
}

pub(crate) fn ftp(host: &str) -> Server {
    Server::Ftp(ftp_at(host, ""))
}

pub(crate) fn sftp(host: &str) -> Server {
    let FtpServer { host, username, folder, .. } = ftp_at(host, "/in");
    Server::Sftp(SftpServer { host, port: 22, username, host_key: HOST_KEY.parse().unwrap(), folder })
}

pub(crate) fn password(secret: &str) -> Login {
    Login::Password { password: Secret::new(secret) }
}

pub(crate) fn private_key(secret: &str) -> Login {
    Login::PrivateKey { key: Secret::new(secret) }
}

fn key_file(path: &str) -> Login {
    Login::KeyFile { path: path.to_owned() }
}

async fn change(
    keyed: &Keyed,
    id: EndpointId,
    server: Option<Server>,
    description: Option<&str>,
) -> Result<Endpoint, Error> {
    let changes = EndpointChanges { server, description: description.map(str::to_owned) };
    keyed.store.update_endpoint(id, &changes, &operation(OperationKind::UpdateEndpoint), None).await
}

async fn replace(
    keyed: &Keyed,
    id: CredentialId,
    login: Option<Login>,
    description: Option<&str>,
) -> Credential {
    let changes = CredentialChanges { login, description: description.map(str::to_owned) };
    let kind = operation(OperationKind::UpdateCredential);
    keyed.store.update_credential(id, &changes, &kind, None).await.unwrap()
}

async fn delete_credential(keyed: &Keyed, id: CredentialId) -> Result<(), Error> {
    keyed.store.delete_credential(id, &operation(OperationKind::DeleteCredential), None).await
}

async fn delete(keyed: &Keyed, id: EndpointId) -> Result<(), Error> {
    keyed.store.delete_endpoint(id, &operation(OperationKind::DeleteEndpoint), None).await
}

async fn volume(keyed: &Keyed, name: &str, ftp_id: EndpointId, prefix: &str) -> Result<Volume, Error> {
    let settings =
        Settings { default_prefix: prefix.to_owned(), ..Settings::new(name, Backend::Ftp { ftp_id }) };
    keyed.store.create_volume(&Volume::new(settings), &operation(OperationKind::CreateVolume), None).await
}

async fn credentials(keyed: &Keyed, endpoint: EndpointId, skip: u32) -> Vec<Credential> {
    let page = PageRequest { size: 10, skip, after: None };
    let found = keyed.store.credentials(endpoint, &page).await.unwrap();
    assert!(found.next.is_none());
    found.items
}

fn is_in_use<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::State(State::InUse(_))))
}

#[tokio::test]
async fn servers_are_found_as_they_were_made_among_all_kinds() {
    let keyed = Keyed::new().await;
    let mut made = Vec::new();
    for n in 0..2 {
        made.push(keyed.endpoint(ftp(&format!("ftp-{n}"))).await);
        made.push(keyed.endpoint(bucket(&format!("bucket-{n}"))).await);
        made.push(keyed.endpoint(sftp(&format!("sftp-{n}"))).await);
        made.push(keyed.endpoint(http(&format!("http://h/{n}"))).await);
    }
    for endpoint in &made {
        assert_eq!(keyed.store.endpoint(endpoint.id).await.unwrap().as_ref(), Some(endpoint));
    }
    for size in [1, 3, 8, 9] {
        let (mut listed, mut next) = (Vec::new(), PageRequest { size, skip: 0, after: None });
        loop {
            let found = keyed.store.endpoints(&next).await.unwrap();
            listed.extend(found.items);
            match found.next {
                Some(cursor) => next.after = Some(cursor),
                None => break,
            }
        }
        assert_eq!(listed, made, "pages of {size}");
    }
    // One place is one endpoint, whatever else is said of it; another user's is another place.
    let Server::Ftp(there) = ftp("FTP-0.") else { panic!("an FTP server") };
    let again = Endpoint::new(
        Server::Ftp(FtpServer { security: FtpSecurity::Plain, ..there.clone() }),
        String::new(),
    );
    let refused = keyed.store.create_endpoint(&again, &operation(OperationKind::CreateEndpoint), None).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Endpoint))), "{refused:?}");
    keyed.endpoint(Server::Ftp(FtpServer { username: "bob".to_owned(), ..there.clone() })).await;
    keyed.endpoint(Server::Ftp(FtpServer { port: 21, ..there })).await;
    keyed.endpoint(sftp("ftp-0")).await;
}

#[tokio::test]
async fn a_server_has_one_credential_of_a_kind_that_it_knows() {
    let keyed = Keyed::new().await;
    let (plain, secure) = (keyed.endpoint(ftp("h")).await.id, keyed.endpoint(sftp("h")).await.id);
    assert_eq!(keyed.store.login(plain, None).await.unwrap(), None);
    assert_eq!(credentials(&keyed, plain, 0).await, []);
    for (endpoint, login) in [
        (plain, private_key("k")),
        (plain, key_file("id")),
        (plain, s3_login("x")),
        (plain, http_logins("x")[0].clone()),
        (secure, http_logins("x")[0].clone()),
        (secure, s3_login("x")),
    ] {
        let refused = store_login(&keyed.store, endpoint, &login).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{login:?}: {refused:?}");
    }
    let made = keyed.credential(plain, &password("sword\"fish ü")).await;
    assert_eq!((&made.kind, made.endpoint), (&CredentialKind::Password, plain));
    assert_eq!(keyed.store.credential(made.id).await.unwrap().as_ref(), Some(&made));
    assert_eq!(credentials(&keyed, plain, 0).await, std::slice::from_ref(&made));
    assert_eq!(credentials(&keyed, plain, 1).await, []);
    assert_eq!(keyed.store.login(plain, None).await.unwrap(), Some(password("sword\"fish ü")));
    let second = store_login(&keyed.store, plain, &password("other")).await;
    assert!(matches!(second, Err(Error::AlreadyExists(Taken::Credential))), "{second:?}");
    assert_eq!(keyed.store.login(plain, None).await.unwrap(), Some(password("sword\"fish ü")));

    let other = keyed.credential(secure, &private_key("one")).await;
    for (login, kind) in [
        (key_file("clinic/id"), CredentialKind::KeyFile { path: "clinic/id".to_owned() }),
        (password("two"), CredentialKind::Password),
        (private_key("three"), CredentialKind::PrivateKey),
    ] {
        let changed = replace(&keyed, other.id, Some(login.clone()), None).await;
        assert_eq!(changed, Credential { kind, ..other.clone() });
        assert_eq!(keyed.store.credential(other.id).await.unwrap(), Some(changed));
        assert_eq!(keyed.store.login(secure, None).await.unwrap(), Some(login));
    }
    let described = replace(&keyed, other.id, None, Some("new")).await;
    assert_eq!(credentials(&keyed, secure, 0).await, [described]);
    assert_eq!(keyed.store.login(secure, None).await.unwrap(), Some(private_key("three")));
    let wrong = CredentialChanges { login: Some(private_key("k")), description: None };
    let kind = operation(OperationKind::UpdateCredential);
    let refused = keyed.store.update_credential(made.id, &wrong, &kind, None).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");

    delete_credential(&keyed, made.id).await.unwrap();
    assert_eq!(keyed.store.login(plain, None).await.unwrap(), None);
    let again = delete_credential(&keyed, made.id).await;
    assert!(matches!(again, Err(Error::NotFound(Resource::Credential(_)))), "{again:?}");
    keyed.credential(plain, &password("new")).await;
    let keyless = store_login(&keyed.rig.store, keyed.endpoint(ftp("other")).await.id, &password("x")).await;
    assert!(matches!(keyless, Err(Error::State(State::NoKeys))), "{keyless:?}");
    delete(&keyed, secure).await.unwrap();
    assert_eq!(keyed.store.credential(other.id).await.unwrap(), None, "it went with its endpoint");
}

#[tokio::test]
async fn what_opens_a_server_is_sealed_for_its_row_and_column() {
    let keyed = Keyed::new().await;
    let (one, two) = (keyed.endpoint(sftp("one")).await.id, keyed.endpoint(sftp("two")).await.id);
    keyed.credential(one, &password("swordfish")).await;
    keyed.credential(two, &private_key("swordfish")).await;
    let rows = "SELECT string_agg(e::text, ' ') FROM ftp_endpoints AS e";
    assert!(!keyed.rig.text(rows).await.contains("swordfish"));
    for (damage, of) in [
        ("password = private_key, private_key = NULL", two),
        ("password = (SELECT password FROM ftp_endpoints WHERE host = 'one'), private_key = NULL", two),
        ("password = left(password, -4)", two),
        ("private_key = password, password = NULL", one),
        ("private_key = replace(private_key, 'v1.', 'v127.')", one),
    ] {
        keyed.rig.run(&format!("UPDATE ftp_endpoints SET {damage} WHERE id = '{of}'")).await;
        let refused = keyed.store.login(of, None).await;
        assert!(matches!(refused, Err(Error::SecretUnreadable { .. })), "{damage}: {refused:?}");
    }
}

#[tokio::test]
async fn a_server_stays_of_its_protocol_and_where_a_volume_is() {
    let keyed = Keyed::new().await;
    let endpoint = keyed.endpoint(sftp("h")).await;
    let made = keyed.credential(endpoint.id, &password("x")).await;
    let refused = change(&keyed, endpoint.id, Some(ftp("h")), None).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let moved = change(&keyed, endpoint.id, Some(sftp("other")), None).await.unwrap();
    assert_eq!(keyed.store.endpoint(endpoint.id).await.unwrap().as_ref(), Some(&moved));
    assert_eq!(keyed.store.login(endpoint.id, None).await.unwrap(), Some(password("x")), "it stays");

    let photos = volume(&keyed, "photos", endpoint.id, "a/").await.unwrap();
    assert_eq!(keyed.store.volume(&VolumeRef::Id(photos.id)).await.unwrap().as_ref(), Some(&photos));
    let columns = "SELECT concat_ws(' ', driver, config) FROM storage_volumes WHERE name = 'photos'";
    assert_eq!(keyed.rig.text(columns).await, format!(r#"ftp {{"ftp_id": "{}"}}"#, endpoint.id));
    let within = volume(&keyed, "other", endpoint.id, "a/b/").await;
    assert!(matches!(within, Err(Error::State(State::VolumeConflict(_)))), "{within:?}");
    let Server::Sftp(there) = moved.server else { panic!("an SFTP server") };
    for elsewhere in [
        SftpServer { host: "h".parse().unwrap(), ..there.clone() },
        SftpServer { port: 2_222, ..there.clone() },
        SftpServer { username: "bob".to_owned(), ..there.clone() },
        SftpServer { folder: "in".parse().unwrap(), ..there.clone() },
    ] {
        assert!(is_in_use(&change(&keyed, endpoint.id, Some(Server::Sftp(elsewhere)), None).await));
    }
    let host_key = HOST_KEY.replace('u', "v").parse().unwrap();
    let server = Server::Sftp(SftpServer { host_key, ..there });
    let changed = change(&keyed, endpoint.id, Some(server.clone()), Some("new")).await.unwrap();
    assert_eq!((&changed.server, changed.description.as_str()), (&server, "new"));
    assert_eq!(keyed.store.endpoint(endpoint.id).await.unwrap(), Some(changed));
    assert!(is_in_use(&delete(&keyed, endpoint.id).await));
    assert!(is_in_use(&delete_credential(&keyed, made.id).await), "there is no other");
    keyed.store.delete_volume(photos.id, &operation(OperationKind::DeleteVolume), None).await.unwrap();
    delete_credential(&keyed, made.id).await.unwrap();
    delete(&keyed, endpoint.id).await.unwrap();
}

#[tokio::test]
async fn a_volume_names_a_server_of_either_protocol_and_no_other_endpoint() {
    let keyed = Keyed::new().await;
    for (name, server) in [("plain", ftp("h")), ("secure", sftp("h"))] {
        let endpoint = keyed.endpoint(server).await.id;
        volume(&keyed, name, endpoint, "").await.unwrap();
    }
    for server in [bucket("photos"), http("http://h")] {
        let endpoint = keyed.endpoint(server).await.id;
        let refused = volume(&keyed, "v", endpoint, "").await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let refused = volume(&keyed, "v", EndpointId::new(), "").await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Endpoint(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_request_sent_twice_stores_one_credential() {
    let keyed = Keyed::new().await;
    let endpoint = keyed.endpoint(ftp("h")).await.id;
    let request = request("CreateCredential");
    let mut made = Vec::new();
    for _ in 0..2 {
        let credential = Credential::new(endpoint, &password("swordfish"), String::new());
        let kind = operation(OperationKind::CreateCredential);
        let login = password("swordfish");
        made.push(keyed.store.create_credential(&credential, &login, &kind, Some(&request)).await.unwrap());
    }
    assert_eq!(made[0], made[1]);
    let answers = "SELECT encode(answer, 'escape') FROM request_results";
    assert!(!keyed.rig.text(answers).await.contains("swordfish"));
}
