use super::*;
use coffer_domain::{
    Error,
    id::{UserId, VolumeId},
};

fn converted<T>(convert: impl FnOnce(&mut Fields) -> Option<T>) -> Result<T, Vec<String>> {
    let mut fields = Fields::default();
    let value = convert(&mut fields);
    fields.finish(value).map_err(|error| match error {
        Error::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    })
}

fn read(of: Option<Of>) -> Result<QuotaQuery, Vec<String>> {
    converted(|fields| query(Some(v1::QuotaKey { of }), fields))
}

#[test]
fn what_is_empty_is_the_callers_own() {
    let named = VolumeRef::Name("main".into());
    assert_eq!(read(Some(Of::Volume("main".into()))), Ok(QuotaQuery::Volume(named)));
    let own = QuotaQuery::UserOnVolume { user: None, volume: None };
    assert_eq!(read(Some(Of::UserOnVolume(UserOnVolume::default()))), Ok(own));
    assert_eq!(
        read(Some(Of::AppOnVolume(AppOnVolume::default()))),
        Ok(QuotaQuery::AppOnVolume { app: None, volume: None })
    );
    assert_eq!(read(Some(Of::UserId(String::new()))), Ok(QuotaQuery::User(None)));
    assert_eq!(read(Some(Of::OrganisationId(String::new()))), Ok(QuotaQuery::Organisation(None)));
    assert_eq!(read(Some(Of::ProjectId("study".into()))), Ok(QuotaQuery::Project("study".into())));
}

#[test]
fn what_names_no_quota_is_refused() {
    for (of, fields) in [
        (None, vec!["key"]),
        (Some(Of::Volume(String::new())), vec!["key.volume"]),
        (
            Some(Of::UserOnVolume(UserOnVolume { user_id: "x".into(), volume: "No".into() })),
            vec!["key.user_on_volume.user_id", "key.user_on_volume.volume"],
        ),
        (
            Some(Of::AppOnVolume(AppOnVolume { app_id: "a b".into(), volume: "No".into() })),
            vec!["key.app_on_volume.app_id", "key.app_on_volume.volume"],
        ),
        (Some(Of::UserId("ann".into())), vec!["key.user_id"]),
        (Some(Of::OrganisationId("a/b".into())), vec!["key.organisation_id"]),
        (Some(Of::ProjectId(String::new())), vec!["key.project_id"]),
    ] {
        assert_eq!(read(of), Err(fields.into_iter().map(str::to_owned).collect()));
    }
}

#[test]
fn a_limit_that_is_not_set_is_left_out() {
    let (user, volume) = (UserId::new(), VolumeId::new());
    let usage = Usage { used_bytes: 5, limit_files: Some(0), ..Usage::default() };
    let shown = to_quota(Quota { key: QuotaKey::UserOnVolume(user, volume), usage, updated_at: None });
    let key = Of::UserOnVolume(UserOnVolume { user_id: user.to_string(), volume: volume.to_string() });
    assert_eq!(shown.key.unwrap().of, Some(key));
    assert_eq!(
        (shown.limit_bytes, shown.used_bytes, shown.limit_files, shown.update_time),
        (None, 5, Some(0), None)
    );
}

#[test]
fn a_list_is_of_one_kind_or_of_all() {
    let list = |kind, volume: &str| {
        let message = ListQuotasRequest { kind, volume: volume.into(), ..ListQuotasRequest::default() };
        converted(|fields| filter(message, fields))
    };
    assert_eq!(list(0, ""), Ok(Filter { kind: None, volume: None }));
    let kinds =
        [Kind::Volume, Kind::UserOnVolume, Kind::AppOnVolume, Kind::User, Kind::Organisation, Kind::Project];
    for (number, kind) in (1..).zip(kinds) {
        let volume = Some(VolumeRef::Name("main".into()));
        assert_eq!(list(number, "main"), Ok(Filter { kind: Some(kind), volume }));
    }
    assert_eq!(list(99, "No"), Err(vec!["kind".to_owned(), "volume".to_owned()]));
}

fn set(of: Of, limits: [Option<i64>; 3]) -> Result<(QuotaQuery, Limits), Vec<String>> {
    let [limit_bytes, limit_files, max_file_bytes] = limits;
    let key = Some(v1::QuotaKey { of: Some(of) });
    let message =
        SetQuotaRequest { key, limit_bytes, limit_files, max_file_bytes, ..SetQuotaRequest::default() };
    converted(|fields| super::limits(message, fields))
}

