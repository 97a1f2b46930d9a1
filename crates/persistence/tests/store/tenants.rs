//! Organisations do not exist for each other.

use coffer_domain::operation::{self, Operation};
use coffer_domain::page::PageRequest;
use coffer_domain::store::{Lookup, Scope, Store};

use crate::rig::{Actor, Rig};

#[tokio::test]
async fn two_tenants_with_equal_paths_and_names_do_not_meet() {
    let rig = Rig::new().await;
    let mut files = Vec::new();
    for organisation in ["clinic", "lab", ""] {
        // The same person works for all three.
        let actor = Actor::user("ann").of(organisation).through("chat").on("trial");
        let mut upload = rig.upload(&actor, "same/path.txt", 4);
        upload.new_file().file_id = "same-name".to_owned();
        files.push((organisation, upload.run(&rig.store).await.unwrap()));
    }
    for (organisation, file) in &files {
        let organisation = (*organisation).to_owned();
        for lookup in [
            Lookup::Name { organisation: organisation.clone(), name: "same-name".to_owned() },
            Lookup::Path {
                organisation: organisation.clone(),
                volume: rig.volume_ref(),
                nfc: "same/path.txt".to_owned(),
            },
        ] {
            assert_eq!(rig.store.file(&lookup).await.unwrap().as_ref(), Some(file));
        }
        let user = file.owner.user.unwrap();
        for scope in [
            Scope::Organisation(organisation.clone()),
            Scope::User { organisation: organisation.clone(), user },
        ] {
            let page = PageRequest::new(0, 0, None).unwrap();
            let found = rig.store.files(&scope, &Default::default(), &page).await.unwrap();
            assert_eq!(found.items, std::slice::from_ref(file));
        }
        let page = PageRequest::new(0, 0, None).unwrap();
        let found = rig.store.operations(&organisation, &operation::Filter::default(), &page).await.unwrap();
        let of_files: Vec<_> =
            found.items.iter().filter_map(|record| Operation::from_record(record).unwrap().file_id).collect();
        assert_eq!(of_files, [file.id]);
    }
    // The organisation without a name has a user's and a project's quota, and none of its own.
    assert_eq!(
        rig.texts("SELECT entity_type || ' ' || organisation_id FROM storage_quotas ORDER BY 1").await,
        [
            "organization clinic",
            "organization lab",
            "project ",
            "project clinic",
            "project lab",
            "user ",
            "user clinic",
            "user lab"
        ]
    );
    assert_eq!(rig.text("SELECT quota_used FROM user_quotas").await, "12");
    rig.assert_no_drift().await;
}
