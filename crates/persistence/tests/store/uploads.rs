//! Intents, versions, fences.

use coffer_domain::error::{Conflict, Error, Resource, State};
use coffer_domain::file::{Changes, Status};
use coffer_domain::id::VolumeId;
use coffer_domain::operation::{Operation, OperationKind};
use coffer_domain::store::Store;
use coffer_domain::time::now;

use crate::rig::{Actor, Rig, Upload, operation, request};

fn failed(upload: &Upload) -> Operation {
    operation(OperationKind::Upload)
        .failed(&Error::Stalled { seconds: 30 })
        .with("upload", upload.intent.id.to_string())
}

#[tokio::test]
async fn an_intent_is_a_row_with_all_it_says() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann").through("chat").on("trial");
    let mut upload = rig.upload(&ann, "a.txt", 7);
    upload.intent.request = Some(request("WriteFile"));
    rig.open(&upload).await;
    let intent = &upload.intent;
    assert_eq!(
        rig.text("SELECT concat_ws(' ', id, state, volume_id, key, version_id, user_id, app_id, organisation_id,
            project_id, principal, request_id, declared_size, node_id, node_epoch, epoch) FROM storage_uploads").await,
        format!(
            "{} OPEN {} {} {} {} chat clinic trial {} {} 7 {} 1 1",
            intent.id, intent.volume, intent.key, intent.version, ann.id(), intent.scope,
            intent.request.as_ref().unwrap().id, intent.start.node
        )
    );
}

#[tokio::test]
async fn what_the_backend_calls_a_version_is_kept_with_it() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    for (path, native) in [("a.txt", Some("3/L4kqtJlcpXroDTDmJ+rmSp")), ("b.txt", None)] {
        let mut upload = rig.upload(&ann, path, 7);
        upload.commit.native_version = native.map(|id| id.parse().unwrap());
        rig.open(&upload).await;
        rig.store.commit_upload(&upload.commit).await.unwrap();
        let kept = format!(
            "SELECT version_file_id FROM storage_file_versions WHERE id = '{}'",
            upload.commit.version
        );
        assert_eq!(rig.text(&kept).await, native.unwrap_or("NULL"));
    }
}

#[tokio::test]
async fn one_request_has_one_open_intent() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let protected = request("WriteFile");
    let intent = |upload: Upload| Upload {
        intent: coffer_domain::store::Intent { request: Some(protected.clone()), ..upload.intent },
        ..upload
    };
    let first = intent(rig.upload(&ann, "a.txt", 1));
    rig.open(&first).await;
    let second = intent(rig.upload(&ann, "a.txt", 1));
    let refused = rig.store.open_upload(&second.intent, None).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::InFlight))), "{refused:?}");
    assert!(rig.store.abort_upload(first.held(), &failed(&first)).await.unwrap());
    rig.open(&second).await;
}

#[tokio::test]
async fn an_intent_needs_its_volume() {
    let rig = Rig::new().await;
    let mut upload = rig.upload(&Actor::user("ann"), "a.txt", 1);
    upload.intent.volume = VolumeId::new();
    let refused = rig.store.open_upload(&upload.intent, None).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Volume(_)))), "{refused:?}");
    let other = rig.make_volume("other", |_| {}).await;
    rig.store.delete_volume(other.id, &operation(OperationKind::DeleteVolume), None).await.unwrap();
    upload.intent.volume = other.id;
    let refused = rig.store.open_upload(&upload.intent, None).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Volume(_)))), "{refused:?}");
}

