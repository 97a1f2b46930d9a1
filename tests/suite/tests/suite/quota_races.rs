//! Quotas under races: what fits gets in, nothing more ever does, and nothing stays reserved.

#[path = "quota_races/dimensions.rs"]
mod dimensions;
#[path = "quota_races/last_mebibyte.rs"]
mod last_mebibyte;
#[path = "quota_races/rig.rs"]
mod rig;
#[path = "quota_races/steps.rs"]
mod steps;
