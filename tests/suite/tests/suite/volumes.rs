//! Volumes and local paths.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, by_id, refusal},
};
use std::path::Path;
use tonic::Code;

/// A local volume on an existing directory.
pub(crate) async fn local_volume(
    operator: &Clients,
    name: &str,
    path: &str,
    versioning: v1::VersioningMode,
) -> v1::Volume {
    create(operator, on_path(operator, name, path, versioning).await).await.unwrap()
}

/// A local volume of no versions on a directory that is made for it, with what `set` sets.
pub(crate) async fn volume_with(
    operator: &Clients,
    name: &str,
    place: &Path,
    set: impl FnOnce(&mut v1::Volume),
) -> v1::Volume {
    std::fs::create_dir(place).unwrap();
    let mut volume = on_path(operator, name, place.to_str().unwrap(), v1::VersioningMode::None).await;
    set(&mut volume);
    create(operator, volume).await.unwrap()
}

async fn on_path(operator: &Clients, name: &str, path: &str, versioning: v1::VersioningMode) -> v1::Volume {
    let request = v1::CreateLocalPathRequest { path: path.to_owned(), ..Default::default() };
    let local_path_id = operator
        .volumes
        .clone()
        .create_local_path(request)
        .await
        .unwrap()
        .into_inner()
        .local_path
        .unwrap()
        .id;
    v1::Volume {
        name: name.to_owned(),
        backend: Some(v1::volume::Backend::Local(v1::LocalBackend { local_path_id })),
        versioning_mode: versioning.into(),
        ..Default::default()
    }
}

