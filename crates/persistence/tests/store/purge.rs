//! Purging: everything given back, a tombstone left.

use coffer_domain::error::{Error, Resource};
use coffer_domain::operation::OperationKind;
use coffer_domain::store::{Lookup, Store};

use crate::rig::{Actor, Rig, operation};

#[tokio::test]
async fn a_purge_gives_everything_back_and_leaves_a_tombstone() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann").through("chat").on("trial");
    let mut upload = rig.upload(&ann, "secret/plan.txt", 10);
    upload.new_file().file_id = "plan".to_owned();
    upload.new_file().description.encoding = "gzip".to_owned();
    let file = upload.run(&rig.store).await.unwrap();
    let second = rig.version(&ann, &file, 7).keeping_versions().run(&rig.store).await.unwrap();
    let kept = rig.put(&ann, "kept.txt", 1).await;
    rig.trash(&file).await;

    let purge = operation(OperationKind::Purge);
    assert_eq!(rig.store.purge_file(file.id, &purge, None).await.unwrap(), 17);

    let id = file.id;
    assert_eq!(
        rig.text(&format!(
            "SELECT concat_ws('|', filename, original_name, storage_path, path_nfc, provider_path, tags, custom_metadata,
                mime_type, encoding, current_version_id, file_id, status, user_id, checksum = '{}', purged_at > deleted_at)
             FROM storage_files WHERE id = '{id}'",
            second.content.sha256
        ))
        .await,
        format!("|||||[]|{{}}|application/octet-stream|{}|deleted|{}|t|t", id.default_name(), ann.id())
    );
    assert_eq!(rig.file(id).await, None);
    let by_name = |name: &str| Lookup::Name { organisation: "clinic".to_owned(), name: name.to_owned() };
    assert_eq!(rig.store.file(&by_name("plan")).await.unwrap(), None);
    assert_eq!(rig.store.file(&by_name(&id.default_name())).await.unwrap(), None);
    assert_eq!(rig.store.content(id, 1).await.unwrap(), None);
    let refused = rig.store.purge_file(id, &operation(OperationKind::Purge), None).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::File(_)))), "{refused:?}");

    let mut due: Vec<_> =
        rig.store.due_reclaims(10).await.unwrap().into_iter().map(|reclaim| reclaim.object).collect();
    due.sort();
    assert_eq!(due, [file.content.object, second.content.object]);
    for used in [
        "SELECT quota_used FROM storage_volumes",
        "SELECT quota_used FROM user_quotas",
        "SELECT quota_used FROM app_quotas",
        "SELECT DISTINCT used_storage_bytes FROM storage_quotas",
        "SELECT DISTINCT used_files FROM storage_quotas",
    ] {
        assert_eq!(rig.text(used).await, "1", "{used}");
    }
    assert_eq!(rig.text("SELECT count(*) FROM storage_quotas").await, "3");
    rig.assert_no_drift().await;
    assert_eq!(
        rig.text("SELECT concat(data ->> 'bytes', data ->> 'path') FROM outbox_events WHERE type = 'coffer.file.purged'").await,
        "17"
    );

    // The name is free again, and the tombstone is in nobody's way.
    let mut upload = rig.upload(&ann, "secret/plan.txt", 1);
    upload.new_file().file_id = "plan".to_owned();
    upload.run(&rig.store).await.unwrap();
    assert!(rig.file(kept.id).await.is_some());
}

#[tokio::test]
async fn reclaimed_objects_are_forgotten_and_failures_come_back_later() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    for path in ["a.txt", "b.txt"] {
        let file = rig.put(&ann, path, 1).await;
        rig.trash(&file).await;
        rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
    }
    let live = rig.put(&ann, "c.txt", 1).await;
    let due = rig.store.due_reclaims(10).await.unwrap();
    assert_eq!(due.len(), 2);
    assert_eq!(rig.store.due_reclaims(1).await.unwrap(), due[..1]);

    rig.store.reclaim_failed(due[0].object, "no\0 answer").await.unwrap();
    assert_eq!(rig.store.due_reclaims(10).await.unwrap(), due[1..]);
    assert_eq!(
        rig.text(
            "SELECT concat_ws(' ', attempts, last_error, round(extract(epoch FROM due_at - now()) / 10))
            FROM storage_reclaims WHERE attempts > 0"
        )
        .await,
        "1 no answer 1"
    );
    for _ in 0..40 {
        rig.store.reclaim_failed(due[0].object, "no answer").await.unwrap();
    }
    assert_eq!(
        rig.text(
            "SELECT round(extract(epoch FROM due_at - now()) / 60) FROM storage_reclaims WHERE attempts > 0"
        )
        .await,
        "60"
    );

    rig.store.reclaimed(&[due[0].object, due[1].object, live.content.object]).await.unwrap();
    assert_eq!(rig.texts("SELECT 1 FROM storage_reclaims").await.len(), 0);
    assert_eq!(rig.texts("SELECT id FROM storage_objects").await, [live.content.object.to_string()]);
}
