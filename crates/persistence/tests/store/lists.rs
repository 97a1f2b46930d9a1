//! Pages.

use coffer_domain::error::Error;
use coffer_domain::file::{Filter, Order};
use coffer_domain::id::FileId;
use coffer_domain::page::{Cursor, PageRequest};
use coffer_domain::store::{Scope, Store};
use coffer_domain::volume::VolumeRef;
use uuid::Uuid;

use crate::rig::{Actor, Rig};

const FILES: usize = 250;

fn scope() -> Scope {
    Scope::Organisation("clinic".to_owned())
}

fn page(size: i32, skip: i32, after: Option<Cursor>) -> PageRequest {
    PageRequest::new(size, skip, after).unwrap()
}

/// Files of which many have equal names, sizes and times.
async fn fill(rig: &Rig) -> Vec<FileId> {
    let mut ids = Vec::new();
    let ann = Actor::user("ann");
    for n in 0..FILES {
        let mut upload = rig.upload(&ann, &format!("{}/{n}.txt", n % 3), (n % 7) as u64);
        upload.new_file().description.filename = ["a", "B", "é", "ab", "A b", "_"][n % 6].to_owned();
        ids.push(upload.run(&rig.store).await.unwrap().id);
    }
    rig.run(
        "UPDATE storage_files SET created_at = date_trunc('minute', created_at) + (version_number + size / 3) * interval '1 microsecond',
             updated_at = date_trunc('minute', updated_at) - (size / 2) * interval '1 hour'",
    )
    .await;
    ids
}

#[tokio::test]
async fn pages_in_every_order_have_every_file_once() {
    let rig = Rig::new().await;
    let ids = fill(&rig).await;
    for (order, column) in [
        (Order::Created, "created_at"),
        (Order::Updated, "updated_at"),
        (Order::Name, "filename COLLATE \"C\""),
        (Order::Size, "size"),
    ] {
        for (is_descending, direction) in [(false, "ASC"), (true, "DESC")] {
            let filter = Filter { order, is_descending, ..Filter::default() };
            let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let found = rig.store.files(&scope(), &filter, &page(17, 0, after)).await.unwrap();
                pages += 1;
                seen.extend(found.items.iter().map(|file| file.id.to_string()));
                after = found.next;
                if after.is_none() {
                    break;
                }
                assert_eq!(found.items.len(), 17);
            }
            assert_eq!((pages, seen.len()), (FILES.div_ceil(17), ids.len()), "{order:?} {direction}");
            let sorted =
                format!("SELECT id FROM storage_files ORDER BY {column} {direction}, id {direction}");
            assert_eq!(seen, rig.texts(&sorted).await, "{order:?} {direction}");
        }
    }
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last_and_skipping_skips() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(rig.put(&ann, &format!("{n}.txt"), 1).await.id);
    }
    let list = |page| {
        let store = rig.store.clone();
        async move { store.files(&scope(), &Filter::default(), &page).await.unwrap() }
    };
    let all = list(page(6, 0, None)).await;
    assert_eq!((all.items.len(), all.next), (6, None));
    let first = list(page(2, 1, None)).await;
    assert_eq!(first.items.iter().map(|file| file.id).collect::<Vec<_>>(), ids[1..3]);
    let second = list(page(2, 1, first.next)).await;
    assert_eq!(second.items.iter().map(|file| file.id).collect::<Vec<_>>(), ids[4..6]);
    assert_eq!(second.next, None);
    assert_eq!(list(page(5, 6, None)).await.items, []);
}

