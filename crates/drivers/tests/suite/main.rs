//! Tests of the drivers on real backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod faults;
mod local;
mod memory;
mod minio;
mod servers;
mod support;
mod wrappers;
