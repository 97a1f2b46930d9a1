//! Volumes and local paths.

use coffer_domain::error::{Conflict, Error, Resource, State, Taken};
use coffer_domain::id::{LocalPathId, VolumeId};
use coffer_domain::operation::OperationKind;
use coffer_domain::page::PageRequest;
use coffer_domain::path::PathRules;
use coffer_domain::store::Store;
use coffer_domain::time::now;
use coffer_domain::volume::{Settings, Versioning, Volume, VolumeRef};
use futures_util::future::join_all;

use crate::rig::{Actor, Rig, make_local_path, operation, volume_on};

fn set_all(settings: &mut Settings) {
    settings.versioning = Versioning::Source;
    settings.paths = PathRules { is_hierarchical: false, delimiter: "::".to_owned() };
    settings.default_prefix = "some/prefix/".to_owned();
    settings.quota_limit = Some(0);
    settings.max_file_bytes = Some(i64::MAX as u64);
    settings.is_active = false;
    settings.allowed_organisations = vec!["clinic".to_owned(), "läb".to_owned()];
    settings.allowed_apps = vec!["chat".to_owned()];
    settings.trash_retention_seconds = Some(5);
    settings.upload_ttl_seconds = Some(86_400);
}

async fn create(rig: &Rig, volume: &Volume) -> Result<Volume, Error> {
    rig.store.create_volume(volume, &operation(OperationKind::CreateVolume), None).await
}

async fn update(
    rig: &Rig,
    volume: &Volume,
    settings: &Settings,
    must_be_empty: bool,
) -> Result<Volume, Error> {
    let update = operation(OperationKind::UpdateVolume);
    rig.store.update_volume(volume.id, volume.updated_at, settings, must_be_empty, &update, None).await
}

async fn delete(rig: &Rig, id: VolumeId) -> Result<(), Error> {
    rig.store.delete_volume(id, &operation(OperationKind::DeleteVolume), None).await
}

async fn found(rig: &Rig, id: VolumeId) -> Option<Volume> {
    rig.store.volume(&VolumeRef::Id(id)).await.unwrap()
}

#[tokio::test]
async fn a_volume_is_found_as_it_was_made() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/other").await;
    let volume = volume_on(&path, "other", set_all);
    assert_eq!(create(&rig, &volume).await.unwrap(), volume);
    assert_eq!(found(&rig, volume.id).await.as_ref(), Some(&volume));
    let by_name = |name: &str| VolumeRef::Name(name.to_owned());
    assert_eq!(rig.store.volume(&by_name("other")).await.unwrap(), Some(volume));
    assert_eq!(rig.store.volume(&by_name("absent")).await.unwrap(), None);
    assert_eq!(found(&rig, VolumeId::new()).await, None);
    rig.put(&Actor::user("ann"), "a.txt", 8).await;
    assert_eq!(found(&rig, rig.volume.id).await.unwrap().quota_used, 8);
    assert_eq!(found(&rig, rig.volume.id).await.unwrap().updated_at, rig.volume.updated_at);
}

#[tokio::test]
async fn names_and_places_are_unique_among_those_not_deleted() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/shared").await;
    let on = |name: &str, prefix: &str| {
        volume_on(&path, name, |settings| settings.default_prefix = prefix.to_owned())
    };
    let refused = create(&rig, &on("main", "a/")).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::VolumeName))), "{refused:?}");
    let first = create(&rig, &on("first", "a/")).await.unwrap();
    for prefix in ["a/", "a/b/", ""] {
        let refused = create(&rig, &on("second", prefix)).await;
        assert!(matches!(refused, Err(Error::State(State::VolumeConflict(_)))), "{prefix}: {refused:?}");
    }
    let second = create(&rig, &on("second", "ab/")).await.unwrap();
    let moved = Settings { default_prefix: "a/c/".to_owned(), ..second.settings.clone() };
    let refused = update(&rig, &second, &moved, true).await;
    assert!(matches!(refused, Err(Error::State(State::VolumeConflict(_)))), "{refused:?}");
    let renamed = Settings { name: "first".to_owned(), ..second.settings.clone() };
    let refused = update(&rig, &second, &renamed, false).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::VolumeName))), "{refused:?}");
    delete(&rig, first.id).await.unwrap();
    create(&rig, &on("first", "a/")).await.unwrap();
    let stray = volume_on(
        &coffer_domain::volume::LocalPath { id: LocalPathId::new(), ..path.clone() },
        "third",
        |_| {},
    );
    let refused = create(&rig, &stray).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::LocalPath(_)))), "{refused:?}");
}