#[test]
fn limits_are_set_all_at_once() {
    let (query, limits) = set(Of::UserId(String::new()), [Some(i64::MAX), Some(0), None]).unwrap();
    assert_eq!(query, QuotaQuery::User(None));
    let most = u64::try_from(i64::MAX).unwrap();
    assert_eq!(limits, Limits { bytes: Some(most), files: Some(0), max_file_bytes: None });
    let (_, limits) = set(Of::Volume("main".into()), [Some(5), None, None]).unwrap();
    assert_eq!(limits, Limits { bytes: Some(5), ..Limits::default() });
}

#[test]
fn a_negative_limit_is_refused() {
    let fields = ["limit_bytes", "limit_files", "max_file_bytes"];
    assert_eq!(set(Of::ProjectId("study".into()), [Some(-1); 3]).unwrap_err(), fields);
}

#[test]
fn quotas_on_volumes_limit_bytes_only() {
    let user = UserOnVolume { user_id: String::new(), volume: "main".into() };
    let app = AppOnVolume { app_id: String::new(), volume: "main".into() };
    for of in [Of::Volume("main".into()), Of::UserOnVolume(user), Of::AppOnVolume(app)] {
        assert_eq!(set(of, [Some(1); 3]).unwrap_err(), ["limit_files", "max_file_bytes"]);
    }
}

#[test]
fn a_planned_upload_has_a_size() {
    let message = |size_bytes, volume: &str, project: &str| CheckQuotaRequest {
        volume: volume.into(),
        size_bytes,
        project_id: project.into(),
    };
    let read = |message| converted(|fields| planned(message, fields));
    assert_eq!(read(message(0, "", "")), Ok(Planned { volume: None, size: 0, project: None }));
    let whole =
        Planned { volume: Some(VolumeRef::Name("main".into())), size: 7, project: Some("study".into()) };
    assert_eq!(read(message(7, "main", "study")), Ok(whole));
    assert_eq!(read(message(-1, "No", "a b")).unwrap_err(), ["volume", "size_bytes", "project_id"]);
}

#[test]
fn what_does_not_fit_is_told_in_each_dimension() {
    let exhausted = |dimension| Exhausted {
        key: QuotaKey::Organisation("clinic".into()),
        dimension,
        limit: 10,
        used: 8,
        reserved: 1,
        requested: 5,
    };
    let check = to_check([Dimension::Bytes, Dimension::Files, Dimension::FileSize].map(exhausted).into());
    assert!(!check.fits);
    let names: Vec<_> = check.exhausted.iter().map(|found| found.dimension().as_str_name()).collect();
    assert_eq!(names, ["DIMENSION_BYTES", "DIMENSION_FILES", "DIMENSION_FILE_BYTES"]);
    let found = &check.exhausted[0];
    assert_eq!((found.limit, found.used, found.reserved, found.requested), (10, 8, 1, 5));
    assert_eq!(found.key.clone().unwrap().of, Some(Of::OrganisationId("clinic".into())));
    assert_eq!(to_check(Vec::new()), CheckQuotaResponse { fits: true, exhausted: Vec::new() });
}

#[test]
fn a_drift_tells_what_was_counted_and_what_is() {
    let key = QuotaKey::Project { organisation: "clinic".into(), project: "study".into() };
    let shown = to_drift(Drift {
        key,
        counted_bytes: 1,
        actual_bytes: 2,
        counted_files: 3,
        actual_files: 4,
        counted_reserved_bytes: 5,
        actual_reserved_bytes: 6,
        counted_reserved_files: 7,
        actual_reserved_files: 8,
    });
    let expected = v1::QuotaDrift {
        key: Some(v1::QuotaKey { of: Some(Of::ProjectId("study".into())) }),
        counted_bytes: 1,
        actual_bytes: 2,
        counted_files: 3,
        actual_files: 4,
        counted_reserved_bytes: 5,
        actual_reserved_bytes: 6,
        counted_reserved_files: 7,
        actual_reserved_files: 8,
    };
    assert_eq!(shown, expected);
}
