//! Counting again: what differs is told, and set right when asked.

use super::{drifts, last, request_id, send, start};
use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, noise, refusal},
};
use tonic::{Code, Status};

/// Every counter of one user's quotas is made wrong, each in its way.
const PLANT: &str = "
UPDATE storage_volumes SET quota_used = quota_used + 1, quota_reserved = quota_reserved + 10;
UPDATE user_quotas SET quota_used = quota_used + 2, quota_reserved = quota_reserved - 20;
UPDATE app_quotas SET quota_used = quota_used - 3;
UPDATE storage_quotas SET used_storage_bytes = used_storage_bytes + 4, reserved_storage_bytes = 0 WHERE entity_type = 'user';
UPDATE storage_quotas SET used_files = used_files + 5, reserved_files = 0 WHERE entity_type = 'organization';
UPDATE storage_quotas SET used_storage_bytes = 0, used_files = 0, reserved_storage_bytes = reserved_storage_bytes + 6,
    reserved_files = reserved_files + 7 WHERE entity_type = 'project'";

async fn recalculate(
    clients: &Clients,
    request: v1::RecalculateQuotasRequest,
) -> Result<Vec<v1::QuotaDrift>, Status> {
    Ok(sorted(clients.quotas.clone().recalculate_quotas(request).await?.into_inner().drifts))
}

fn sorted(mut found: Vec<v1::QuotaDrift>) -> Vec<v1::QuotaDrift> {
    found.sort_by_key(|drift| format!("{:?}", drift.key));
    found
}

/// What a recount says after [`PLANT`].
fn planted(user: &str, volume: &str) -> Vec<v1::QuotaDrift> {
    let on_volume = v1::UserOnVolume { user_id: user.to_owned(), volume: volume.to_owned() };
    let of_app = v1::AppOnVolume { app_id: "viewer".into(), volume: volume.to_owned() };
    // Counted: bytes, files, reserved bytes, reserved files; then whether files are counted.
    let drifts = [
        (Of::Volume(volume.to_owned()), [1_001, 0, 310, 0], 0),
        (Of::UserOnVolume(on_volume), [1_002, 0, 280, 0], 0),
        (Of::AppOnVolume(of_app), [997, 0, 300, 0], 0),
        (Of::UserId(user.to_owned()), [1_004, 1, 0, 1], 1),
        (Of::OrganisationId("clinic".into()), [1_000, 6, 300, 0], 1),
        (Of::ProjectId("trial".into()), [0, 0, 306, 8], 1),
    ];
    let drift = |(of, counted, actual_files): (Of, [i64; 4], i64)| v1::QuotaDrift {
        key: super::key(of),
        counted_bytes: counted[0],
        actual_bytes: 1_000,
        counted_files: counted[1],
        actual_files,
        counted_reserved_bytes: counted[2],
        actual_reserved_bytes: 300,
        counted_reserved_files: counted[3],
        actual_reserved_files: actual_files,
    };
    sorted(drifts.into_iter().map(drift).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_drift_is_told_and_set_right() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
    let spec = |path: &str| v1::UploadSpec { project_id: "trial".into(), ..at(path) };
    let file = ann.upload(spec("a"), &noise(1_000)).await.unwrap();
    let held = v1::UploadSpec { size_bytes: Some(300), request_id: request_id(), ..spec("b") };
    let held = start(&ann, held).await.unwrap();
    assert_eq!(drifts(&operator).await, []);

    cofferd.database.connect().await.batch_execute(PLANT).await.unwrap();
    let expected = planted(&file.owner_user_id, &file.volume_id);
    for _ in 0..2 {
        assert_eq!(sorted(drifts(&operator).await), expected, "looking changes nothing");
    }
    let refused = "SELECT count(*) FROM storage_operations
        WHERE operation = 'recalculate_quotas' AND error_code = 'PERMISSION_DENIED'";
    for token in [
        Token::user("ann", "clinic"),
        Token::app("viewer", "clinic"),
        Token::user("eve", "clinic").role("auditor"),
    ] {
        let clients = cofferd.clients(&token).await;
        for dry_run in [true, false] {
            let request = v1::RecalculateQuotasRequest { dry_run, ..Default::default() };
            let status = recalculate(&clients, request).await.unwrap_err();
            assert_eq!(refusal(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
        }
    }
    assert_eq!(cofferd.database.number(refused).await, 6);

    let request = v1::RecalculateQuotasRequest { dry_run: false, request_id: request_id() };
    assert_eq!(recalculate(&operator, request.clone()).await.unwrap(), expected);
    super::nothing_drifts(&cofferd).await;
    assert_eq!(drifts(&operator).await, []);
    assert_eq!(recalculate(&operator, request).await.unwrap(), expected, "sent again, answered the same");
    assert_eq!(recalculate(&operator, v1::RecalculateQuotasRequest::default()).await.unwrap(), []);
    let done = "SELECT count(*) FROM storage_operations
        WHERE operation = 'recalculate_quotas' AND status = 'success'";
    assert!(cofferd.database.number(done).await >= 1, "it is in the trail");

    // The upload under way is settled as if nothing had been.
    send(&ann, last(&held.id, 0, noise(300))).await.unwrap();
    super::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recount_beside_uploads_finds_nothing() {
    const CLIENTS: i64 = 8;
    const EACH: i64 = 10;
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer")).await;
    let uploads = (0..CLIENTS).map(|client| {
        let ann = ann.clone();
        tokio::spawn(async move {
            for n in 0..EACH {
                let spec = v1::UploadSpec {
                    size_bytes: (n % 2 == 0).then_some(2_000),
                    request_id: if n % 3 == 0 { request_id() } else { String::new() },
                    ..at(&format!("{client}/{n}"))
                };
                ann.upload(spec, &noise(2_000)).await.unwrap();
            }
        })
    });
    let uploads = futures_util::future::join_all(uploads);
    tokio::pin!(uploads);
    for recounts in 0.. {
        let request = v1::RecalculateQuotasRequest { dry_run: recounts % 2 == 0, ..Default::default() };
        tokio::select! {
            outcomes = &mut uploads => {
                outcomes.into_iter().for_each(|outcome| outcome.unwrap());
                assert!(recounts > 2, "{recounts} recounts beside the uploads");
                break;
            }
            found = recalculate(&operator, request) => assert_eq!(found.unwrap(), []),
        }
    }
    assert_eq!(drifts(&operator).await, []);
    super::nothing_drifts(&cofferd).await;
    let volume = super::quota(&operator, Of::Volume("main".into())).await;
    assert_eq!(volume.used_bytes, CLIENTS * EACH * 2_000);
}
