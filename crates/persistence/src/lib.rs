#![doc = include_str!("../README.md")]

pub mod cached;
pub mod database;
pub mod migrate;
pub mod secrets;
mod store;

mod credentials;
mod endpoints;
mod error;
mod events;
mod files;
mod links;
mod local_paths;
mod nodes;
mod objects;
mod operations;
mod pipeline;
mod quotas;
mod reads;
mod reconcile;
mod requests;
mod schema;
mod sessions;
mod tasks;
mod tidy;
mod transaction;
mod uploads;
mod users;
mod volumes;

pub use cached::Cached;
pub use database::{Connection, Database};
pub use store::PgStore;
