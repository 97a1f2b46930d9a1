//! Endpoints, their credentials, and the volumes on them.

use std::path::Path;

use coffer_domain::endpoint::{
    Credential, CredentialChanges, CredentialKind, Endpoint, EndpointChanges, HttpServer, Login, S3Bucket,
    Server,
};
use coffer_domain::error::{Error, Resource, State, Taken};
use coffer_domain::id::{CredentialId, EndpointId};
use coffer_domain::operation::OperationKind;
use coffer_domain::page::PageRequest;
use coffer_domain::secret::Secret;
use coffer_domain::store::Store;
use coffer_domain::volume::{Backend, Settings, Volume, VolumeRef};
use coffer_persistence::PgStore;
use coffer_persistence::secrets::{KeyRing, add_key, load_or_create};
use tempfile::TempDir;

use crate::rig::{Rig, operation, request};

/// A store with keys of its own.
pub(crate) struct Keyed {
    pub(crate) rig: Rig,
    pub(crate) store: PgStore,
    pub(crate) directory: TempDir,
}

impl Keyed {
    pub(crate) async fn new() -> Self {
        let (rig, directory) = (Rig::new().await, TempDir::new().unwrap());
        let store = rig.store.clone().with_keys(ring(directory.path()));
        Self { rig, store, directory }
    }

    pub(crate) fn add_key(&self) -> coffer_domain::secret::KeyId {
        add_key(&self.directory.path().join("keys.json")).unwrap()
    }

    pub(crate) async fn endpoint(&self, server: Server) -> Endpoint {
        create(&self.store, &Endpoint::new(server, "d".to_owned())).await.unwrap()
    }

    pub(crate) async fn credential(&self, endpoint: EndpointId, login: &Login) -> Credential {
        store_login(&self.store, endpoint, login).await.unwrap()
    }
}

pub(crate) fn ring(directory: &Path) -> KeyRing {
    load_or_create(&directory.join("keys.json"), true).unwrap()
}

pub(crate) fn bucket(name: &str) -> Server {
    Server::S3Bucket(S3Bucket {
        url: "https://s3.example:9000".parse().unwrap(),
        name: name.to_owned(),
        region: "eu-1".to_owned(),
        use_path_style: false,
    })
}

pub(crate) fn http(url: &str) -> Server {
    Server::Http(HttpServer { url: url.parse().unwrap() })
}

pub(crate) fn s3_login(secret: &str) -> Login {
    Login::S3 { access_key: "AK".to_owned(), secret_key: Secret::new(secret) }
}

pub(crate) fn http_logins(secret: &str) -> [Login; 3] {
    [
        Login::Basic { username: "ann".to_owned(), password: Secret::new(secret) },
        Login::Bearer { token: Secret::new(secret) },
        Login::CustomHeader { name: "x-key".to_owned(), value: Secret::new(secret) },
    ]
}

async fn create(store: &PgStore, endpoint: &Endpoint) -> Result<Endpoint, Error> {
    store.create_endpoint(endpoint, &operation(OperationKind::CreateEndpoint), None).await
}

async fn update(store: &PgStore, id: EndpointId, changes: &EndpointChanges) -> Result<Endpoint, Error> {
    store.update_endpoint(id, changes, &operation(OperationKind::UpdateEndpoint), None).await
}

async fn delete(store: &PgStore, id: EndpointId) -> Result<(), Error> {
    store.delete_endpoint(id, &operation(OperationKind::DeleteEndpoint), None).await
}

pub(crate) async fn store_login(
    store: &PgStore,
    endpoint: EndpointId,
    login: &Login,
) -> Result<Credential, Error> {
    let credential = Credential::new(endpoint, login, "d".to_owned());
    store.create_credential(&credential, login, &operation(OperationKind::CreateCredential), None).await
}

async fn delete_credential(store: &PgStore, id: CredentialId) -> Result<(), Error> {
    store.delete_credential(id, &operation(OperationKind::DeleteCredential), None).await
}

async fn volume(store: &PgStore, name: &str, backend: Backend, prefix: &str) -> Result<Volume, Error> {
    let settings = Settings { default_prefix: prefix.to_owned(), ..Settings::new(name, backend) };
    let volume = Volume::new(settings);
    store.create_volume(&volume, &operation(OperationKind::CreateVolume), None).await
}

