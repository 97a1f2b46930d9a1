#![doc = include_str!("../README.md")]

pub mod budget;
pub mod caller;
pub mod content;
#[macro_use]
mod crash;
pub mod driver;
pub mod egress;
pub mod endpoint;
pub mod error;
pub mod file;
pub mod id;
pub mod name;
pub mod network;
pub mod operation;
pub mod page;
pub mod path;
pub mod quota;
pub mod request;
pub mod secret;
pub mod service;
pub mod store;
pub mod task;
pub mod time;
pub mod upload;
pub mod volume;

pub use error::{Error, Result};
