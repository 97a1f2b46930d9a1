//! A committed file, found, described, put in the trash and taken out again.

use coffer_domain::error::{Conflict, Error, Resource, State, Taken};
use coffer_domain::file::{Changes, Classification, File, Metadata, Status};
use coffer_domain::id::{FileId, ObjectId};
use coffer_domain::operation::OperationKind;
use coffer_domain::path::StoragePath;
use coffer_domain::store::{Lookup, Store, Target};
use coffer_domain::volume::VolumeRef;

use crate::rig::{Actor, Rig, operation, user};

fn path(organisation: &str, volume: VolumeRef, nfc: &str) -> Lookup {
    Lookup::Path { organisation: organisation.to_owned(), volume, nfc: nfc.to_owned() }
}

#[tokio::test]
async fn a_committed_file_is_found_by_id_name_and_path() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann").through("chat").on("trial");
    // Decomposed: e with a combining acute.
    let mut upload = rig.upload(&ann, "notes/re\u{301}sume\u{301}.txt", 12);
    upload.new_file().file_id = "resume".to_owned();
    upload.new_file().is_public = true;
    upload.new_file().description.encoding = "gzip".to_owned();
    let file = upload.run(&rig.store).await.unwrap();

    let Target::New(new) = &upload.commit.target else { unreachable!() };
    assert_eq!(
        (file.id, file.file_id.as_str(), file.volume, &file.owner),
        (new.id, "resume", rig.volume.id, &new.owner)
    );
    assert_eq!((file.organisation.as_str(), file.project.as_deref()), ("clinic", Some("trial")));
    assert_eq!((&file.path, &file.description), (&new.path, &new.description));
    assert_eq!(file.original_name, new.description.filename);
    assert_eq!((file.created_by, file.updated_by), (Some(ann.id()), Some(ann.id())));
    assert_eq!((file.created_at, file.updated_at), (upload.commit.at, upload.commit.at));
    assert_eq!((file.status, file.is_public, file.revision, file.access_count), (Status::Active, true, 1, 0));
    let content = &file.content;
    assert_eq!(
        (content.version, content.object, content.number),
        (upload.commit.version, upload.commit.object, 1)
    );
    assert_eq!((&content.key, content.size), (&upload.commit.key, 12));
    assert_eq!((content.sha256, content.crc32c), (upload.commit.stored.sha256, 0xFFFF_FFFF));

    let composed = "notes/r\u{e9}sum\u{e9}.txt";
    for lookup in [
        Lookup::Id(file.id),
        Lookup::Name { organisation: "clinic".to_owned(), name: "resume".to_owned() },
        path("clinic", rig.volume_ref(), composed),
        path("clinic", VolumeRef::Name("main".to_owned()), composed),
    ] {
        assert_eq!(rig.store.file(&lookup).await.unwrap().as_ref(), Some(&file), "{lookup:?}");
    }
    for lookup in [
        Lookup::Id(FileId::new()),
        Lookup::Name { organisation: "clinic".to_owned(), name: "other".to_owned() },
        Lookup::Name { organisation: "other".to_owned(), name: "resume".to_owned() },
        path("clinic", rig.volume_ref(), "notes/re\u{301}sume\u{301}.txt"),
        path("other", rig.volume_ref(), composed),
        path("clinic", VolumeRef::Name("absent".to_owned()), composed),
    ] {
        assert_eq!(rig.store.file(&lookup).await.unwrap(), None, "{lookup:?}");
    }
    assert_eq!(rig.store.content(file.id, 1).await.unwrap().as_ref(), Some(content));
    assert_eq!(rig.store.content(file.id, 2).await.unwrap(), None);
    assert_eq!(rig.store.content(file.id, u32::MAX).await.unwrap(), None);
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_commit_leaves_its_rows() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let upload = rig.upload(&ann, "a.txt", 5);
    let file = upload.run(&rig.store).await.unwrap();
    let id = file.id;
    assert_eq!(
        rig.text(&format!(
            "SELECT type FROM outbox_events WHERE file_id = '{id}' AND organisation_id = 'clinic'"
        ))
        .await,
        "coffer.file.created"
    );
    assert_eq!(rig.text("SELECT data ->> 'path' FROM outbox_events").await, "a.txt");
    let recorded =
        format!("SELECT file_id FROM storage_operations WHERE id = '{}'", upload.commit.operation.id);
    assert_eq!(rig.text(&recorded).await, id.to_string());
    let pending =
        format!("SELECT count(*) FROM audit_pending WHERE operation_id = '{}'", upload.commit.operation.id);
    assert_eq!(rig.text(&pending).await, "1");
    assert_eq!(rig.text("SELECT state FROM storage_uploads").await, "COMMITTED");
    assert_eq!(rig.text("SELECT refs || state FROM storage_objects").await, "1live");
    assert_eq!(rig.text("SELECT subject || organisation_id FROM users").await, "annclinic");
    assert_eq!(
        rig.text("SELECT concat_ws(' ', version_number, size, is_current, change_description) FROM storage_file_versions").await,
        "1 5 t made by a test"
    );
}