#[tokio::test]
async fn of_many_volumes_for_one_place_one_is_made() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/shared").await;
    let volumes: Vec<_> = (0..8).map(|n| volume_on(&path, &format!("v{n}"), |_| {})).collect();
    let outcomes = join_all(volumes.iter().map(|volume| create(&rig, volume))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, Error::State(State::VolumeConflict(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn settings_are_replaced_but_not_blindly() {
    let rig = Rig::new().await;
    let mut settings = rig.volume.settings.clone();
    set_all(&mut settings);
    "renamed".clone_into(&mut settings.name);
    let changed = update(&rig, &rig.volume, &settings, true).await.unwrap();
    assert_eq!((&changed.settings, changed.created_at), (&settings, rig.volume.created_at));
    assert!(changed.updated_at > rig.volume.updated_at);
    assert_eq!(found(&rig, changed.id).await.as_ref(), Some(&changed));
    let refused = update(&rig, &rig.volume, &settings, false).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::Etag))), "{refused:?}");
    // Back to what it was: also that which was set and is not any more.
    let back = update(&rig, &changed, &rig.volume.settings, false).await.unwrap();
    assert_eq!(back.settings, rig.volume.settings);
    let absent = Volume { id: VolumeId::new(), ..back };
    let refused = update(&rig, &absent, &settings, false).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Volume(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_change_is_later_than_the_one_before_by_any_clock() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/ahead").await;
    let mut volume = volume_on(&path, "ahead", |_| {});
    volume.updated_at = now() + chrono::TimeDelta::hours(1);
    let volume = create(&rig, &volume).await.unwrap();
    let changed = update(&rig, &volume, &volume.settings, false).await.unwrap();
    assert!(changed.updated_at > volume.updated_at);
}

