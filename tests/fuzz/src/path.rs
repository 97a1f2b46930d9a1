//! Paths and keys: what is accepted is a place below its root, and is the same when it is written and read again.

use coffer_domain::path::{
    Key, MAX_KEY_BYTES, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, PathRules, RESERVED, StoragePath,
    VERSIONS,
};
use std::path::{Component, Path};

/// Length of an id's text.
const ID_BYTES: usize = 36;

/// The first byte chooses the volume's rules, the rest is the path.
pub(crate) fn path(data: &[u8]) {
    let Some((rules, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (is_hierarchical, delimiter) = match rules % 4 {
        0 => (true, "/"),
        1 => (true, "::"),
        2 => (true, "|"),
        _ => (false, "/"),
    };
    storage_path(text, &PathRules { is_hierarchical, delimiter: delimiter.to_owned() });
    key(text);
}

fn storage_path(text: &str, rules: &PathRules) {
    let Ok(path) = StoragePath::parse(text, rules) else { return };
    assert_eq!(path.as_str(), text, "a path is kept as given");
    assert_eq!(path.to_string(), text);
    assert!((1..=MAX_PATH_BYTES).contains(&text.len()) && path.nfc().len() <= MAX_PATH_BYTES);
    let segments = rules.segments(text);
    assert!(segments.len() <= MAX_SEGMENTS);
    assert!(!segments[0].eq_ignore_ascii_case(RESERVED), "the service's own folder is nobody's");
    assert!(segments.iter().all(|segment| (1..=MAX_SEGMENT_BYTES).contains(&segment.len())));
    // Whatever a backend makes of its segments, each is one name in the folder before it.
    below_its_root(&segments.join("/"), segments.len());
    below_its_root(&path.nfc(), if rules.delimiter == "/" { segments.len() } else { 1 });
    assert_eq!(segments.last(), Some(&path.filename(rules)));
    // What is looked up does not change by being looked up again.
    if let Ok(again) = StoragePath::parse(&path.nfc(), rules) {
        assert_eq!(again.nfc(), path.nfc());
    }
    let json = serde_json::to_string(&path).expect("a path is a text");
    assert_eq!(serde_json::from_str::<StoragePath>(&json).ok(), Some(path));
}

fn key(text: &str) {
    let Ok(key) = Key::parse(text) else { return };
    assert_eq!(key.as_str(), text);
    assert!((1..=MAX_KEY_BYTES).contains(&text.len()));
    below_its_root(text, text.split('/').count());
    if key.is_made() {
        // Such a key follows from its name: whatever is in the service's own folder, or in those of the name's first digits.
        let (folders, name) = text.rsplit_once('/').expect("it lies in a folder");
        let (digits, id) = (folders.replace('/', ""), &name[name.len() - ID_BYTES..]);
        assert!(format!("{folders}/") == VERSIONS || name.starts_with(&digits), "{text}");
        assert_eq!(id, id.to_lowercase(), "ids are written in one way");
    }
    let json = serde_json::to_string(&key).expect("a key is a text");
    assert_eq!(serde_json::from_str::<Key>(&json).ok(), Some(key));
}

/// The path has so many names, none of which leads up or to a root, and no byte that ends a name early.
fn below_its_root(path: &str, names: usize) {
    let components: Vec<_> = Path::new(path).components().collect();
    assert!(components.iter().all(|component| matches!(component, Component::Normal(_))), "{path:?}");
    assert_eq!(components.len(), names, "{path:?}");
    assert!(!path.contains(['\0', '\\', '\r', '\n']), "{path:?}");
}