#[tokio::test]
async fn every_part_of_a_description_changes() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let bob = user("bob");
    let changes = Changes {
        path: Some("b/u\u{308}.bin".to_owned()),
        filename: Some("u\u{308}.bin".to_owned()),
        mime_type: Some("image/png".to_owned()),
        encoding: Some("br".to_owned()),
        classification: Some(Classification::Restricted),
        tags: Some(vec!["z".to_owned()]),
        custom_metadata: Some(Metadata::default()),
        is_public: Some(true),
        is_archived: Some(true),
    };
    let update = operation(OperationKind::UpdateMetadata);
    let changed = rig.store.update_file(file.id, Some(1), &changes, Some(&bob), &update, None).await.unwrap();
    assert_eq!(changed.path.as_str(), "b/u\u{308}.bin");
    let description = &changed.description;
    assert_eq!(
        (description.filename.as_str(), description.mime_type.as_str()),
        ("u\u{308}.bin", "image/png")
    );
    assert_eq!(
        (description.encoding.as_str(), description.classification),
        ("br", Classification::Restricted)
    );
    assert_eq!(
        (&description.tags, &description.custom_metadata),
        (&vec!["z".to_owned()], &Metadata::default())
    );
    assert_eq!((changed.is_public, changed.status, changed.revision), (true, Status::Archived, 2));
    assert_eq!((changed.created_by, changed.updated_by), (file.created_by, Some(bob.id)));
    assert!(changed.updated_at > file.updated_at);
    assert_eq!((changed.original_name.as_str(), &changed.content), ("a.txt", &file.content));
    assert_eq!(rig.file(file.id).await, Some(changed.clone()));
    let found = rig.store.file(&path("clinic", rig.volume_ref(), "b/\u{fc}.bin")).await.unwrap();
    assert_eq!(found, Some(changed));
    assert_eq!(rig.texts("SELECT type FROM outbox_events ORDER BY id").await[1..], ["coffer.file.updated"]);

    let back = Changes { encoding: Some(String::new()), is_archived: Some(false), ..Changes::default() };
    let update = operation(OperationKind::UpdateMetadata);
    let changed = rig.store.update_file(file.id, None, &back, None, &update, None).await.unwrap();
    assert_eq!((changed.description.encoding.as_str(), changed.status), ("", Status::Active));
    assert_eq!((changed.updated_by, changed.description.mime_type.as_str()), (None, "image/png"));
}

async fn update(rig: &Rig, file: &File, if_revision: Option<u64>, changes: &Changes) -> Result<File, Error> {
    rig.store
        .update_file(file.id, if_revision, changes, None, &operation(OperationKind::UpdateMetadata), None)
        .await
}

