//! Coffer's tests against a real service: see the crate's README.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "suite/audit.rs"]
mod audit;
#[path = "suite/backends.rs"]
mod backends;
#[path = "suite/bad_transfers.rs"]
mod bad_transfers;
#[path = "suite/crash.rs"]
mod crash;
#[path = "suite/durability.rs"]
mod durability;
#[path = "suite/edge.rs"]
mod edge;
#[path = "suite/egress.rs"]
mod egress;
#[path = "suite/endpoint_commands.rs"]
mod endpoint_commands;
#[path = "suite/endpoints.rs"]
mod endpoints;
#[path = "suite/files.rs"]
mod files;
#[path = "suite/floods.rs"]
mod floods;
#[path = "suite/ftp_endpoints.rs"]
mod ftp_endpoints;
#[path = "suite/hostile_paths.rs"]
mod hostile_paths;
#[path = "suite/interop.rs"]
mod interop;
#[path = "suite/library.rs"]
mod library;
#[path = "suite/life.rs"]
mod life;
#[path = "suite/limits.rs"]
mod limits;
#[path = "suite/model.rs"]
mod model;
#[path = "suite/quota_races.rs"]
mod quota_races;
#[path = "suite/quotas.rs"]
mod quotas;
#[path = "suite/reconcile.rs"]
mod reconcile;
#[path = "suite/resume.rs"]
mod resume;
#[path = "suite/retries.rs"]
mod retries;
#[path = "suite/rights.rs"]
mod rights;
#[path = "suite/secrets.rs"]
mod secrets;
#[path = "suite/small_uploads.rs"]
mod small_uploads;
#[path = "suite/speed.rs"]
mod speed;
#[path = "suite/steps.rs"]
mod steps;
#[path = "suite/strategies.rs"]
mod strategies;
#[path = "suite/telemetry.rs"]
mod telemetry;
#[path = "suite/tokens.rs"]
mod tokens;
#[path = "suite/transfers.rs"]
mod transfers;
#[path = "suite/trust.rs"]
mod trust;
#[path = "suite/uploads.rs"]
mod uploads;
#[path = "suite/volumes.rs"]
mod volumes;
