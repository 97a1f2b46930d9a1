//! The wrappers, each around a driver that misbehaves on purpose on its way to a real one.

mod breaker;
mod faulty;
mod guarded;
mod limited;
mod retried;
mod traced;

use coffer_domain::driver::Driver;
use coffer_drivers::local::{Config, Local};
use faulty::Faulty;
use std::sync::Arc;
use tempfile::TempDir;

/// A local driver behind one that misbehaves.
async fn faulty() -> (Arc<Faulty>, TempDir) {
    let place = TempDir::new().unwrap();
    let local = Local::open(Config { root: place.path().to_owned(), ..Config::default() }).await.unwrap();
    (Arc::new(Faulty::new(Arc::new(local) as Arc<dyn Driver>)), place)
}
