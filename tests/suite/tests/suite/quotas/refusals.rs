//! What limits do to those who want to store something, and what advice says before.

use super::{
    bytes, last,
    limits::{outcome, own_id},
    next, quota, request_id, send, set, start, unlimited,
};
use coffer_proto::v1::{self, exhausted_quota::Dimension, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, noise, refusal},
};
use tonic::{Code, Status};
use tonic_types::{QuotaFailure, StatusExt as _};

async fn check(clients: &Clients, size_bytes: i64, project: &str) -> Result<v1::CheckQuotaResponse, Status> {
    let request = v1::CheckQuotaRequest { size_bytes, project_id: project.into(), ..Default::default() };
    Ok(clients.quotas.clone().check_quota(request).await?.into_inner())
}

fn exceeded() -> (Code, String) {
    (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned())
}

/// All six quotas of a user, as an operator names them; whether each counts files.
fn all_of(user: &str, volume: &str) -> [(Of, bool); 6] {
    let on_volume = v1::UserOnVolume { user_id: user.to_owned(), volume: volume.to_owned() };
    let of_app = v1::AppOnVolume { app_id: "viewer".into(), volume: volume.to_owned() };
    [
        (Of::Volume(volume.to_owned()), false),
        (Of::UserOnVolume(on_volume), false),
        (Of::AppOnVolume(of_app), false),
        (Of::UserId(user.to_owned()), true),
        (Of::OrganisationId("clinic".into()), true),
        (Of::ProjectId("trial".into()), true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn below_its_usage_a_quota_only_shrinks() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let spec = |path: &str| v1::UploadSpec { project_id: "trial".into(), ..at(path) };
    let file = ann.upload(spec("a"), &noise(1_000)).await.unwrap();
    for (of, _) in all_of(&file.owner_user_id, &file.volume_id) {
        let low = set(&operator, bytes(of.clone(), 10)).await.unwrap();
        assert_eq!((low.limit_bytes, low.used_bytes), (Some(10), 1_000), "{of:?}");
        for size_bytes in [None, Some(1)] {
            let status = ann.upload(v1::UploadSpec { size_bytes, ..spec("b") }, b"1").await.unwrap_err();
            assert_eq!(refusal(&status), exceeded(), "{of:?}: nothing new");
        }
        assert_eq!(refusal(&ann.upload(spec("a"), &noise(1_001)).await.unwrap_err()), exceeded());
        // What adds nothing and what gives back, though all is still too much.
        let empty = ann.upload(spec("empty"), b"").await.unwrap();
        super::remove(&ann, &empty.id).await;
        ann.upload(spec("a"), &noise(1_000)).await.unwrap();
        ann.upload(v1::UploadSpec { size_bytes: Some(900), ..spec("a") }, &noise(900)).await.unwrap();
        assert!(check(&ann, 0, "trial").await.unwrap().fits);
        assert!(!check(&ann, 1, "trial").await.unwrap().fits);
        set(&operator, unlimited(of)).await.unwrap();
        ann.upload(spec("a"), &noise(1_000)).await.unwrap();
    }
    let no_files = v1::SetQuotaRequest { limit_files: Some(0), ..unlimited(Of::ProjectId("trial".into())) };
    set(&operator, no_files).await.unwrap();
    assert_eq!(outcome(ann.upload(spec("b"), b"").await), Code::ResourceExhausted);
    ann.upload(spec("a"), &noise(2_000)).await.unwrap();
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_each_exhausted_dimension_with_its_numbers() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let spec = |path: &str, size| v1::UploadSpec {
        project_id: "trial".into(),
        size_bytes: Some(size),
        request_id: request_id(),
        ..at(path)
    };
    let file = ann.upload(spec("used", 1_000), &noise(1_000)).await.unwrap();
    start(&ann, spec("held", 300)).await.unwrap();
    let (user, volume) = (&file.owner_user_id, &file.volume_id);
    let subjects = [
        format!("volume:{volume}"),
        format!("user:{user}@volume:{volume}"),
        format!("app:viewer@volume:{volume}"),
        format!("user:{user}"),
        "organisation:clinic".to_owned(),
        "project:trial".to_owned(),
    ];
    let mut expected = Vec::new();
    for ((of, counts_files), subject, n) in
        all_of(user, volume).into_iter().zip(subjects).zip(0..).map(|((a, b), n)| (a, b, n))
    {
        // Each has a limit of its own, by which it is told apart.
        let limits = v1::SetQuotaRequest {
            limit_files: counts_files.then_some(2),
            max_file_bytes: counts_files.then_some(4_000 + n),
            ..bytes(of.clone(), 2_000 + n)
        };
        set(&operator, limits).await.unwrap();
        let mut expect = |dimension: Dimension, numbers: [i64; 4]| {
            expected.push((subject.clone(), of.clone(), dimension, numbers));
        };
        expect(Dimension::Bytes, [2_000 + n, 1_000, 300, 5_000]);
        if counts_files {
            expect(Dimension::Files, [2, 1, 1, 1]);
            expect(Dimension::FileBytes, [4_000 + n, 0, 0, 5_000]);
        }
    }
    assert_eq!(expected.len(), 12);

    let started = start(&ann, spec("new", 5_000)).await.unwrap_err();
    let written = ann.upload(spec("new", 5_000), &noise(5_000)).await.unwrap_err();
    for status in [started, written] {
        assert_eq!(refusal(&status), exceeded());
        let details: QuotaFailure = status.get_details_quota_failure().unwrap();
        assert_eq!(details.violations.len(), expected.len(), "{details:?}");
        for (violation, (subject, _, dimension, [limit, rest @ ..])) in
            details.violations.iter().zip(&expected)
        {
            let metric = match dimension {
                Dimension::Files => "files",
                Dimension::FileBytes => "bytes of a single file",
                _ => "bytes",
            };
            assert_eq!((&violation.subject, violation.quota_metric.as_str()), (subject, metric));
            assert_eq!(violation.quota_value, *limit, "{subject} {metric}");
            let numbers = ["used", "reserved", "requested"]
                .map(|name| violation.quota_dimensions[name].parse::<i64>().unwrap());
            assert_eq!(numbers, *rest, "{subject} {metric}");
        }
    }
    // Advice says the same in fields, and reserves nothing.
    let advice = check(&ann, 5_000, "trial").await.unwrap();
    let advised: Vec<_> = advice
        .exhausted
        .iter()
        .map(|e| {
            let of = e.key.clone().unwrap().of.unwrap();
            (of, e.dimension(), [e.limit, e.used, e.reserved, e.requested])
        })
        .collect();
    let expected: Vec<_> =
        expected.into_iter().map(|(_, of, dimension, numbers)| (of, dimension, numbers)).collect();
    assert!(!advice.fits && advised == expected, "{advised:?}, not {expected:?}");
    assert_eq!(check(&ann, 5_000, "").await.unwrap().exhausted.len(), 9, "without the project");
    assert_eq!(quota(&operator, Of::Volume("main".into())).await.reserved_bytes, 300);
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_is_given_to_those_who_may_store() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").project("trial")).await;
    let advice = check(&ann, 1_000, "trial").await.unwrap();
    assert!(advice.fits && advice.exhausted.is_empty(), "what nobody limits fits");
    let negative = check(&ann, -1, "").await.unwrap_err();
    assert_eq!(refusal(&negative), (Code::InvalidArgument, "FIELD_INVALID".to_owned()));
    assert_eq!(bad_fields(&negative), ["size_bytes"]);
    assert_eq!(outcome(check(&ann, 1, "other").await), Code::NotFound);
    let elsewhere = v1::CheckQuotaRequest { volume: "no-such".into(), ..Default::default() };
    assert_eq!(outcome(ann.quotas.clone().check_quota(elsewhere).await), Code::NotFound);
    assert_eq!(outcome(check(&cofferd.anonymous().await, 1, "").await), Code::Unauthenticated);
    let counted = "SELECT (SELECT quota_used + quota_reserved FROM storage_volumes) + (SELECT count(*) FROM user_quotas)";
    assert_eq!(cofferd.database.number(counted).await, 0, "advice leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_kept_however_low_the_limit_becomes() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let spec = |path: &str| v1::UploadSpec {
        project_id: "trial".into(),
        size_bytes: Some(5_000),
        request_id: request_id(),
        ..at(path)
    };
    let begun = start(&ann, spec("begun")).await.unwrap();
    let content = noise(5_000);
    send(&ann, next(&begun.id, 0, content[..1_000].to_vec())).await.unwrap_err();
    for (of, counts_files) in all_of(&own_id(&ann).await, "main") {
        let low = v1::SetQuotaRequest { limit_files: counts_files.then_some(0), ..bytes(of.clone(), 1) };
        let low = set(&operator, low).await.unwrap();
        assert_eq!((low.used_bytes, low.reserved_bytes), (0, 5_000), "{of:?}");
    }
    assert_eq!(refusal(&start(&ann, spec("late")).await.unwrap_err()), exceeded());
    assert_eq!(refusal(&ann.upload(at("later"), b"12").await.unwrap_err()), exceeded());
    let file = send(&ann, last(&begun.id, 1_000, content[1_000..].to_vec())).await.unwrap();
    assert_eq!(file.size_bytes, 5_000);
    let after = quota(&ann, Of::UserId(String::new())).await;
    assert_eq!((after.used_bytes, after.reserved_bytes, after.used_files), (5_000, 0, 1));
    super::nothing_drifts(&cofferd).await;
}
