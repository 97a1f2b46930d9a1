//! What the drivers of remote backends share.

pub(crate) mod buffer;
pub(crate) mod failure;
pub(crate) mod holds;
pub(crate) mod names;
pub(crate) mod piece;
pub(crate) mod reading;
pub(crate) mod resized;
pub(crate) mod room;
pub(crate) mod wanted;
pub(crate) mod xml;

pub(crate) use buffer::Buffer;
pub(crate) use failure::{Failure, insist};
pub(crate) use holds::{Hold, Holds};
pub(crate) use piece::{Piece, cover, next_generation};
pub(crate) use resized::resized;
pub(crate) use room::Room;
pub(crate) use wanted::Wanted;

use coffer_domain::{driver::ErrorKind, time::Timestamp};

/// The moment that a header or a listing tells, in whole seconds: one may tell more than the other.
pub(crate) fn moment(text: Option<&str>) -> Result<Timestamp, Failure> {
    use chrono::{DateTime, SubsecRound as _};
    let parsed = text.and_then(|text| {
        DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_rfc3339(text)).ok()
    });
    let parsed = parsed.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "an object without a date"))?;
    Ok(parsed.to_utc().trunc_subsecs(0))
}

/// How much longer than usual a server may take to copy so many bytes: at 16 MiB per second.
pub(crate) fn time_to_copy(bytes: u64) -> std::time::Duration {
    std::time::Duration::from_secs(bytes / (16 * 1024 * 1024))
}

/// How long is waited before something is tried again after so many failures.
pub(crate) async fn pause(failures: u32) {
    use std::time::Duration;
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    let longest = Duration::from_millis(200) * (1 << failures.min(5));
    tokio::time::sleep(longest.mul_f64(f64::from(random) / f64::from(u32::MAX))).await;
}
