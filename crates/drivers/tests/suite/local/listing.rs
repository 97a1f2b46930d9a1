//! Listings of trees of any shape.

use super::open;
use crate::support::all_keys;
use coffer_domain::{driver::Driver as _, path::Key};
use proptest::prelude::*;
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

/// Makes the files that can be made together, and answers their keys in byte order.
fn plant(root: &Path, keys: &[String]) -> Vec<String> {
    let made = |key: &&String| {
        let path = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() && fs::write(&path, key).is_ok()
    };
    let mut planted: Vec<_> = keys.iter().filter(made).cloned().collect();
    planted.sort();
    planted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_the_sorted_keys_in_pages_of_any_size(
        keys in prop::collection::vec("([a-c0!.é-]{1,3}/){0,3}[a-c0!é~-]{1,3}", 0..40),
        after in "([a-c0!é-]{1,3}/){0,2}[a-c0!é-]{1,3}",
        prefix in "([a-c]{1,2}/){0,2}[a-c]{0,1}",
        limit in 1_usize..45,
    ) {
        let place = TempDir::new().unwrap();
        let keys: Vec<_> = keys.into_iter().filter(|key| Key::parse(key.as_str()).is_ok()).collect();
        let planted = plant(place.path(), &keys);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let driver = open(place.path()).await;
            prop_assert_eq!(&all_keys(&driver, "", limit).await, &planted);
            let below: Vec<_> = planted.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(&all_keys(&driver, &prefix, limit).await, &below);
            let after = Key::parse(after).unwrap();
            let later: Vec<_> = below.into_iter().filter(|key| key.as_str() > after.as_str()).take(limit).collect();
            let found = driver.list(&prefix, Some(&after), limit).await.unwrap();
            let found: Vec<_> = found.into_iter().map(|listed| listed.key.to_string()).collect();
            prop_assert_eq!(found, later);
            Ok(())
        })?;
    }
}

/// More names in one directory than are held at a time, empty directories among them.
#[tokio::test]
async fn a_large_directory_is_listed_in_parts() {
    let place = TempDir::new().unwrap();
    let mut keys: Vec<_> = (0..9_000).map(|n| format!("{:x}", n * 7_919 % 9_000)).collect();
    let mut planted = plant(place.path(), &keys);
    for n in 0..5_000 {
        fs::create_dir(place.path().join(format!("-{n}"))).unwrap();
    }
    keys.sort();
    keys.dedup();
    planted.dedup();
    assert_eq!(planted, keys);
    let driver = open(place.path()).await;
    for limit in [1_000, 4_096, 10_000] {
        assert_eq!(all_keys(&driver, "", limit).await, keys, "{limit}");
    }
    let last = driver.list("", Some(&Key::parse(&keys[8_997][..]).unwrap()), 5).await.unwrap();
    assert_eq!(last.len(), 2);
}

/// The names before a directory fill the first part: where the next part begins, the slash counts.
#[tokio::test]
async fn a_directory_between_parts_is_not_lost() {
    let place = TempDir::new().unwrap();
    let keys: Vec<_> = (1_000..6_000).map(|n| format!("m!{n}")).chain(["m/below".to_owned()]).collect();
    assert_eq!(plant(place.path(), &keys), keys);
    // In one call: a second one would find what the first has passed over.
    let found = open(place.path()).await.list("", None, 10_000).await.unwrap();
    assert_eq!(found.into_iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>(), keys);
}

#[tokio::test]
async fn what_is_not_ours_is_passed_over() {
    let place = TempDir::new().unwrap();
    let root = place.path();
    assert_eq!(plant(root, &["a".into(), "d/e".into()]).len(), 2);
    symlink("/etc/passwd", root.join("link")).unwrap();
    symlink("/etc", root.join("link-to-directory")).unwrap();
    symlink("missing", root.join("dangling")).unwrap();
    for name in [b"b\xff".as_slice(), b"c\n", b"c\\d"] {
        fs::write(root.join(OsStr::from_bytes(name)), "").unwrap();
        fs::create_dir(root.join(OsStr::from_bytes(&[name, b".d"].concat()))).unwrap();
        fs::write(root.join(OsStr::from_bytes(&[name, b".d/below"].concat())), "").unwrap();
    }
    let driver = open(root).await;
    for limit in [1, 2, 100] {
        assert_eq!(all_keys(&driver, "", limit).await, ["a", "d/e"]);
    }
}
