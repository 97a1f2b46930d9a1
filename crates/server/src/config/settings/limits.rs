//! How much may be in progress.

use super::{MIB, Setting, put, text};
use crate::config::value;

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "limits.requests",
        doc: "Requests and streams in progress at once, 1 to 1000000. More are refused (`OVERLOADED`); those that run go on.",
        set: |c, v| put(&mut c.limits.requests, v.number(1, 1_000_000)),
        show: |c| Some(c.limits.requests.to_string()),
    },
    Setting {
        key: "limits.requests_per_principal",
        doc: "Of these, those of one user, app, or user through an app; of callers without a token, those of one source; 1 to 1000000. More are refused (`LIMIT_REACHED`).",
        set: |c, v| put(&mut c.limits.requests_per_principal, v.number(1, 1_000_000)),
        show: |c| Some(c.limits.requests_per_principal.to_string()),
    },
    Setting {
        key: "limits.uploads_per_principal",
        doc: "Of these, streams that upload, 1 to 1000000.",
        set: |c, v| put(&mut c.limits.uploads_per_principal, v.number(1, 1_000_000)),
        show: |c| Some(c.limits.uploads_per_principal.to_string()),
    },
    Setting {
        key: "limits.open_uploads_per_principal",
        doc: "Uploads that one user, app, or user through an app may have started and not ended, on all nodes, 1 to 1000000. A few more may slip through at once.",
        set: |c, v| put(&mut c.limits.open_uploads_per_principal, v.number(1, 1_000_000)),
        show: |c| Some(c.limits.open_uploads_per_principal.to_string()),
    },
    Setting {
        key: "memory.budget",
        doc: "Memory for bytes on their way, in HTTP/2's windows and in transfers, 16MiB to 16GiB. The more is in use, the less each connection and transfer gets.",
        set: |c, v| put(&mut c.memory_budget, v.size(16 * MIB, 16 * 1024 * MIB)),
        show: |c| text(value::size(c.memory_budget)),
    },
];