#[tokio::test]
async fn a_stale_revision_conflicts_and_changes_nothing() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let changes = Changes { is_public: Some(true), ..Changes::default() };
    for stale in [0, 2, u64::MAX] {
        let refused = update(&rig, &file, Some(stale), &changes).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::Etag))), "{refused:?}");
        let delete = operation(OperationKind::Delete);
        let refused = rig.store.delete_file(file.id, Some(stale), None, &delete, None).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::Etag))), "{refused:?}");
        let mut upload = rig.version(&Actor::user("ann"), &file, 2);
        upload.commit.target =
            Target::Version { file: file.id, if_revision: Some(stale), changes: Changes::default() };
        let refused = upload.run(&rig.store).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::Etag))), "{refused:?}");
    }
    assert_eq!(rig.file(file.id).await, Some(file));
    assert_eq!(
        rig.text(
            "SELECT count(*) FROM storage_operations WHERE operation <> 'create_volume'
        AND operation <> 'create_local_path'"
        )
        .await,
        "1"
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn taken_paths_and_names_are_refused() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let mut first = rig.upload(&ann, "re\u{301}.txt", 1);
    first.new_file().file_id = "mine".to_owned();
    first.run(&rig.store).await.unwrap();
    let other = rig.put(&ann, "other.txt", 1).await;

    let refused = rig.upload(&ann, "r\u{e9}.txt", 1).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Path))), "{refused:?}");
    let mut upload = rig.upload(&ann, "third.txt", 1);
    upload.new_file().file_id = "mine".to_owned();
    let refused = upload.run(&rig.store).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::FileName))), "{refused:?}");
    let to_taken = Changes { path: Some("r\u{e9}.txt".to_owned()), ..Changes::default() };
    let refused = update(&rig, &other, None, &to_taken).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Path))), "{refused:?}");
    assert_eq!(rig.text("SELECT count(*) FROM storage_files").await, "2");
    assert_eq!(rig.text("SELECT count(*) FROM storage_objects").await, "2");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn the_trash_gives_the_path_up_and_keeps_the_name() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 3).await;
    let bob = user("bob");
    let delete = operation(OperationKind::Delete);
    let deleted = rig.store.delete_file(file.id, Some(1), Some(&bob), &delete, None).await.unwrap();
    assert_eq!((deleted.status, deleted.revision, deleted.updated_by), (Status::Deleted, 2, Some(bob.id)));
    assert!(deleted.deleted_at.is_some());
    assert_eq!(rig.text("SELECT deleted_by FROM storage_files").await, bob.id.to_string());
    assert_eq!(rig.file(file.id).await, Some(deleted.clone()));
    assert_eq!(rig.store.file(&path("clinic", rig.volume_ref(), "a.txt")).await.unwrap(), None);
    let by_name = Lookup::Name { organisation: "clinic".to_owned(), name: file.file_id.clone() };
    assert_eq!(rig.store.file(&by_name).await.unwrap(), Some(deleted));

    let again = rig.put(&ann, "a.txt", 4).await;
    let undelete = || operation(OperationKind::Undelete);
    let refused = rig.store.undelete_file(file.id, None, None, &undelete(), None).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Path))), "{refused:?}");
    let elsewhere = StoragePath::parse("b.txt", &rig.volume.settings.paths).unwrap();
    let back =
        rig.store.undelete_file(file.id, Some(&elsewhere), Some(&bob), &undelete(), None).await.unwrap();
    assert_eq!((back.status, back.deleted_at, back.path.as_str()), (Status::Active, None, "b.txt"));
    assert_eq!(
        rig.text(&format!("SELECT deleted_by FROM storage_files WHERE id = '{}'", file.id)).await,
        "NULL"
    );

    rig.trash(&again).await;
    let back = rig.store.undelete_file(again.id, None, None, &undelete(), None).await.unwrap();
    assert_eq!(back.path.as_str(), "a.txt");
    assert_eq!(
        rig.texts("SELECT type FROM outbox_events ORDER BY id").await,
        ["created", "deleted", "created", "undeleted", "deleted", "undeleted"]
            .map(|t| format!("coffer.file.{t}"))
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn what_a_state_forbids_is_refused() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let undelete = operation(OperationKind::Undelete);
    let refused = rig.store.undelete_file(file.id, None, None, &undelete, None).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("active")))), "{refused:?}");
    let refused = rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("active")))), "{refused:?}");

    rig.store.mark_corrupted(file.content.object, &operation(OperationKind::Reconcile)).await.unwrap();
    let archive = Changes { is_archived: Some(true), ..Changes::default() };
    let refused = update(&rig, &file, None, &archive).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("corrupted")))), "{refused:?}");

    rig.trash(&file).await;
    let refused = update(&rig, &file, None, &Changes::default()).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("deleted")))), "{refused:?}");
    let refused = rig.store.delete_file(file.id, None, None, &operation(OperationKind::Delete), None).await;
    assert!(matches!(refused, Err(Error::State(State::FileStatus("deleted")))), "{refused:?}");
}

