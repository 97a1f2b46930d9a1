//! Equal contents of a volume in one object.

use coffer_domain::operation::OperationKind;
use coffer_domain::path::Key;
use coffer_domain::store::Store;
use coffer_persistence::database::Options;
use futures_util::future::join_all;

use crate::rig::{Actor, Rig, operation};

/// References and state of every object, the live ones first, those with more references before others.
const OBJECTS: &str =
    "SELECT concat_ws(' ', state, refs, is_shareable) FROM storage_objects ORDER BY state DESC, refs DESC";
/// What the reconciler is to remove is just what is not live any more.
const UNCLAIMED: &str = "SELECT count(*) FROM storage_objects o FULL JOIN storage_reclaims r ON r.object_id = o.id
    WHERE (o.state = 'deleting') IS DISTINCT FROM (r.id IS NOT NULL) OR r.key IS DISTINCT FROM o.key AND r.id IS NOT NULL";

async fn purge(rig: &Rig, id: coffer_domain::id::FileId) -> u64 {
    rig.store.delete_file(id, None, None, &operation(OperationKind::Delete), None).await.unwrap();
    rig.store.purge_file(id, &operation(OperationKind::Purge), None).await.unwrap()
}

#[tokio::test]
async fn equal_contents_are_one_object_until_the_last_version_goes() {
    let rig = Rig::new().await;
    let (ann, bob) = (Actor::user("ann"), Actor::user("bob").of("lab"));
    let first = rig.upload(&ann, "a.txt", 10).shareable().run(&rig.store).await.unwrap();
    let second = rig.upload(&bob, "b.txt", 10).shareable().run(&rig.store).await.unwrap();
    assert_eq!((second.content.object, &second.content.key), (first.content.object, &first.content.key));
    assert_eq!(
        rig.text("SELECT DISTINCT provider_path FROM storage_files").await,
        first.content.key.as_str()
    );
    assert_eq!(rig.texts(OBJECTS).await, ["live 2 t", "deleting 0 f"]);
    // Quotas count both.
    assert_eq!(rig.text("SELECT quota_used FROM storage_volumes").await, "20");
    // Another content, another volume, and what is not to be shared have objects of their own.
    let other = rig.make_volume("other", |_| {}).await;
    rig.upload(&ann, "c.txt", 11).shareable().run(&rig.store).await.unwrap();
    rig.upload_to(&other, &ann, "a.txt", 10).shareable().run(&rig.store).await.unwrap();
    rig.upload(&ann, "d.txt", 10).run(&rig.store).await.unwrap();
    assert_eq!(rig.texts(OBJECTS).await, ["live 2 t", "live 1 t", "live 1 t", "live 1 f", "deleting 0 f"]);

    assert_eq!(purge(&rig, first.id).await, 10);
    let shared = format!(
        "SELECT concat_ws(' ', state, refs) FROM storage_objects WHERE id = '{}'",
        first.content.object
    );
    assert_eq!(rig.text(&shared).await, "live 1");
    assert_eq!(rig.store.content(second.id, 1).await.unwrap().unwrap().key, first.content.key);
    assert_eq!(purge(&rig, second.id).await, 10);
    assert_eq!(rig.text(&shared).await, "deleting 0");
    // What is being removed is not given to anybody again.
    let third = rig.upload(&ann, "e.txt", 10).shareable().run(&rig.store).await.unwrap();
    assert_ne!(third.content.object, first.content.object);
    assert_eq!(rig.text(UNCLAIMED).await, "0");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_file_that_gets_the_content_it_has_keeps_its_object() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.upload(&ann, "a.txt", 10).shareable().run(&rig.store).await.unwrap();
    let again = rig.version(&ann, &file, 10).shareable().run(&rig.store).await.unwrap();
    assert_eq!((again.content.object, again.content.number), (file.content.object, 2));
    assert_eq!(rig.texts(OBJECTS).await, ["live 1 t", "deleting 0 f"]);
    rig.version(&ann, &file, 10).shareable().keeping_versions().run(&rig.store).await.unwrap();
    assert_eq!(rig.texts(OBJECTS).await, ["live 2 t", "deleting 0 f", "deleting 0 f"]);
    assert_eq!(purge(&rig, file.id).await, 20);
    assert_eq!(rig.texts(OBJECTS).await, ["deleting 0 f", "deleting 0 f", "deleting 0 f"]);
    assert_eq!(rig.text(UNCLAIMED).await, "0");
}

