//! The cluster against a real PostgreSQL. Every test has a cluster of its own.

#![expect(clippy::unwrap_used, reason = "these are tests, their shared functions too")]

#[path = "cluster/rig.rs"]
mod rig;

#[path = "cluster/crash.rs"]
mod crash;
#[path = "cluster/errors.rs"]
mod errors;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/life.rs"]
mod life;
