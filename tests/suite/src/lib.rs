#![doc = include_str!("../README.md")]

pub mod cofferd;
pub mod database;
pub mod grpc;
pub mod missing;

pub use cofferd::{Cofferd, Token};
pub use database::TestDatabase;