/// A content whose bytes were found wrong is stored anew by whoever uploads it next.
#[tokio::test]
async fn a_corrupted_object_is_not_shared_any_more() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let bad = rig.upload(&ann, "a.txt", 10).shareable().run(&rig.store).await.unwrap();
    let found = operation(OperationKind::Reconcile);
    assert_eq!(rig.store.mark_corrupted(bad.content.object, &found).await.unwrap(), 1);
    let good = rig.upload(&ann, "b.txt", 10).shareable().run(&rig.store).await.unwrap();
    assert_ne!(good.content.object, bad.content.object);
    let healed = rig.version(&ann, &bad, 10).shareable().run(&rig.store).await.unwrap();
    assert_eq!(healed.content.object, good.content.object);
    assert_eq!(rig.texts(OBJECTS).await, ["live 2 t", "deleting 0 f", "deleting 0 f"]);
}

/// On two nodes at once, while others give the content up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_at_once_references_are_right() {
    const FILES: usize = 32;
    let rig = Rig::new().await;
    let other = rig.other_store(Options::default());
    let ann = Actor::user("ann");
    for round in 0..3 {
        let old = rig.upload(&ann, &format!("{round}/old"), 10).shareable().run(&rig.store).await.unwrap();
        let uploads = (0..FILES).map(|n| {
            let upload = rig.upload(&ann, &format!("{round}/{n}"), 10).shareable();
            let store = if n % 2 == 0 { &rig.store } else { &other };
            async move { upload.run(store).await.unwrap() }
        });
        let (files, freed) = futures_util::join!(join_all(uploads), purge(&rig, old.id));
        assert_eq!(freed, 10);
        assert_eq!(
            rig.texts("SELECT concat_ws(' ', refs, is_shareable) FROM storage_objects WHERE state = 'live'")
                .await,
            [format!("{FILES} t")]
        );
        let named = rig.text("SELECT o.id FROM storage_objects o WHERE o.state = 'live'").await;
        for file in &files {
            let content = rig.store.content(file.id, 1).await.unwrap().unwrap();
            assert_eq!(content.object.to_string(), named);
        }
        join_all(files.iter().map(|file| purge(&rig, file.id))).await;
        assert_eq!(rig.text("SELECT count(*) FROM storage_objects WHERE state = 'live'").await, "0");
        assert_eq!(rig.text(UNCLAIMED).await, "0");
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_key_that_is_known_at_the_end_is_recorded_before_it_is_used() {
    let rig = Rig::new().await;
    let mut upload = rig.upload(&Actor::user("ann"), "a.txt", 10).shareable();
    upload.intent.key = Key::apart(upload.intent.version);
    rig.open(&upload).await;
    let key = upload.commit.key.clone();
    rig.store.finish_upload(upload.held(), Some(&key)).await.unwrap();
    assert_eq!(rig.row(&upload).await.key, key);
    let known = rig.store.known_keys(rig.volume.id, std::slice::from_ref(&key)).await.unwrap();
    assert!(known.contains(&key));
    // Nobody else's, though.
    let late = coffer_domain::upload::Held { epoch: 2, ..upload.held() };
    rig.store.finish_upload(late, Some(&upload.intent.key)).await.unwrap_err();
    assert_eq!(rig.row(&upload).await.key, key);
    rig.store.abort_upload(upload.held(), &operation(OperationKind::Upload)).await.unwrap();
    let dead = rig.store.dead_uploads(&operation(OperationKind::ExpireUpload), 10).await.unwrap();
    assert_eq!(dead.into_iter().map(|upload| upload.key).collect::<Vec<_>>(), [key]);
}
