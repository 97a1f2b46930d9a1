//! Quotas that are listed and limits that are set.

use coffer_domain::error::{Error, Resource};
use coffer_domain::id::{UserId, VolumeId};
use coffer_domain::operation::OperationKind;
use coffer_domain::page::{Cursor, PageRequest};
use coffer_domain::quota::{Filter, Kind, Limits, Quota, QuotaKey, Scope, Usage};
use coffer_domain::store::Store;
use uuid::Uuid;

use crate::rig::{Actor, Rig, operation, request};

fn page(size: i32, skip: i32, after: Option<Cursor>) -> PageRequest {
    PageRequest::new(size, skip, after).unwrap()
}

fn all(organisation: &str) -> Scope {
    Scope::All { organisation: organisation.to_owned() }
}

fn own(actor: &Actor, projects: &[&str]) -> Scope {
    Scope::Own {
        organisation: actor.organisation.clone(),
        user: actor.user.as_ref().map(|user| user.id),
        app: actor.app.clone(),
        projects: projects.iter().map(|&project| project.to_owned()).collect(),
    }
}

/// Every page of a list, put together.
async fn listed(rig: &Rig, scope: &Scope, filter: &Filter, size: i32) -> Vec<Quota> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let found = rig.store.list_quotas(scope, filter, &page(size, 0, after)).await.unwrap();
        assert!(found.items.len() <= usize::try_from(size).unwrap());
        seen.extend(found.items);
        after = found.next;
        if after.is_none() {
            return seen;
        }
    }
}

fn keys(quotas: &[Quota]) -> Vec<QuotaKey> {
    quotas.iter().map(|quota| quota.key.clone()).collect()
}

async fn set(rig: &Rig, key: &QuotaKey, limits: &Limits) -> Result<Quota, Error> {
    rig.store.set_quota(key, limits, &operation(OperationKind::SetQuota), None).await
}

fn user(organisation: &str, user: UserId) -> QuotaKey {
    QuotaKey::User { organisation: organisation.to_owned(), user }
}

fn project(organisation: &str, project: &str) -> QuotaKey {
    QuotaKey::Project { organisation: organisation.to_owned(), project: project.to_owned() }
}

/// Two organisations with users, apps and projects on three volumes, of which one is deleted.
struct Tenants {
    rig: Rig,
    other: VolumeId,
    ann: Actor,
    bob: Actor,
    eve: Actor,
}

