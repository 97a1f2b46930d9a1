//! Objects that the backend makes of others.

use crate::support::{all_keys, fresh_key, key, kind, noise, read, write};
use coffer_domain::{
    driver::{Driver, ErrorKind},
    id::UploadId,
};
use futures_util::future::join_all;

pub(super) async fn a_copy_is_an_object_of_its_own(driver: &dyn Driver) {
    requires!(driver, copy);
    for length in [0, 1, 100_000, 9_000_001] {
        let (from, to, content) = (fresh_key(), fresh_key(), noise(length, 8));
        write(driver, &from, &content).await.unwrap();
        assert_eq!(driver.copy(UploadId::new(), &from, &to).await.unwrap().size, length as u64);
        assert!(read(driver, &to).await.unwrap() == content, "{length}");
        assert_eq!(driver.stat(&to).await.unwrap().unwrap().size, length as u64);
        driver.delete(&from).await.unwrap();
        assert!(read(driver, &to).await.unwrap() == content, "each stays when the other goes");
        driver.copy(UploadId::new(), &to, &from).await.unwrap();
        driver.delete(&to).await.unwrap();
        assert!(read(driver, &from).await.unwrap() == content);
    }
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn a_copy_never_replaces_what_was_there(driver: &dyn Driver) {
    requires!(driver, copy);
    let (from, to) = (fresh_key(), fresh_key());
    write(driver, &from, &noise(1000, 1)).await.unwrap();
    write(driver, &to, &noise(2000, 2)).await.unwrap();
    let taken = Some(ErrorKind::AlreadyExists);
    assert_eq!(kind(driver.copy(UploadId::new(), &from, &to).await), taken);
    assert_eq!(kind(driver.copy(UploadId::new(), &from, &from).await), taken);
    assert_eq!(read(driver, &to).await.unwrap(), noise(2000, 2));
    assert_eq!(read(driver, &from).await.unwrap(), noise(1000, 1));
    if driver.capabilities().create_only {
        let target = fresh_key();
        let copies = join_all((0..8).map(|_| driver.copy(UploadId::new(), &from, &target))).await;
        assert_eq!(copies.iter().filter(|copy| copy.is_ok()).count(), 1);
        assert!(copies.into_iter().all(|copy| matches!(kind(copy), None | Some(ErrorKind::AlreadyExists))));
    }
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn a_copy_of_what_is_absent_leaves_nothing(driver: &dyn Driver) {
    requires!(driver, copy);
    let (object, to) = (key("aa/bb/object"), fresh_key());
    write(driver, &object, &noise(10, 1)).await.unwrap();
    // A folder is no object, and nothing is below one.
    for absent in [fresh_key(), key("aa/bb"), key("aa/bb/object/below")] {
        let failure = driver.copy(UploadId::new(), &absent, &to).await.unwrap_err();
        assert_eq!((failure.kind, failure.operation), (ErrorKind::NotFound, "copy"), "{absent}");
        assert_eq!(driver.stat(&to).await.unwrap(), None);
    }
    assert_eq!(all_keys(driver, "", 100).await, ["aa/bb/object"]);
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}
