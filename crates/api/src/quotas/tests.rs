use super::*;
use coffer_domain::{
    Error,
    id::{UserId, VolumeId},
    volume::VolumeRef,
};

fn read(of: Option<Of>) -> Result<QuotaQuery, Vec<String>> {
    let mut fields = Fields::default();
    let query = query(Some(v1::QuotaKey { of }), &mut fields);
    fields.finish(query).map_err(|error| match error {
        Error::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    })
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
