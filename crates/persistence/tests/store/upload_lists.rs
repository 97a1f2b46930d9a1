//! Pages of uploads.

use coffer_domain::error::Error;
use coffer_domain::id::UploadId;
use coffer_domain::operation::OperationKind;
use coffer_domain::page::{Cursor, PageRequest};
use coffer_domain::request::Request;
use coffer_domain::store::Store;
use coffer_domain::upload::{Filter, Scope, State};

use crate::rig::{Actor, Rig, operation, start_request};

fn page(size: i32, skip: i32, after: Option<Cursor>) -> PageRequest {
    PageRequest::new(size, skip, after).unwrap()
}

/// Uploads of Ann and Bob in the clinic and of Eve in the lab, one after the other, and some without a request.
async fn filled(rig: &Rig) -> Vec<(UploadId, &'static str)> {
    let mut uploads = Vec::new();
    for n in 0..30 {
        let (name, organisation) = [("ann", "clinic"), ("bob", "clinic"), ("eve", "lab")][n % 3];
        let request = Request { scope: format!("{organisation}//{name}"), ..start_request() };
        let path = format!("{}.txt", n % 5);
        let actor = Actor::user(name).of(organisation);
        let mut upload = rig.upload(&actor, &format!("{n}.txt"), 1).resumable(&request);
        upload.intent.spec = serde_json::json!({"path": path, "size": 1});
        rig.open(&upload).await;
        uploads.push((upload.intent.id, name));
        rig.open(&rig.upload(&actor, &format!("one-shot-{n}.txt"), 1)).await;
        match n % 4 {
            1 => drop(rig.store.commit_upload(&upload.commit).await.unwrap()),
            2 => {
                let why = operation(OperationKind::Upload).failed(&Error::ClientLeft);
                assert!(rig.store.abort_upload(upload.held(), &why).await.unwrap());
            }
            _ => {}
        }
    }
    uploads.reverse();
    uploads
}

async fn listed(rig: &Rig, scope: &Scope, filter: &Filter, size: i32) -> Vec<UploadId> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let found = rig.store.uploads(scope, filter, &page(size, 0, after)).await.unwrap();
        seen.extend(found.items.iter().map(|upload| upload.id));
        after = found.next;
        if after.is_none() {
            return seen;
        }
    }
}

fn of(uploads: &[(UploadId, &str)], names: &[&str]) -> Vec<UploadId> {
    uploads.iter().filter(|(_, name)| names.contains(name)).map(|(id, _)| *id).collect()
}

#[tokio::test]
async fn lists_show_an_organisation_or_a_callers_own_newest_first() {
    let rig = Rig::new().await;
    let uploads = filled(&rig).await;
    let own = |name: &str| Scope::Own(format!("clinic//{name}"));
    for (scope, names) in [
        (Scope::Organisation("clinic".to_owned()), &["ann", "bob"][..]),
        (Scope::Organisation("lab".to_owned()), &["eve"]),
        (Scope::Organisation("nowhere".to_owned()), &[]),
        (own("ann"), &["ann"]),
        (own("eve"), &[]),
    ] {
        let expected = of(&uploads, names);
        for size in [1, 3, 10, 100] {
            assert_eq!(listed(&rig, &scope, &Filter::default(), size).await, expected, "{scope:?} by {size}");
        }
    }
    let clinic = of(&uploads, &["ann", "bob"]);
    let found = rig
        .store
        .uploads(&Scope::Organisation("clinic".to_owned()), &Filter::default(), &page(3, 4, None))
        .await
        .unwrap();
    assert_eq!(found.items.iter().map(|upload| upload.id).collect::<Vec<_>>(), clinic[4..7]);
    assert_eq!(rig.store.upload(clinic[4]).await.unwrap(), Some(found.items[0].clone()));
}

#[tokio::test]
async fn lists_show_a_state_or_a_path() {
    let rig = Rig::new().await;
    let uploads = filled(&rig).await;
    let scope = Scope::Organisation("clinic".to_owned());
    // By the number with which each was made; they are newest first.
    let made = |keep: &dyn Fn(usize) -> bool| -> Vec<UploadId> {
        let of_clinic = |n: &usize| n % 3 != 2 && keep(*n);
        (0..30).rev().filter(of_clinic).map(|n| uploads[29 - n].0).collect()
    };
    let path = |path: &str| Some(path.to_owned());
    for (filter, expected) in [
        (Filter { state: Some(State::Open), path: None }, made(&|n| matches!(n % 4, 0 | 3))),
        (Filter { state: Some(State::Committed), path: None }, made(&|n| n % 4 == 1)),
        (Filter { state: Some(State::Aborted), path: None }, made(&|n| n % 4 == 2)),
        (Filter { state: Some(State::Expired), path: None }, vec![]),
        (Filter { state: None, path: path("2.txt") }, made(&|n| n % 5 == 2)),
        (Filter { state: Some(State::Committed), path: path("0.txt") }, made(&|n| n % 5 == 0 && n % 4 == 1)),
        (Filter { state: None, path: path("absent") }, vec![]),
    ] {
        assert_eq!(listed(&rig, &scope, &filter, 2).await, expected, "{filter:?}");
    }
}
