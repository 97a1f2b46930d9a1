#![doc = include_str!("../README.md")]

pub mod cached;
pub mod database;
pub mod migrate;
mod store;

mod error;
mod events;
mod files;
mod local_paths;
mod nodes;
mod objects;
mod operations;
mod quotas;
mod reconcile;
mod requests;
mod schema;
mod tidy;
mod transaction;
mod uploads;
mod users;
mod volumes;

pub use cached::Cached;
pub use database::{Connection, Database};
pub use store::PgStore;