#[tokio::test]
async fn filters_narrow_what_the_scope_shows() {
    let rig = Rig::new().await;
    let other = rig.make_volume("other", |_| {}).await;
    let (ann, bob) = (Actor::user("ann").through("chat"), Actor::user("bob"));
    let (chat, foreign) = (Actor::app("chat"), Actor::user("ann").of("lab"));
    let put = async |actor: &Actor, path: &str| rig.put(actor, path, 1).await;
    let of_ann = put(&ann, "docs/a%.txt").await;
    let of_bob = put(&bob, "docs/b_.txt").await;
    let of_chat = put(&chat, "docs2/c.txt").await;
    put(&foreign, "docs/d.txt").await;
    let in_trash = put(&ann, "docs/e.txt").await;
    rig.trash(&in_trash).await;
    let elsewhere = rig.upload_to(&other, &ann, "docs/f.txt", 1).run(&rig.store).await.unwrap();
    let accented = put(&bob, "\u{e9}t\u{e9}/g.txt").await;

    let organisation = "clinic".to_owned();
    let as_user = |actor: &Actor| Scope::User { organisation: organisation.clone(), user: actor.id() };
    let as_app = |app: &str| Scope::App { organisation: organisation.clone(), app: app.to_owned() };
    let prefix = |text: &str| Filter { path_prefix: Some(text.to_owned()), ..Filter::default() };
    let all = Filter::default();
    let cases = [
        (scope(), all.clone(), vec![&of_ann, &of_bob, &of_chat, &elsewhere, &accented]),
        (as_user(&ann), all.clone(), vec![&of_ann, &elsewhere]),
        (as_user(&bob), all.clone(), vec![&of_bob, &accented]),
        (as_app("chat"), all.clone(), vec![&of_chat]),
        (as_app("mail"), all.clone(), vec![]),
        (Scope::Organisation("nobody".to_owned()), all.clone(), vec![]),
        (scope(), Filter { is_deleted: true, ..all.clone() }, vec![&in_trash]),
        (
            scope(),
            Filter { app: Some("chat".to_owned()), ..all.clone() },
            vec![&of_ann, &of_chat, &elsewhere],
        ),
        (scope(), Filter { owner: Some(bob.id()), ..all.clone() }, vec![&of_bob, &accented]),
        (as_user(&ann), Filter { owner: Some(bob.id()), ..all.clone() }, vec![]),
        (scope(), Filter { volume: Some(VolumeRef::Id(other.id)), ..all.clone() }, vec![&elsewhere]),
        (
            scope(),
            Filter { volume: Some(VolumeRef::Name("other".to_owned())), ..all.clone() },
            vec![&elsewhere],
        ),
        (scope(), Filter { volume: Some(VolumeRef::Name("absent".to_owned())), ..all.clone() }, vec![]),
        (scope(), prefix("docs/"), vec![&of_ann, &of_bob, &elsewhere]),
        (scope(), prefix("docs"), vec![&of_ann, &of_bob, &of_chat, &elsewhere]),
        (scope(), prefix("docs/a%"), vec![&of_ann]),
        (scope(), prefix("docs/_"), vec![]),
        (scope(), prefix(""), vec![&of_ann, &of_bob, &of_chat, &elsewhere, &accented]),
        (scope(), prefix("e\u{301}t"), vec![&accented]),
        (
            scope(),
            Filter {
                volume: Some(rig.volume_ref()),
                owner: Some(ann.id()),
                app: Some("chat".to_owned()),
                ..prefix("docs/")
            },
            vec![&of_ann],
        ),
    ];
    for (scope, filter, expected) in cases {
        let found = rig.store.files(&scope, &filter, &page(0, 0, None)).await.unwrap();
        let ids = |files: &mut dyn Iterator<Item = FileId>| files.collect::<Vec<_>>();
        assert_eq!(
            ids(&mut found.items.iter().map(|file| file.id)),
            ids(&mut expected.iter().map(|file| file.id)),
            "{scope:?} {filter:?}"
        );
    }
}

#[tokio::test]
async fn purged_files_are_in_no_list() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a.txt", 1).await;
    rig.trash(&file).await;
    let purge = crate::rig::operation(coffer_domain::operation::OperationKind::Purge);
    rig.store.purge_file(file.id, &purge, None).await.unwrap();
    for is_deleted in [true, false] {
        let filter = Filter { is_deleted, ..Filter::default() };
        assert_eq!(rig.store.files(&scope(), &filter, &page(0, 0, None)).await.unwrap().items, []);
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_malformed() {
    let rig = Rig::new().await;
    for order in [Order::Created, Order::Updated, Order::Size] {
        for value in ["", "x", "99999999999999999999"] {
            let after = Some(Cursor { value: value.to_owned(), id: Uuid::now_v7() });
            let filter = Filter { order, ..Filter::default() };
            let refused = rig.store.files(&scope(), &filter, &page(0, 0, after)).await;
            assert!(matches!(&refused, Err(Error::Invalid(f)) if f[0].field == "page_token"), "{refused:?}");
        }
    }
}