fn page(size: u32) -> PageRequest {
    PageRequest { size, skip: 0, after: None }
}

fn is_in_use<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::State(State::InUse(_))))
}

#[tokio::test]
async fn endpoints_of_both_kinds_are_found_as_they_were_made() {
    let keyed = Keyed::new().await;
    let mut made = Vec::new();
    for n in 0..3 {
        made.push(keyed.endpoint(bucket(&format!("bucket-{n}"))).await);
        made.push(keyed.endpoint(http(&format!("http://h/{n}"))).await);
    }
    for endpoint in &made {
        assert_eq!(keyed.store.endpoint(endpoint.id).await.unwrap().as_ref(), Some(endpoint));
    }
    assert_eq!(keyed.store.endpoint(EndpointId::new()).await.unwrap(), None);
    for size in [1, 2, 4, 5, 6, 7] {
        let (mut listed, mut next) = (Vec::new(), page(size));
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
    for again in [bucket("bucket-1"), http("http://H:80/1/")] {
        let refused = create(&keyed.store, &Endpoint::new(again, String::new())).await;
        assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Endpoint))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_endpoint_stays_of_its_kind_and_where_it_is_used() {
    let keyed = Keyed::new().await;
    let (s3, web) = (keyed.endpoint(bucket("photos")).await, keyed.endpoint(http("http://h/a")).await);
    let to = |server| EndpointChanges { server: Some(server), description: None };
    for (id, server) in [(s3.id, http("http://h/b")), (web.id, bucket("other"))] {
        let refused = update(&keyed.store, id, &to(server)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let moved = update(&keyed.store, web.id, &to(http("http://h/c"))).await.unwrap();
    assert_eq!(moved, Endpoint { server: http("http://h/c"), ..web.clone() });
    keyed.endpoint(http("http://h/d")).await;
    let taken = update(&keyed.store, web.id, &to(http("http://h/d"))).await;
    assert!(matches!(taken, Err(Error::AlreadyExists(Taken::Endpoint))), "{taken:?}");

    keyed.credential(s3.id, &s3_login("secret")).await;
    let backend = Backend::S3 { bucket_id: s3.id, credential_id: None };
    volume(&keyed.store, "photos", backend, "").await.unwrap();
    assert!(is_in_use(&update(&keyed.store, s3.id, &to(bucket("other"))).await));
    assert!(is_in_use(&delete(&keyed.store, s3.id).await));
    let Server::S3Bucket(there) = s3.server.clone() else { panic!("a bucket") };
    let elsewhere = Server::S3Bucket(S3Bucket { region: "eu-2".to_owned(), ..there });
    let changes = EndpointChanges { server: Some(elsewhere.clone()), description: Some("new".to_owned()) };
    let changed = update(&keyed.store, s3.id, &changes).await.unwrap();
    assert_eq!((&changed.server, changed.description.as_str()), (&elsewhere, "new"));
    assert_eq!(keyed.store.endpoint(s3.id).await.unwrap(), Some(changed));
    let absent = update(&keyed.store, EndpointId::new(), &EndpointChanges::default()).await;
    assert!(matches!(absent, Err(Error::NotFound(Resource::Endpoint(_)))), "{absent:?}");
}

#[tokio::test]
async fn what_opens_an_endpoint_comes_back_for_drivers_alone() {
    let keyed = Keyed::new().await;
    let (s3, web) = (keyed.endpoint(bucket("photos")).await, keyed.endpoint(http("http://h")).await);
    assert_eq!(keyed.store.login(web.id, None).await.unwrap(), None);
    let made = keyed.credential(s3.id, &s3_login("swordfish")).await;
    assert_eq!(made.kind, CredentialKind::S3 { access_key: "AK".to_owned() });
    assert_eq!(keyed.store.login(s3.id, None).await.unwrap(), Some(s3_login("swordfish")));
    let mut credentials = Vec::new();
    for login in http_logins("sword\"fish ü") {
        let made = keyed.credential(web.id, &login).await;
        assert_eq!(keyed.store.credential(made.id).await.unwrap().as_ref(), Some(&made));
        // The newest, unless one is named.
        assert_eq!(keyed.store.login(web.id, None).await.unwrap(), Some(login.clone()));
        assert_eq!(keyed.store.login(web.id, Some(made.id)).await.unwrap(), Some(login));
        credentials.push(made);
    }
    let listed = keyed.store.credentials(web.id, &page(2)).await.unwrap();
    assert_eq!((listed.items.as_slice(), listed.next.is_some()), (&credentials[..2], true));
    let rest = PageRequest { after: listed.next, ..page(2) };
    assert_eq!(keyed.store.credentials(web.id, &rest).await.unwrap().items, credentials[2..]);

    for (endpoint, credential) in
        [(s3.id, credentials[0].id), (web.id, made.id), (web.id, CredentialId::new())]
    {
        let refused = keyed.store.login(endpoint, Some(credential)).await;
        assert!(matches!(refused, Err(Error::NotFound(Resource::Credential(_)))), "{refused:?}");
    }
    for (endpoint, login) in [(s3.id, &http_logins("x")[0]), (web.id, &s3_login("x"))] {
        let refused = store_login(&keyed.store, endpoint, login).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let change = CredentialChanges { login: Some(http_logins("new")[1].clone()), description: None };
    let changed = keyed
        .store
        .update_credential(credentials[0].id, &change, &operation(OperationKind::UpdateCredential), None)
        .await
        .unwrap();
    assert_eq!(changed, Credential { kind: CredentialKind::Bearer, ..credentials[0].clone() });
    assert_eq!(keyed.store.login(web.id, Some(changed.id)).await.unwrap(), change.login);
    let keyless = store_login(&keyed.rig.store, s3.id, &s3_login("x")).await;
    assert!(matches!(keyless, Err(Error::State(State::NoKeys))), "{keyless:?}");

    delete(&keyed.store, web.id).await.unwrap();
    assert_eq!(keyed.store.credential(changed.id).await.unwrap(), None, "it went with its endpoint");
}

#[tokio::test]
async fn a_credential_stays_while_a_volume_needs_it() {
    let keyed = Keyed::new().await;
    let s3 = keyed.endpoint(bucket("photos")).await;
    let old = keyed.credential(s3.id, &s3_login("old")).await;
    let named = Backend::S3 { bucket_id: s3.id, credential_id: Some(old.id) };
    let made = volume(&keyed.store, "photos", named, "").await.unwrap();
    assert!(is_in_use(&delete_credential(&keyed.store, old.id).await));
    keyed.store.delete_volume(made.id, &operation(OperationKind::DeleteVolume), None).await.unwrap();
    volume(&keyed.store, "photos", Backend::S3 { bucket_id: s3.id, credential_id: None }, "").await.unwrap();
    assert!(is_in_use(&delete_credential(&keyed.store, old.id).await), "the last one");
    keyed.credential(s3.id, &s3_login("new")).await;
    delete_credential(&keyed.store, old.id).await.unwrap();
    assert_eq!(keyed.store.login(s3.id, None).await.unwrap(), Some(s3_login("new")));
    let again = delete_credential(&keyed.store, old.id).await;
    assert!(matches!(again, Err(Error::NotFound(_))), "{again:?}");
}

#[tokio::test]
async fn a_volume_names_an_endpoint_of_its_kind_and_has_its_place_alone() {
    let keyed = Keyed::new().await;
    let (s3, web) = (keyed.endpoint(bucket("photos")).await, keyed.endpoint(http("http://h")).await);
    let (key, pass) = (
        keyed.credential(s3.id, &s3_login("x")).await.id,
        keyed.credential(web.id, &http_logins("x")[0]).await.id,
    );
    let on_s3 = |bucket_id, credential_id| Backend::S3 { bucket_id, credential_id };
    let on_web =
        |endpoint_id, credential_id| Backend::Http { endpoint_id, credential_id, use_query_params: true };
    for backend in [on_s3(web.id, None), on_web(s3.id, None)] {
        let refused = volume(&keyed.store, "v", backend, "").await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    for backend in [
        on_s3(EndpointId::new(), None),
        on_web(EndpointId::new(), None),
        on_s3(s3.id, Some(pass)),
        on_web(web.id, Some(key)),
    ] {
        let refused = volume(&keyed.store, "v", backend, "").await;
        assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    }
    for (name, backend) in [("photos", on_s3(s3.id, Some(key))), ("web", on_web(web.id, None))] {
        let made = volume(&keyed.store, name, backend.clone(), "a/").await.unwrap();
        assert_eq!(keyed.store.volume(&VolumeRef::Id(made.id)).await.unwrap(), Some(made));
        let within = volume(&keyed.store, "other", backend, "a/b/").await;
        assert!(matches!(within, Err(Error::State(State::VolumeConflict(_)))), "{within:?}");
    }
    let columns =
        "SELECT concat_ws(' ', driver, config, use_query_params) FROM storage_volumes WHERE name = 'web'";
    assert_eq!(keyed.rig.text(columns).await, format!(r#"http {{"endpoint_id": "{}"}} t"#, web.id));
}

#[tokio::test]
async fn a_configuration_of_another_kind_is_not_taken_for_one() {
    let keyed = Keyed::new().await;
    let s3 = keyed.endpoint(bucket("photos")).await;
    let made =
        volume(&keyed.store, "v", Backend::S3 { bucket_id: s3.id, credential_id: None }, "").await.unwrap();
    for config in [
        format!(r#"{{"local_path_id": "{}"}}"#, s3.id),
        format!(r#"{{"local_path_id": "{0}", "bucket_id": "{0}"}}"#, s3.id),
        format!(r#"{{"endpoint_id": "{}"}}"#, s3.id),
        r#"{"bucket_id": "photos"}"#.to_owned(),
        "{}".to_owned(),
    ] {
        keyed.rig.run(&format!("UPDATE storage_volumes SET config = '{config}' WHERE name = 'v'")).await;
        let refused = keyed.store.volume(&VolumeRef::Id(made.id)).await;
        assert!(matches!(refused, Err(Error::Internal { .. })), "{config}: {refused:?}");
    }
}

#[tokio::test]
async fn a_damaged_secret_concerns_no_other() {
    let keyed = Keyed::new().await;
    let s3 = keyed.endpoint(bucket("photos")).await;
    let (one, two) = (
        keyed.credential(s3.id, &s3_login("one")).await.id,
        keyed.credential(s3.id, &s3_login("two")).await.id,
    );
    let stored = format!("SELECT secret_key FROM s3_credentials WHERE id = '{one}'");
    let stored = keyed.rig.text(&stored).await;
    let key = stored.split('.').nth(1).unwrap();
    let of_two = keyed.rig.text(&format!("SELECT secret_key FROM s3_credentials WHERE id = '{two}'")).await;
    for (damaged, named) in [
        (of_two, key),
        (stored[..stored.len() - 4].to_owned(), key),
        (stored.replace(key, "4294967295"), "4294967295"),
        (stored.replacen("v1", "v127", 1), key),
    ] {
        keyed
            .rig
            .run(&format!("UPDATE s3_credentials SET secret_key = '{damaged}' WHERE id = '{one}'"))
            .await;
        match keyed.store.login(s3.id, Some(one)).await {
            Err(Error::SecretUnreadable { key, .. }) => assert_eq!(key, named, "{damaged}"),
            other => panic!("{damaged}: {other:?}"),
        }
        assert_eq!(keyed.store.login(s3.id, Some(two)).await.unwrap(), Some(s3_login("two")));
    }
}

#[tokio::test]
async fn a_request_sent_twice_stores_one_credential_and_no_secret_in_its_answer() {
    let keyed = Keyed::new().await;
    let s3 = keyed.endpoint(bucket("photos")).await;
    let request = request("CreateCredential");
    let mut made = Vec::new();
    for _ in 0..2 {
        let credential = Credential::new(s3.id, &s3_login("swordfish"), String::new());
        let kind = operation(OperationKind::CreateCredential);
        let outcome =
            keyed.store.create_credential(&credential, &s3_login("swordfish"), &kind, Some(&request)).await;
        made.push(outcome.unwrap());
    }
    assert_eq!(made[0], made[1]);
    let answers = "SELECT encode(answer, 'escape') FROM request_results";
    assert!(!keyed.rig.text(answers).await.contains("swordfish"));
}
