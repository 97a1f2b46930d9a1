use super::*;
use crate::fields::converted;
use coffer_domain::egress::{self, Forbidden, Rule};
use coffer_domain::id::EndpointId;
use coffer_domain::service::CheckProblem;
use coffer_domain::time::now;
use prost_types::{Duration as WireDuration, FieldMask};

fn wire(id: LocalPathId) -> v1::Volume {
    let backend = v1::volume::Backend::Local(LocalBackend { local_path_id: id.to_string() });
    v1::Volume { name: "main".into(), backend: Some(backend), ..v1::Volume::default() }
}

fn change(volume: v1::Volume, paths: &[&str]) -> Result<(VolumeId, Changes), Vec<String>> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let message = UpdateVolumeRequest { volume: Some(volume), update_mask, request_id: String::new() };
    converted(|fields| update(message, fields))
}

#[test]
fn a_new_volume_has_the_defaults_of_the_contract() {
    let id = LocalPathId::new();
    let settings = converted(|fields| settings(Some(wire(id)), fields)).unwrap();
    assert_eq!(settings, Settings::new("main", Backend::Local { local_path_id: id }));
}

#[test]
fn every_bad_field_of_a_new_volume_is_told() {
    let bad = v1::Volume {
        backend: None,
        auto_path_strategy: 99,
        versioning_mode: 99,
        quota_limit_bytes: Some(-1),
        max_file_bytes: Some(-1),
        trash_retention: Some(WireDuration { seconds: 1, nanos: 1 }),
        upload_ttl: Some(WireDuration { seconds: -1, nanos: 0 }),
        ..wire(LocalPathId::new())
    };
    let expected = [
        "volume.backend",
        "volume.auto_path_strategy",
        "volume.versioning_mode",
        "volume.quota_limit_bytes",
        "volume.max_file_bytes",
        "volume.trash_retention",
        "volume.upload_ttl",
    ];
    assert_eq!(converted(|fields| settings(Some(bad), fields)).unwrap_err(), expected);
    assert_eq!(converted(|fields| settings(None, fields)).unwrap_err(), ["volume"]);
    let elsewhere = v1::volume::Backend::Local(LocalBackend { local_path_id: "/etc".into() });
    let bad = v1::Volume { backend: Some(elsewhere), ..wire(LocalPathId::new()) };
    assert_eq!(converted(|fields| settings(Some(bad), fields)).unwrap_err(), ["volume.local.local_path_id"]);
    let nowhere = v1::volume::Backend::Ftp(FtpBackend { ftp_id: "ftp.example".into() });
    let bad = v1::Volume { backend: Some(nowhere), ..wire(LocalPathId::new()) };
    assert_eq!(converted(|fields| settings(Some(bad), fields)).unwrap_err(), ["volume.ftp.ftp_id"]);
}

#[test]
fn a_server_that_is_logged_in_to_goes_out_as_it_came_in() {
    let id = EndpointId::new();
    let backend = v1::volume::Backend::Ftp(FtpBackend { ftp_id: id.to_string() });
    let volume = v1::Volume { backend: Some(backend.clone()), ..wire(LocalPathId::new()) };
    let settings = converted(|fields| settings(Some(volume), fields)).unwrap();
    assert_eq!(settings.backend, Backend::Ftp { ftp_id: id });
    assert_eq!(to_volume(Volume::new(settings), View::Whole).backend, Some(backend));
}

#[test]
fn an_update_changes_what_its_mask_names() {
    let id = VolumeId::new();
    let volume = v1::Volume {
        id: id.to_string(),
        is_active: Some(false),
        max_file_bytes: Some(7),
        enforce_hierarchy: Some(false),
        ..wire(LocalPathId::new())
    };
    let (named, changes) =
        change(volume, &["is_active", "quota_limit_bytes", "max_file_bytes", "trash_retention"]).unwrap();
    let expected = Changes {
        is_active: Some(false),
        quota_limit: Some(None),
        max_file_bytes: Some(Some(7)),
        trash_retention_seconds: Some(None),
        ..Changes::default()
    };
    assert_eq!((named, changes), (id, expected));
}

#[test]
fn a_switch_that_is_named_must_be_set() {
    let volume = v1::Volume { id: "main".into(), ..wire(LocalPathId::new()) };
    let bad = change(volume, &["is_active", "enforce_hierarchy", "versioning_mode"]).unwrap_err();
    assert_eq!(bad, ["volume.id", "volume.versioning_mode", "volume.enforce_hierarchy", "volume.is_active"]);
    for mask in [&["backend"][..], &["*"], &["quota_used_bytes"], &[]] {
        let volume = v1::Volume { id: VolumeId::new().to_string(), ..wire(LocalPathId::new()) };
        assert_eq!(change(volume, mask).unwrap_err(), ["update_mask"], "{mask:?}");
    }
}