impl Tenants {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let other = rig.make_volume("other", |_| {}).await;
        let gone = rig.make_volume("gone", |_| {}).await;
        let ann = Actor::user("ann").through("chat").on("trial");
        let bob = Actor::user("bob").on("Audit");
        let eve = Actor::user("eve").through("Mail").of("lab").on("trial");
        let bot = Actor::app("bot");
        for (n, actor) in [&ann, &bob, &eve, &bot].into_iter().enumerate() {
            for volume in [&rig.volume, &other] {
                rig.upload_to(volume, actor, &format!("{n}.txt"), 10).run(&rig.store).await.unwrap();
            }
        }
        for key in
            [QuotaKey::UserOnVolume(ann.id(), gone.id), QuotaKey::AppOnVolume("chat".to_owned(), gone.id)]
        {
            set(&rig, &key, &Limits::default()).await.unwrap();
        }
        rig.store.delete_volume(gone.id, &operation(OperationKind::DeleteVolume), None).await.unwrap();
        Self { other: other.id, rig, ann, bob, eve }
    }

    fn volumes(&self) -> [VolumeId; 2] {
        [self.rig.volume.id, self.other]
    }

    /// What managers of an organisation see, whose are these.
    fn all(&self, organisation: &str, users: &[UserId], projects: &[&str]) -> Vec<QuotaKey> {
        let mut keys = Vec::new();
        for volume in self.volumes() {
            keys.push(QuotaKey::Volume(volume));
            keys.extend(users.iter().map(|user| QuotaKey::UserOnVolume(*user, volume)));
            keys.extend(["chat", "Mail", "bot"].map(|app| QuotaKey::AppOnVolume(app.to_owned(), volume)));
        }
        keys.extend(users.iter().map(|id| user(organisation, *id)));
        keys.push(QuotaKey::Organisation(organisation.to_owned()));
        keys.extend(projects.iter().map(|id| project(organisation, id)));
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn managers_see_all_of_their_organisation_in_the_order_of_the_keys() {
    let tenants = Tenants::new().await;
    let Tenants { rig, ann, bob, eve, .. } = &tenants;
    let clinic = tenants.all("clinic", &[ann.id(), bob.id()], &["trial", "Audit"]);
    let lab = tenants.all("lab", &[eve.id()], &["trial"]);
    assert_eq!((clinic.len(), lab.len()), (17, 13));
    for size in [1, 2, 3, 5, 16, 17, 100] {
        for (organisation, expected) in [("clinic", &clinic), ("lab", &lab)] {
            let found = listed(rig, &all(organisation), &Filter::default(), size).await;
            assert_eq!(&keys(&found), expected, "{organisation} by {size}");
            // As each of them is told alone.
            assert_eq!(rig.store.quotas(expected).await.unwrap(), found);
        }
    }
    let nobody = listed(rig, &all("nobody"), &Filter::default(), 100).await;
    assert_eq!(
        keys(&nobody),
        tenants
            .all("clinic", &[], &[])
            .into_iter()
            .filter(|key| matches!(key, QuotaKey::Volume(_) | QuotaKey::AppOnVolume(..)))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn others_see_what_they_are_charged_on() {
    let tenants = Tenants::new().await;
    let Tenants { rig, ann, bob, .. } = &tenants;
    let on_volumes = |key: &dyn Fn(VolumeId) -> QuotaKey| tenants.volumes().map(key).to_vec();
    let clinic = QuotaKey::Organisation("clinic".to_owned());
    let mut of_ann = on_volumes(&|volume| QuotaKey::UserOnVolume(ann.id(), volume));
    of_ann.extend(on_volumes(&|volume| QuotaKey::AppOnVolume("chat".to_owned(), volume)));
    of_ann.extend([user("clinic", ann.id()), clinic.clone(), project("clinic", "trial")]);
    let mut of_bob = on_volumes(&|volume| QuotaKey::UserOnVolume(bob.id(), volume));
    of_bob.extend([
        user("clinic", bob.id()),
        clinic.clone(),
        project("clinic", "Audit"),
        project("clinic", "trial"),
    ]);
    let mut of_bot = on_volumes(&|volume| QuotaKey::AppOnVolume("bot".to_owned(), volume));
    of_bot.push(clinic);
    for (scope, mut expected) in [
        (own(ann, &["trial", "absent"]), of_ann),
        (own(bob, &["trial", "Audit"]), of_bob),
        (own(&Actor::app("bot"), &[]), of_bot),
        (own(&Actor::user("nobody").of("nowhere"), &["trial"]), vec![]),
    ] {
        expected.sort();
        for size in [1, 2, 100] {
            assert_eq!(
                keys(&listed(rig, &scope, &Filter::default(), size).await),
                expected,
                "{scope:?} by {size}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_may_show_one_kind_or_one_volume() {
    let tenants = Tenants::new().await;
    let Tenants { rig, ann, bob, other, .. } = &tenants;
    let everything = tenants.all("clinic", &[ann.id(), bob.id()], &["trial", "Audit"]);
    let is_kind = |key: &QuotaKey, kind| match key {
        QuotaKey::Volume(_) => kind == Kind::Volume,
        QuotaKey::UserOnVolume(..) => kind == Kind::UserOnVolume,
        QuotaKey::AppOnVolume(..) => kind == Kind::AppOnVolume,
        QuotaKey::User { .. } => kind == Kind::User,
        QuotaKey::Organisation(_) => kind == Kind::Organisation,
        QuotaKey::Project { .. } => kind == Kind::Project,
    };
    let is_on = |key: &QuotaKey, volume| match key {
        QuotaKey::Volume(on) | QuotaKey::UserOnVolume(_, on) | QuotaKey::AppOnVolume(_, on) => *on == volume,
        _ => false,
    };
    let mut shown = 0;
    for kind in [
        None,
        Some(Kind::Volume),
        Some(Kind::UserOnVolume),
        Some(Kind::AppOnVolume),
        Some(Kind::User),
        Some(Kind::Organisation),
        Some(Kind::Project),
    ] {
        for volume in [None, Some(rig.volume.id), Some(*other), Some(VolumeId::new())] {
            let filter = Filter { kind, volume };
            let expected: Vec<_> = everything
                .iter()
                .filter(|key| {
                    kind.is_none_or(|kind| is_kind(key, kind))
                        && volume.is_none_or(|volume| is_on(key, volume))
                })
                .cloned()
                .collect();
            shown += expected.len();
            assert_eq!(keys(&listed(rig, &all("clinic"), &filter, 2).await), expected, "{filter:?}");
        }
    }
    assert_eq!(shown, 2 * (17 + 12));
}

#[tokio::test]
async fn pages_of_quotas_skip_and_know_their_cursor() {
    let tenants = Tenants::new().await;
    let Tenants { rig, ann, bob, .. } = &tenants;
    let everything = tenants.all("clinic", &[ann.id(), bob.id()], &["trial", "Audit"]);
    let list = async |page| rig.store.list_quotas(&all("clinic"), &Filter::default(), &page).await;
    let whole = list(page(17, 0, None)).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (17, None));
    let found = list(page(4, 3, None)).await.unwrap();
    assert_eq!(keys(&found.items), everything[3..7]);
    let found = list(page(4, 1, found.next)).await.unwrap();
    assert_eq!(keys(&found.items), everything[8..12]);
    assert_eq!(list(page(4, 17, None)).await.unwrap().items, []);
    let foreign = Cursor { value: "x".to_owned(), id: Uuid::nil() };
    let refused = list(page(4, 0, Some(foreign))).await;
    assert!(
        matches!(&refused, Err(Error::Invalid(violations)) if violations[0].field == "page_token"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn limits_are_set_as_a_whole_on_quotas_of_every_kind() {
    let rig = Rig::new().await;
    let stranger = UserId::of_subject("https://issuer.example", "stranger");
    let all = Limits { bytes: Some(70), files: Some(8), max_file_bytes: Some(9) };
    let of_volume = Usage { limit_bytes: Some(70), ..Usage::default() };
    let of_entity = Usage { limit_files: Some(8), max_file_bytes: Some(9), ..of_volume };
    for (key, usage) in [
        (QuotaKey::Volume(rig.volume.id), of_volume),
        (QuotaKey::UserOnVolume(stranger, rig.volume.id), of_volume),
        (QuotaKey::AppOnVolume("chat".to_owned(), rig.volume.id), of_volume),
        (user("clinic", stranger), of_entity),
        (QuotaKey::Organisation("clinic".to_owned()), of_entity),
        (project("clinic", "trial"), of_entity),
    ] {
        for (limits, usage) in [(all, usage), (Limits::default(), Usage::default()), (all, usage)] {
            let set = set(&rig, &key, &limits).await.unwrap();
            assert_eq!((&set.key, set.usage), (&key, usage));
            assert_eq!(rig.store.quotas(std::slice::from_ref(&key)).await.unwrap(), [set]);
        }
    }
    assert_eq!(rig.text("SELECT count(*) FROM storage_operations WHERE operation = 'set_quota'").await, "18");
    rig.assert_no_drift().await;
    // They are kept where they are counted.
    let ann = Actor::user("ann").through("chat").on("trial");
    let refused = rig.upload(&ann, "a.txt", 10).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
    rig.put(&ann, "b.txt", 9).await;
    let lowered = Limits { bytes: Some(1), ..Limits::default() };
    let quota = set(&rig, &project("clinic", "trial"), &lowered).await.unwrap();
    assert_eq!(
        (quota.usage.limit_bytes, quota.usage.used_bytes, quota.usage.limit_files),
        (Some(1), 9, None)
    );
    rig.assert_no_drift().await;
}

#[tokio::test]
async fn a_limit_that_was_switched_off_is_on_again_when_it_is_set() {
    let rig = Rig::new().await;
    let key = QuotaKey::Organisation("clinic".to_owned());
    let limits = Limits { bytes: Some(5), ..Limits::default() };
    set(&rig, &key, &limits).await.unwrap();
    rig.run("UPDATE storage_quotas SET is_active = false").await;
    rig.put(&Actor::user("ann"), "a.txt", 6).await;
    assert_eq!(set(&rig, &key, &limits).await.unwrap().usage.limit_bytes, Some(5));
    let refused = rig.upload(&Actor::user("ann"), "b.txt", 1).run(&rig.store).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
}

#[tokio::test]
async fn a_volumes_limit_is_one_of_its_settings() {
    let rig = Rig::new().await;
    let key = QuotaKey::Volume(rig.volume.id);
    set(&rig, &key, &Limits { bytes: Some(70), ..Limits::default() }).await.unwrap();
    let volume = rig.store.volume(&rig.volume_ref()).await.unwrap().unwrap();
    assert_eq!(volume.settings.quota_limit, Some(70));
    assert!(volume.updated_at > rig.volume.updated_at);
    // Whoever has not seen it may not change the settings.
    let operation = operation(OperationKind::UpdateVolume);
    let stale = rig
        .store
        .update_volume(volume.id, rig.volume.updated_at, &rig.volume.settings, false, &operation, None)
        .await;
    assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
}

#[tokio::test]
async fn limits_need_their_volume_and_fit_into_their_columns() {
    let rig = Rig::new().await;
    let gone = rig.make_volume("gone", |_| {}).await;
    rig.store.delete_volume(gone.id, &operation(OperationKind::DeleteVolume), None).await.unwrap();
    let ann = Actor::user("ann").id();
    for volume in [gone.id, VolumeId::new()] {
        for key in [
            QuotaKey::Volume(volume),
            QuotaKey::UserOnVolume(ann, volume),
            QuotaKey::AppOnVolume("chat".to_owned(), volume),
        ] {
            let refused = set(&rig, &key, &Limits::default()).await;
            assert!(
                matches!(&refused, Err(Error::NotFound(Resource::Volume(id))) if *id == volume.to_string()),
                "{refused:?}"
            );
        }
    }
    let limits = |files| Limits { files: Some(files), ..Limits::default() };
    let most = u64::from(i32::MAX.unsigned_abs());
    let set_files = async |files| set(&rig, &user("clinic", ann), &limits(files)).await;
    assert_eq!(set_files(most).await.unwrap().usage.limit_files, Some(most));
    let refused = set_files(most + 1).await;
    assert!(
        matches!(&refused, Err(Error::Invalid(violations)) if violations[0].field == "limit_files"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn limits_set_twice_by_one_request_are_set_once() {
    let rig = Rig::new().await;
    let (key, request) = (QuotaKey::Organisation("clinic".to_owned()), request("SetQuota"));
    let limits = |bytes| Limits { bytes: Some(bytes), ..Limits::default() };
    let set = async |bytes| {
        let operation = operation(OperationKind::SetQuota);
        rig.store.set_quota(&key, &limits(bytes), &operation, Some(&request)).await.unwrap()
    };
    let first = set(5).await;
    rig.run("UPDATE storage_quotas SET max_storage_bytes = 6").await;
    assert_eq!(set(5).await, first);
    assert_eq!(rig.text("SELECT max_storage_bytes FROM storage_quotas").await, "6");
}
