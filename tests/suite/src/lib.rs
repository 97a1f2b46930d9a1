#![doc = include_str!("../README.md")]

pub mod cofferd;
pub mod database;
pub mod dice;
pub mod frames;
pub mod grpc;
pub mod missing;
pub mod proxy;
pub mod strace;

pub use cofferd::{Cofferd, Token};
pub use database::TestDatabase;
