#![doc = include_str!("../README.md")]

mod authentication;
mod binaries;
mod cluster;
mod data_directory;
mod error;
mod leftovers;
mod log;
mod postmaster;
mod psql;
mod run_as;
mod socket;
mod spawn;
mod wait;

pub use cluster::{Cluster, Options};
pub use error::Error;
pub use postmaster::Shutdown;
