//! The store on a real PostgreSQL. Every test has a database of its own, cloned from a migrated one.

#![expect(clippy::unwrap_used, reason = "these are tests, their shared functions too")]

mod concurrency;
mod connections;
mod contention;
mod crowds;
mod drift;
mod endpoints;
mod files;
mod ftp;
mod limits;
mod links;
mod lists;
mod nodes;
mod operations;
mod pipeline;
mod plans;
mod proxy;
mod purge;
mod quotas;
mod reconcile;
mod requests;
mod reservations;
mod resume;
mod rig;
mod shared;
mod tasks;
mod tenants;
mod tidy;
mod upload_lists;
mod uploads;
mod volumes;
