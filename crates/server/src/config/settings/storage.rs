//! Volumes, transfers, and what is put in order behind them.

use std::path::PathBuf;

use coffer_domain::volume::VolumeRef;

use super::{DAY, HOUR, MIB, MINUTE, SECOND, Setting, duration, path, put, text};
use crate::config::value::{self, Value};

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "default_volume",
        doc: "Name of the volume of requests that name none. Made in the data directory if there is none of that name.",
        set: |c, v| put(&mut c.default_volume, volume_name(v)),
        show: |c| text(&c.default_volume),
    },
    Setting {
        key: "local_paths.allowed_roots",
        doc: "Directories below which operators may approve paths for local volumes, beside `volumes` in the data directory: a list, or separated by `:`.",
        set: |c, v| put(&mut c.allowed_roots, v.absolute_paths()),
        show: |c| Some(list(&c.allowed_roots)),
    },
    Setting {
        key: "sftp.key_folder",
        doc: "Absolute path of the folder below which operators may name files of private keys for SFTP servers, which this node reads. Without it none can be used.",
        set: |c, v| put(&mut c.key_folder, v.absolute_path().map(Some)),
        show: |c| c.key_folder.as_deref().and_then(path),
    },
    Setting {
        key: "transfer.stall_timeout",
        doc: "How long a client may send or take nothing before its stream ends, 1s to 1h.",
        set: |c, v| put(&mut c.stall_timeout, v.duration(SECOND, HOUR)),
        show: |c| duration(c.stall_timeout),
    },
    Setting {
        key: "transfer.min_rate",
        doc: "Bytes per second that a client must send on average of the time above, as in `16KiB`, up to 1GiB; 0: any. Time in which the service does not take what was sent does not count.",
        set: |c, v| put(&mut c.min_rate, v.size(0, 1024 * MIB).map(|bytes| bytes as u64)),
        show: |c| text(value::size(usize::try_from(c.min_rate).unwrap_or(usize::MAX))),
    },
    Setting {
        key: "node.lease",
        doc: "How long after its last sign of life other nodes undo what this one had begun, 3s to 10m. Renewed three times as often.",
        set: |c, v| put(&mut c.node_lease, v.duration(3 * SECOND, 10 * MINUTE)),
        show: |c| duration(c.node_lease),
    },
    Setting {
        key: "reconcile.interval",
        doc: "Pause between looks for dead uploads and bytes to remove, 1s to 1h.",
        set: |c, v| put(&mut c.reconcile.interval, v.duration(SECOND, HOUR)),
        show: |c| duration(c.reconcile.interval),
    },
    Setting {
        key: "reconcile.scan_interval",
        doc: "Pause between comparisons of whole volumes with their rows, 1m to 720h. One is made at start.",
        set: |c, v| put(&mut c.reconcile.scan_interval, v.duration(MINUTE, 30 * DAY)),
        show: |c| duration(c.reconcile.scan_interval),
    },
    Setting {
        key: "reconcile.orphan_grace",
        doc: "Age below which bytes without a row are left alone, 1s to 720h.",
        set: |c, v| put(&mut c.reconcile.orphan_grace, v.duration(SECOND, 30 * DAY)),
        show: |c| duration(c.reconcile.orphan_grace),
    },
];

fn volume_name(value: &Value) -> Result<String, String> {
    match VolumeRef::parse(value.text()?) {
        Some(VolumeRef::Name(name)) => Ok(name),
        _ => {
            Err("must be 1 to 100 of a-z 0-9 - _ . and begin with a letter or digit, and no UUID".to_owned())
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().filter_map(|item| path(item)).collect();
    format!("[{}]", paths.join(", "))
}