#[test]
fn who_only_uses_a_volume_sees_neither_backend_nor_quota_nor_access_lists() {
    let settings = Settings {
        quota_limit: Some(5),
        allowed_apps: vec!["scanner".into()],
        allowed_organisations: vec!["clinic".into()],
        ..Settings::new("main", Backend::Local { local_path_id: LocalPathId::new() })
    };
    let volume = Volume {
        id: VolumeId::new(),
        settings,
        quota_used: 3,
        quota_reserved: 2,
        created_at: now(),
        updated_at: now(),
    };
    let whole = to_volume(volume.clone(), View::Whole);
    assert_eq!((whole.quota_limit_bytes, whole.quota_used_bytes, whole.allowed_apps.len()), (Some(5), 3, 1));
    assert_eq!(whole.quota_reserved_bytes, 2);
    assert!(whole.backend.is_some());
    let used = to_volume(volume, View::of(&Caller::service()));
    assert_eq!((used.backend, used.quota_limit_bytes, used.quota_used_bytes), (None, None, 0));
    assert_eq!(used.quota_reserved_bytes, 0);
    assert!(used.allowed_apps.is_empty() && used.allowed_organisations.is_empty());
    assert_eq!((used.name.as_str(), used.is_active), ("main", Some(true)));
}

#[test]
fn a_check_is_healthy_if_all_its_steps_passed() {
    let step = |name, outcome| CheckStep { name, outcome, duration: Duration::from_micros(7) };
    let check = |steps| to_check(Check { steps, capabilities: None });
    assert!(check(vec![step("marker", Ok(())), step("write", Ok(()))]).is_healthy);
    let full = CheckProblem { reason: "VOLUME_FULL", forbidden: None };
    let failed = check(vec![step("marker", Ok(())), step("write", Err(full))]);
    assert!(!failed.is_healthy);
    assert_eq!(
        (failed.steps[1].problem.as_str(), failed.steps[1].passed, failed.steps[1].duration_us),
        ("VOLUME_FULL", false, 7)
    );
    assert_eq!(failed.steps[1].detail, "");
    let rule = Rule::Reserved(egress::Kind::LinkLocal);
    let forbidden = Forbidden { host: "store".into(), address: [169, 254, 1, 2].into(), rule };
    let problem = CheckProblem { reason: "ADDRESS_FORBIDDEN", forbidden: Some(forbidden.clone()) };
    let failed = check(vec![step("marker", Err(problem))]);
    assert_eq!((failed.is_healthy, &failed.steps[0].detail), (false, &forbidden.to_string()));
    assert!(!check(vec![]).is_healthy);
}

#[test]
fn how_long_uploads_stay_open_is_set_told_and_unset() {
    let ttl = |seconds| Some(WireDuration { seconds, nanos: 0 });
    let new = v1::Volume { upload_ttl: ttl(60), ..wire(LocalPathId::new()) };
    let settings = converted(|fields| settings(Some(new), fields)).unwrap();
    assert_eq!(settings.upload_ttl_seconds, Some(60));
    let at = now();
    let id = VolumeId::new();
    let volume = Volume { id, settings, quota_used: 0, quota_reserved: 0, created_at: at, updated_at: at };
    assert_eq!(to_volume(volume, View::Whole).upload_ttl, ttl(60));
    let changed = |upload_ttl, mask: &[&str]| {
        let volume = v1::Volume { id: id.to_string(), upload_ttl, ..v1::Volume::default() };
        change(volume, mask).map(|(_, changes)| changes.upload_ttl_seconds)
    };
    assert_eq!(changed(ttl(90), &["upload_ttl"]), Ok(Some(Some(90))));
    assert_eq!(changed(None, &["upload_ttl"]), Ok(Some(None)));
    assert_eq!(changed(ttl(90), &["default_prefix"]), Ok(None));
    assert_eq!(changed(ttl(-1), &["upload_ttl"]), Err(vec!["volume.upload_ttl".to_owned()]));
}

#[test]
fn a_reconciliation_is_told() {
    let difference = |kind| Difference { kind, key: "a".into() };
    let kinds =
        [DifferenceKind::Orphan, DifferenceKind::OrphanLeft, DifferenceKind::Missing, DifferenceKind::Staged];
    let told = to_reconciled(VolumeReport {
        objects_compared: 1,
        orphans_removed: 2,
        orphans_left: 3,
        objects_missing: 4,
        staged_removed: 5,
        staged_left: 6,
        differences: kinds.map(difference).into(),
    });
    assert_eq!((told.objects_compared, told.orphans_removed, told.orphans_left), (1, 2, 3));
    assert_eq!((told.objects_missing, told.staged_removed, told.staged_left), (4, 5, 6));
    let names: Vec<_> = told.differences.iter().map(|found| found.kind().as_str_name()).collect();
    assert_eq!(names, ["KIND_ORPHAN", "KIND_ORPHAN_LEFT", "KIND_MISSING", "KIND_STAGED"]);
    assert!(told.differences.iter().all(|found| found.key == "a"));
}
