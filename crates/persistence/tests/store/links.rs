//! What is found at paths.

use coffer_domain::error::{Error, Taken};
use coffer_domain::file::{Changes, File};
use coffer_domain::operation::OperationKind;
use coffer_domain::store::{Link, Store};
use coffer_domain::volume::{Strategy, Volume};

use crate::rig::{Actor, Rig, operation};

const LINKS: &str = "SELECT concat_ws(' ', l.path, o.key, n.key, CASE WHEN l.due_at IS NULL THEN 'right' ELSE 'due' END)
    FROM storage_links l LEFT JOIN storage_objects o ON o.id = l.object_id LEFT JOIN storage_objects n ON n.id = l.next_object_id
    ORDER BY l.path";

async fn rig() -> (Rig, Volume) {
    let rig = Rig::new().await;
    let volume = rig.make_volume("paths", |settings| settings.strategy = Strategy::None).await;
    (rig, volume)
}

async fn put(rig: &Rig, volume: &Volume, actor: &Actor, path: &str, size: u64) -> File {
    rig.upload_to(volume, actor, path, size).linked().run(&rig.store).await.unwrap()
}

async fn begin(rig: &Rig, volume: &Volume, path: &str) -> Option<Link> {
    rig.store.begin_link(volume.id, path).await.unwrap()
}

/// Does what is due, as a node would.
async fn settle(rig: &Rig, volume: &Volume, path: &str) -> Vec<Link> {
    let mut done = Vec::new();
    while let Some(link) = begin(rig, volume, path).await {
        assert!(rig.store.linked(&link).await.unwrap());
        done.push(link);
    }
    done
}

#[tokio::test]
async fn a_path_is_due_when_what_is_to_be_found_there_changes() {
    let (rig, volume) = rig().await;
    let ann = Actor::user("ann");
    let file = put(&rig, &volume, &ann, "a/r\u{e9}sum\u{e9}", 10).await;
    let nfc = file.path.nfc();
    assert_eq!(rig.store.due_links(10).await.unwrap(), [(volume.id, nfc.clone())]);
    assert_eq!(rig.store.link_owner(volume.id, &nfc).await.unwrap().as_deref(), Some("clinic"));
    let link = begin(&rig, &volume, &nfc).await.unwrap();
    assert_eq!(link.next, Some((file.content.object, file.content.key.clone())));
    assert_eq!(link.before, []);
    assert!(rig.store.linked(&link).await.unwrap());
    assert_eq!(rig.text(LINKS).await, format!("{nfc} {} right", file.content.key));
    assert_eq!(begin(&rig, &volume, &nfc).await, None);
    assert_eq!(rig.store.due_links(10).await.unwrap(), []);

    // A new version, a move, the trash, and back.
    let second = rig.version(&ann, &file, 20).linked().run(&rig.store).await.unwrap();
    let [link] = &settle(&rig, &volume, &nfc).await[..] else { panic!("one change") };
    assert_eq!(link.next, Some((second.content.object, second.content.key.clone())));
    assert_eq!(link.before, std::slice::from_ref(&file.content.key));
    let changes = Changes { path: Some("b".to_owned()), ..Changes::default() };
    let update = operation(OperationKind::UpdateMetadata);
    rig.store.update_file(file.id, None, &changes, None, &update, None).await.unwrap();
    assert_eq!(rig.store.due_links(10).await.unwrap().len(), 2);
    let [link] = &settle(&rig, &volume, &nfc).await[..] else { panic!("one change") };
    assert_eq!((&link.next, &link.before[..]), (&None, &[second.content.key.clone()][..]));
    settle(&rig, &volume, "b").await;
    assert_eq!(rig.text(LINKS).await, format!("b {} right", second.content.key));
    rig.trash(&file).await;
    settle(&rig, &volume, "b").await;
    assert_eq!(rig.texts(LINKS).await, [""; 0]);
    let undelete = operation(OperationKind::Undelete);
    rig.store.undelete_file(file.id, None, None, &undelete, None).await.unwrap();
    settle(&rig, &volume, "b").await;
    assert_eq!(rig.text(LINKS).await, format!("b {} right", second.content.key));
    let known = rig.store.known_links(volume.id, &["b".to_owned(), "c".to_owned()]).await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ["b"]);
    // What changes nothing of that makes nothing due.
    let changes = Changes { tags: Some(Vec::new()), ..Changes::default() };
    let update = operation(OperationKind::UpdateMetadata);
    rig.store.update_file(file.id, None, &changes, None, &update, None).await.unwrap();
    assert_eq!(rig.store.due_links(10).await.unwrap(), []);
}