pub(crate) async fn create(operator: &Clients, volume: v1::Volume) -> Result<v1::Volume, tonic::Status> {
    let request = v1::CreateVolumeRequest { volume: Some(volume), request_id: String::new() };
    Ok(operator.volumes.clone().create_volume(request).await?.into_inner().volume.unwrap())
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_used_checked_and_removed() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let disk = cofferd.disks().join("archive");
    std::fs::create_dir(&disk).unwrap();
    let volume = local_volume(&operator, "archive", disk.to_str().unwrap(), v1::VersioningMode::Source).await;
    assert_eq!((volume.auto_path_strategy(), volume.path_delimiter.as_str()), (v1::PathStrategy::Uuid, "/"));
    assert!(disk.join(".coffer/volume.json").exists());

    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let first = ann.upload(v1::UploadSpec { volume: "archive".into(), ..at("a.txt") }, b"one").await.unwrap();
    ann.upload(v1::UploadSpec { volume: volume.id.clone(), ..at("a.txt") }, b"three").await.unwrap();
    // Earlier versions stay and count.
    for (version, content) in [(0, &b"three"[..]), (1, b"one"), (2, b"three")] {
        let (metadata, read) = ann
            .read(v1::ReadFileRequest { file: by_id(&first.id), version, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(read, content);
        assert_eq!(metadata.file.unwrap().version, if version == 1 { 1 } else { 2 });
    }
    let seen = operator
        .volumes
        .clone()
        .get_volume(v1::GetVolumeRequest { volume: "archive".into() })
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    assert_eq!(seen.quota_used_bytes, 8);
    // A user of the volume sees neither its place nor its books.
    let seen = ann
        .volumes
        .clone()
        .get_volume(v1::GetVolumeRequest { volume: "archive".into() })
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    assert_eq!((seen.name.as_str(), seen.backend, seen.quota_used_bytes), ("archive", None, 0));

    let check = operator
        .volumes
        .clone()
        .check_volume(v1::CheckVolumeRequest { volume: "archive".into() })
        .await
        .unwrap()
        .into_inner();
    assert!(check.is_healthy);
    assert_eq!(
        check.steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["marker", "write", "stat", "read", "list", "delete"]
    );
    assert!(check.capabilities.unwrap().atomic_publish);

    let delete = || v1::DeleteVolumeRequest { volume: "archive".into(), request_id: String::new() };
    let status = operator.volumes.clone().delete_volume(delete()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "VOLUME_NOT_EMPTY".to_owned()));
    ann.files
        .clone()
        .delete_file(v1::DeleteFileRequest { file: by_id(&first.id), ..Default::default() })
        .await
        .unwrap();
    let status = operator.volumes.clone().delete_volume(delete()).await.unwrap_err();
    assert_eq!(
        refusal(&status),
        (Code::FailedPrecondition, "VOLUME_NOT_EMPTY".to_owned()),
        "the trash counts"
    );
    let freed = ann
        .files
        .clone()
        .purge_file(v1::PurgeFileRequest { file: by_id(&first.id), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(freed.freed_bytes, 8);
    let since = std::time::Instant::now();
    while let Err(status) = operator.volumes.clone().delete_volume(delete()).await {
        // Until the reconciler has removed the bytes.
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "IN_USE".to_owned()));
        assert!(since.elapsed() < std::time::Duration::from_secs(10));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(coffer_tests::cofferd::files_below(&disk), Vec::<String>::new());
    let status =
        ann.volumes.clone().get_volume(v1::GetVolumeRequest { volume: "archive".into() }).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::NotFound, "NOT_FOUND".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_switched_off_or_closed_to_a_caller() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("a.txt"), b"one").await.unwrap();
    let main = operator
        .volumes
        .clone()
        .get_volume(v1::GetVolumeRequest { volume: "main".into() })
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    let update = |volume: v1::Volume, paths: &[&str]| {
        let request = v1::UpdateVolumeRequest {
            volume: Some(v1::Volume { id: main.id.clone(), ..volume }),
            update_mask: mask(paths),
            request_id: String::new(),
        };
        let mut volumes = operator.volumes.clone();
        async move { volumes.update_volume(request).await }
    };

    update(v1::Volume { is_active: Some(false), ..Default::default() }, &["is_active"]).await.unwrap();
    for status in [
        ann.upload(at("b.txt"), b"two").await.unwrap_err(),
        ann.read(v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "VOLUME_INACTIVE".to_owned()));
    }
    update(
        v1::Volume { is_active: Some(true), allowed_organisations: vec!["lab".into()], ..Default::default() },
        &["is_active", "allowed_organisations"],
    )
    .await
    .unwrap();
    let status = ann.upload(at("b.txt"), b"two").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::NotFound, "NOT_FOUND".to_owned()), "as if it were not there");
    cofferd.clients(&Token::user("bob", "lab")).await.upload(at("b.txt"), b"two").await.unwrap();

    let status =
        update(v1::Volume { default_prefix: "x/".into(), ..Default::default() }, &["default_prefix"])
            .await
            .unwrap_err();
    assert_eq!(refusal(&status).0, Code::FailedPrecondition, "fixed while the volume holds files");
    for (path, volume) in [
        ("update_mask", v1::Volume::default()),
        ("update_mask", v1::Volume::default()),
        ("volume.name", v1::Volume { name: "No Name".into(), ..Default::default() }),
        ("volume.path_delimiter", v1::Volume { path_delimiter: "a".into(), ..Default::default() }),
        ("volume.quota_limit_bytes", v1::Volume { quota_limit_bytes: Some(-1), ..Default::default() }),
    ]
    .into_iter()
    .skip(1)
    {
        let named = path.strip_prefix("volume.").unwrap_or("owner");
        let status = update(volume, &[named]).await.unwrap_err();
        assert_eq!((refusal(&status).0, bad_fields(&status)), (Code::InvalidArgument, vec![path.to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_no_volume_may_have() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let disk = cofferd.disks().join("disk");
    std::fs::create_dir(&disk).unwrap();
    std::fs::write(cofferd.disks().join("file"), b"").unwrap();
    std::os::unix::fs::symlink(&disk, cofferd.disks().join("link")).unwrap();
    let below = |name: &str| cofferd.disks().join(name).display().to_string();
    for (path, code) in [
        ("relative/path".to_owned(), Code::InvalidArgument),
        ("/".to_owned(), Code::InvalidArgument),
        ("/etc".to_owned(), Code::InvalidArgument),
        (below("../disk"), Code::InvalidArgument),
        (below("link"), Code::InvalidArgument),
        (below("absent"), Code::FailedPrecondition),
        (below("file"), Code::FailedPrecondition),
    ] {
        let status = operator
            .volumes
            .clone()
            .create_local_path(v1::CreateLocalPathRequest { path: path.clone(), ..Default::default() })
            .await
            .unwrap_err();
        assert_eq!(refusal(&status).0, code, "{path}");
    }
    let volume = local_volume(&operator, "one", &below("disk"), v1::VersioningMode::None).await;
    let again = v1::Volume { id: String::new(), name: "two".into(), ..volume.clone() };
    assert_eq!(
        refusal(&create(&operator, again).await.unwrap_err()),
        (Code::FailedPrecondition, "VOLUME_CONFLICT".to_owned())
    );
    let status = operator
        .volumes
        .clone()
        .create_local_path(v1::CreateLocalPathRequest { path: below("disk"), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(refusal(&status), (Code::AlreadyExists, "NAME_TAKEN".to_owned()));
    let Some(v1::volume::Backend::Local(local)) = volume.backend else { panic!("a local volume") };
    let status = operator
        .volumes
        .clone()
        .delete_local_path(v1::DeleteLocalPathRequest { id: local.local_path_id, ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "IN_USE".to_owned()));

    // An unmounted disk is not a volume whose files were lost.
    std::fs::rename(disk.join(".coffer"), disk.join("moved")).unwrap();
    let check = operator
        .volumes
        .clone()
        .check_volume(v1::CheckVolumeRequest { volume: "one".into() })
        .await
        .unwrap()
        .into_inner();
    assert!(!check.is_healthy);
    assert_eq!(
        (check.steps[0].name.as_str(), check.steps[0].problem.as_str()),
        ("marker", "VOLUME_NOT_ON_THIS_NODE")
    );
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let status = ann.upload(v1::UploadSpec { volume: "one".into(), ..at("x") }, b"x").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unavailable, "VOLUME_NOT_ON_THIS_NODE".to_owned()));
    std::fs::rename(disk.join("moved"), disk.join(".coffer")).unwrap();
    ann.upload(v1::UploadSpec { volume: "one".into(), ..at("x") }, b"x").await.unwrap();

    for clients in [&ann, &cofferd.clients(&Token::user("aud", "clinic").role("auditor")).await] {
        let status =
            clients.volumes.clone().list_local_paths(v1::ListLocalPathsRequest::default()).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    }
}
