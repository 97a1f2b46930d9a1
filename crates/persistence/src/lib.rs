#![doc = include_str!("../README.md")]

pub mod cached;
pub mod database;
pub mod migrate;
mod schema;

pub use cached::Cached;
pub use database::{Connection, Database};
