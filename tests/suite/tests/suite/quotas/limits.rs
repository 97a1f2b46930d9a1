//! Who sets limits, and which limits there can be.

use super::{bytes, quota, request_id, set, start, unlimited};
use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, noise, refusal},
};
use tonic::{Code, Status};

pub(super) fn outcome(answer: Result<impl Sized, Status>) -> Code {
    answer.map_or_else(|status| refusal(&status).0, |_| Code::Ok)
}

pub(super) async fn own_id(clients: &Clients) -> String {
    match quota(clients, Of::UserId(String::new())).await.key.unwrap().of {
        Some(Of::UserId(id)) => id,
        other => panic!("{other:?} is no user"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_by_operators_and_in_their_organisation_by_admins() {
    use Code::{Ok, PermissionDenied};
    let cofferd = Cofferd::start().await;
    let ann_token = Token::user("ann", "clinic").through("viewer").project("trial");
    let ann = cofferd.clients(&ann_token).await;
    let id = own_id(&ann).await;
    let spec =
        |path: &str, size| v1::UploadSpec { project_id: "trial".into(), size_bytes: Some(size), ..at(path) };
    ann.upload(spec("known", 0), b"").await.unwrap();
    let quotas = [
        Of::Volume("main".into()),
        Of::UserOnVolume(v1::UserOnVolume { user_id: id.clone(), ..Default::default() }),
        Of::AppOnVolume(v1::AppOnVolume { app_id: "viewer".into(), ..Default::default() }),
        Of::UserId(id.clone()),
        Of::OrganisationId("clinic".into()),
        Of::ProjectId("trial".into()),
    ];
    let nothing = [PermissionDenied; 6];
    let of_organisation = [PermissionDenied, PermissionDenied, PermissionDenied, Ok, Ok, Ok];
    let boss = |organisation| Token::user("bea", organisation).role("admin");
    for (who, token, expected) in [
        ("user", ann_token, nothing),
        ("app", Token::app("viewer", "clinic").project("trial"), nothing),
        ("auditor", Token::user("eve", "clinic").role("auditor"), nothing),
        ("admin", boss("clinic"), of_organisation),
        ("operator", Token::user("olga", "clinic").role("operator"), [Ok; 6]),
    ] {
        let clients = cofferd.clients(&token).await;
        for (of, expected) in quotas.iter().zip(expected) {
            let found = outcome(set(&clients, bytes(of.clone(), 1_000_000)).await);
            assert_eq!(found, expected, "{who}: {of:?}");
        }
    }
    let refused = "SELECT count(*) FROM storage_operations
        WHERE operation = 'set_quota' AND error_code = 'PERMISSION_DENIED'";
    let done = "SELECT count(*) FROM storage_operations WHERE operation = 'set_quota' AND status = 'success'";
    let trail = (cofferd.database.number(refused).await, cofferd.database.number(done).await);
    assert_eq!(trail, (21, 9), "each is in the trail");

    // An admin of another organisation sets nothing that concerns this one.
    let other = cofferd.clients(&boss("lab")).await;
    let organisation = set(&other, bytes(Of::OrganisationId("clinic".into()), 1)).await;
    assert_eq!(outcome(organisation), PermissionDenied);
    for of in [Of::UserId(id), Of::ProjectId("trial".into())] {
        let own = outcome(set(&other, bytes(of.clone(), 1)).await);
        assert!([Ok, PermissionDenied, Code::NotFound].contains(&own), "{of:?} of its own tenant: {own:?}");
    }
    for of in [
        Of::UserOnVolume(Default::default()),
        Of::AppOnVolume(Default::default()),
        Of::UserId(String::new()),
        Of::OrganisationId(String::new()),
        Of::ProjectId("trial".into()),
    ] {
        assert_eq!(quota(&ann, of.clone()).await.limit_bytes, Some(1_000_000), "{of:?}");
    }
    let status = ann.upload(spec("more", 1_000_001), b"").await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_set_before_the_first_use_holds_at_it() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    for of in [
        Of::UserId(own_id(&ann).await),
        Of::OrganisationId(String::new()),
        Of::ProjectId("trial".into()),
        Of::AppOnVolume(v1::AppOnVolume { app_id: "viewer".into(), ..Default::default() }),
        Of::UserOnVolume(v1::UserOnVolume { user_id: own_id(&ann).await, ..Default::default() }),
    ] {
        set(&operator, bytes(of.clone(), 3)).await.unwrap_or_else(|status| panic!("{of:?}: {status:?}"));
        let spec = |path: &str| v1::UploadSpec { project_id: "trial".into(), ..at(path) };
        let status = ann.upload(spec("long"), b"long").await.unwrap_err();
        assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()), "{of:?}");
        set(&operator, unlimited(of)).await.unwrap();
    }
    assert_eq!(outcome(ann.upload(at("short"), b"abc").await), Code::Ok);
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_numbers_that_can_be() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let organisation = || Of::OrganisationId(String::new());
    let none = unlimited(organisation());
    for (request, field) in [
        (v1::SetQuotaRequest { limit_bytes: Some(-1), ..none.clone() }, "limit_bytes"),
        (v1::SetQuotaRequest { limit_files: Some(-1), ..none.clone() }, "limit_files"),
        (v1::SetQuotaRequest { max_file_bytes: Some(i64::MIN), ..none.clone() }, "max_file_bytes"),
        (v1::SetQuotaRequest { request_id: "nonsense".into(), ..none.clone() }, "request_id"),
        (v1::SetQuotaRequest { key: None, ..none.clone() }, "key"),
    ] {
        let status = set(&operator, request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{field}");
        assert_eq!(bad_fields(&status), [field]);
    }
    // On a volume bytes alone are limited.
    for of in [
        Of::Volume("main".into()),
        Of::UserOnVolume(Default::default()),
        Of::AppOnVolume(v1::AppOnVolume { app_id: "viewer".into(), ..Default::default() }),
    ] {
        for (request, field) in [
            (v1::SetQuotaRequest { limit_files: Some(1), ..unlimited(of.clone()) }, "limit_files"),
            (v1::SetQuotaRequest { max_file_bytes: Some(1), ..unlimited(of.clone()) }, "max_file_bytes"),
        ] {
            let status = set(&operator, request).await.unwrap_err();
            assert_eq!(refusal(&status).0, Code::InvalidArgument, "{of:?}");
            assert_eq!(bad_fields(&status), [field]);
        }
    }
    assert_eq!(outcome(set(&operator, bytes(Of::Volume("no-such".into()), 1)).await), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_and_the_smallest_number_are_limits_like_any_other() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    ann.upload(at("a"), &noise(1_000)).await.unwrap();
    let organisation = || Of::OrganisationId(String::new());
    let none = unlimited(organisation());
    let most = v1::SetQuotaRequest {
        limit_bytes: Some(i64::MAX),
        max_file_bytes: Some(i64::MAX),
        limit_files: Some(i64::from(i32::MAX)),
        ..none.clone()
    };
    let answer = set(&operator, most.clone()).await.unwrap();
    assert_eq!(
        (answer.limit_bytes, answer.limit_files, answer.max_file_bytes),
        (most.limit_bytes, most.limit_files, most.max_file_bytes)
    );
    assert_eq!((answer.used_bytes, answer.used_files), (1_000, 1));
    assert_eq!(quota(&ann, organisation()).await, answer);
    ann.upload(v1::UploadSpec { size_bytes: Some(10), ..at("b") }, &noise(10)).await.unwrap();
    let huge = v1::UploadSpec { size_bytes: Some(i64::MAX), request_id: request_id(), ..at("c") };
    let status = start(&ann, huge).await.unwrap_err();
    assert_eq!(
        refusal(&status).0,
        Code::ResourceExhausted,
        "with what is used it is past the largest number"
    );
    // More files than anybody can count are refused as a field, or are a limit; never a fault.
    let files = set(&operator, v1::SetQuotaRequest { limit_files: Some(i64::MAX), ..none.clone() }).await;
    match files {
        Ok(answer) => assert_eq!(answer.limit_files, Some(i64::MAX)),
        Err(status) => assert_eq!(bad_fields(&status), ["limit_files"]),
    }

    set(&operator, v1::SetQuotaRequest { limit_bytes: Some(0), ..none.clone() }).await.unwrap();
    ann.upload(at("empty"), b"").await.unwrap();
    assert_eq!(outcome(ann.upload(at("one"), b"1").await), Code::ResourceExhausted);
    set(&operator, v1::SetQuotaRequest { limit_files: Some(0), ..none.clone() }).await.unwrap();
    assert_eq!(outcome(ann.upload(at("none"), b"").await), Code::ResourceExhausted);
    set(&operator, v1::SetQuotaRequest { max_file_bytes: Some(0), ..none.clone() }).await.unwrap();
    assert_eq!(outcome(ann.upload(at("none"), b"1").await), Code::ResourceExhausted);
    ann.upload(at("none"), b"").await.unwrap();
    // What is not named has no limit any more.
    let answer = set(&operator, none).await.unwrap();
    assert_eq!((answer.limit_bytes, answer.limit_files, answer.max_file_bytes), (None, None, None));
    ann.upload(at("one"), b"1").await.unwrap();
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_set_twice_is_set_once() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let volume = || Of::Volume("main".into());
    let first = v1::SetQuotaRequest { request_id: request_id(), ..bytes(volume(), 5_000) };
    let answer = set(&operator, first.clone()).await.unwrap();
    set(&operator, bytes(volume(), 7_000)).await.unwrap();
    assert_eq!(set(&operator, first.clone()).await.unwrap(), answer, "the answer it had");
    assert_eq!(quota(&operator, volume()).await.limit_bytes, Some(7_000), "and nothing was done");
    let other = v1::SetQuotaRequest { limit_bytes: Some(6_000), ..first };
    let status = set(&operator, other).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
}
