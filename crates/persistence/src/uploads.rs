//! Uploads: begun, looked up, carried on, ended, swept.
//!
//! Whoever changes an upload names the epoch he knows. It grows when somebody takes the upload over or ends it, so that what
//! comes late changes nothing. Whatever ends an upload gives back, in the same transaction, what it holds.

pub(crate) use commit::Commits;
pub(crate) use dead::{dead, live};
pub(crate) use end::{abort, cancel, swept};
pub(crate) use find::{find, list, requested};
pub(crate) use open::{Open, Opens};
pub(crate) use progress::{checkpoint, finish, grow, reopen, take};

mod commit;
mod dead;
mod end;
mod find;
mod open;
mod progress;
mod row;

/// States in which an upload can still become a file.
const LIVE: [&str; 2] = ["OPEN", "FINISHING"];
