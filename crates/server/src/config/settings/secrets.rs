//! What secrets are sealed under.

use super::{Setting, file, path, put};

pub(super) const TABLE: &[Setting] = &[Setting {
    key: "secrets.keys_file",
    doc: "File of the keys that stored secrets are sealed under (JSON, below), the same on all nodes. Looked at again every 10 s, on SIGHUP, and for a key that is not known. Without it: `keys.json` in the data directory, made at first start, with the embedded database; else no secret can be stored.",
    set: |c, v| put(&mut c.keys_file, file(v)),
    show: |c| c.keys_file.as_deref().and_then(path),
}];
