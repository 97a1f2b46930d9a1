use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use coffer_domain::error::{Error, State};
use coffer_domain::secret::{KeyId, Secret};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Column, KeyRing, Sealed, add_key, load_or_create};

fn made(directory: &Path) -> KeyRing {
    load_or_create(&directory.join("keys.json"), true).unwrap()
}

fn why(outcome: Result<Secret, Error>) -> (String, &'static str) {
    match outcome {
        Err(Error::SecretUnreadable { key, why }) => (key, why),
        other => panic!("{other:?}"),
    }
}

const CHANGED: &str = "the key is another one, or what is stored was changed";

#[test]
fn what_is_sealed_is_opened_in_its_row_and_column_alone() {
    let directory = tempfile::tempdir().unwrap();
    let ring = made(directory.path());
    let (row, other) = (Uuid::now_v7(), Uuid::now_v7());
    let secret = Secret::new("swordfish");
    let sealed = ring.seal(Column::S3SecretKey, row, &secret).unwrap();
    assert_eq!(ring.open(Column::S3SecretKey, row, &sealed).unwrap(), secret);
    assert_eq!(why(ring.open(Column::S3SecretKey, other, &sealed)).1, CHANGED);
    assert_eq!(why(ring.open(Column::HttpCredentials, row, &sealed)).1, CHANGED);
    let again = ring.seal(Column::S3SecretKey, row, &secret).unwrap();
    assert_ne!(sealed.bytes, again.bytes, "equal secrets cannot be told to be equal");
}

#[test]
fn a_lost_and_a_wrong_key_are_told_by_name() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ring, other) = (made(one.path()), made(two.path()));
    let row = Uuid::now_v7();
    let sealed = ring.seal(Column::S3SecretKey, row, &Secret::new("swordfish")).unwrap();
    let name = sealed.key.to_string();
    assert_eq!(why(other.open(Column::S3SecretKey, row, &sealed)), (name, "the service has no such key"));
    let renamed = Sealed { key: other.current().unwrap(), ..sealed };
    assert_eq!(
        why(other.open(Column::S3SecretKey, row, &renamed)),
        (other.current().unwrap().to_string(), CHANGED)
    );
    assert!(matches!(
        KeyRing::default().seal(Column::S3SecretKey, row, &Secret::new("x")),
        Err(Error::State(State::NoKeys))
    ));
}

#[test]
fn both_forms_read_back_and_damaged_ones_do_not() {
    let sealed = Sealed { key: "k-1".parse().unwrap(), bytes: vec![0, 255, 7] };
    for column in Column::ALL {
        let stored = column.write(&sealed);
        assert_eq!(column.read(&stored).unwrap(), sealed, "{stored}");
        for damaged in [
            String::new(),
            "swordfish".to_owned(),
            "{}".to_owned(),
            "v127.k-1.AP8H".to_owned(),
            r#"{"v":127,"kid":"k-1","ct":"AP8H"}"#.to_owned(),
            stored.replace("k-1", "k 1"),
            stored.replace("AP8H", "A"),
            stored.replace("AP8H", "****"),
            stored[..stored.len() / 2].to_owned(),
        ] {
            assert!(matches!(column.read(&damaged), Err(Error::SecretUnreadable { .. })), "{damaged}");
        }
    }
}

#[test]
fn a_new_key_seals_and_the_old_one_still_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (ring, elsewhere) = (made(directory.path()), made(directory.path()));
    let row = Uuid::now_v7();
    let old = ring.seal(Column::HttpCredentials, row, &Secret::new("swordfish")).unwrap();
    let id = add_key(&path).unwrap();
    assert_eq!(ring.must_be_current(None).unwrap(), id);
    assert_eq!(ring.open(Column::HttpCredentials, row, &old).unwrap().expose(), "swordfish");
    let new = ring.seal_anew(&id, Column::HttpCredentials, row, &old).unwrap();
    assert_eq!(new.key, id);
    // A process that has not heard of the key finds it in the file.
    assert_eq!(elsewhere.open(Column::HttpCredentials, row, &new).unwrap().expose(), "swordfish");
    assert!(matches!(ring.must_be_current(Some(&old.key)), Err(Error::Invalid(_))));
    let unknown: KeyId = "unknown".parse().unwrap();
    assert!(matches!(ring.must_be_current(Some(&unknown)), Err(Error::NotFound(_))));
}

#[test]
fn a_file_of_keys_is_for_its_owner_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    assert!(load_or_create(&path, false).is_err(), "nothing is made unasked");
    let ring = made(directory.path());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(made(directory.path()).current(), ring.current(), "what is there stays");
    let text = fs::read_to_string(&path).unwrap();
    let key = text.split('"').rfind(|part| part.len() == 44).unwrap().to_owned();
    let current = ring.current().unwrap().to_string();
    for (bad, told) in [
        (text.replace(&key, &key[..40]), "bytes, not 32"),
        (text.replace(&key, "AAAA"), "has 3 bytes, not 32"),
        (text.replace(&key, "not base64!"), "is not base64"),
        (text.replacen(&current, "another", 1), "is not among the keys"),
        (text.replace("current", "currant"), "must be {"),
        (key.clone(), "must be {"),
        (String::new(), "must be {"),
    ] {
        fs::write(&path, &bad).unwrap();
        let error = load_or_create(&path, true).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(!error.contains(&key) && !error.contains("not base64!"), "{error} tells what is in the file");
        assert!(ring.reload().is_err() && ring.current().is_some(), "the keys before still are used");
    }
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let error = load_or_create(&path, true).unwrap_err().to_string();
    assert!(error.contains("must not be accessible to others"), "{error}");
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["keys.json"], "nothing is left beside it");
}

#[test]
fn a_ring_is_shown_by_the_names_of_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let ring = made(directory.path());
    let text = fs::read_to_string(directory.path().join("keys.json")).unwrap();
    let key = text.split('"').rfind(|part| part.len() == 44).unwrap();
    let shown = format!("{ring:?}");
    assert!(shown.contains(ring.current().unwrap().as_str()) && !shown.contains(key), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_bit_is_opened(text in "\\PC{0,64}", row: u128, at: prop::sample::Index, bit in 0..8_u8) {
        let directory = tempfile::tempdir().unwrap();
        let ring = made(directory.path());
        let row = Uuid::from_u128(row);
        for column in Column::ALL {
            let sealed = ring.seal(column, row, &Secret::new(text.as_str())).unwrap();
            prop_assert_eq!(ring.open(column, row, &sealed).unwrap(), Secret::new(text.as_str()));
            let mut changed = sealed.clone();
            let at = at.index(changed.bytes.len());
            changed.bytes[at] ^= 1 << bit;
            prop_assert_eq!(why(ring.open(column, row, &changed)).1, CHANGED);
            let mut cut = sealed.clone();
            cut.bytes.truncate(at);
            prop_assert_eq!(why(ring.open(column, row, &cut)).1, CHANGED);
        }
    }
}