#[tokio::test]
async fn a_volume_goes_when_it_holds_nothing() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let not_empty = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::State(State::VolumeNotEmpty))), "{outcome:?}");
    };
    let volume = &rig.volume;

    let upload = rig.upload(&ann, "a.txt", 1);
    rig.open(&upload).await;
    not_empty(delete(&rig, volume.id).await);
    not_empty(update(&rig, volume, &volume.settings, true).await.map(drop));
    let file = rig.store.commit_upload(&upload.commit).await.unwrap();
    not_empty(delete(&rig, volume.id).await);
    rig.trash(&file).await;
    not_empty(delete(&rig, volume.id).await);
    not_empty(update(&rig, volume, &volume.settings, true).await.map(drop));
    rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
    update(&rig, volume, &volume.settings, true).await.unwrap();

    // Its bytes are not gone yet, and without the volume nobody would find them.
    let refused = delete(&rig, volume.id).await;
    assert!(matches!(refused, Err(Error::State(State::InUse(_)))), "{refused:?}");
    rig.store.reclaimed(&[file.content.object]).await.unwrap();
    let upload = rig.upload(&ann, "b.txt", 1);
    rig.open(&upload).await;
    let why = operation(OperationKind::Upload).failed(&Error::DeadlineExceeded);
    rig.store.abort_upload(upload.held(), &why).await.unwrap();
    let refused = delete(&rig, volume.id).await;
    assert!(matches!(refused, Err(Error::State(State::InUse(_)))), "{refused:?}");
    rig.store.upload_swept(upload.intent.id).await.unwrap();

    delete(&rig, volume.id).await.unwrap();
    assert_eq!(found(&rig, volume.id).await, None);
    let refused = delete(&rig, volume.id).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::Volume(_)))), "{refused:?}");
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_volume_is_deleted_or_an_upload_begins_but_not_both() {
    let rig = Rig::new().await;
    let (mut deleted, mut opened) = (0, 0);
    for n in 0..20 {
        let volume = rig.make_volume(&format!("v{n}"), |_| {}).await;
        let upload = rig.upload_to(&volume, &Actor::user("ann"), "a.txt", 1);
        let begin = async {
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            rig.store.open_upload(&upload.intent, None).await
        };
        match futures_util::join!(delete(&rig, volume.id), begin) {
            (Ok(()), Err(Error::NotFound(Resource::Volume(_)))) => deleted += 1,
            (Err(Error::State(State::VolumeNotEmpty)), Ok(_)) => opened += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(deleted + opened, 20);
}

#[tokio::test]
async fn volumes_and_local_paths_are_listed_in_order() {
    let rig = Rig::new().await;
    for name in ["b", "a.b", "a-b", "a_b", "0"] {
        rig.make_volume(name, |_| {}).await;
    }
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let found = rig.store.volumes(&PageRequest::new(4, 0, after).unwrap()).await.unwrap();
        names.extend(found.items.into_iter().map(|volume| volume.settings.name));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["0", "a-b", "a.b", "a_b", "b", "main"]);
    loop {
        let found = rig.store.local_paths(&PageRequest::new(3, 0, after).unwrap()).await.unwrap();
        paths.extend(found.items.into_iter().map(|path| path.path));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paths, ["0", "a-b", "a.b", "a_b", "b", "main"].map(|name| format!("/srv/{name}")));
    let skipped = rig.store.volumes(&PageRequest::new(0, 5, None).unwrap()).await.unwrap();
    assert_eq!((skipped.items.len(), skipped.next), (1, None));
}

#[tokio::test]
async fn a_local_path_lives_until_nothing_stands_on_it() {
    let rig = Rig::new().await;
    let path = make_local_path(&rig.store, "/srv/disk").await;
    assert_eq!(rig.store.local_path(path.id).await.unwrap().as_ref(), Some(&path));
    let twin = coffer_domain::volume::LocalPath { id: LocalPathId::new(), ..path.clone() };
    let refused = rig.store.create_local_path(&twin, &operation(OperationKind::CreateLocalPath), None).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::LocalPath))), "{refused:?}");

    let describe = operation(OperationKind::UpdateLocalPath);
    let described = rig.store.update_local_path(path.id, "the disk", &describe, None).await.unwrap();
    assert_eq!(described.description, "the disk");
    let refused =
        rig.store.update_local_path(twin.id, "x", &operation(OperationKind::UpdateLocalPath), None).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::LocalPath(_)))), "{refused:?}");

    let volume = create(&rig, &volume_on(&path, "on-disk", |_| {})).await.unwrap();
    let withdraw =
        async |id| rig.store.delete_local_path(id, &operation(OperationKind::DeleteLocalPath), None).await;
    let refused = withdraw(path.id).await;
    assert!(matches!(refused, Err(Error::State(State::InUse(_)))), "{refused:?}");
    delete(&rig, volume.id).await.unwrap();
    withdraw(path.id).await.unwrap();
    assert_eq!(rig.store.local_path(path.id).await.unwrap(), None);
    let refused = withdraw(path.id).await;
    assert!(matches!(refused, Err(Error::NotFound(Resource::LocalPath(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_volume_tells_what_is_used_and_what_is_held() {
    let rig = Rig::new().await;
    rig.put(&Actor::user("ann"), "a.txt", 8).await;
    rig.open(&rig.upload(&Actor::user("ann"), "b.txt", 5).holding()).await;
    let volume = found(&rig, rig.volume.id).await.unwrap();
    assert_eq!(volume, Volume { quota_used: 8, quota_reserved: 5, ..rig.volume.clone() });
}

#[tokio::test]
async fn quotas_of_a_deleted_volume_go_with_it() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let ann = Actor::user("ann").through("chat");
    for volume in [&rig.volume, &other] {
        let file = rig.upload_to(volume, &ann, "a.txt", 8).run(&rig.store).await.unwrap();
        if volume.id == other.id {
            rig.trash(&file).await;
            rig.store.purge_file(file.id, &operation(OperationKind::Purge), None).await.unwrap();
            let due = rig.store.due_reclaims(10).await.unwrap();
            rig.store.reclaimed(&[due[0].object]).await.unwrap();
        }
    }
    delete(&rig, other.id).await.unwrap();
    for left in ["user_quotas", "app_quotas"] {
        assert_eq!(rig.texts(&format!("SELECT volume_id FROM {left}")).await, [rig.volume.id.to_string()]);
    }
    rig.assert_no_drift().await;
}
