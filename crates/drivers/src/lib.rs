#![doc = include_str!("../README.md")]

mod error;
pub mod ftp;
pub mod http;
pub mod local;
mod opener;
mod remote;
pub mod s3;
pub mod sftp;
mod wire;
pub mod wrap;

pub use opener::Opener;
pub use wire::{Options as WireOptions, Patience};