#[tokio::test]
async fn elsewhere_nothing_is_found_at_paths() {
    let rig = Rig::new().await;
    let file = rig.put(&Actor::user("ann"), "a", 10).await;
    rig.trash(&file).await;
    assert_eq!(rig.texts(LINKS).await, [""; 0]);
}

/// Whoever died between two steps has left what the next one needs to know.
#[tokio::test]
async fn what_was_begun_comes_first() {
    let (rig, volume) = rig().await;
    let ann = Actor::user("ann");
    let first = put(&rig, &volume, &ann, "a", 10).await;
    settle(&rig, &volume, "a").await;
    let second = rig.version(&ann, &first, 20).linked().run(&rig.store).await.unwrap();
    let begun = begin(&rig, &volume, "a").await.unwrap();
    let third = rig.version(&ann, &first, 30).linked().run(&rig.store).await.unwrap();
    // Neither is reclaimed while it may be what is found.
    assert_eq!(rig.store.due_reclaims(10).await.unwrap(), []);
    let again = begin(&rig, &volume, "a").await.unwrap();
    assert_eq!(again.next, begun.next);
    assert_eq!(again.before, [first.content.key.clone(), second.content.key.clone()]);
    assert!(rig.store.linked(&again).await.unwrap());
    // It is not what the file says any more, and the one who began it is too late.
    assert!(!rig.store.linked(&begun).await.unwrap());
    let [link] = &settle(&rig, &volume, "a").await[..] else { panic!("one change") };
    assert_eq!(link.next, Some((third.content.object, third.content.key.clone())));
    assert_eq!(rig.text(LINKS).await, format!("a {} right", third.content.key));
    let mut due: Vec<_> = rig.store.due_reclaims(10).await.unwrap().into_iter().map(|due| due.key).collect();
    due.sort();
    let mut expected = vec![first.content.key, second.content.key];
    expected.sort();
    assert_eq!(due, expected);
    // Deleted after that was begun: both may be there.
    let fourth =
        rig.version(&ann, &rig.file(first.id).await.unwrap(), 40).linked().run(&rig.store).await.unwrap();
    begin(&rig, &volume, "a").await.unwrap();
    rig.trash(&fourth).await;
    let gone = begin(&rig, &volume, "a").await.unwrap();
    assert_eq!((gone.next.clone(), &gone.before[..]), (None, &[third.content.key, fourth.content.key][..]));
    // Back again meanwhile: what was found to be gone is not the end.
    let undelete = operation(OperationKind::Undelete);
    rig.store.undelete_file(first.id, None, None, &undelete, None).await.unwrap();
    assert!(!rig.store.linked(&gone).await.unwrap());
    assert!(begin(&rig, &volume, "a").await.unwrap().next.is_some());
}

#[tokio::test]
async fn what_fails_is_due_later_and_at_once_after_a_change() {
    let (rig, volume) = rig().await;
    let ann = Actor::user("ann");
    let file = put(&rig, &volume, &ann, "a", 10).await;
    let link = begin(&rig, &volume, "a").await.unwrap();
    rig.store.link_failed(&link, "something else\0 is there").await.unwrap();
    assert_eq!(rig.store.due_links(10).await.unwrap(), []);
    let why =
        "SELECT last_error FROM storage_links WHERE attempts = 1 AND due_at > now() + interval '5 seconds'";
    assert_eq!(rig.text(why).await, "something else is there");
    rig.version(&ann, &file, 20).linked().run(&rig.store).await.unwrap();
    assert_eq!(rig.store.due_links(10).await.unwrap().len(), 1);
    // The failure of what was to be before is not one of what is to be now.
    rig.store.link_failed(&link, "late").await.unwrap();
    assert_eq!(rig.store.due_links(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_path_has_one_tenant() {
    let (rig, volume) = rig().await;
    let (ann, bob) = (Actor::user("ann"), Actor::user("bob").of("lab"));
    let file = put(&rig, &volume, &ann, "a", 10).await;
    let refused = rig.upload_to(&volume, &bob, "a", 10).linked().run(&rig.store).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Taken::Path))), "{refused:?}");
    settle(&rig, &volume, "a").await;
    rig.trash(&file).await;
    settle(&rig, &volume, "a").await;
    put(&rig, &volume, &bob, "a", 10).await;
    assert_eq!(rig.store.link_owner(volume.id, "a").await.unwrap().as_deref(), Some("lab"));
    // What comes in another's way all the same leaves it to him.
    let undelete = operation(OperationKind::Undelete);
    rig.store.undelete_file(file.id, None, None, &undelete, None).await.unwrap();
    assert_eq!(rig.store.link_owner(volume.id, "a").await.unwrap().as_deref(), Some("lab"));
}
