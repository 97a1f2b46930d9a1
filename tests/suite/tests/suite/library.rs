//! The use cases as a library: a store, a driver, and no gRPC.

use bytes::Bytes;
use coffer_domain::{
    caller::{Caller, Principal, Roles, User},
    file::FileRef,
    id::{NodeId, UserId},
    quota::QuotaKey,
    service::{Coffer, QuotaQuery, ReadSpec, Settings, UploadSpec},
    store::Store as _,
    time::now,
};
use coffer_drivers::Opener;
use coffer_persistence::{PgStore, database};
use coffer_tests::TestDatabase;
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_stores_files_without_a_server() {
    let database = TestDatabase::create().await;
    let disk = tempfile::tempdir().unwrap();
    let store = Arc::new(PgStore::new(
        database::Database::new(&database.url().await, database::Options::default()).unwrap(),
    ));
    let start = store.start_node(NodeId::new(), "library", Duration::from_secs(15)).await.unwrap();
    let cluster = store.cluster().await.unwrap();
    let coffer = Coffer::new(store, Arc::new(Opener::default()), start, cluster, Settings::default());
    coffer.ensure_default_volume(&disk.path().join("main")).await.unwrap();

    let user =
        User { id: UserId::of_subject("example", "ann"), issuer: "example".into(), subject: "ann".into() };
    let principal = Principal {
        user: Some(user.clone()),
        app: None,
        organisation: "clinic".into(),
        projects: Vec::new(),
        roles: Roles::default(),
        is_delegated: false,
        expires_at: now() + chrono::TimeDelta::hours(1),
    };
    let ann = Caller { principal: Some(principal), ..Caller::service() };

    let mut upload = coffer
        .begin_upload(ann.clone(), UploadSpec { path: Some("a.txt".into()), ..Default::default() })
        .await
        .unwrap();
    upload.write(0, Bytes::from_static(b"hello"), None).await.unwrap();
    let file = upload.finish(None).await.unwrap();

    let spec = ReadSpec { file: FileRef::Id(file.id), version: None, offset: 1, length: 3 };
    let mut reading = coffer.read_file(&ann, spec).await.unwrap();
    assert_eq!(reading.next().await.unwrap().unwrap().bytes, "ell");
    assert!(reading.next().await.is_none());
    let quota = coffer.get_quota(&ann, &QuotaQuery::User(None)).await.unwrap();
    assert_eq!(quota.key, QuotaKey::User { organisation: "clinic".into(), user: user.id });
    assert_eq!((quota.usage.used_bytes, quota.usage.used_files), (5, 1));
    assert!(coffer.drain(Duration::from_secs(5)).await);
}
