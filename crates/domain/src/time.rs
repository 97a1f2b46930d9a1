//! Time as Coffer keeps it: UTC, in whole microseconds, which is what PostgreSQL stores.

use chrono::{DateTime, SubsecRound as _, Utc};

/// A moment in UTC with microsecond precision.
pub type Timestamp = DateTime<Utc>;

/// The present moment, cut to microseconds so that what is written equals what is read back.
pub fn now() -> Timestamp {
    Utc::now().trunc_subsecs(6)
}
