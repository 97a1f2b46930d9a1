//! Coffer under more than anybody should ask of it: see the package's README.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod attacks;
mod honest;
mod memory;
mod usage;

/// Held by a test while it measures: two at once would measure each other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