#[tokio::test]
async fn what_is_absent_is_not_found() {
    let rig = Rig::new().await;
    let id = FileId::new();
    let op = |kind| operation(kind);
    let outcomes = [
        rig.store
            .update_file(id, None, &Changes::default(), None, &op(OperationKind::UpdateMetadata), None)
            .await
            .err(),
        rig.store.delete_file(id, None, None, &op(OperationKind::Delete), None).await.err(),
        rig.store.undelete_file(id, None, None, &op(OperationKind::Undelete), None).await.err(),
        rig.store.purge_file(id, &op(OperationKind::Purge), None).await.err(),
        rig.store.begin_read(id, &op(OperationKind::Download)).await.err(),
    ];
    for outcome in outcomes {
        assert!(
            matches!(&outcome, Some(Error::NotFound(Resource::File(name))) if *name == id.to_string()),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_read_is_recorded_and_counted_and_changes_nothing_else() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    let reads = [operation(OperationKind::Download), operation(OperationKind::Download)];
    for read in &reads {
        rig.store.begin_read(file.id, read).await.unwrap();
    }
    let read = rig.file(file.id).await.unwrap();
    assert_eq!(read.access_count, 2);
    assert!(read.last_accessed_at.is_some());
    assert_eq!(File { access_count: 0, last_accessed_at: None, ..read }, file);
    let ids = reads.each_ref().map(|read| read.id);
    assert_eq!(rig.store.recorded(&ids).await.unwrap().len(), 2);

    rig.run("UPDATE storage_files SET access_count = 2147483647").await;
    rig.store.begin_read(file.id, &operation(OperationKind::Download)).await.unwrap();
    rig.trash(&file).await;
    let late = operation(OperationKind::Download);
    let refused = rig.store.begin_read(file.id, &late).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    assert!(rig.store.recorded(&[late.id]).await.unwrap().is_empty());
}

#[tokio::test]
async fn corruption_is_marked_once_and_new_content_heals_it() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 1).await;
    let object = file.content.object;
    let mark = |object| {
        let store = rig.store.clone();
        async move { store.mark_corrupted(object, &operation(OperationKind::Reconcile)).await.unwrap() }
    };
    assert_eq!(mark(object).await, 1);
    assert_eq!(mark(object).await, 0);
    assert_eq!(mark(ObjectId::new()).await, 0);
    let marked = rig.file(file.id).await.unwrap();
    assert_eq!((marked.status, marked.revision), (Status::Corrupted, 2));
    assert_eq!(
        rig.text("SELECT data ->> 'object_id' FROM outbox_events WHERE type = 'coffer.file.corrupted'").await,
        object.to_string()
    );
    let healed = rig.version(&ann, &file, 2).run(&rig.store).await.unwrap();
    assert_eq!(healed.status, Status::Active);
    rig.trash(&healed).await;
    assert_eq!(mark(healed.content.object).await, 0);
}

#[tokio::test]
async fn a_value_of_a_newer_build_is_an_internal_error() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    // It would have another rule.
    rig.run("ALTER TABLE storage_files DROP CONSTRAINT storage_files_provider_check").await;
    rig.run("UPDATE storage_files SET provider = 'tape'").await;
    let refused = rig.store.file(&Lookup::Id(file.id)).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
}
