//! Lists of quotas: whose, in which order, page by page.

use super::{bytes, key, set};
use coffer_proto::v1::{self, QuotaKind, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, noise, refusal},
};
use tonic::Code;

/// All pages, each but the last as long as asked for.
async fn all(clients: &Clients, request: v1::ListQuotasRequest) -> Vec<v1::Quota> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let asked = v1::ListQuotasRequest { page_token, ..request.clone() };
        let page = clients.quotas.clone().list_quotas(asked).await.unwrap().into_inner();
        let length = page.quotas.len();
        found.extend(page.quotas);
        if page.next_page_token.is_empty() {
            return found;
        }
        assert!(request.page_size == 0 || length == request.page_size as usize, "{length}");
        page_token = page.next_page_token;
    }
}

/// The place of a quota's kind in the order of lists.
fn rank(quota: &v1::Quota) -> i32 {
    let kind = match quota.key.as_ref().unwrap().of.as_ref().unwrap() {
        Of::Volume(_) => QuotaKind::Volume,
        Of::UserOnVolume(_) => QuotaKind::UserOnVolume,
        Of::AppOnVolume(_) => QuotaKind::AppOnVolume,
        Of::UserId(_) => QuotaKind::User,
        Of::OrganisationId(_) => QuotaKind::Organisation,
        Of::ProjectId(_) => QuotaKind::Project,
    };
    kind.into()
}

fn ranks(quotas: &[v1::Quota]) -> Vec<i32> {
    quotas.iter().map(rank).collect()
}

/// Five users of one organisation with a file on each of two volumes, and one of another organisation.
async fn stored(cofferd: &Cofferd) -> (v1::Volume, Vec<Clients>) {
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let disk = cofferd.disks().join("archive");
    std::fs::create_dir(&disk).unwrap();
    let disk = disk.to_str().unwrap();
    let archive = crate::volumes::local_volume(&operator, "archive", disk, v1::VersioningMode::None).await;
    let mut users = Vec::new();
    for n in 0..5 {
        let token = Token::user(&format!("user-{n}"), "clinic").through("viewer").project("trial");
        let user = cofferd.clients(&token).await;
        let spec = v1::UploadSpec { project_id: "trial".into(), ..at(&format!("{n}")) };
        user.upload(spec.clone(), &noise(100 + n)).await.unwrap();
        user.upload(v1::UploadSpec { volume: "archive".into(), ..spec }, &noise(10)).await.unwrap();
        users.push(user);
    }
    let zoe = cofferd.clients(&Token::user("zoe", "lab").through("scanner").project("secret")).await;
    zoe.upload(v1::UploadSpec { project_id: "secret".into(), ..at("z") }, &noise(7)).await.unwrap();
    (archive, users)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_the_quotas_it_is_charged_on() {
    let cofferd = Cofferd::start().await;
    let (_, users) = stored(&cofferd).await;
    let own = all(&users[2], v1::ListQuotasRequest::default()).await;
    assert_eq!(ranks(&own), [2, 2, 3, 3, 4, 5, 6], "on every volume");
    let used = |of: Of| own.iter().find(|quota| quota.key == key(of.clone())).map(|quota| quota.used_bytes);
    assert_eq!(used(Of::OrganisationId("clinic".into())), Some(560));
    assert_eq!(used(Of::ProjectId("trial".into())), Some(560));
    let on_volumes = own.iter().filter(|quota| rank(quota) == 2);
    assert_eq!(on_volumes.map(|quota| quota.used_bytes).sum::<i64>(), 112);
    let app = cofferd.clients(&Token::app("viewer", "clinic")).await;
    let of_app =
        all(&app, v1::ListQuotasRequest { kind: QuotaKind::AppOnVolume.into(), ..Default::default() });
    assert_eq!(of_app.await.iter().map(|quota| quota.used_bytes).sum::<i64>(), 560);
    let of_users = all(&app, v1::ListQuotasRequest::default()).await;
    assert!(
        of_users.iter().all(|quota| ![1, 2, 4].contains(&rank(quota))),
        "nothing of a user: {of_users:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_admins_see_all_of_their_organisation_in_pages() {
    let cofferd = Cofferd::start().await;
    let (archive, _) = stored(&cofferd).await;
    // Apps are of no organisation: that of the other one is among them.
    let mut expected = vec![1, 1];
    for (kind, number) in [(2, 10), (3, 3), (4, 5), (5, 1), (6, 1)] {
        expected.extend(vec![kind; number]);
    }
    for role in ["operator", "admin"] {
        let manager = cofferd.clients(&Token::user("max", "clinic").role(role)).await;
        let found = all(&manager, v1::ListQuotasRequest::default()).await;
        assert_eq!(ranks(&found), expected, "{role}");
        let text = format!("{found:?}");
        assert!(!text.contains("lab") && !text.contains("secret"), "nothing of another organisation: {text}");
        for page_size in [1, 2, 7, 1_000_000] {
            let request = v1::ListQuotasRequest { page_size, ..Default::default() };
            assert_eq!(all(&manager, request).await, found, "the same in pages of {page_size}");
        }
        for kind in 1..=6 {
            let request = v1::ListQuotasRequest { kind, page_size: 3, ..Default::default() };
            let of_kind: Vec<_> = found.iter().filter(|quota| rank(quota) == kind).cloned().collect();
            assert_eq!(all(&manager, request).await, of_kind);
        }
        for volume in ["archive", &archive.id] {
            let request = v1::ListQuotasRequest { volume: volume.into(), page_size: 1, ..Default::default() };
            assert_eq!(ranks(&all(&manager, request).await), [1, 2, 2, 2, 2, 2, 3], "{volume}");
        }
    }
    // A limit alone makes a quota one to list.
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    set(&operator, bytes(Of::ProjectId("planned".into()), 5)).await.unwrap();
    let request = v1::ListQuotasRequest { kind: QuotaKind::Project.into(), ..Default::default() };
    let projects = all(&operator, request).await;
    assert_eq!(projects.iter().map(|quota| quota.limit_bytes).collect::<Vec<_>>(), [Some(5), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_quotas_is_asked_for_as_it_can_be() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer")).await;
    ann.upload(at("a"), b"a").await.unwrap();
    let first = v1::ListQuotasRequest { page_size: 1, ..Default::default() };
    let page_token =
        operator.quotas.clone().list_quotas(first.clone()).await.unwrap().into_inner().next_page_token;
    assert!(!page_token.is_empty());
    let another_kind = v1::ListQuotasRequest { page_token, kind: QuotaKind::User.into(), ..first };
    for (request, field) in [
        (v1::ListQuotasRequest { page_size: -1, ..Default::default() }, "page_size"),
        (v1::ListQuotasRequest { page_token: "nonsense".into(), ..Default::default() }, "page_token"),
        (another_kind, "page_token"),
        (v1::ListQuotasRequest { kind: 99, ..Default::default() }, "kind"),
    ] {
        let status = operator.quotas.clone().list_quotas(request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()));
        assert_eq!(bad_fields(&status), [field]);
    }
    let absent = v1::ListQuotasRequest { volume: "no-such".into(), ..Default::default() };
    let status = operator.quotas.clone().list_quotas(absent).await.unwrap_err();
    assert_eq!(refusal(&status).0, Code::NotFound);
}