#[tokio::test]
async fn only_who_holds_an_open_intent_commits_it() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let fenced = |outcome: Result<_, Error>| {
        assert!(matches!(outcome, Err(Error::Conflict(Conflict::Fenced))), "{outcome:?}");
    };

    let never_opened = rig.upload(&ann, "a.txt", 1);
    fenced(rig.store.commit_upload(&never_opened.commit).await.map(drop));

    let mut taken_over = rig.upload(&ann, "a.txt", 1);
    taken_over.commit.held.epoch -= 1;
    fenced(taken_over.run(&rig.store).await.map(drop));

    let mut expired = rig.upload(&ann, "a.txt", 1);
    expired.intent.expires_at = now() - chrono::TimeDelta::seconds(1);
    fenced(expired.run(&rig.store).await.map(drop));

    let aborted = rig.upload(&ann, "a.txt", 1);
    rig.open(&aborted).await;
    assert!(rig.store.abort_upload(aborted.held(), &failed(&aborted)).await.unwrap());
    fenced(rig.store.commit_upload(&aborted.commit).await.map(drop));

    let committed = rig.upload(&ann, "a.txt", 1);
    committed.run(&rig.store).await.unwrap();
    fenced(rig.store.commit_upload(&committed.commit).await.map(drop));
    assert!(!rig.store.abort_upload(committed.held(), &failed(&committed)).await.unwrap());
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, "1");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn an_abort_records_why_unless_the_upload_was_committed() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let aborted = rig.upload(&ann, "a.txt", 1);
    rig.open(&aborted).await;
    let why = failed(&aborted);
    assert!(rig.store.abort_upload(aborted.held(), &why).await.unwrap());
    assert!(!rig.store.abort_upload(aborted.held(), &why).await.unwrap());
    let too_late = failed(&aborted);
    assert!(!rig.store.abort_upload(aborted.held(), &too_late).await.unwrap());
    assert_eq!(rig.store.recorded(&[why.id, too_late.id]).await.unwrap().len(), 2);
    assert_eq!(rig.text("SELECT state || epoch FROM storage_uploads").await, "ABORTED2");

    let committed = rig.upload(&ann, "a.txt", 1);
    committed.run(&rig.store).await.unwrap();
    let untrue = failed(&committed);
    assert!(!rig.store.abort_upload(committed.held(), &untrue).await.unwrap());
    assert!(rig.store.recorded(&[untrue.id]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_replaces_the_content_and_keeps_the_file() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 10).await;
    let mut upload = rig.version(&Actor::user("bob"), &file, 4).keeping_versions();
    *upload.changes() = Changes { mime_type: Some("text/html".to_owned()), ..Changes::default() };
    let second = upload.run(&rig.store).await.unwrap();
    assert_eq!((second.id, second.content.number, second.content.size, second.revision), (file.id, 2, 4, 2));
    assert_eq!(
        (second.description.mime_type.as_str(), second.description.filename.as_str()),
        ("text/html", "a.txt")
    );
    assert_eq!(
        (second.created_by, second.updated_by),
        (Some(ann.id()), upload.commit.by.as_ref().map(|u| u.id))
    );
    assert_eq!(rig.store.content(file.id, 1).await.unwrap(), Some(file.content.clone()));
    assert_eq!(rig.store.content(file.id, 2).await.unwrap(), Some(second.content.clone()));
    assert_eq!(
        rig.texts("SELECT concat_ws(' ', version_number, is_current, mime_type) FROM storage_file_versions ORDER BY 1").await,
        ["1 f text/plain", "2 t text/html"]
    );
    assert_eq!(rig.text("SELECT quota_used FROM storage_volumes").await, "14");
    assert_eq!(
        rig.text("SELECT used_files FROM storage_quotas WHERE entity_type = 'organization'").await,
        "1"
    );
    assert_eq!(
        rig.texts("SELECT type FROM outbox_events ORDER BY id").await[1],
        "coffer.file.version_created"
    );
    let recorded =
        format!("SELECT file_id FROM storage_operations WHERE id = '{}'", upload.commit.operation.id);
    assert_eq!(rig.text(&recorded).await, file.id.to_string());
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn without_versions_the_replaced_content_and_its_bytes_are_given_up() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann").through("chat").on("trial");
    let first = rig.put(&ann, "a.txt", 10).await;
    // Kept when it was replaced: what is given up later is only what is replaced then.
    let second = rig.version(&ann, &first, 3).keeping_versions().run(&rig.store).await.unwrap();
    let third = rig.version(&ann, &first, 5).run(&rig.store).await.unwrap();
    assert_eq!(third.content.number, 3);
    assert!(rig.store.content(first.id, 1).await.unwrap().is_some());
    assert_eq!(rig.store.content(first.id, 2).await.unwrap(), None);
    let gone = second.content.object;
    assert_eq!(
        rig.text(&format!("SELECT refs || state FROM storage_objects WHERE id = '{gone}'")).await,
        "0deleting"
    );
    let due = rig.store.due_reclaims(10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].object, due[0].volume, &due[0].key), (gone, rig.volume.id, &second.content.key));
    for used in [
        "SELECT quota_used FROM storage_volumes",
        "SELECT quota_used FROM user_quotas",
        "SELECT quota_used FROM app_quotas",
        "SELECT DISTINCT used_storage_bytes FROM storage_quotas",
    ] {
        assert_eq!(rig.text(used).await, "15", "{used}");
    }
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_version_is_charged_to_the_file_and_not_to_who_made_it() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann").on("trial");
    let file = rig.put(&ann, "a.txt", 1).await;
    rig.version(&Actor::user("bob").on("other"), &file, 20).run(&rig.store).await.unwrap();
    assert_eq!(rig.text("SELECT user_id FROM user_quotas").await, ann.id().to_string());
    assert_eq!(rig.text("SELECT entity_id FROM storage_quotas WHERE entity_type = 'project'").await, "trial");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn archived_and_gone_files_take_no_content() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 1).await;
    let mut upload = rig.version(&ann, &file, 2);
    upload.changes().is_archived = Some(true);
    let archived = upload.run(&rig.store).await.unwrap();
    assert_eq!(archived.status, Status::Archived);
    let refused = rig.version(&ann, &file, 3).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("archived")))), "{refused:?}");
    rig.trash(&file).await;
    let refused = rig.version(&ann, &file, 3).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::File(_)))), "{refused:?}");
    rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
    let refused = rig.version(&ann, &file, 3).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::File(_)))), "{refused:?}");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn an_object_in_another_volume_than_its_file_is_a_fault_of_ours() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 1).await;
    let other = rig.make_volume("other", |_| {}).await;
    let mut upload = rig.version(&ann, &file, 1);
    (upload.intent.volume, upload.commit.volume) = (other.id, other.id);
    let refused = upload.run(&rig.store).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
}
