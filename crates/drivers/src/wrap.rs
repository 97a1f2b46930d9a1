//! What is the same for every driver, as drivers around a driver.
//!
//! The order, from the caller inwards, and why:
//!
//! 1. [`Traced`]: one span per call of the caller, refusals and repetitions included.
//! 2. [`Guarded`]: refuses what may not reach a backend, before anything is waited for.
//! 3. [`Breaker`]: leaves a backend alone that does not answer. It counts calls and not their tries, and what it refuses is not tried
//!    again.
//! 4. [`Retried`]: tries again; each try is limited on its own.
//! 5. [`Limited`]: the deadline and the permit of one try, next to the driver.

mod breaker;
mod guarded;
mod limited;
mod retried;
mod traced;

pub use breaker::{Breaker, Breaks};
pub use guarded::{Guarded, MOST_LISTED, MOST_PUT_BYTES};
pub use limited::{Limited, Limits};
pub use retried::{Retried, Retry};
pub use traced::Traced;

use coffer_domain::driver::Driver;
use std::sync::Arc;

/// How the wrappers behave.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Deadlines and concurrency.
    pub limits: Limits,
    /// Repetition.
    pub retry: Retry,
    /// When a backend is left alone.
    pub breaks: Breaks,
}

/// `driver` with all wrappers around it.
pub fn all(driver: Arc<dyn Driver>, options: &Options) -> Arc<dyn Driver> {
    let limited = Arc::new(Limited::new(driver, options.limits));
    let retried = Arc::new(Retried::new(limited, options.retry));
    let watched = Arc::new(Breaker::new(retried, options.breaks));
    Arc::new(Traced::new(Arc::new(Guarded::new(watched))))
}
